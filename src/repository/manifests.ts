import { RefpointError } from '../model/errors.js'
import type { AbortedManifest, AuditManifest, PointManifest, SlotManifest } from '../model/manifest.js'
import { decodeJson, parseObject } from './json-object.js'
import { machineRecordName, maxSlot, pointName, pointsFolder, slotOf } from './layout.js'
import { readMachine } from './machine.js'
import { manifestFormatSchema, slotManifestSchema } from './manifest-schema.js'
import { isSegment } from './names.js'
import type { ReadRepository } from './repository.js'

/** Something wrong with what is, or should be, in a slot. */
export interface ManifestProblem {
  /** The slot; undefined for an object in the points folder that stands for none. */
  readonly point: number | undefined
  readonly object: string
  readonly message: string
}

export interface Manifests {
  /**
   * In slot order: those that are whole and in their place. A point here may still have an ancestor that is missing
   * (then that is among the problems): which of its stores need it, `storeChain` tells.
   */
  readonly points: readonly PointManifest[]
  readonly aborted: readonly AbortedManifest[]
  /** In slot order. */
  readonly audits: readonly AuditManifest[]
  readonly problems: readonly ManifestProblem[]
  /** The first slot after all that were ever claimed, whatever is in them. */
  readonly nextSlot: number
}

export const manifestLimitBytes = 16 * 1024 * 1024
const features: readonly string[] = []
/** Reads under way at once; more does not help a local disk and would crowd out other work. */
const concurrency = 16

/**
 * Reads the machine's history. What is wrong in it is told, never thrown: the commands decide what it means to them.
 * @throws RefpointError `io` when the repository can't be read.
 */
export async function readManifests(repository: ReadRepository, machine: string): Promise<Manifests> {
  const problems: ManifestProblem[] = []
  const slots: number[] = []
  const folder = pointsFolder(machine)
  for (const name of await repository.children(folder)) {
    const slot = slotOf(name)
    if (slot !== undefined) slots.push(slot)
    else problems.push({ point: undefined, object: `${folder}/${name}`, message: `${name} is no manifest's name` })
  }
  slots.sort((a, b) => a - b)
  const uuid = await readUuid(repository, machine, problems)
  const manifests = await readSlots(repository, { name: machine, uuid }, slots, problems)
  const points = manifests.filter((manifest) => manifest.type === 'point')
  const aborted = manifests.filter((manifest) => manifest.type === 'aborted')
  const audits = manifests.filter((manifest) => manifest.type === 'audit')
  problems.push(...missingSlots(machine, slots), ...brokenParents(machine, points))
  problems.sort((a, b) => (a.point ?? 0) - (b.point ?? 0))
  return { points, aborted, audits, problems, nextSlot: (slots.at(-1) ?? 0) + 1 }
}

/** The first slot that was never claimed. */
export async function findNextSlot(repository: ReadRepository, machine: string): Promise<number> {
  const slots = (await repository.children(pointsFolder(machine))).map((name) => slotOf(name) ?? 0)
  const next = slots.reduce((highest, slot) => Math.max(highest, slot), 0) + 1
  if (next > maxSlot) throw new RefpointError('io', `machine '${machine}' has used up all ${maxSlot} points`)
  return next
}

/**
 * What is in a slot; undefined when it is free.
 * @throws RefpointError `damaged` when it is no manifest, or not the one of this slot.
 */
export async function readSlot(
  repository: ReadRepository,
  machine: string,
  slot: number,
): Promise<SlotManifest | undefined> {
  const object = pointName(machine, slot)
  const bytes = await repository.read(object, manifestLimitBytes)
  if (bytes === undefined) return undefined
  const value = decodeJson(object, bytes)
  const { format, requires = [] } = parseObject(object, manifestFormatSchema, value)
  const unknown = requires.filter((feature) => !features.includes(feature))
  if (format > 1 || unknown.length > 0) {
    const what = format > 1 ? `format ${format}` : unknown.join(', ')
    throw new RefpointError('damaged', `manifest ${object} needs a newer refpoint (${what})`, { fields: { object } })
  }
  const manifest = parseObject(object, slotManifestSchema, value)
  if (manifest.point !== slot) {
    throw new RefpointError('damaged', `manifest ${object} is of point #${manifest.point}`, { fields: { object } })
  }
  return manifest
}

