import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { hostIdentity } from './host-identity.js'
import { decodeJson, encodeJson, parseObject } from './json-object.js'
import { checkMachineName, machineRecordName, machinesFolder, pointsFolder } from './layout.js'
import type { ReadRepository, WriteRepository } from './repository.js'

/** A machine as its repository knows it. */
export interface MachineRecord {
  readonly format: 1
  readonly name: string
  readonly uuid: string
  /** Which host backs it up: `hostIdentity`, and the host's name for messages. */
  readonly hostId: string
  readonly host: string
  /** ISO 8601, UTC. */
  readonly createdAt: string
  /**
   * The first number that this repository gives by itself. 1, except in a copy: there points keep the numbers that they
   * have where they were taken, which are all below, and whatever the copy itself has to say has a number from here on.
   */
  readonly firstSlot: number
  /** The repository from which this is copied; null where backups are taken. */
  readonly copyOf: string | null
}

export interface OpenMachineOptions {
  /** Whether to record a machine that is not there yet; else that is an error. */
  readonly create: boolean
  /** Whether to take a machine over that another host backed up so far. */
  readonly adopt?: boolean
  readonly hostId?: string
}

const limitBytes = 64 * 1024
/** Of a machine that is no copy. */
const own = { firstSlot: 1, copyOf: null } as const
const schema = z.object({
  format: z.literal(1),
  name: z.string(),
  uuid: z.uuid(),
  hostId: z.string(),
  host: z.string(),
  createdAt: z.iso.datetime(),
  firstSlot: z.int().positive().default(1),
  copyOf: z.string().nullable().default(null),
})

/**
 * The machine's record, for a run that writes: two hosts that both call their machine by one name never share a chain.
 * @throws RefpointError `config` when the machine is not there, or is another host's; `damaged` when its record can't be
 * read, or is gone while its points are there.
 */
export async function openMachine(
  repository: WriteRepository,
  name: string,
  options: OpenMachineOptions,
): Promise<MachineRecord> {
  checkMachineName(name)
  const mine = { hostId: options.hostId ?? hostIdentity(), host: hostname() }
  let found = await readMachine(repository, name)
  if (found === undefined) {
    if (!options.create) throw unknownMachine(repository, name)
    if ((await repository.children(pointsFolder(name))).length > 0) throw recordLost(name)
    const createdAt = new Date().toISOString()
    const record: MachineRecord = { format: 1, name, uuid: randomUUID(), ...mine, createdAt, ...own }
    if ((await repository.claim(machineRecordName(name), encodeJson(record))) === 'created') return record
    found = await readMachine(repository, name)
    if (found === undefined) throw unknownMachine(repository, name)
  }
  if (found.copyOf !== null && options.adopt !== true) throw isCopy(found, repository)
  if (found.copyOf === null && found.hostId === mine.hostId) return found
  if (options.adopt !== true) throw otherMachine(found, mine)
  const adopted: MachineRecord = { ...found, ...mine, copyOf: null }
  await repository.put(machineRecordName(name), [encodeJson(adopted)])
  return adopted
}

/** The machine's record, for whoever only reads; undefined when there is no such machine. */
export async function readMachine(repository: ReadRepository, name: string): Promise<MachineRecord | undefined> {
  const object = machineRecordName(name)
  const bytes = await repository.read(object, limitBytes)
  if (bytes === undefined) return undefined
  const record = parseObject(object, schema, decodeJson(object, bytes))
  if (record.name === name) return record
  throw new RefpointError('damaged', `object ${object} is of machine '${record.name}'`, { fields: { object } })
}

/** Names of the machines in a repository, in order. */
export async function listMachines(repository: ReadRepository): Promise<readonly string[]> {
  const names = (await repository.children(machinesFolder)).filter(isMachineName)
  const found = await Promise.all(names.map((name) => hasMachine(repository, name)))
  return names.filter((_, index) => found[index])
}

/** Whether there is anything of a machine: also where its record is lost or damaged, for its points may be whole. */
export async function hasMachine(repository: ReadRepository, name: string): Promise<boolean> {
  if ((await repository.stat(machineRecordName(name))) !== undefined) return true
  return (await repository.children(pointsFolder(name))).length > 0
}

function isMachineName(name: string): boolean {
  try {
    checkMachineName(name)
    return true
  } catch {
    return false
  }
}

function unknownMachine(repository: ReadRepository, name: string): RefpointError {
  return new RefpointError('config', `there is no machine '${name}' in ${repository.description}`, {
    hint: "'refpoint points' lists the machines; the first backup of a machine creates it.",
    fields: { machine: name },
  })
}

/** A new record would have a new uuid, and disown every point that is there. */
function recordLost(name: string): RefpointError {
  return new RefpointError('damaged', `the record of machine '${name}' is missing, and it has points: ${machineRecordName(name)}`, {
    hint: 'Put it back from a copy of the repository. Its points can be listed, verified and restored without it.',
    fields: { machine: name, object: machineRecordName(name) },
  })
}

function isCopy(found: MachineRecord, repository: ReadRepository): RefpointError {
  return new RefpointError('config', `machine '${found.name}' in ${repository.description} is a copy: its backups go elsewhere`, {
    hint: 'Back up to the repository that is copied. If that one is lost, say --adopt once: then this one takes its place.',
    fields: { machine: found.name, copyOf: found.copyOf },
  })
}

function otherMachine(found: MachineRecord, mine: { readonly hostId: string; readonly host: string }): RefpointError {
  return new RefpointError('config', `machine '${found.name}' of this repository is the machine of another host (${found.host})`, {
    hint: 'If these are two machines, give this one another name. If it is the same one, moved, say --adopt once.',
    fields: { machine: found.name, uuid: found.uuid, recordedHost: found.host, thisHost: mine.host },
  })
}
