import type { Range } from './extent.js'
import { DIGEST_BLOCK_BYTES } from './geometry.js'

/**
 * What an incremental must touch because the store's size changed, so that old bytes never come back: everything from
 * the digest block that holds the smaller of the two ends to the store's end now. Empty where the size is the same, or
 * where the store shrank to a block boundary.
 */
export function sizeChangeRanges(oldBytes: number, newBytes: number): readonly Range[] {
  if (oldBytes === newBytes) return []
  const smaller = Math.min(oldBytes, newBytes)
  const offset = smaller - (smaller % DIGEST_BLOCK_BYTES)
  return offset < newBytes ? [{ offset, length: newBytes - offset }] : []
}

/**
 * Merges ascending pages of ranges with one ascending list into ascending ranges that neither overlap nor touch,
 * clipped at `limitBytes`. Lazy: a page is pulled when the one before it is used up.
 * @throws RangeError when the pages do not ascend: a tracker that breaks its contract must not cost a change.
 */
export async function* mergeRanges(
  pages: AsyncIterable<readonly Range[]>,
  extra: readonly Range[],
  limitBytes: number,
): AsyncGenerator<Range, void, undefined> {
  let open: { offset: number; end: number } | undefined
  let last = 0
  let used = 0
  const rest = extra.slice()

  function* add(range: Range): Generator<Range, void, undefined> {
    const end = Math.min(range.offset + range.length, limitBytes)
    if (range.offset >= end) return
    if (open !== undefined && range.offset <= open.end) {
      if (end > open.end) open.end = end
      return
    }
    if (open !== undefined) yield { offset: open.offset, length: open.end - open.offset }
    open = { offset: range.offset, end }
  }

  for await (const page of pages) {
    for (const range of page) {
      if (range.offset < last || range.length < 0) {
        throw new RangeError(`ranges do not ascend: ${range.offset} after ${last}`)
      }
      last = range.offset + range.length
      for (let next = rest[used]; next !== undefined && next.offset <= range.offset; next = rest[++used])
        yield* add(next)
      yield* add(range)
    }
  }
  for (let next = rest[used]; next !== undefined; next = rest[++used]) yield* add(next)
  if (open !== undefined) yield { offset: open.offset, length: open.end - open.offset }
}
