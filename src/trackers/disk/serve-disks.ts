import { basename } from 'node:path'
import type { Files } from '../../files/files.js'
import { loadNative } from '../../files/native.js'
import { RefpointError } from '../../model/errors.js'
import type { Backend } from '../../nbd/backend.js'
import { type NbdServer, serveNbd } from '../../nbd/server.js'
import { serveControl } from './control-server.js'
import { diskBackend } from './disk-backend.js'
import { DiskSet } from './disk-set.js'

export interface ServeDisksOptions {
  /** All disks of the machine: their checkpoints are one instant. Exports are named as the folders. */
  readonly folders: readonly string[]
  readonly listen: Parameters<typeof serveNbd>[0]['listen']
  readonly files?: Files
}

export interface DiskServer extends AsyncDisposable {
  readonly nbd: NbdServer
  /** Export names and the disks' real paths. */
  readonly exports: ReadonlyMap<string, string>
  readonly set: DiskSet
  /** Disconnects the clients, makes everything durable, releases the disks. Safe to call twice. */
  close(): Promise<void>
}

/**
 * Serves disks over NBD, with a control socket in each folder for backups and commands that run beside the server.
 * @throws RefpointError `locked` when somebody else has a disk open, `usage` for two folders of the same name.
 */
export async function serveDisks({ folders, listen, files }: ServeDisksOptions): Promise<DiskServer> {
  const native = await loadNative()
  let server: NbdServer | undefined
  const set = await DiskSet.open(folders, {
    role: 'server',
    clients: () => server?.connections ?? 0,
    ...(files === undefined ? {} : { files }),
  })
  try {
    const exports = new Map<string, string>()
    const backends = new Map<string, Backend>()
    for (const folder of set.folders) {
      const name = basename(folder)
      if (backends.has(name)) {
        const what = `two disks would be exported as "${name}": ${exports.get(name)} and ${folder}`
        throw new RefpointError('usage', what, {
          hint: 'An export is named as its folder: rename one of the folders.',
        })
      }
      exports.set(name, folder)
      backends.set(name, diskBackend(set.disk(folder), native))
    }
    const nbd = await serveNbd({ exports: backends, listen })
    server = nbd
    const control = await serveControl(set).catch(async (error: unknown) => {
      await nbd.close()
      throw error
    })
    let closing: Promise<void> | undefined
    const close = (): Promise<void> =>
      (closing ??= (async () => {
        await nbd.close()
        await control[Symbol.asyncDispose]()
        await set[Symbol.asyncDispose]()
      })())
    return { nbd, exports, set, close, [Symbol.asyncDispose]: close }
  } catch (error) {
    await set[Symbol.asyncDispose]()
    throw error
  }
}
