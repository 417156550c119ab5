import { RefpointError } from '../model/errors.js'
import { encodeJson } from './json-object.js'
import { machineRecordName, maxSlot, pointsFolder } from './layout.js'
import { type MachineRecord, readMachine } from './machine.js'
import type { WriteRepository } from './repository.js'

/** A copy must be able to go on for as long as its origin: it gets half of the numbers that are left. */
const leastRoom = 1_000_000

/**
 * The record of a machine in a repository that it is copied to, made if it is not there yet. It has the origin's uuid:
 * whatever is restored from it is the same machine.
 * @param from the id of the repository that is copied.
 * @throws RefpointError `config` when there is a machine of that name that is no copy of this one.
 */
export async function openCopiedMachine(
  repository: WriteRepository,
  origin: MachineRecord,
  from: string,
): Promise<MachineRecord> {
  const { name } = origin
  let found = await readMachine(repository, name)
  if (found === undefined) {
    if ((await repository.children(pointsFolder(name))).length > 0) throw recordLost(name)
    const record = { ...origin, firstSlot: firstSlotOfCopy(origin), copyOf: from }
    if ((await repository.claim(machineRecordName(name), encodeJson(record))) === 'created') return record
    found = await readMachine(repository, name)
    if (found === undefined) throw recordLost(name)
  }
  if (found.uuid === origin.uuid && found.copyOf !== null) return found
  const what = found.uuid === origin.uuid ? 'is where its backups go now' : `is another machine (uuid ${found.uuid})`
  throw new RefpointError('config', `machine '${name}' in ${repository.description} ${what}, no copy`, {
    hint: 'Nothing was copied. Copy to another repository.',
    fields: { machine: name, uuid: origin.uuid, found: found.uuid },
  })
}

/** Above all numbers that the origin will ever give. */
function firstSlotOfCopy({ name, firstSlot }: MachineRecord): number {
  const first = firstSlot + Math.floor((maxSlot + 1 - firstSlot) / 2)
  if (maxSlot - first >= leastRoom) return first
  throw new RefpointError('config', `machine '${name}' is a copy of a copy too often: no numbers are left for one more`, {
    hint: 'Copy from the repository in which its backups are taken.',
    fields: { machine: name, firstSlot },
  })
}

function recordLost(name: string): RefpointError {
  return new RefpointError('damaged', `the record of machine '${name}' is missing, and it has points: ${machineRecordName(name)}`, {
    hint: 'Put it back from the repository that is copied; nothing was copied.',
    fields: { machine: name, object: machineRecordName(name) },
  })
}
