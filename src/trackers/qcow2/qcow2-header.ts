import { readSync } from 'node:fs'

/** What must be known of a qcow2 image before anything opens it. */
export interface Qcow2Header {
  /** 2 can't keep dirty bitmaps, 3 can. */
  readonly version: number
  readonly sizeBytes: number
  /** By a format of QEMU's inside the image. */
  readonly encrypted: boolean
  /** As the image has them; neither is to be believed. */
  readonly backing: { readonly name: string; readonly format: string | undefined } | undefined
  /** Whether the guest's data is in another file. */
  readonly dataFile: boolean
  readonly corrupt: boolean
}

/** Of incompatible features, as QEMU's docs/interop/qcow2.txt numbers them. */
const CORRUPT = 1n << 1n
const DATA_FILE = 1n << 2n
const BACKING_FORMAT = 0xe2792aca
/** Header, extensions and the backing file's name lie in the first cluster, which has at most 2 MiB. */
const LONGEST_NAME = 1023
const ORDINARY_BYTES = 64 * 1024

/** Reads an open image's header; undefined when it is no qcow2 image, or one that is cut off or crafted. */
export function readQcow2Header(fd: number): Qcow2Header | undefined {
  const bytes = Buffer.alloc(ORDINARY_BYTES)
  const length = readSync(fd, bytes, 0, bytes.length, 0)
  if (length < 104 || bytes.toString('latin1', 0, 4) !== 'QFI\xfb') return undefined
  const version = bytes.readUInt32BE(4)
  if (version !== 2 && version !== 3) return undefined
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n
  const headerBytes = version === 3 ? bytes.readUInt32BE(100) : 72
  const nameAt = Number(bytes.readBigUInt64BE(8))
  const nameBytes = bytes.readUInt32BE(16)
  let backing: Qcow2Header['backing']
  if (nameAt > 0) {
    if (nameBytes > LONGEST_NAME) return undefined
    const name = Buffer.alloc(nameBytes)
    if (readSync(fd, name, 0, nameBytes, nameAt) < nameBytes) return undefined
    backing = { name: name.toString(), format: extension(bytes.subarray(0, length), headerBytes, BACKING_FORMAT) }
  }
  return {
    version,
    sizeBytes: Number(bytes.readBigUInt64BE(24)),
    encrypted: bytes.readUInt32BE(32) !== 0,
    backing,
    dataFile: (features & DATA_FILE) !== 0n,
    corrupt: (features & CORRUPT) !== 0n,
  }
}

/** The text of a header extension: type and length, 4 bytes each, then content, padded to 8 bytes; type 0 ends them. */
function extension(bytes: Buffer, start: number, wanted: number): string | undefined {
  for (let at = start; at + 8 <= bytes.length;) {
    const type = bytes.readUInt32BE(at)
    const length = bytes.readUInt32BE(at + 4)
    if (type === 0) return undefined
    if (type === wanted) return bytes.toString('utf8', at + 8, Math.min(bytes.length, at + 8 + length))
    at += 8 + Math.ceil(length / 8) * 8
  }
  return undefined
}
