import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { acquireLease } from '../../repository/lease.js'
import { type MachineRecord, openMachine, readMachine } from '../../repository/machine.js'
import { readManifests } from '../../repository/manifests.js'
import { readRepositoryRecord } from '../../repository/open.js'
import type { PruneRepository } from '../../repository/repository.js'
import type { Doctor, Finding } from '../../trackers/doctor.js'
import type { Owner } from '../../trackers/tracker.js'
import type { Codec } from '../../compress/codec.js'
import { chooseParent } from '../backup/choose-parent.js'
import { referencePointOf } from '../backup/backup.js'
import { recallFrom } from '../backup/recall.js'

export type { Doctor, Finding } from '../../trackers/doctor.js'

export interface ExamineRequest {
  readonly name: string
  readonly doctor: Doctor
  /** Remove what killed runs left. */
  readonly fix: boolean
  /** The command that runs, for whoever finds the machine locked. */
  readonly command: string
  readonly signal: AbortSignal
  readonly codec: Codec
}

export interface MachineExamination {
  readonly findings: readonly Finding[]
  /** What was removed. */
  readonly fixed: readonly string[]
}

/**
 * Looks at a machine and at what the repository has of it. Where the machine is known there, its lease is held
 * meanwhile: nothing of a run that goes on is taken for a leftover.
 * @throws RefpointError `locked` while a run has the machine.
 */
export async function examineMachine(
  repository: PruneRepository,
  { name, doctor, fix, command, signal, codec }: ExamineRequest,
): Promise<MachineExamination> {
  const known = await lookUp(repository, name)
  if (known.record === undefined) {
    const found = await doctor.examine({ owner: undefined, previous: undefined, recall: nothing, signal })
    return { findings: [...found, ...known.findings], fixed: [] }
  }
  const owner: Owner = { repositoryId: known.repositoryId, machineUuid: known.record.uuid }
  await using lease = await acquireLease(repository, name, { command, signal })
  const held = AbortSignal.any([signal, lease.lost])
  const history = await lastPoint(repository, name)
  const recall = recallFrom(repository, codec, history.points)
  const options = { owner, previous: history.previous, recall, signal: held }
  const fixed = fix ? await doctor.fix(options) : []
  return { findings: [...(await doctor.examine(options)), ...known.findings, ...history.findings], fixed }
}

type Known =
  | { readonly record: undefined; readonly findings: readonly Finding[] }
  | { readonly record: MachineRecord; readonly repositoryId: string; readonly findings: readonly Finding[] }

async function lookUp(repository: PruneRepository, name: string): Promise<Known> {
  const about = { topic: 'repository', store: null }
  const found = await readRepositoryRecord(repository)
  if (found === undefined) {
    const message = `there is no repository at ${repository.description} yet`
    return { record: undefined, findings: [{ ...about, level: 'problem', message, hint: 'Make it: refpoint init' }] }
  }
  if ((await readMachine(repository, name)) === undefined) {
    const message = 'it was never backed up: the first point will be a full'
    return { record: undefined, findings: [{ ...about, level: 'note', message }] }
  }
  return { record: await openMachine(repository, name, { create: false }), repositoryId: found.id, findings: [] }
}

interface History {
  readonly points: readonly PointManifest[]
  readonly previous: ReferencePoint | undefined
  readonly findings: readonly Finding[]
}

const nothing = () => Promise.resolve(undefined)

async function lastPoint(repository: PruneRepository, name: string): Promise<History> {
  const { points, problems } = await readManifests(repository, name)
  const { parent, passedOver } = await chooseParent(repository, points)
  const about = { topic: 'points', store: null }
  const damaged = [...problems.map(({ message }) => message), ...passedOver]
  const findings = damaged.map((message): Finding => ({
    ...about,
    level: 'problem',
    message,
    hint: 'refpoint verify names all that is damaged.',
  }))
  if (parent === undefined) {
    return {
      points,
      previous: undefined,
      findings: [...findings, { ...about, level: 'note', message: 'the next point is a full' }],
    }
  }
  const message = `the last of ${points.length} points is #${parent.point}, of ${parent.time}, ${parent.consistency}`
  return { points, previous: referencePointOf(parent), findings: [...findings, { ...about, level: 'good', message }] }
}

/** What a machine with problems ends the command with. */
export function unwell(name: string, { findings, fixed }: MachineExamination): RefpointError | undefined {
  const problems = findings.filter(({ level }) => level === 'problem')
  const [first] = problems
  if (first === undefined) return undefined
  const more = problems.length > 1 ? `, and ${problems.length - 1} more problems` : ''
  return new RefpointError('tracker', `machine '${name}': ${first.message}${more}`, {
    ...(first.hint === undefined ? {} : { hint: first.hint }),
    fields: { machine: name, findings, fixed },
  })
}
