import { basename } from 'node:path'
import * as z from 'zod'
import { RefpointError } from '../../../model/errors.js'
import type { MachineFile } from '../../tracker.js'
import { type BlockDevice, readBlockDevices } from './block-devices.js'
import { MACHINE_DOCUMENT, type MachineDocument, type MachineFirmware, type MachineProcess } from './document.js'
import { copyFirmware, firmwareSlot } from './firmware.js'
import { type OpenFile, openFilesOf } from './open-images.js'
import { findProcess } from './process.js'
import { parseAnswer, type QmpCommands } from './qmp-commands.js'
import { copyTpms } from './tpm.js'

/** Of answers that go along as they came, all together. */
const answersLimit = 8 * 1024 ** 2
const answers = [
  'query-block',
  'query-named-block-nodes',
  'query-chardev',
  'query-tpm',
  'query-cpus-fast',
  'query-memory-size-summary',
]

const named = z.looseObject({ name: z.string().optional() })
const identified = z.looseObject({ UUID: z.string() })

/** A machine, asked before a checkpoint puts anything of its own between disks and guest. */
export interface DescribedMachine {
  readonly disks: readonly BlockDevice[]
  readonly process: MachineProcess | undefined
  /**
   * Copies what is kept in no store, at the checkpoint, and writes the document.
   * @param stores the point's stores, by the device of their disk, as `disks` names it.
   */
  copy(stores: ReadonlyMap<string, string>, time: Date): Promise<MachineCopy>
}

export interface MachineCopy {
  readonly document: MachineDocument
  readonly files: readonly MachineFile[]
  /** What is missing in them, for people. */
  readonly warnings: readonly string[]
}

/**
 * Asks QEMU and the system what the machine is and how it was started. Never fails over what can't be seen from here
 * (a process of another user, a file that is gone): the document says what is missing, and why.
 * @param socketPath the QMP socket that `qmp` is connected to.
 * @throws RefpointError `tracker` when QEMU does not answer.
 */
export async function describeMachine(qmp: QmpCommands, socketPath: string): Promise<DescribedMachine> {
  let process: MachineProcess | undefined
  let processProblem: string | null = null
  let open: readonly OpenFile[] = []
  try {
    process = await findProcess(qmp, socketPath)
    open = await openFilesOf(process.pid)
  } catch (error) {
    processProblem = (error as Error).message
  }
  const told = new Map<string, unknown>()
  for (const command of answers) {
    // Each node once; QEMU would else tell what is below it with each of them again.
    const args = command === 'query-named-block-nodes' ? { flat: true } : {}
    // A QEMU that was built without TPMs has no such command.
    const none = command === 'query-tpm' ? [] : undefined
    told.set(command, await qmp.execute(command, args).catch((error: unknown) => orThrow(none, error)))
  }
  const workingDirectory = process?.workingDirectory ?? '/'
  const devices = await readBlockDevices(told.get('query-block'), { workingDirectory, open })
  const slots = new Map<string, string>()
  for (const slot of ['pflash0', 'pflash1']) slots.set(slot, await property(qmp, slot))
  const chips = new Map(
    devices.flatMap((disk) => {
      const slot = firmwareSlot(disk, slots)
      return slot === undefined ? [] : [[slot, disk] as const]
    }),
  )
  const disks = devices.filter((disk) => ![...chips.values()].includes(disk))
  const { major, minor, micro, package: build } = qmp.version
  const about = {
    format: 1 as const,
    qemu: { version: `${major}.${minor}.${micro}`, package: build },
    name: parseAnswer(named, 'query-name', await qmp.execute('query-name')).name ?? null,
    uuid: uuidOf(parseAnswer(identified, 'query-uuid', await qmp.execute('query-uuid')).UUID),
    machineType: (await property(qmp, 'type')).replace(/-machine$/, '') || null,
    process: process ?? null,
    processProblem,
    qmp: bounded(told),
  }
  return {
    disks,
    process,
    async copy(stores, time) {
      const files: MachineFile[] = []
      const firmware: MachineFirmware[] = []
      for (const [slot, disk] of chips) {
        const copied = await copyFirmware(slot, disk, open)
        firmware.push(copied.firmware)
        files.push(...copied.files)
      }
      const tpm = await copyTpms(told.get('query-tpm'), process)
      files.push(...tpm.files)
      const document: MachineDocument = {
        ...about,
        time: time.toISOString(),
        disks: disks.map((disk) => ({ ...disk, store: stores.get(disk.device) ?? null })),
        firmware,
        tpms: tpm.tpms,
      }
      const content = Buffer.from(`${JSON.stringify(document, undefined, 1)}\n`)
      return { document, files: [{ path: MACHINE_DOCUMENT, content }, ...files], warnings: warningsOf(document) }
    },
  }
}

/** What stands for the answer of a command that QEMU refused. */
function orThrow(answer: unknown, error: unknown): unknown {
  if (answer !== undefined && error instanceof RefpointError && 'class' in error.fields) return answer
  throw error
}

function warningsOf({ processProblem, firmware, tpms }: MachineDocument): string[] {
  const missing = [
    ...(processProblem === null ? [] : [`how it was started: ${processProblem}`]),
    ...firmware.flatMap(({ image, problem }) =>
      problem === null ? [] : [`the firmware's variables in ${basename(image.filename)}: ${problem}`],
    ),
    ...tpms.flatMap(({ id, problem }) => (problem === null ? [] : [`the state of TPM '${id}': ${problem}`])),
  ]
  return missing.map((what) => `of the machine itself, this is not in the point: ${what}`)
}

/** A property of the machine; empty where it has none. */
async function property(qmp: QmpCommands, name: string): Promise<string> {
  try {
    const value = await qmp.execute('qom-get', { path: '/machine', property: name })
    return typeof value === 'string' ? value : ''
  } catch {
    return ''
  }
}

function uuidOf(uuid: string): string | null {
  return /^[0-]*$/.test(uuid) ? null : uuid
}

/** A machine of thousands of devices tells more than belongs into every point. */
function bounded(told: ReadonlyMap<string, unknown>): Record<string, unknown> {
  let room = answersLimit
  return Object.fromEntries(
    [...told].filter(([, value]) => {
      const length = JSON.stringify(value)?.length ?? 0
      const fits = length <= room
      if (fits) room -= length
      return fits
    }),
  )
}
