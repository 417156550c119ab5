import { closest, distance } from 'fastest-levenshtein'
import { type Document, type LineCounter, isMap, isScalar } from 'yaml'
import type * as z from 'zod'
import { keysAt } from './known-keys.js'

/** One thing that is wrong with the file. Line and column count from 1. */
export interface Fault {
  readonly line: number
  readonly col: number
  /** The way to it, such as `machines.web01.tracker`; empty for the file as a whole. */
  readonly key: string
  readonly message: string
  /** The key that an unknown one most likely stands for. */
  readonly meant?: string
}

type Path = readonly PropertyKey[]

/** Says what is wrong in the user's terms: where it stands, what was expected and what was found. */
export function explainIssue(issue: z.core.$ZodIssue, document: Document, lines: LineCounter): Fault[] {
  const value = document.getIn(issue.path)
  const at = (path: Path, message: string, onKey = false): Fault => {
    return { ...position(path, document, lines, onKey), key: path.map(String).join('.'), message }
  }
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const near = nearKey(key, keysAt(issue.path, document))
      const fault = at([...issue.path, key], unknownKey(key, near, keysAt(issue.path, document)), true)
      return near === undefined ? fault : { ...fault, meant: [...issue.path, near].map(String).join('.') }
    })
  }
  if (issue.code === 'invalid_key') {
    const expected = issue.issues.map(({ message }) => message).join('; ')
    return [at(issue.path, `the name is wrong: expected ${expected}`, true)]
  }
  if (issue.code === 'invalid_union' && issue.discriminator !== undefined) {
    const machine = issue.path.slice(0, -1)
    const misspelt = misspeltTracker(machine, document)
    if (misspelt !== undefined) return [at([...machine, misspelt], unknownKey(misspelt, 'tracker', []), true)]
    return [at(issue.path, tracker(machine, document))]
  }
  if (value === undefined && issue.path.length > 0) {
    return [at(issue.path, `is missing: expected ${expectation(issue)}`)]
  }
  return [at(issue.path, `expected ${expectation(issue)}, found ${show(value)}`)]
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid')) return article(issue.expected)
  return issue.message
}

function article(type: string): string {
  if (type === 'object' || type === 'record') return 'keys with values'
  if (type === 'array') return 'a list'
  return `a ${type}`
}

function nearKey(key: string, known: readonly string[]): string | undefined {
  const near = known.length === 0 ? undefined : closest(key, [...known])
  return near !== undefined && distance(key, near) <= Math.max(2, Math.floor(near.length / 3)) ? near : undefined
}

function unknownKey(key: string, near: string | undefined, known: readonly string[]): string {
  if (near !== undefined) return `unknown key "${key}"; did you mean "${near}"?`
  const elsewhere = { memory: 'defaults.memory', workers: 'defaults.compression.workers' }[key]
  const hint = elsewhere === undefined ? '' : `; it holds for all machines together and belongs to ${elsewhere}`
  return `unknown key "${key}"${hint}; known here: ${known.join(', ')}`
}

/** The key that stands where a machine's tracker should be named. */
function misspeltTracker(path: Path, document: Document): string | undefined {
  const machine = document.getIn(path)
  if (!isMap(machine) || machine.has('tracker')) return undefined
  const keys = machine.items.map(({ key }) => String(isScalar(key) ? key.value : key))
  return keys.find((key) => nearKey(key, ['tracker']) !== undefined)
}

function tracker(path: Path, document: Document): string {
  const known = ['disk', 'image', 'qemu', 'qcow2']
  const machine = document.getIn(path)
  if (!isMap(machine)) return `is missing: a machine has a tracker (${anyOf(known)})`
  const found = machine.get('tracker')
  if (found === undefined) return `is missing: expected ${anyOf(known)}`
  const near = typeof found === 'string' ? closest(found, known) : undefined
  const meant = near !== undefined && distance(String(found), near) <= 2 ? `; did you mean "${near}"?` : ''
  return `expected ${anyOf(known)}, found ${show(found)}${meant}`
}

function anyOf(names: readonly string[]): string {
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`
}

function show(value: unknown): string {
  if (isMap(value)) return 'keys with values'
  if (typeof value === 'object' && value !== null) return 'a list'
  if (value === null || value === undefined) return 'nothing'
  return typeof value === 'string' ? `"${value.slice(0, 80)}"` : String(value)
}

/** Where a key or its value stands; for what is missing, the nearest thing around it. */
function position(path: Path, document: Document, lines: LineCounter, onKey: boolean): { line: number; col: number } {
  let key: unknown
  let node: unknown = document.contents
  for (const part of path) {
    if (!isMap(node)) {
      key = undefined
      node = document.getIn(path, true)
      break
    }
    const pair = node.items.find((item) => String(isScalar(item.key) ? item.key.value : item.key) === String(part))
    if (pair === undefined) break
    key = pair.key
    node = pair.value
  }
  return lines.linePos(startOf(onKey ? key : node) ?? startOf(key) ?? 0)
}

function startOf(node: unknown): number | undefined {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return undefined
  const start: unknown = node.range[0]
  return typeof start === 'number' ? start : undefined
}
