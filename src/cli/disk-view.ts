import type { DiskSummary } from './disk-actions.js'
import { formatBytes, formatTime } from './format.js'
import { formatTable } from './table.js'

/** All of one disk, in lines. */
export function showDisk(disk: DiskSummary): string[] {
  const rows: (readonly [string, string])[] = [
    ['disk', disk.folder],
    ['uuid', disk.uuid],
    ['size', `${formatBytes(disk.sizeBytes)} (${disk.sizeBytes} bytes)`],
    ['takes', formatBytes(disk.allocatedBytes)],
    ['tracked in', formatBytes(disk.blockBytes)],
    ['generation', String(disk.generation)],
    ['layers', String(disk.layers)],
    ['served', disk.serverPid === null ? 'no' : `by process ${disk.serverPid}`],
  ]
  const checkpoints = disk.checkpoints.map(({ name, time }) => {
    return ['checkpoint', time === '' ? name : `${name}, ${formatTime(time)}`] as const
  })
  return [...rows, ...checkpoints].map(([what, value]) => `${what.padEnd(12)}${value}`)
}

/** One line for each disk. */
export function showDisks(disks: readonly DiskSummary[]): string[] {
  return formatTable(
    [
      { title: 'disk' },
      { title: 'size', align: 'right' },
      { title: 'takes', align: 'right' },
      { title: 'served' },
      { title: 'checkpoints' },
    ],
    disks.map((disk) => [
      disk.folder,
      formatBytes(disk.sizeBytes),
      formatBytes(disk.allocatedBytes),
      disk.serverPid === null ? 'no' : 'yes',
      disk.checkpoints.map(({ name }) => name).join(', '),
    ]),
  )
}