/** A machine's name, and its uuid where its record could be read. */
interface KnownMachine {
  readonly name: string
  readonly uuid: string | undefined
}

/** The uuid that every manifest must have; without the machine's record they can't be held against it. */
async function readUuid(
  repository: ReadRepository,
  machine: string,
  problems: ManifestProblem[],
): Promise<string | undefined> {
  const object = machineRecordName(machine)
  try {
    const record = await readMachine(repository, machine)
    if (record !== undefined) return record.uuid
    problems.push({ point: undefined, object, message: `the record of machine '${machine}' is missing` })
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
    problems.push({ point: undefined, object, message: error.message })
  }
  return undefined
}

async function readSlots(
  repository: ReadRepository,
  machine: KnownMachine,
  slots: readonly number[],
  problems: ManifestProblem[],
): Promise<readonly SlotManifest[]> {
  const found: SlotManifest[] = []
  const queue = slots.values()
  async function work(): Promise<void> {
    for (const slot of queue) {
      try {
        const manifest = await readSlot(repository, machine.name, slot)
        if (manifest === undefined) continue
        if (manifest.type !== 'aborted') checkMachine(machine, manifest)
        if (manifest.type === 'point') checkPlace(machine, manifest)
        found.push(manifest)
      } catch (error) {
        if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
        problems.push({ point: slot, object: pointName(machine.name, slot), message: error.message })
      }
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return found.sort((a, b) => a.point - b.point)
}

function checkMachine(machine: KnownMachine, manifest: PointManifest | AuditManifest): void {
  if (manifest.machine !== machine.name) throw misplaced(machine, manifest, `is of machine '${manifest.machine}'`)
  if (machine.uuid !== undefined && manifest.machineUuid !== machine.uuid) {
    throw misplaced(machine, manifest, `is of another machine (uuid ${manifest.machineUuid})`)
  }
}

function checkPlace(machine: KnownMachine, manifest: PointManifest): void {
  if (manifest.parent !== null && manifest.parent >= manifest.point) {
    throw misplaced(machine, manifest, `names #${manifest.parent} as its parent, which is not earlier`)
  }
  if (!manifest.archive.name.split('/').every(isSegment)) {
    throw misplaced(machine, manifest, 'names an archive outside the repository')
  }
}

function misplaced(machine: KnownMachine, manifest: PointManifest | AuditManifest, what: string): RefpointError {
  const kind = manifest.type === 'point' ? 'point' : 'audit'
  return new RefpointError('damaged', `the manifest of ${kind} #${manifest.point} of machine '${machine.name}' ${what}`)
}

/** Slots are claimed one after the other and never given back, so that a gap is a manifest that was lost. */
function missingSlots(machine: string, slots: readonly number[]): ManifestProblem[] {
  const problems: ManifestProblem[] = []
  let expected = 1
  for (const slot of slots) {
    if (slot > expected) {
      const which = slot === expected + 1 ? `point #${expected}` : `points #${expected} to #${slot - 1}`
      const message = `the manifest of ${which} is missing`
      problems.push({ point: expected, object: pointName(machine, expected), message })
    }
    expected = slot + 1
  }
  return problems
}

function brokenParents(machine: string, points: readonly PointManifest[]): ManifestProblem[] {
  const known = new Set(points.map(({ point }) => point))
  return points.flatMap(({ point, parent }) =>
    parent === null || known.has(parent)
      ? []
      : [
          {
            point,
            object: pointName(machine, point),
            message: `the parent of point #${point}, #${parent}, is missing or unreadable`,
          },
        ],
  )
}
