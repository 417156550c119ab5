const MAGIC = 0xfd2fb528
const BLOCK_LIMIT = 128 * 1024
/** Windows above this are refused: a decoder reserves the window before it reads a byte of content. */
const WINDOW_LIMIT = 8 * 1024 * 1024

/**
 * Checks that `frame` is exactly one zstd frame (RFC 8878 §3.1) without a dictionary, which states a content size of
 * `contentBytes`, by walking its block headers: decoders differ in what they do with bytes after the first frame.
 * Returns what is wrong, or undefined.
 */
export function frameDefect(frame: Uint8Array, contentBytes: number): string | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (frame.length < 6 || view.getUint32(0, true) !== MAGIC) return 'no zstd frame'
  const descriptor = view.getUint8(4)
  const singleSegment = (descriptor & 0x20) !== 0
  if ((descriptor & 0x08) !== 0) return 'a reserved bit of the frame header is set'
  if ((descriptor & 0x03) !== 0) return 'the frame needs a dictionary'
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  if (sizeBytes === 0) return 'the frame does not state its content size'
  let at = 5
  if (!singleSegment) {
    const window = view.getUint8(at)
    const base = 2 ** (10 + (window >> 3))
    if (base + (base / 8) * (window & 7) > WINDOW_LIMIT) return 'the frame needs a window above 8 MiB'
    at += 1
  }
  if (at + sizeBytes > frame.length) return 'the frame header is cut off'
  const stated = contentSize(view, at, sizeBytes)
  if (stated !== contentBytes) return `the frame states ${stated} bytes of content, expected ${contentBytes}`
  at += sizeBytes
  for (let last = false; !last; ) {
    if (at + 3 > frame.length) return 'the frame is cut off'
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16)
    last = (header & 1) === 1
    const type = (header >> 1) & 3
    const size = header >> 3
    if (type === 3 || size > BLOCK_LIMIT) return 'a block header of the frame is invalid'
    at += 3 + (type === 1 ? 1 : size)
  }
  if ((descriptor & 0x04) !== 0) at += 4
  if (at !== frame.length) return `the frame is ${at} bytes long, not ${frame.length}`
  return undefined
}

function contentSize(view: DataView, at: number, bytes: number): number {
  if (bytes === 1) return view.getUint8(at)
  if (bytes === 2) return view.getUint16(at, true) + 256
  if (bytes === 4) return view.getUint32(at, true)
  return Number(view.getBigUint64(at, true))
}
