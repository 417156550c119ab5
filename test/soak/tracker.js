import { ChangeIdExpired } from '../../dist/model/errors.js'

/**
 * A tracker over simulated disks: their change IDs are generations. `mood` is what befalls it: `lost` makes it forget,
 * `fail` makes the run fail after everything was read. What it answered is kept in `told`, by disk.
 */
export function createSimulatedTracker(disks, clock, mood) {
  const told = new Map()
  const tracker = {
    capabilities: { granularityBytes: 4096, consistency: ['crash'], modes: ['live'] },
    stores: async () => disks.map(({ name, sizeBytes }) => ({ name, sizeBytes, logicalBlockBytes: 512 })),
    async checkpoint() {
      return {
        time: new Date(clock.now()),
        consistency: 'crash',
        warnings: [],
        files: [],
        stores: disks.map((disk) => {
          const generation = disk.seal()
          return {
            name: disk.name,
            sizeBytes: disk.sizeBytes,
            logicalBlockBytes: 512,
            changeId: `soak:${generation}`,
            source: { kind: 'file', path: disk.path, sizeBytes: disk.sizeBytes },
            async changedExtents(since) {
              if (mood.lost) throw new ChangeIdExpired('unknown', 'the soak took it away')
              const ranges = disk.changedSince(Number(since.slice('soak:'.length)))
              told.set(disk.name, ranges)
              return (async function* () {
                yield ranges
              })()
            },
            async *allocatedExtents(range) {
              if (range.length > 0) yield [{ ...range, kind: 'data' }]
            },
          }
        }),
        async assertStable() {
          if (mood.fail) throw new Error('the soak made the run fail')
        },
        async [Symbol.asyncDispose]() {},
      }
    },
    async release() {},
    async [Symbol.asyncDispose]() {},
  }
  return { tracker, told }
}
