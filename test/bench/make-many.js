/*
 * node make-many.js <repository> <machines> <points of each>
 *
 * Makes a repository of many manifests, each an hourly incremental on the one before, with an archive of a few bytes that
 * is never opened. Written without syncing: it is for listing only.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { agent, buildRepository, initRepository } from '../../dist/index.js'
import { archiveName, pointName } from '../../dist/repository/layout.js'
import { openMachine } from '../../dist/repository/machine.js'

const [, , path, ...numbers] = process.argv
const [machines, points] = numbers.map(Number)
const repository = await buildRepository({ path }, { create: true })
const { record } = await initRepository(repository)
const newest = Date.now() - 60_000

for (let number = 1; number <= machines; number += 1) {
  const machine = `machine${String(number).padStart(4, '0')}`
  const { uuid } = await openMachine(repository, machine, { create: true })
  for (const folder of ['points', 'archives']) mkdirSync(join(path, 'machines', machine, folder), { recursive: true })
  for (let point = 1; point <= points; point += 1) writePoint(machine, uuid, point)
}

function writePoint(machine, machineUuid, point) {
  const parent = point === 1 ? null : point - 1
  const time = new Date(newest - (points - point) * 3_600_000).toISOString()
  const archive = { name: archiveName(machine, randomUUID()), bytes: 8, sha256: '0'.repeat(64) }
  const store = (name) => ({
    name, kind: 'disk', sizeBytes: 100 * 2 ** 30, mode: parent === null ? 'full' : 'tracked', changeId: `${machineUuid}:${point}`,
    reason: parent === null ? 'first point of this machine' : `changes since point #${parent}`,
    dataExtents: 100, zeroExtents: 3, changedBytes: 100 * 65_536, contentBytes: 97 * 65_536, storedBytes: 4,
    contentSum: 'a'.repeat(64), auditedTo: (point * 4096) % 1_638_400, distrust: null,
  })
  const manifest = {
    format: 1, requires: [], optional: [], type: 'point', repositoryId: record.id, machine, machineUuid, point, parent,
    nonce: randomUUID(), tracker: 'disk', time, startedAt: time, durationMs: 12_000, consistency: 'crash',
    stores: [store('root'), store('data')], archive, warnings: [], agent, signatures: [],
  }
  writeFileSync(join(path, archive.name), 'archive\n')
  writeFileSync(join(path, pointName(machine, point)), JSON.stringify(manifest, null, 2))
}
