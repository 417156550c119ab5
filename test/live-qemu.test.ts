import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from './layers.js'
import { temporaryFolder } from './temporary.js'

const script = resolve(import.meta.dirname, '../samples/live-qemu.sh')
/** The script takes the first `node` of PATH: the one that runs the tests. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }

function live(folder: string) {
  const child = spawn('bash', [script, folder], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGTERM'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const ended = new Promise<number | NodeJS.Signals | null>((done) => {
    child.on('close', (code, signal) => done(code ?? signal))
  })
  return { child, output: () => output, ended }
}

/** Processes that have this folder on their command line. */
function left(folder: string): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(folder) ? [pid] : []
      } catch {
        return []
      }
    })
}

describeWith(['qemu-system-x86_64', 'qemu-img'], 'samples/live-qemu.sh', () => {
  it('backs a running machine up three times, and starts it again from the second', async () => {
    const folder = join(temporaryFolder(), 'live')
    const run = live(folder)
    expect(await run.ended, run.output()).toBe(0)
    const output = run.output()
    expect(output).toMatch(/point #1, full, crash: .* root full \(first point of this machine\)/)
    expect(output).toMatch(/point #3, incremental, crash: .* root tracked \(changes since point #2\)/)
    expect(output).toMatch(/^booted, found [1-9]\d*$/m)
    expect(output).toMatch(/It goes on from \d+: where the guest was when point #2 was taken/)
    expect(output).toContain('What to type next:')
    expect(existsSync(join(folder, 'restored/root.qcow2'))).toBe(true)
    expect(left(folder)).toEqual([])
  })

  it('leaves no machine behind when it is stopped', async () => {
    const folder = join(temporaryFolder(), 'live')
    const run = live(folder)
    while (!run.output().includes('It runs, and counts') && run.child.exitCode === null) {
      await new Promise((done) => setTimeout(done, 20))
    }
    expect(left(folder)).not.toEqual([])
    run.child.kill('SIGTERM')
    expect(await run.ended, run.output()).toBe(143)
    expect(left(folder)).toEqual([])
  })

  it('does not touch a folder that holds something', async () => {
    const folder = join(temporaryFolder(), 'mine')
    mkdirSync(folder)
    writeFileSync(join(folder, 'letter'), 'dear')
    const run = live(folder)
    expect(await run.ended).toBe(2)
    expect(readdirSync(folder)).toEqual(['letter'])
  })
})

describeWith(['as'], 'samples/live-qemu.sh', () => {
  it('has the bytes of samples/tiny-guest.S', () => {
    const folder = temporaryFolder()
    const build = (command: string, args: readonly string[]) => {
      const { status, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
      expect(status, stderr).toBe(0)
    }
    build('as', ['--32', '-o', 'guest.o', join(dirname(script), 'tiny-guest.S')])
    build('ld', ['-m', 'elf_i386', '-Ttext', '0x7c00', '--oformat', 'binary', '-o', 'guest.bin', 'guest.o'])
    const base64 = /<< 'END' \| dd of=boot\.raw.*\n([^]*?)\nEND\n/.exec(readFileSync(script, 'utf8'))?.[1] ?? ''
    const sector = Buffer.concat([Buffer.from(base64, 'base64'), Buffer.alloc(512)]).subarray(0, 510)
    expect(Buffer.concat([sector, Buffer.from([0x55, 0xaa])])).toEqual(readFileSync(join(folder, 'guest.bin')))
  })
})
