/**
 * Lets calls in, and can be closed: then it holds new ones, and knows when those inside have left. That is how the
 * engine makes one instant between writes, and takes a layer away from under reads.
 */
export class Gate {
  #inside = 0
  #closed: { readonly opened: Promise<void>; readonly open: () => void } | undefined
  #emptied: (() => void) | undefined

  /** Undefined when inside at once, else a promise to await (and then call again). */
  enter(): Promise<void> | undefined {
    if (this.#closed !== undefined) return this.#closed.opened
    this.#inside += 1
    return undefined
  }

  leave(): void {
    this.#inside -= 1
    if (this.#inside === 0) this.#emptied?.()
  }

  /** Resolves when nobody is inside; who comes now waits for `open`. One closer at a time. */
  async close(): Promise<void> {
    let open = (): void => undefined
    const opened = new Promise<void>((resolve) => (open = resolve))
    this.#closed = { opened, open }
    if (this.#inside === 0) return
    await new Promise<void>((resolve) => (this.#emptied = resolve))
    this.#emptied = undefined
  }

  open(): void {
    const closed = this.#closed
    this.#closed = undefined
    closed?.open()
  }
}
