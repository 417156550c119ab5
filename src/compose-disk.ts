/*
 * The composition root of `refpoint disk`: binds its commands to the tracked disk. Apart from `compose.ts`, so that
 * neither loads what only the other needs.
 */
import type { DiskActions, DiskSummary, ServeAddress, ServedDisks } from './cli/disk-actions.js'
import { ControlClient } from './trackers/disk/control-client.js'
import { serverInfoSchema } from './trackers/disk/control-protocol.js'
import { createDisk, importDisk } from './trackers/disk/create-disk.js'
import { accessDisks, type DiskAccess } from './trackers/disk/disk-access.js'
import { type DiskInfo, diskInfo, listDisks } from './trackers/disk/info.js'
import { serveDisks } from './trackers/disk/serve-disks.js'

export const diskActions: DiskActions = {
  create: createDisk,
  importImage: importDisk,
  serve,
  checkpoint: (folders, name) => withDisks(folders, (access) => access.checkpointAs(name)),
  rollback: (folder, name) => withDisks([folder], (access) => access.rollback(name)),
  merge: (folder, name) => withDisks([folder], (access) => access.merge(name)),
  resize: (folder, sizeBytes) => withDisks([folder], (access) => access.resize(sizeBytes)),
  summary: async (folder) => summaryOf(await diskInfo(folder)),
  async list(folder) {
    return Promise.all((await listDisks(folder)).map(summaryOf))
  },
}

async function serve(folders: readonly string[], listen: ServeAddress): Promise<ServedDisks> {
  const server = await serveDisks({ folders, listen })
  const { address } = server.nbd
  const exports = [...server.exports].map(([name, folder]) => ({ folder, uri: uriOf(name, address) }))
  return { exports, [Symbol.asyncDispose]: () => server.close() }
}

/** As the NBD project's URI specification has it; the slashes of the socket's path may stay as they are. */
function uriOf(name: string, address: ServeAddress): string {
  const path = encodeURIComponent(name)
  if ('path' in address) return `nbd+unix:///${path}?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `nbd://${host}:${address.port}/${path}`
}

async function withDisks<T>(folders: readonly string[], task: (access: DiskAccess) => Promise<T>): Promise<T> {
  await using access = await accessDisks(folders)
  return await task(access)
}

async function summaryOf(info: DiskInfo): Promise<DiskSummary> {
  return { ...info, serverPid: await serverPid(info.folder) }
}

async function serverPid(folder: string): Promise<number | null> {
  const client = await ControlClient.connect(folder)
  if (client === undefined) return null
  try {
    return (await client.call({ op: 'info' }, serverInfoSchema)).pid
  } finally {
    await client.close()
  }
}
