import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { describe, expect, it } from 'vitest'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { guestBytes, guestTurn, installGuest } from './guest.js'
import { blockdevDisk, makeImage } from './images.js'
import { QemuProcess } from './qemu-process.js'

const guest = join(import.meta.dirname, 'guest')
const assembles = spawnSync('as', ['--version']).status === 0 && spawnSync('ld', ['--version']).status === 0

describe.skipIf(!assembles)('the guest of the tests (needs binutils)', () => {
  it('is what its source says', async () => {
    const folder = temporaryFolder()
    const [object, binary] = [join(folder, 'boot.o'), join(folder, 'boot.bin')]
    await execa('as', ['--32', '-o', object, join(guest, 'boot.S')])
    await execa('ld', ['-m', 'elf_i386', '-Ttext', '0x7c00', '--oformat', 'binary', '-o', binary, object])
    expect((await readFile(binary)).equals(await readFile(join(guest, 'boot.bin')))).toBe(true)
  })
})

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'the guest of the tests', () => {
  it('boots, writes both of its disks and goes on after a restart', async () => {
    const folder = temporaryFolder()
    const disks = await Promise.all(
      ['root', 'data'].map((name) => makeImage(join(folder, name), 'raw', guestBytes)),
    )
    await installGuest(disks[0] ?? '', 'raw', { pauseTicks: 0 })
    const args = disks.flatMap((path, index) => blockdevDisk(`disk${index}`, path, 'raw'))
    let before = 0
    for (let boot = 0; boot < 2; boot += 1) {
      const machine = await QemuProcess.start({ folder, args, runs: true, name: `boot${boot}` })
      const wanted = before + 100
      while ((await turnOf(disks[0] ?? '')) < wanted) await new Promise((resolve) => setTimeout(resolve, 20))
      await machine.quit()
      expect(await readFile(machine.serialPath, 'utf8')).toContain('refpoint test guest')
      const [root, data] = [await guestTurn(disks[0] ?? '', 0), await guestTurn(disks[1] ?? '', 1)]
      expect([0, 1]).toContain(root - data)
      before = root
    }
  })
})

async function turnOf(path: string): Promise<number> {
  return (await readFile(path)).readUInt32LE(512 + 4)
}
