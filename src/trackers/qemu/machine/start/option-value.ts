/** A part of an option's value, `key=value`, or a word that stands for itself. */
export type OptionPart = { readonly key: string; readonly value: string } | { readonly word: string }

/**
 * Takes the value of an option apart as QEMU does: parts end at commas, two commas stand for one.
 */
export function parseOptionValue(text: string): OptionPart[] {
  const parts: OptionPart[] = []
  let at = 0
  while (at < text.length) {
    const name = /^[^=,]*/.exec(text.slice(at))?.[0] ?? ''
    const hasValue = text[at + name.length] === '='
    const start = hasValue ? at + name.length + 1 : at
    let end = start
    while (end < text.length && (text[end] !== ',' || text[end + 1] === ',')) end += text[end] === ',' ? 2 : 1
    const value = text.slice(start, end).replaceAll(',,', ',')
    parts.push(hasValue ? { key: name, value } : { word: value })
    at = end + 1
  }
  return parts
}

export function formatOptionValue(parts: readonly OptionPart[]): string {
  return parts.map((part) => ('word' in part ? escape(part.word) : `${part.key}=${escape(part.value)}`)).join(',')
}

function escape(value: string): string {
  return value.replaceAll(',', ',,')
}

/** The value of the last `key=…`, which is the one that counts. */
export function valueOf(parts: readonly OptionPart[], key: string): string | undefined {
  const found = parts.findLast((part) => 'key' in part && part.key === key)
  return found !== undefined && 'key' in found ? found.value : undefined
}

/** The first part where it is a word: the driver, type or address that needs no key. */
export function firstWord(parts: readonly OptionPart[]): string | undefined {
  const [first] = parts
  return first !== undefined && 'word' in first ? first.word : undefined
}

export function without(parts: readonly OptionPart[], unwanted: (key: string) => boolean): OptionPart[] {
  return parts.filter((part) => !unwanted('key' in part ? part.key : part.word))
}

/** `key` set to `value`, in its place, or at the end. */
export function withValue(parts: readonly OptionPart[], key: string, value: string): OptionPart[] {
  const at = parts.findIndex((part) => 'key' in part && part.key === key)
  if (at === -1) return [...parts, { key, value }]
  return [...parts.slice(0, at), { key, value }, ...without(parts.slice(at + 1), (other) => other === key)]
}

/** Whether a switch is on: `on`, or its old form, the bare word. */
export function isOn(parts: readonly OptionPart[], key: string): boolean {
  const last = parts.findLast((part) =>
    'key' in part ? part.key === key : part.word === key || part.word === `no${key}`,
  )
  if (last === undefined) return false
  return 'word' in last ? last.word === key : ['on', 'yes', 'true', 'y'].includes(last.value)
}
