import { copyFile, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { expect, it, onTestFinished } from 'vitest'
import { connectQmp } from '../../../../src/qmp/client.js'
import { describeMachine } from '../../../../src/trackers/qemu/machine/describe.js'
import { parseMachineDocument } from '../../../../src/trackers/qemu/machine/document.js'
import { readOwnMachine } from '../../../../src/trackers/qemu/machine/own-machine.js'
import type { MachineFile } from '../../../../src/trackers/tracker.js'
import { describeWith } from '../../../layers.js'
import { guestBytes, guestTurn, installGuest, untilTurns } from '../../../qemu/guest.js'
import { makeImage } from '../../../qemu/images.js'
import { QemuProcess } from '../../../qemu/qemu-process.js'
import { temporaryFolder } from '../../../temporary.js'
import { startRestored } from './restored.js'

/** Asks a running machine all about itself, as a checkpoint does. */
async function take(machine: QemuProcess, stores: Readonly<Record<string, string>>) {
  await using qmp = await connectQmp(machine.qmpPath)
  const described = await describeMachine(qmp, machine.qmpPath)
  const byDevice = new Map(
    described.disks.flatMap(({ device, images }) => {
      const store = Object.entries(stores).find(([, path]) => images[0]?.path === path)?.[0]
      return store === undefined ? [] : [[device, store] as const]
    }),
  )
  return { described, ...(await described.copy(byDevice, new Date())) }
}

/** What restore writes beside the disks. */
async function writeOwn(folder: string, files: readonly MachineFile[], stores: Readonly<Record<string, string>>) {
  for (const { path, content } of files) {
    await mkdir(dirname(join(folder, 'config', path)), { recursive: true })
    await writeFile(join(folder, 'config', path), content, { mode: 0o600 })
  }
  const own = await readOwnMachine((path) => Promise.resolve(files.find((file) => file.path === path)?.content))
  if (own === undefined) throw new Error('the files have no machine')
  const places = Object.entries(stores).map(([store, file]) => ({ store, file, format: own.format(store) ?? 'raw' }))
  const script = own.startScript(places, { point: 1, time: '2026-01-31' })
  if (script.kind === 'refused') throw new Error(script.reasons.join('; '))
  await writeFile(join(folder, 'start.sh'), script.text, { mode: 0o700 })
  return script.text
}

describeWith(
  ['qemu-system-x86_64', 'qemu-img', 'qemu-io'],
  'a machine that is started from what its point knows',
  () => {
    const ways: readonly (readonly [string, (image: string) => readonly string[]])[] = [
      ['-drive', (image) => ['-drive', `file=${image},format=qcow2,if=virtio,cache=writeback`]],
      ['-hda', (image) => ['-hda', image]],
      [
        '-blockdev, as people write it',
        (image) => [
          ...['-blockdev', `driver=file,filename=${image},node-name=a-file,discard=unmap`],
          ...[
            '-blockdev',
            'driver=qcow2,file=a-file,node-name=a,discard=unmap',
            '-device',
            'virtio-blk-pci,drive=a,id=da',
          ],
        ],
      ],
      [
        '-blockdev, as libvirt writes it',
        (image) => [
          ...[
            '-blockdev',
            JSON.stringify({
              driver: 'file',
              filename: image,
              'node-name': 'libvirt-1-storage',
              'auto-read-only': true,
              discard: 'unmap',
            }),
          ],
          ...[
            '-blockdev',
            '{"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null}',
          ],
          ...['-device', '{"driver":"virtio-blk-pci","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1}'],
        ],
      ],
      [
        'a throttled scsi disk, as Proxmox writes it',
        (image) => [
          ...['-object', '{"qom-type":"throttle-group","id":"throttle-drive-scsi0","limits":{}}'],
          ...['-device', 'virtio-scsi-pci,id=scsihw0'],
          ...[
            '-blockdev',
            JSON.stringify({
              driver: 'throttle',
              'node-name': 'drive-scsi0',
              'throttle-group': 'throttle-drive-scsi0',
              file: {
                driver: 'qcow2',
                'node-name': 'f',
                discard: 'unmap',
                file: { driver: 'file', filename: image, 'node-name': 'e', discard: 'unmap' },
              },
            }),
          ],
          ...['-device', 'scsi-hd,bus=scsihw0.0,drive=drive-scsi0,id=scsi0,bootindex=100'],
          ...['-netdev', 'socket,id=net0,listen=127.0.0.1:0', '-device', 'virtio-net-pci,netdev=net0'],
        ],
      ],
    ]
    it.each(ways)('boots, and goes on from the counter that its disk has: %s', async (_name, args) => {
      const folder = temporaryFolder()
      const image = await makeImage(join(folder, 'a.qcow2'), 'qcow2', guestBytes)
      await installGuest(image, 'qcow2')
      const machine = await QemuProcess.start({ folder, args: args(image), runs: true })
      await written(join(folder, 'machine.serial'), /refpoint test guest/)
      const { files, warnings, document } = await take(machine, { root: image })
      expect(warnings).toEqual([])
      expect(document.disks.map(({ store, format }) => [store, format])).toEqual([['root', 'qcow2']])
      await untilTurns(machine, 2)
      await machine.quit()

      const restored = join(folder, 'restored')
      await mkdir(restored)
      await copyFile(image, join(restored, 'root.qcow2'))
      const at = await turnOf(join(restored, 'root.qcow2'))
      const script = await writeOwn(restored, files, { root: 'root.qcow2' })
      expect(script.split('set -eu')[1]).not.toContain(image)
      const started = await startRestored(restored, 'machine.qmp')
      await written(join(restored, 'run/machine.serial'), /refpoint test guest/)
      const progress = async () => JSON.stringify(await started.qmp.execute('query-blockstats'))
      const first = await progress()
      while ((await progress()) === first) await new Promise((resolve) => setTimeout(resolve, 20))
      await started.quit()
      expect(at).toBeGreaterThan(0)
      expect(await turnOf(join(restored, 'root.qcow2'))).toBeGreaterThanOrEqual(at)
      // The original's disk was not touched.
      expect(await turnOf(image)).toBe(at)
    })
  },
)

describeWith(['qemu-system-x86_64', 'qemu-img', 'swtpm'], 'what a machine keeps in no disk', () => {
  it('firmware variables and TPM are copied, and what starts from the copies has them', async () => {
    const folder = temporaryFolder()
    const state = join(folder, 'tpm state')
    const variables = join(folder, 'vars.fd')
    await mkdir(state)
    await writeFile(variables, Buffer.alloc(256 * 1024, 0x5a))
    await writeFile(join(folder, 'code.fd'), Buffer.alloc(256 * 1024, 0xf4))
    const socket = await startSwtpm(folder, state)
    const machine = await QemuProcess.start({
      folder,
      args: [
        ...['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${join(folder, 'code.fd')}`],
        ...['-drive', `if=pflash,format=raw,unit=1,file=${variables}`],
        ...['-chardev', `socket,id=chrtpm,path=${socket}`, '-tpmdev', 'emulator,id=tpm-a,chardev=chrtpm'],
        ...['-device', 'tpm-tis,tpmdev=tpm-a'],
      ],
    })
    const { files, document, warnings } = await take(machine, {})
    expect(warnings).toEqual([])
    expect(document.disks).toEqual([])
    expect(document.firmware.map(({ slot, readOnly, file }) => [slot, readOnly, file])).toEqual([
      ['pflash0', true, null],
      ['pflash1', false, 'qemu/pflash1.fd'],
    ])
    expect(files.map(({ path }) => path)).toEqual(['qemu/machine.json', 'qemu/pflash1.fd', 'qemu/tpm0/tpm2-00.permall'])
    expect(files[1]?.content).toEqual(await readFile(variables))
    expect(files[2]?.content).toEqual(await readFile(join(state, 'tpm2-00.permall')))
    expect(parseMachineDocument(files[0]?.content ?? Buffer.alloc(0))).toEqual(document)

    const restored = join(folder, 'restored')
    await writeOwn(restored, files, {})
    // Both run: nothing of the original is taken from it.
    const started = await startRestored(restored, 'machine.qmp', ['-S'])
    expect(await started.qmp.execute('query-tpm')).toMatchObject([{ id: 'tpm-a' }])
    expect(JSON.stringify(await started.qmp.execute('query-block'))).toContain(join(restored, 'config/qemu/pflash1.fd'))
    expect(await machine.monitor.execute('query-status')).toMatchObject({ running: false })
    await started.quit()
  })

  it('an swtpm whose state is behind a link is told, not followed', async () => {
    const folder = temporaryFolder()
    const [state, linked] = [join(folder, 'state'), join(folder, 'linked')]
    await mkdir(state)
    await symlink(state, linked)
    const socket = await startSwtpm(folder, linked)
    const machine = await QemuProcess.start({
      folder,
      args: [
        '-chardev',
        `socket,id=c,path=${socket}`,
        '-tpmdev',
        'emulator,id=t,chardev=c',
        '-device',
        'tpm-tis,tpmdev=t',
      ],
    })
    const { files, warnings } = await take(machine, {})
    expect(files.map(({ path }) => path)).toEqual(['qemu/machine.json'])
    expect(warnings).toEqual([expect.stringMatching(/the state of TPM 't': .*linked/)])
  })
})

describeWith(['qemu-system-x86_64', 'qemu-img'], 'a machine as QEMU tells it', () => {
  it('has its chain of images, what is only read and what is removable, and its options', async () => {
    const folder = temporaryFolder()
    const base = await makeImage(join(folder, 'base.raw'), 'raw', 1 << 20)
    const top = await makeImage(join(folder, 'top.qcow2'), 'qcow2', 1 << 20, { path: base, format: 'raw' })
    const disc = await makeImage(join(folder, 'disc.iso'), 'raw', 1 << 20)
    const machine = await QemuProcess.start({
      folder,
      args: [
        ...['-drive', `file=${top},format=qcow2,if=none,id=d0`, '-device', 'virtio-blk-pci,drive=d0,id=disk0'],
        ...['-drive', `file=${disc},format=raw,media=cdrom,if=ide`, '-drive', 'media=cdrom,if=ide,index=3'],
        ...['-drive', `file=${base},format=raw,readonly=on,if=virtio`, '-uuid', '12345678-0000-4000-8000-000000000001'],
      ],
    })
    const { document, described, files } = await take(machine, { root: top })
    expect(document).toMatchObject({
      name: 'machine',
      uuid: '12345678-0000-4000-8000-000000000001',
      processProblem: null,
    })
    expect(document.machineType).toMatch(/^pc-i440fx-/)
    expect(described.process?.pid).toBe(machine.pid)
    expect(document.process?.commandLine.slice(-2)).toEqual(['-uuid', '12345678-0000-4000-8000-000000000001'])
    const told = document.disks.map(({ store, drive, readOnly, removable, images }) => ({
      store,
      drive,
      readOnly,
      removable,
      images: images.map(({ format, path }) => `${format} ${path}`),
    }))
    expect(told).toEqual([
      { store: 'root', drive: 'd0', readOnly: false, removable: false, images: [`qcow2 ${top}`, `raw ${base}`] },
      { store: null, drive: expect.stringContaining('-cd'), readOnly: true, removable: true, images: [`raw ${disc}`] },
      { store: null, drive: 'virtio0', readOnly: true, removable: false, images: [`raw ${base}`] },
    ])
    expect(files).toHaveLength(1)
  })

  it('does not take another process for it, and says so', async () => {
    const folder = temporaryFolder()
    const machine = await QemuProcess.start({ folder, args: [] })
    const other = await QemuProcess.start({ folder, name: 'other', args: [] })
    await using qmp = await connectQmp(machine.qmpPath)
    const { process: found, copy } = await describeMachine(qmp, other.qmpPath)
    expect(found).toBeUndefined()
    const { document, warnings } = await copy(new Map(), new Date())
    expect(document.process).toBeNull()
    expect(warnings).toEqual([expect.stringContaining(`process ${machine.pid} does not listen on ${other.qmpPath}`)])
  })
})

/** A TPM with its state in a folder, until the test ends; returns its socket. */
async function startSwtpm(folder: string, state: string): Promise<string> {
  const socket = join(folder, 'swtpm.sock')
  const pidFile = join(folder, 'swtpm.pid')
  await execa('swtpm', [
    ...['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', `type=unixio,path=${socket}`],
    ...['--pid', `file=${pidFile}`, '--daemon', '--terminate'],
  ])
  const pid = Number(await readFile(pidFile, 'utf8'))
  onTestFinished(() => {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ends with its QEMU.
    }
  })
  return socket
}

async function written(path: string, wanted: RegExp): Promise<void> {
  for (;;) {
    const text = await readFile(path, 'latin1').catch(() => '')
    if (wanted.test(text)) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function turnOf(image: string): Promise<number> {
  const raw = `${image}.raw`
  await execa('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', image, raw])
  expect((await stat(raw)).size).toBe(guestBytes)
  return await guestTurn(raw, 0)
}
