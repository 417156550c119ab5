import * as z from 'zod'

/** Below `config/` in an archive: the document of this file, and the folder of everything that goes with it. */
export const MACHINE_FOLDER = 'qemu'
export const MACHINE_DOCUMENT = `${MACHINE_FOLDER}/machine.json`

const image = z.object({
  /** QEMU's name of the format (`qcow2`), or of the protocol where there is no format. */
  format: z.string(),
  /** As QEMU tells it: a path, a URL, or `json:{…}`. */
  filename: z.string(),
  /** The same where it is a file or a device of the host: absolute, without links. */
  path: z.string().nullable(),
})

const disk = z.object({
  /** Its store in the point; null where it is not backed up. */
  store: z.string().nullable(),
  /** Id of the device in the guest, or its QOM path where it has none. */
  device: z.string(),
  /** Id of its `-drive`; null for one of `-blockdev`. */
  drive: z.string().nullable(),
  node: z.string(),
  format: z.string(),
  sizeBytes: z.number(),
  readOnly: z.boolean(),
  removable: z.boolean(),
  /** The disk's image, then what backs it, and so on; filters above and between them are left out. */
  images: z.array(image).min(1),
})

const firmware = z.object({
  /** `pflash0` or `pflash1`. */
  slot: z.string(),
  node: z.string(),
  drive: z.string().nullable(),
  format: z.string(),
  readOnly: z.boolean(),
  image,
  /** Its copy below `config/`; null where there is none, for `problem` or since it is read-only. */
  file: z.string().nullable(),
  problem: z.string().nullable(),
})

const tpm = z.object({
  /** Id of the `-tpmdev`, and of the character device by which QEMU talks to swtpm. */
  id: z.string(),
  chardev: z.string().nullable(),
  type: z.string(),
  /** How swtpm was started. */
  commandLine: z.array(z.string()),
  /** Copies of its state below `config/`. */
  files: z.array(z.string()),
  problem: z.string().nullable(),
})

/** A file of options that QEMU was started with: only which kinds of things it sets up. */
const optionFile = z.object({ path: z.string(), sections: z.array(z.string()).nullable() })

const qemuProcess = z.object({
  pid: z.number(),
  executable: z.string(),
  /** Each argument, the program's name first. Secrets may be among them. */
  commandLine: z.array(z.string()).min(1),
  workingDirectory: z.string(),
  uid: z.number(),
  gid: z.number(),
  optionFiles: z.array(optionFile),
})

/**
 * What a machine was at a checkpoint, in the archive as `config/qemu/machine.json`: how it was started, and what QEMU
 * told of its devices. Restore makes the script that starts it again from this; a backup of the machine that was shut
 * down finds its images in it.
 */
export const machineDocumentSchema = z.object({
  format: z.literal(1),
  /** ISO 8601, UTC. */
  time: z.string(),
  qemu: z.object({ version: z.string(), package: z.string() }),
  name: z.string().nullable(),
  uuid: z.string().nullable(),
  /** What `-machine` came to, with its version: `pc-q35-7.2`. */
  machineType: z.string().nullable(),
  /** Null where the process can't be seen from here; `processProblem` says why. */
  process: qemuProcess.nullable(),
  processProblem: z.string().nullable(),
  disks: z.array(disk),
  firmware: z.array(firmware),
  tpms: z.array(tpm),
  /** Answers of QEMU as they came, by command. */
  qmp: z.record(z.string(), z.unknown()),
})

export type MachineDocument = Readonly<z.infer<typeof machineDocumentSchema>>
export type MachineDisk = MachineDocument['disks'][number]
export type MachineFirmware = MachineDocument['firmware'][number]
export type MachineTpm = MachineDocument['tpms'][number]
export type MachineProcess = NonNullable<MachineDocument['process']>

/** Reads `config/qemu/machine.json`. @throws Error for what is none, or of a version that is not known here. */
export function parseMachineDocument(bytes: Uint8Array): MachineDocument {
  return machineDocumentSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
}
