import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { SourceReader } from '../../../src/model/source.js'
import { connectNbd } from '../../../src/nbd/client.js'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { accessDisks } from '../../../src/trackers/disk/disk-access.js'
import { DiskSet } from '../../../src/trackers/disk/disk-set.js'
import { createDiskTracker } from '../../../src/trackers/disk/disk-tracker.js'
import { openLayersSource } from '../../../src/trackers/disk/layers-source.js'
import { describeTracker, type TrackedMachine } from '../../conformance/tracker.js'
import { temporaryFolder } from '../../temporary.js'
import { ServerProcess } from './server-process.js'

const sizes = { root: 6 * 1024 * 1024, data: 4 * 1024 * 1024 } as const

async function createMachine() {
  const root = temporaryFolder()
  const stores = { root: join(root, 'root'), data: join(root, 'data') }
  await createDisk(stores.root, { sizeBytes: sizes.root })
  await createDisk(stores.data, { sizeBytes: sizes.data, blockBytes: 4096 })
  const trackerOf = () => createDiskTracker({ stores })
  return {
    root,
    stores,
    base: {
      tracker: trackerOf(),
      another: trackerOf,
      stores: [
        { name: 'root', sizeBytes: sizes.root },
        { name: 'data', sizeBytes: sizes.data },
      ],
      files: [],
      openSource(source): Promise<SourceReader> {
        if (source.kind !== 'layers') throw new Error(`a source of kind ${source.kind}`)
        return Promise.resolve(openLayersSource(source))
      },
    } satisfies Partial<TrackedMachine>,
  }
}

/** Served by a process of its own; a guest on our NBD client writes and flushes. */
async function served(): Promise<TrackedMachine> {
  const { root, stores, base } = await createMachine()
  const folders = Object.values(stores)
  mkdirSync(join(root, 'run'), { mode: 0o700 })
  const socket = join(root, 'run', 'nbd.sock')
  let server = await ServerProcess.start(socket, folders)
  const connect = async () => ({
    root: await connectNbd({ path: socket }, { exportName: 'root' }),
    data: await connectNbd({ path: socket }, { exportName: 'data' }),
  })
  let clients: Awaited<ReturnType<typeof connect>> | undefined = await connect()
  async function client(name: string) {
    clients ??= await connect()
    return name === 'root' ? clients.root : clients.data
  }
  async function disconnect() {
    await clients?.root.disconnect()
    await clients?.data.disconnect()
    clients = undefined
  }
  onTestFinished(disconnect)
  return {
    ...base,
    async write(store, bytes, offset) {
      const guest = await client(store)
      await guest.write(bytes, offset)
      await guest.flush()
    },
    async zero(store, offset, length) {
      const guest = await client(store)
      await guest.zero(offset, length, { punch: true })
      await guest.flush()
    },
    async crashLayer() {
      await server.kill()
      clients = undefined
      server = await ServerProcess.start(socket, folders)
    },
    async resize(store, sizeBytes) {
      await disconnect()
      await using access = await accessDisks([stores[store as keyof typeof stores]])
      await access.resize(sizeBytes)
    },
  }
}

/** Nobody serves it: what is written in between is as if a server had run and ended. */
async function atRest(): Promise<TrackedMachine> {
  const { stores, base } = await createMachine()
  async function open<T>(store: string, task: (set: DiskSet, folder: string) => Promise<T>): Promise<T> {
    await using set = await DiskSet.open([stores[store as keyof typeof stores]], { role: 'server' })
    return await task(set, set.folders[0] ?? '')
  }
  return {
    ...base,
    write: (store, bytes, offset) => open(store, (set, folder) => set.disk(folder).write([bytes], offset)),
    zero: (store, offset, length) => open(store, (set, folder) => set.disk(folder).zero(offset, length)),
    crashLayer: () => Promise.resolve(),
    resize: (store, sizeBytes) => open(store, (set, folder) => set.resize(folder, sizeBytes)),
  }
}

describeTracker({ name: 'disk, served', machine: served, writesWhileHeld: true })
describeTracker({ name: 'disk, at rest', machine: atRest, writesWhileHeld: false })
