import { readFile, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { execa } from 'execa'
import { QemuProcess } from './qemu-process.js'

const folder = resolve(process.env['REFPOINT_LINUX_GUEST'] ?? 'node_modules/.cache/linux-guest')

/** A qcow2 image of an empty ext4 file system. */
export async function makeExt4(path: string, sizeBytes: number): Promise<string> {
  const raw = `${path}.raw`
  await execa('truncate', ['-s', String(sizeBytes), raw])
  await execa('mkfs.ext4', ['-q', '-F', raw])
  await execa('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path])
  await rm(raw)
  return path
}

/** Arguments for the guest of `linux-guest/`, whose disk is an ext4 file system that it writes to all the while. */
export function linuxGuest(disk: string, agentSocket: string): string[] {
  return [
    ...['-m', '160', '-kernel', join(folder, 'kernel'), '-initrd', join(folder, 'initrd.gz')],
    ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off', '-no-reboot'],
    ...['-drive', `file=${disk},format=qcow2,if=virtio,id=root`, '-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=qga,path=${agentSocket},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=qga,name=org.qemu.guest_agent.0'],
  ]
}

/** Waits until the guest has said something on its serial port; returns the number that came with it, or 0. */
export async function saidNumber(serialPath: string, wanted: RegExp): Promise<number> {
  for (;;) {
    const found = wanted.exec(await readFile(serialPath, 'latin1').catch(() => ''))
    if (found !== null) return Number(found[1] ?? 0)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Waits until the guest has gone so many turns on. */
export async function untilCounted({ serialPath }: QemuProcess, turns: number): Promise<void> {
  const text = await readFile(serialPath, 'latin1').catch(() => '')
  const newest = Number([...text.matchAll(/COUNT (\d+)\r?\n/g)].at(-1)?.[1] ?? 0)
  await saidNumber(serialPath, new RegExp(`COUNT ${newest + turns}\\r?\\n`))
}
