import { RefpointError } from '../model/errors.js'
import { isSegment } from './names.js'

/** Where everything is in a repository. */
export const repositoryRecordName = 'refpoint.json'
export const machinesFolder = 'machines'

const slotDigits = 8
export const maxSlot = 10 ** slotDigits - 1

/** @throws RefpointError `usage` when it can't be a machine's name: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64. */
export function checkMachineName(name: string): void {
  if (name.length <= 64 && isSegment(name)) return
  throw new RefpointError('usage', `not a legal machine name: ${JSON.stringify(name)}`, {
    hint: 'Use at most 64 letters, digits, ".", "_" and "-", beginning with a letter or digit.',
    fields: { machine: name },
  })
}

export function machineFolder(machine: string): string {
  checkMachineName(machine)
  return `${machinesFolder}/${machine}`
}

export function machineRecordName(machine: string): string {
  return `${machineFolder(machine)}/machine.json`
}

export function pointsFolder(machine: string): string {
  return `${machineFolder(machine)}/points`
}

/** The manifest in a slot; slots count from 1. */
export function pointName(machine: string, slot: number): string {
  return `${pointsFolder(machine)}/${String(slot).padStart(slotDigits, '0')}.json`
}

/** The manifest of a point as the fold in slot `revision` wrote it; no other prune ever uses the name. */
export function revisionName(machine: string, slot: number, revision: number): string {
  return `${pointsFolder(machine)}/${String(slot).padStart(slotDigits, '0')}.r${revision}.json`
}

export interface ManifestPlace {
  readonly slot: number
  /** Undefined for what was claimed with the slot itself. */
  readonly revision: number | undefined
}

/** What a name in the points folder stands for; undefined for any other name. */
export function manifestPlace(name: string): ManifestPlace | undefined {
  const [, digits, revision] = /^(\d{8})(?:\.r([1-9]\d{0,7}))?\.json$/.exec(name) ?? []
  const slot = Number(digits ?? 0)
  if (slot === 0) return undefined
  return { slot, revision: revision === undefined ? undefined : Number(revision) }
}

/** The slot that a name in the points folder claims; undefined for revisions and any other name. */
export function slotOf(name: string): number | undefined {
  const place = manifestPlace(name)
  return place?.revision === undefined ? place?.slot : undefined
}

export function archivesFolder(machine: string): string {
  return `${machineFolder(machine)}/archives`
}

export function archiveName(machine: string, id: string): string {
  return `${archivesFolder(machine)}/${id}.tar.zst`
}

export function locksFolder(machine: string): string {
  return `${machineFolder(machine)}/locks`
}

export function readersFolder(machine: string): string {
  return `${machineFolder(machine)}/readers`
}

export function holdsFolder(machine: string): string {
  return `${machineFolder(machine)}/holds`
}
