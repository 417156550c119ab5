import { FRAME_CONTENT_BYTES, SECTOR_BYTES } from '../model/geometry.js'

/** The most that a frame of 1 MiB of content can take in the file: zstd's bound, rounded up. */
export const FRAME_STORED_LIMIT = FRAME_CONTENT_BYTES + 16 * 1024
export const CONFIG_FILE_LIMIT = 64 * 1024 ** 2
/** The frame of an extent without content. */
export const NO_FRAME = 0xffffffff

/** What an archive must require whose digest tables may say STATE_PARTLY: a reader that does not know it finds damage. */
export const PARTLY_STORED = 'partly-stored'

/** Features this version can read when an archive's `requires` names them. */
export const KNOWN_FEATURES: readonly string[] = [PARTLY_STORED]

/** Members by name (FORMAT.md §2). */
export const HEADER_MEMBER = 'refpoint.json'
export const INDEX_MEMBER = 'index.json'
export const configMember = (path: string) => `config/${path}`
export const dataMember = (store: string, n: number) => `stores/${store}/data/${n}`
export const tablesMember = (store: string, n: number) => `stores/${store}/tables/${n}`
export const directoryMember = (store: string) => `stores/${store}/directory`

const STORE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/

export function isStoreName(name: string): boolean {
  return STORE_NAME.test(name)
}

/** Whether a configuration path is relative and stays below its folder, on every system that may unpack it. */
export function isConfigPath(path: string): boolean {
  if (path === '' || path.length > 1024) return false
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f\\]/.test(path)) return false
  return path.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..')
}

export function toSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES)
}

/** Bytes filled up to whole sectors. */
export function filled(bytes: number): number {
  return toSectors(bytes) * SECTOR_BYTES
}
