import { checkArchive } from '../../archive/check.js'
import { storeChain } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { hasMachine, listMachines } from '../../repository/machine.js'
import { readManifests } from '../../repository/manifests.js'
import { type Pin, whilePinned } from '../../repository/pin.js'
import { ArchiveShelf, locateArchive, StoreChain } from '../chain-reader.js'
import { composeStore } from '../compose/compose-store.js'
import type { WriteEnvironment } from '../environment.js'
import { contentSumAfter } from './content-sum-after.js'

/** One damaged thing, and what it costs. */
export interface Finding {
  readonly machine: string
  /** The point in whose manifest or archive the damage is; undefined for an object that belongs to none. */
  readonly point: number | undefined
  readonly store: string | undefined
  readonly object: string
  readonly what: string
  /** Points that can't be restored whole because of it, ascending. */
  readonly affects: readonly number[]
}

export interface VerifyRequest {
  /** All machines when undefined. */
  readonly machine: string | undefined
  /** Only this point, with all that it needs. */
  readonly point: number | undefined
  /** Only these points of the machine, and nothing that they need: for what is proven bit by bit. */
  readonly only?: ReadonlySet<number>
  /** Only what tells without reading payload: manifests, chains, archives' sizes, headers and tables' places. */
  readonly quick: boolean
}

export interface VerifyOptions {
  readonly signal: AbortSignal
  readonly onFinding?: (finding: Finding) => void
  readonly onPoint?: (machine: string, point: PointManifest) => void
  /** Asked before each point: whether to leave it, and all that come after it, for another time. */
  readonly enough?: () => boolean
  readonly onTotal?: (bytes: number) => void
  readonly onBytes?: (bytes: number) => void
}

export interface VerifyReport {
  readonly machines: number
  readonly points: number
  readonly findings: readonly Finding[]
  /** Digest blocks that could not be checked because their digest is unknown. */
  readonly unknownBlocks: number
}

/**
 * Proves the chain of hashes from manifest to byte: the archive is what its manifest says, its content has its digests,
 * and the digests of the whole store have the manifest's content sum. Each point is proven by what it adds to its
 * parent, so that everything costs one reading of everything. Damage is reported, not thrown.
 */
export async function verify(
  environment: WriteEnvironment,
  request: VerifyRequest,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const run = new VerifyRun(environment, request, options)
  return await run.run()
}

class VerifyRun {
  readonly #environment: WriteEnvironment
  readonly #request: VerifyRequest
  readonly #options: VerifyOptions
  readonly #findings: Finding[] = []
  /** Of the point at hand. */
  readonly #untold: Finding[] = []
  #points = 0
  #unknown = 0

  constructor(environment: WriteEnvironment, request: VerifyRequest, options: VerifyOptions) {
    this.#environment = environment
    this.#request = request
    this.#options = options
  }

  async run(): Promise<VerifyReport> {
    const { repository } = this.#environment
    const machines = this.#request.machine === undefined ? await listMachines(repository) : [this.#request.machine]
    for (const machine of machines) await this.#machine(machine)
    return { machines: machines.length, points: this.#points, findings: this.#findings, unknownBlocks: this.#unknown }
  }

  async #machine(name: string): Promise<void> {
    const { repository, command, ttlMs } = this.#environment
    if (!(await hasMachine(repository, name))) {
      throw new RefpointError('usage', `there is no machine '${name}' in ${repository.description}`, {
        hint: `It has: ${(await listMachines(repository)).join(', ') || 'none'}.`,
      })
    }
    await whilePinned(repository, name, { command, ttlMs }, (pin) => this.#pinned(name, pin))
  }

  async #pinned(name: string, pin: Pin): Promise<void> {
    const { repository, codec } = this.#environment
    const { points, problems } = await readManifests(repository, name)
    const bySlot = new Map(points.map((point) => [point.point, point]))
    for (const problem of problems) {
      this.#found(
        { machine: name, point: problem.point, store: undefined, object: problem.object, what: problem.message },
        points,
        bySlot,
      )
    }
    await this.#tellFound(pin)
    const wanted = this.#wanted(name, points, bySlot)
    this.#options.onTotal?.(this.#request.quick ? 0 : wanted.reduce((sum, point) => sum + contentBytes(point), 0))
    await using shelf = new ArchiveShelf(repository, codec)
    for (const point of wanted) {
      this.#options.signal.throwIfAborted()
      if (this.#options.enough?.() === true) break
      await this.#point(point, points, bySlot, shelf)
      await this.#tellFound(pin)
      this.#points++
      this.#options.onPoint?.(name, point)
    }
  }

