const sizeUnits: Readonly<Record<string, number>> = {
  '': 1, b: 1,
  k: 2 ** 10, kib: 2 ** 10, kb: 1e3,
  m: 2 ** 20, mib: 2 ** 20, mb: 1e6,
  g: 2 ** 30, gib: 2 ** 30, gb: 1e9,
  t: 2 ** 40, tib: 2 ** 40, tb: 1e12,
  p: 2 ** 50, pib: 2 ** 50, pb: 1e15,
}

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1, s: 1e3, sec: 1e3, m: 60e3, min: 60e3, h: 3600e3, d: 86400e3,
}

/** What `parseSize` understands, for messages. */
export const sizeExamples =
  'bytes, or a size such as 64KiB, 256MiB or 1.5GiB (K, M, G are KiB, MiB, GiB; KB, MB, GB are decimal)'

/** What `parseDuration` understands, for messages. */
export const durationExamples = 'a time with its unit, such as 500ms, 5s, 30m or 2h'

/**
 * Bytes from `268435456`, `256MiB`, `64 KiB` or `1G`. One letter means the binary unit, as QEMU and dd have it.
 * Upper and lower case mean the same. Undefined for anything else, and for what is no whole number of bytes.
 */
export function parseSize(text: string | number): number | undefined {
  return measure(String(text), sizeUnits)
}

/** Milliseconds from `500ms`, `5s`, `30m`, `2h` or `1d`; a bare number is undefined, for nobody knows its unit. */
export function parseDuration(text: string): number | undefined {
  return measure(text, durationUnits)
}

function measure(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  if (match === null) return undefined
  const unit = units[(match[2] ?? '').toLowerCase()]
  if (unit === undefined) return undefined
  const value = Number(match[1]) * unit
  return Number.isSafeInteger(value) ? value : undefined
}
