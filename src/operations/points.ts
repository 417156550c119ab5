import PQueue from 'p-queue'
import { RefpointError } from '../model/errors.js'
import type { PointManifest } from '../model/manifest.js'
import { hasMachine, listMachines } from '../repository/machine.js'
import { type ManifestProblem, readManifests } from '../repository/manifests.js'
import type { ReadRepository } from '../repository/repository.js'

/** Which point somebody means. */
export type When =
  | { readonly kind: 'latest' }
  | { readonly kind: 'point'; readonly point: number }
  | { readonly kind: 'time'; readonly time: Date }

export interface MachineHistory {
  readonly machine: string
  /** By slot, ascending. */
  readonly points: readonly PointManifest[]
  readonly problems: readonly ManifestProblem[]
}

/**
 * The history of a machine, or of every machine of the repository.
 * @throws RefpointError `usage` when there is no machine of that name.
 */
export async function listPoints(repository: ReadRepository, machine?: string): Promise<readonly MachineHistory[]> {
  const known = await listMachines(repository)
  if (machine !== undefined && !(await hasMachine(repository, machine))) {
    throw new RefpointError('usage', `there is no machine '${machine}' in ${repository.description}`, {
      hint: known.length === 0 ? 'It has none yet: nothing was backed up.' : `It has: ${known.join(', ')}.`,
      fields: { machine },
    })
  }
  const queue = new PQueue({ concurrency: 8 })
  return await queue.addAll(
    (machine === undefined ? known : [machine]).map((name) => async () => {
      const { points, problems } = await readManifests(repository, name)
      return { machine: name, points, problems }
    }),
  )
}

/**
 * The point that is meant: the newest, a numbered one, or the newest whose instant is at or before a time. Of points
 * with one instant, or where a clock went back, the later slot is the newer.
 * @throws RefpointError `usage` when there is none; the message names what is there. `damaged` when its manifest is lost
 * or can't be read.
 */
export function choosePoint({ machine, points, problems }: MachineHistory, when: When): PointManifest {
  const none = (what: string, hint: string): RefpointError =>
    new RefpointError('usage', `machine '${machine}' has ${what}`, { hint, fields: { machine } })
  const broken = when.kind === 'point' ? problems.find((problem) => problem.point === when.point) : undefined
  if (broken !== undefined && points.every((point) => point.point !== broken.point)) {
    throw new RefpointError('damaged', broken.message, {
      hint: `'refpoint points ${machine}' lists the points that are there.`,
      fields: { machine, point: broken.point, object: broken.object },
    })
  }
  const latest = points.at(-1)
  const first = points[0]
  if (latest === undefined || first === undefined) throw none('no points', 'Nothing was backed up yet.')
  switch (when.kind) {
    case 'latest':
      return latest
    case 'point': {
      const point = points.find((candidate) => candidate.point === when.point)
      if (point === undefined)
        throw none(`no point #${when.point}`, `'refpoint points ${machine}' lists what is there.`)
      return point
    }
    case 'time': {
      const limit = when.time.getTime()
      let best: PointManifest | undefined
      for (const point of points) {
        const time = Date.parse(point.time)
        if (time <= limit && (best === undefined || time >= Date.parse(best.time))) best = point
      }
      if (best === undefined) {
        const oldest = points.reduce((a, b) => (Date.parse(b.time) < Date.parse(a.time) ? b : a))
        throw none(
          `no point at or before ${when.time.toISOString()}`,
          `The oldest is #${oldest.point} of ${oldest.time}.`,
        )
      }
      return best
    }
  }
}
