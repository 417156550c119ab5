import type { Extent, Range } from '../model/extent.js'
import type { Native } from './native.js'

const pageRows = 1024

/**
 * What is data and what is a hole in `range` of a file: covers the range without gaps, ascending, in pages. `zero`
 * is a hole, or lies past the end of the file; everything else is `data`, and so is everything where there are no
 * native calls to ask with, and on block devices. Offsets and lengths are bytes.
 */
export function* dataExtents(fd: number, range: Range, native: Native | undefined): Generator<readonly Extent[]> {
  const end = range.offset + range.length
  if (native === undefined) {
    if (range.length > 0) yield [{ offset: range.offset, length: range.length, kind: 'data' }]
    return
  }
  let page: Extent[] = []
  let at = range.offset
  while (at < end) {
    const data = Math.min(native.nextData(fd, at) ?? end, end)
    if (data > at) page.push({ offset: at, length: data - at, kind: 'zero' })
    const hole = data < end ? Math.min(native.nextHole(fd, data), end) : end
    if (hole > data) page.push({ offset: data, length: hole - data, kind: 'data' })
    at = hole
    if (page.length >= pageRows) {
      yield page
      page = []
    }
  }
  if (page.length > 0) yield page
}
