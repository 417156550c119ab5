import { MACHINE_DOCUMENT, type MachineDocument, parseMachineDocument } from './document.js'
import { planStart } from './start/rewrite.js'
import { type RestoredStore, StartRefused } from './start/rewriting.js'
import { startScript } from './start/script.js'

/**
 * What a point's `config/qemu/` says of its machine, for whoever restores it. A document that can't be understood costs
 * the script that starts the machine, never its disks.
 */
export async function readOwnMachine(read: (path: string) => Promise<Uint8Array | undefined>) {
  const bytes = await read(MACHINE_DOCUMENT)
  if (bytes === undefined) return undefined
  const document = parsed(bytes)
  return {
    format: (store: string) => document?.disks.find((disk) => disk.store === store)?.format,
    startScript(stores: readonly RestoredStore[], point: { readonly point: number; readonly time: string }) {
      if (document === undefined) return refused([`config/${MACHINE_DOCUMENT} is none that this version understands`])
      try {
        return { kind: 'script' as const, text: startScript(document, planStart(document, stores), point) }
      } catch (error) {
        if (error instanceof StartRefused) return refused(error.reasons)
        throw error
      }
    },
  }
}

function refused(reasons: readonly string[]) {
  return { kind: 'refused' as const, reasons }
}

function parsed(bytes: Uint8Array): MachineDocument | undefined {
  try {
    return parseMachineDocument(bytes)
  } catch {
    return undefined
  }
}
