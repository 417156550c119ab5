import { firstWord, formatOptionValue, type OptionPart, parseOptionValue } from './option-value.js'

export type TreeValue = string | number | boolean | null | Tree | readonly TreeValue[]
/** Nested options, as `-blockdev` and, in its JSON form, many other options have them. */
export interface Tree {
  readonly [key: string]: TreeValue
}

/** An option of nested values in the form that it was written in. */
export interface WrittenTree {
  readonly form: 'json' | 'keys'
  readonly tree: Tree
}

/**
 * Reads an option's value in either form. `implied` is the key that its first word stands for.
 * @throws Error for JSON that is none, or that has numbers which would not come out as they went in.
 */
export function parseTree(text: string, implied: string): WrittenTree {
  if (text.startsWith('{')) {
    const tree: unknown = JSON.parse(text)
    if (!isTree(tree)) throw new Error('not an object')
    if (text.includes('\\u0000')) throw new Error('a text has a NUL')
    if (!exact(tree)) throw new Error('a number is larger than can be kept exactly')
    return { form: 'json', tree }
  }
  const parts = parseOptionValue(text)
  const tree: Record<string, TreeValue> = {}
  const word = firstWord(parts)
  if (word !== undefined) tree[implied] = word
  for (const part of word === undefined ? parts : parts.slice(1)) {
    if ('word' in part) throw new Error(`'${part.word}' has no value`)
    place(tree, part.key.split('.'), part.value)
  }
  return { form: 'keys', tree }
}

export function formatTree({ form, tree }: WrittenTree): string {
  // The places that a script fills in (rewriting.ts) are marked by NULs, which stay as they are.
  return form === 'json' ? JSON.stringify(tree).replaceAll('\\u0000', '\0') : formatOptionValue(flatten(tree, ''))
}

/** A boolean as the form wants it. */
export function switchIn(form: WrittenTree['form'], on: boolean): TreeValue {
  return form === 'json' ? on : on ? 'on' : 'off'
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text at `key`; undefined where there is none, or something else. */
export function textAt(tree: Tree, key: string): string | undefined {
  const value = tree[key]
  return typeof value === 'string' ? value : undefined
}

/** Every text anywhere in it, keys left out. */
export function textsIn(value: TreeValue): string[] {
  if (typeof value === 'string') return [value]
  if (typeof value !== 'object' || value === null) return []
  return Object.values(value).flatMap((inner: TreeValue) => textsIn(inner))
}

function place(tree: Record<string, TreeValue>, [key = '', ...rest]: readonly string[], value: string): void {
  if (key === '__proto__') throw new Error('a key that is none')
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  const inner = tree[key]
  const next: Record<string, TreeValue> = isTree(inner) ? { ...inner } : {}
  place(next, rest, value)
  tree[key] = next
}

function flatten(tree: Tree, prefix: string): OptionPart[] {
  return Object.entries(tree).flatMap(([key, value]) => {
    const path = `${prefix}${key}`
    if (typeof value === 'object' && value !== null) return flatten(value as Tree, `${path}.`)
    return [{ key: path, value: String(value) }]
  })
}

function exact(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isInteger(value) || Number.isSafeInteger(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.values(value).every(exact)
}
