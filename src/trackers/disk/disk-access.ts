import { z } from 'zod'
import type { Files } from '../../files/files.js'
import { nodeFiles } from '../../files/node-files.js'
import { RefpointError } from '../../model/errors.js'
import { ControlClient } from './control-client.js'
import { checkpointSchema, mergedSchema, namedSchema, serverInfoSchema } from './control-protocol.js'
import { readDiskFile } from './disk-file.js'
import { type DiskCheckpoint, DiskSet, resolveFolder } from './disk-set.js'

/** Work on disks, the same whether a server has them open or this process does. */
export interface DiskAccess extends AsyncDisposable {
  /** The process that serves the disks, or undefined when they are open here. */
  readonly serverPid: number | undefined
  /** Real paths, in the order given. */
  readonly folders: readonly string[]
  /** One instant over all of them, until released. */
  checkpoint(): Promise<DiskCheckpoint>
  /** One instant over all of them, kept under a name; the change IDs are in the order of `folders`. */
  checkpointAs(name: string): Promise<{ readonly time: Date; readonly changeIds: readonly string[] }>
  rollback(name: string): Promise<void>
  merge(name: string): Promise<{ readonly pending: boolean }>
  resize(sizeBytes: number): Promise<void>
  /** @throws RefpointError `tracker` when the server went away, and with it what kept a checkpoint's layers. */
  assertHeld(): void
}

/**
 * Reaches the disks through their server, or opens them here under their locks.
 * @throws RefpointError `locked`; `tracker` when only some are served, or not all by one server.
 */
export async function accessDisks(
  folders: readonly string[],
  options: { readonly files?: Files } = {},
): Promise<DiskAccess> {
  const files = options.files ?? nodeFiles
  const places = await Promise.all(folders.map(resolveFolder))
  for (const place of places) await readDiskFile(files, place)
  const clients = new Map<string, ControlClient>()
  try {
    for (const place of places) {
      const client = await ControlClient.connect(place)
      if (client !== undefined) clients.set(place, client)
    }
    if (clients.size === 0) return openedHere(await DiskSet.open(places, { files, role: 'alone' }), places)
    return await servedBy(clients, places)
  } catch (error) {
    for (const client of clients.values()) await client.close()
    throw error
  }
}

function openedHere(set: DiskSet, folders: readonly string[]): DiskAccess {
  return {
    serverPid: undefined,
    folders,
    checkpoint: () => set.checkpoint(folders),
    checkpointAs: (name) => set.checkpointAs(name, folders),
    rollback: (name) => set.rollback(only(folders, 'rollback'), name),
    merge: (name) => set.merge(only(folders, 'merge'), name),
    resize: (sizeBytes) => set.resize(only(folders, 'resize'), sizeBytes),
    assertHeld: () => undefined,
    [Symbol.asyncDispose]: () => set[Symbol.asyncDispose](),
  }
}

async function servedBy(clients: ReadonlyMap<string, ControlClient>, folders: readonly string[]): Promise<DiskAccess> {
  const servers = new Map<string, number>()
  for (const client of clients.values()) {
    const info = await client.call({ op: 'info' }, serverInfoSchema)
    servers.set(info.server, info.pid)
  }
  const unserved = folders.filter((folder) => !clients.has(folder))
  if (unserved.length > 0 || servers.size > 1) {
    const what =
      unserved.length > 0 ? `${unserved.join(', ')} is not served, the others are` : 'several servers serve them'
    throw new RefpointError('tracker', `the disks have no instant in common: ${what}`, {
      hint: 'Serve all disks of a machine by one `refpoint disk serve`, or none of them.',
      fields: { unserved },
    })
  }
  const [client, ...others] = clients.values()
  if (client === undefined) throw new Error('no connection')
  for (const other of others) await other.close()
  const nothing = z.unknown()
  return {
    serverPid: [...servers.values()][0],
    folders,
    checkpoint: () => remoteCheckpoint(client, folders),
    async checkpointAs(name) {
      const { time, changeIds } = await client.call({ op: 'checkpointAs', disks: [...folders], name }, namedSchema)
      return { time: new Date(time), changeIds }
    },
    async rollback(name) {
      await client.call({ op: 'rollback', disk: only(folders, 'rollback'), name }, nothing)
    },
    merge: (name) => client.call({ op: 'merge', disk: only(folders, 'merge'), name }, mergedSchema),
    async resize(sizeBytes) {
      await client.call({ op: 'resize', disk: only(folders, 'resize'), sizeBytes }, nothing)
    },
    assertHeld() {
      if (client.connected) return
      const what = `the server of ${folders.join(', ')} went away while its checkpoint was read`
      throw new RefpointError('tracker', what, {
        hint: 'Nothing was committed. Start the server again, and run this again.',
      })
    },
    [Symbol.asyncDispose]: () => client.close(),
  }
}

async function remoteCheckpoint(client: ControlClient, folders: readonly string[]): Promise<DiskCheckpoint> {
  const taken = await client.call({ op: 'checkpoint', disks: [...folders] }, checkpointSchema)
  let released = false
  return {
    time: new Date(taken.time),
    consistency: taken.consistency,
    disks: taken.disks,
    release() {
      if (released || !client.connected) return
      released = true
      client.call({ op: 'release', checkpoint: taken.checkpoint }, z.unknown()).catch(() => undefined)
    },
  }
}

function only(folders: readonly string[], what: string): string {
  const [folder, ...others] = folders
  if (folder !== undefined && others.length === 0) return folder
  throw new RefpointError('usage', `${what} takes one disk at a time`)
}
