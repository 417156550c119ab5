import { randomBytes } from 'node:crypto'
import { ownerTag } from '../bitmaps/names.js'
import type { Owner } from '../tracker.js'

/*
 * Names of what a run adds to a QEMU process: nodes, exports, jobs and throttle groups. They say whose they are, so that
 * what a killed run left is found. QEMU allows a node's name 31 characters, all of which are used:
 *
 *   refpoint-<owner, 8 hex digits>-<run, 4 hex digits>-<disk, 1 to 3 digits>-<part>
 */
export const parts = ['file', 'cap', 'tmp', 'cbw', 'snap', 'back', 'thr', 'grp', 'mk'] as const

/**
 * - `file`, `cap`, `tmp`: the fleecing area: its file, that file's first bytes up to the limit, and the qcow2 in them
 * - `cbw`: copies old data into the fleecing area before the guest overwrites it
 * - `snap`: reads the instant; also the export's name
 * - `back`: the export of the image below the disk's
 * - `thr`, `grp`: a filter that does nothing, in whose place `cbw` can be put and taken away, and its group
 * - `mk`: the job that formats the fleecing area
 */
export type Part = (typeof parts)[number]

/** Names of one run of one owner. */
export interface RunNames {
  /** What all names of this owner begin with. */
  readonly prefix: string
  of(disk: number, part: Part): string
}

export function runNames(owner: Owner): RunNames {
  const prefix = ownerPrefix(owner)
  const run = randomBytes(2).toString('hex')
  return { prefix, of: (disk, part) => `${prefix}${run}-${disk}-${part}` }
}

export function ownerPrefix(owner: Owner): string {
  return `refpoint-${ownerTag(owner).slice(0, 8)}-`
}

/** Whether a name was given by a run of any owner. */
export function isRunName(name: string): boolean {
  return /^refpoint-[0-9a-f]{8}-[0-9a-f]{4}-\d{1,3}-[a-z]+$/.test(name)
}

/** The part that a name of this owner stands for, or undefined. */
export function partOf(name: string, prefix: string): Part | undefined {
  if (!name.startsWith(prefix) || !isRunName(name)) return undefined
  return parts.find((part) => name.endsWith(`-${part}`))
}
