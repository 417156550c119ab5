import { chown, open, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { LiveDisk } from './disks.js'
import type { Monitor } from './monitor.js'
import type { RunNames } from './names.js'
import type { QemuIdentity } from './qemu-process.js'
import { jobsReply } from './replies.js'
import { RefpointError } from '../../model/errors.js'

/** The part of the file's name before the run's own. */
const filePrefix = '.fleecing-'

/**
 * What is in the area is of no use after a crash. Each node has to be told, the lowest before all: the guest would wait
 * while QEMU opens the area, for every flush of its storage.
 */
const ofNoUseAfterwards = { 'no-flush': true } as const

export interface AreaOptions {
  readonly monitor: Monitor
  readonly names: RunNames
  readonly qemu: QemuIdentity
  readonly folder: string
  readonly disk: LiveDisk
  readonly index: number
  readonly capBytes: number
}

/**
 * Makes the place where old data of one disk goes, as the node `tmp`: a qcow2 in a file that QEMU itself holds to
 * `capBytes`, so that it can't fill the file system even when nobody watches. No space is taken yet.
 */
export async function addArea({ monitor, names, qemu, folder, disk, index, capBytes }: AreaOptions): Promise<void> {
  const path = join(folder, `${filePrefix}${names.of(index, 'file')}`)
  await makeFile(path, capBytes, qemu)
  await monitor.do('blockdev-add', {
    driver: 'raw',
    'node-name': names.of(index, 'cap'),
    size: capBytes,
    file: {
      driver: 'file',
      'node-name': names.of(index, 'file'),
      filename: path,
      locking: 'off',
      cache: ofNoUseAfterwards,
    },
    cache: ofNoUseAfterwards,
  })
  await format(monitor, names.of(index, 'mk'), {
    driver: 'qcow2',
    file: names.of(index, 'cap'),
    size: Math.ceil(disk.sizeBytes / 512) * 512,
  })
  await monitor.do('blockdev-add', {
    driver: 'qcow2',
    'node-name': names.of(index, 'tmp'),
    file: names.of(index, 'cap'),
    cache: ofNoUseAfterwards,
    discard: 'unmap',
  })
}

async function makeFile(path: string, sizeBytes: number, qemu: QemuIdentity): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(sizeBytes)
  } finally {
    await file.close()
  }
  if (process.getuid?.() === 0 && qemu.uid !== 0) await chown(path, qemu.uid, qemu.gid)
}

async function format(monitor: Monitor, job: string, options: object): Promise<void> {
  const { client } = monitor
  const concluded = client.waitForEvent(
    ({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['id'] === job && data['status'] === 'concluded',
  )
  await monitor.do('blockdev-create', { 'job-id': job, options })
  await concluded
  const made = (await monitor.ask(jobsReply, 'query-jobs')).find(({ id }) => id === job)
  await monitor.do('job-dismiss', { id: job })
  if (made?.error === undefined) return
  throw new RefpointError('tracker', `QEMU can't make the fleecing area: ${made.error}`, {
    hint: 'It must be able to write to the folder: fleecing: { folder: … }.',
  })
}

/** Removes the files of all runs whose names begin with `prefix`. */
export async function removeAreaFiles(folder: string, prefix: string): Promise<void> {
  const names = await readdir(folder).catch((): string[] => [])
  for (const name of names) if (name.startsWith(`${filePrefix}${prefix}`)) await unlink(join(folder, name))
}
