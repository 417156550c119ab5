import { RefpointError } from '../../../model/errors.js'
import type { CheckpointOptions, MachineFile } from '../../tracker.js'
import { MACHINE_DOCUMENT, type MachineDisk, type MachineDocument, parseMachineDocument } from './document.js'
import { readRegularFile } from './regular-file.js'

const firmwareLimitBytes = 64 * 1024 ** 2

/** What the newest point that was taken while a machine ran knows of it, for a point while it is shut down. */
export interface RecalledMachine {
  /** ISO 8601, UTC: when it was seen running. */
  readonly time: string
  /** Those that are stores of points. */
  readonly disks: readonly MachineDisk[]
  /** The machine's own files again: the firmware's variables as they are now, the rest as it was. */
  readonly files: readonly MachineFile[]
  readonly warnings: readonly string[]
}

/**
 * Undefined where no point knows the machine.
 * @throws RefpointError `tracker` when the newest that does was written by a newer version.
 */
export async function recallMachine(recall: CheckpointOptions['recall']): Promise<RecalledMachine | undefined> {
  const content = await recall(MACHINE_DOCUMENT)
  if (content === undefined) return undefined
  const document = parsed(content)
  const files: MachineFile[] = [{ path: MACHINE_DOCUMENT, content }]
  const warnings: string[] = []
  for (const { file, image } of document.firmware) {
    if (file === null) continue
    const now = image.path === null ? undefined : await readNow(image.path)
    const kept = now ?? (await recall(file))
    if (kept !== undefined) files.push({ path: file, content: kept })
    if (now === undefined) warnings.push(`the firmware's variables are those of ${document.time}: ${image.filename} can't be read`)
  }
  for (const { id, files: states } of document.tpms) {
    for (const path of states) {
      const state = await recall(path)
      if (state !== undefined) files.push({ path, content: state })
    }
    if (states.length > 0) warnings.push(`the state of TPM '${id}' is that of ${document.time}, when the machine ran`)
  }
  return { time: document.time, disks: document.disks.filter(({ store }) => store !== null), files, warnings }
}

function parsed(content: Uint8Array): MachineDocument {
  try {
    return parseMachineDocument(content)
  } catch (cause) {
    throw new RefpointError('tracker', `what the newest point tells of the machine (${MACHINE_DOCUMENT}) can't be read`, {
      hint: 'It may be of a newer refpoint. Name the images of the machine in the configuration: images: { … }.',
      cause,
    })
  }
}

/** Nobody writes to them while the machine is off; undefined when they are not where they were. */
async function readNow(path: string): Promise<Uint8Array | undefined> {
  try {
    return (await readRegularFile(path, { limitBytes: firmwareLimitBytes })).content
  } catch {
    return undefined
  }
}
