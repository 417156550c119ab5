import type { FileHandle } from 'node:fs/promises'

/** After so many bytes a sync is started. */
const STEP_BYTES = 256 * 1024 * 1024

/**
 * Lets the kernel write to the disk what was restored so far, beside the work: left to itself it waits for gigabytes,
 * and the sync in the end for all of them.
 */
export class WriteBack {
  readonly #file: FileHandle
  #bytes = 0
  #syncing: Promise<void> | undefined
  /** The kernel tells a failed write to one sync only, so the first failure of any is kept. */
  #failure: { readonly error: unknown } | undefined

  constructor(file: FileHandle) {
    this.#file = file
  }

  /** Tells that so many more bytes were written, by whomever; never waits. */
  written(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < STEP_BYTES || this.#syncing !== undefined) return
    this.#bytes = 0
    this.#syncing = this.#file
      .datasync()
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => (this.#syncing = undefined))
  }

  /** Waits for a sync under way, whatever comes of it: nobody may close the file under it. */
  async settle(): Promise<void> {
    await this.#syncing
  }

  /** Makes everything durable; throws when that failed now or before. */
  async finish(): Promise<void> {
    await this.settle()
    if (this.#failure !== undefined) throw this.#failure.error
    await this.#file.datasync()
  }
}