  /** The points to look at: all, or one and its ancestors. */
  #wanted(
    machine: string,
    points: readonly PointManifest[],
    bySlot: ReadonlyMap<number, PointManifest>,
  ): readonly PointManifest[] {
    const { only } = this.#request
    if (only !== undefined) return points.filter(({ point }) => only.has(point))
    if (this.#request.point === undefined) return points
    const point = bySlot.get(this.#request.point)
    if (point === undefined) {
      throw new RefpointError('usage', `machine '${machine}' has no point #${this.#request.point}`, {
        hint: `'refpoint points ${machine}' lists what is there.`,
      })
    }
    const needed = neededBy(point, bySlot)
    return points.filter((candidate) => needed.has(candidate.point))
  }

  async #point(
    point: PointManifest,
    points: readonly PointManifest[],
    bySlot: ReadonlyMap<number, PointManifest>,
    shelf: ArchiveShelf,
  ): Promise<void> {
    const found = (what: string, store?: string, at?: PointManifest): void => {
      const where = at ?? point
      this.#found(
        { machine: where.machine, point: where.point, store, object: where.archive.name, what },
        points,
        bySlot,
      )
    }
    try {
      const location = await locateArchive(this.#environment.repository, point)
      if (!this.#request.quick) {
        const [sha256] = await this.#environment.pool.run('hashObject', [{ location }], location.bytes)
        if (sha256 !== point.archive.sha256) {
          // The digests below may tell which stores are touched; this tells which part of the file.
          const where = await checkArchive(location, this.#environment.codec, { signal: this.#options.signal }).then(
            () => 'its parts are readable; their digests tell more',
            (error: unknown) => (error instanceof Error ? error.message : String(error)),
          )
          found(`the archive's bytes are not what was written (SHA-256 differs): ${where}`)
        }
      }
      await shelf.open(point)
    } catch (error) {
      if (!(error instanceof RefpointError)) throw error
      found(error.message)
      return
    }
    for (const store of point.stores) {
      try {
        const chain = await StoreChain.open(shelf, point, store.name, bySlot)
        await this.#store(point, store.name, chain, bySlot, found)
      } catch (error) {
        if (!(error instanceof RefpointError && error.code === 'damaged')) throw error
        // An ancestor's damage was told with the ancestor.
        if (!this.#toldOfAncestor(point, bySlot)) found(error.message, store.name)
      }
    }
  }

  async #store(
    point: PointManifest,
    store: string,
    chain: StoreChain,
    bySlot: ReadonlyMap<number, PointManifest>,
    found: (what: string, store?: string, at?: PointManifest) => void,
  ): Promise<void> {
    if (this.#request.quick) return
    const composed = await composeStore(this.#environment, chain, store, {
      target: null,
      touchedOnly: true,
      signal: this.#options.signal,
      onBytes: (bytes) => this.#options.onBytes?.(bytes),
    })
    this.#unknown += composed.unknownBlocks
    for (const damage of composed.damage) {
      const at = damage.point === null ? undefined : bySlot.get(damage.point)
      found(`bytes ${damage.offset} to ${damage.offset + damage.length} of the store: ${damage.what}`, store, at)
    }
    const recorded = point.stores.find((record) => record.name === store)?.contentSum
    const parent = point.parent === null ? undefined : bySlot.get(point.parent)
    const sum = await contentSumAfter(chain, store, parent)
    if (recorded != null && sum !== null && sum !== recorded) {
      found(`the content sum of the whole store is ${sum}, the manifest says ${recorded}`, store)
    }
  }

  #toldOfAncestor(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>): boolean {
    const needed = neededBy(point, bySlot)
    return [...this.#findings, ...this.#untold].some(
      (finding) => finding.machine === point.machine && finding.affects.some((slot) => needed.has(slot)),
    )
  }

  #found(
    finding: Omit<Finding, 'affects'>,
    points: readonly PointManifest[],
    bySlot: ReadonlyMap<number, PointManifest>,
  ): void {
    const at = finding.point
    const builtOn = points
      .filter((point) => at !== undefined && neededBy(point, bySlot, finding.store).has(at))
      .map((point) => point.point)
    // The point itself first of all: where its manifest can't be read it is not among the points.
    const affects = at === undefined ? [] : [...new Set([at, ...builtOn])].sort((a, b) => a - b)
    const whole = { ...finding, affects }
    this.#untold.push(whole)
  }

  /** What a prune took from a reader that slept for too long is no damage: then nothing of it is told. */
  async #tellFound(pin: Pin): Promise<void> {
    if (this.#untold.length > 0) await pin.assertHeld()
    for (const finding of this.#untold.splice(0)) {
      this.#findings.push(finding)
      this.#options.onFinding?.(finding)
    }
  }
}

/** The slots that a point needs, itself included; also those that are missing. */
function neededBy(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>, store?: string): Set<number> {
  const needed = new Set<number>([point.point])
  for (const record of point.stores) {
    if (store !== undefined && record.name !== store) continue
    try {
      for (const member of storeChain(point, record.name, bySlot)) needed.add(member.point)
    } catch (error) {
      if (!(error instanceof RefpointError)) throw error
      let current: PointManifest | undefined = point
      while (current !== undefined && current.parent !== null && current.parent < current.point) {
        needed.add(current.parent)
        current = bySlot.get(current.parent)
      }
    }
  }
  return needed
}

function contentBytes(point: PointManifest): number {
  return point.stores.reduce((sum, store) => sum + store.contentBytes, 0)
}
