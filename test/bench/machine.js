import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { connectQmp } from '../../dist/qmp/client.js'

/**
 * A QEMU of its own, with virtio disks of qcow2 images, by name; `end` when done. Its processor stands still, unless it
 * `runs`.
 * @returns the socket for refpoint, `write`, which writes from a file as the guest does, and `word`, a 32-bit word of
 * the guest's memory
 */
export async function startMachine(folder, disks, { runs = false } = {}) {
  const [qmp, monitor] = [join(folder, 'agent.qmp'), join(folder, 'bench.qmp')]
  const args = Object.entries(disks).flatMap(([name, path]) => [
    '-blockdev', `driver=qcow2,node-name=${name}-node,discard=unmap,file.driver=file,file.filename=${path}`,
    '-device', `virtio-blk-pci,drive=${name}-node,id=${name}`,
  ])
  for (const socket of [qmp, monitor]) await rm(socket, { force: true })
  const child = spawn(
    'qemu-system-x86_64',
    [
      '-nodefaults', '-no-user-config', '-accel', 'tcg', '-M', 'pc', '-m', '16', '-display', 'none',
      ...(runs ? [] : ['-S']),
      ...[qmp, monitor].flatMap((socket) => ['-qmp', `unix:${socket},server=on,wait=off`]),
      ...args,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  const ended = new Promise((done) => child.once('exit', done))
  const client = await connected(monitor, child)
  return {
    qmp,
    async write(disk, file, offset, length) {
      const line = `qemu-io -d /machine/peripheral/${disk}/virtio-backend "write -s ${file} ${offset} ${length}"`
      const said = await client.execute('human-monitor-command', { 'command-line': line })
      if (said.trim() !== '') throw new Error(`${line}: ${said}`)
    },
    async word(address) {
      const said = await client.execute('human-monitor-command', { 'command-line': `xp /1wx ${address}` })
      return Number.parseInt(/: 0x([0-9a-f]{8})/.exec(said)[1], 16)
    },
    async end() {
      await client.execute('quit').catch(() => {})
      await ended
    },
  }
}

async function connected(path, child) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await connectQmp(path)
    } catch (error) {
      if (child.exitCode !== null || tries > 500) throw error
      await new Promise((done) => setTimeout(done, 20))
    }
  }
}
