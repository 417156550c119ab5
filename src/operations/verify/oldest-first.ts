/*
 * What a verify with a budget looks at: the points whose archive was not proven for the longest time, over all
 * machines, those that never were first. In batches of one machine, so that its history is read once for many points.
 */
import PQueue from 'p-queue'
import { RefpointError } from '../../model/errors.js'
import { readManifests } from '../../repository/manifests.js'
import { type Proofs, provenAtMs, readProofs } from '../../repository/proofs.js'
import type { ReadRepository } from '../../repository/repository.js'

/** Points of one machine that come next. */
export interface Batch {
  readonly machine: string
  readonly points: readonly number[]
}

interface Waiting {
  readonly machine: string
  readonly point: number
  readonly provenAtMs: number
}

const mostInBatch = 200

/** All points, the longest unproven first; of one age in the order of their machines and slots. */
export async function oldestFirst(
  repository: ReadRepository,
  machines: readonly string[],
  onProblem: (message: string) => void,
): Promise<readonly Batch[]> {
  const queue = new PQueue({ concurrency: 8 })
  const found = await queue.addAll(
    machines.map((machine) => async (): Promise<Waiting[]> => {
      const { points } = await readManifests(repository, machine)
      const proofs = await readProofs(repository, machine).catch((error: unknown): Proofs => {
        if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
        onProblem(`${error.message}; everything of '${machine}' counts as never verified`)
        return { format: 1, proven: {}, damaged: {} }
      })
      return points.map(({ point, archive }) => ({ machine, point, provenAtMs: provenAtMs(proofs, archive.name) }))
    }),
  )
  const waiting = found.flat().sort((a, b) => a.provenAtMs - b.provenAtMs)
  const batches: { machine: string; points: number[] }[] = []
  for (const { machine, point } of waiting) {
    const last = batches.at(-1)
    // A batch is looked at in the order of its slots, so it must be in that order.
    const next = last?.machine === machine && last.points.length < mostInBatch && point > (last.points.at(-1) ?? 0)
    if (next) last.points.push(point)
    else batches.push({ machine, points: [point] })
  }
  return batches
}
