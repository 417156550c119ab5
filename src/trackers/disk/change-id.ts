/** A change ID, taken apart: which disk, which generation it ended, and that generation's nonce (16 hex digits). */
export interface DiskChangeId {
  readonly uuid: string
  readonly generation: number
  readonly nonce: string
}

export function formatChangeId(id: DiskChangeId): string {
  return `${id.uuid}:${id.generation}:${id.nonce}`
}

/** Undefined when the text is no change ID of a tracked disk. */
export function parseChangeId(text: string): DiskChangeId | undefined {
  const match = /^([0-9a-f-]{36}):([1-9][0-9]{0,9}):([0-9a-f]{16})$/.exec(text)
  if (match === null) return undefined
  const [, uuid = '', generation = '', nonce = ''] = match
  return { uuid, generation: Number(generation), nonce }
}
