import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { describeWith } from './layers.js'
import { temporaryFolder } from './temporary.js'

const root = resolve(import.meta.dirname, '..')
const readme = readFileSync(join(root, 'README.md'), 'utf8')

function blocks(language: string): string[] {
  return [...readme.matchAll(/^```(\w+)\n([^]*?)^```$/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? '')
}

/** A home for what is typed: `refpoint` and the `node` of this test run on PATH. */
function terminal(): { readonly folder: string; run(command: string, args: readonly string[]): string } {
  const home = temporaryFolder()
  const bin = join(home, 'bin')
  const folder = join(home, 'here')
  mkdirSync(bin)
  mkdirSync(folder)
  writeFileSync(join(bin, 'refpoint'), `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'dist/main.js')}' "$@"\n`, {
    mode: 0o755,
  })
  const PATH = [bin, dirname(process.execPath), process.env['PATH']].join(':')
  return {
    folder,
    run(command, args) {
      const env = { ...process.env, PATH, REFPOINT: root }
      const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, env, encoding: 'utf8', timeout: 300_000 })
      const output = `${stdout}${stderr}`
      expect(status, output).toBe(0)
      return output
    },
  }
}

describeWith(['zstd', 'tar', 'python3'], 'README.md', () => {
  it('has commands that work as written, from top to bottom, and a program that does', { timeout: 400_000 }, () => {
    const { folder, run } = terminal()
    const script = join(folder, '..', 'typed.sh')
    // Whatever fails, what was left in the background ends with the shell.
    writeFileSync(script, ['set -e', "trap 'kill $(jobs -p); wait' EXIT", ...blocks('sh'), 'trap - EXIT'].join('\n'))
    const output = run('bash', [script])
    expect(output).toMatch(/web01: point #1, full, crash: .*root full \(first point of this machine\)/)
    expect(output).toMatch(/web01: point #2, incremental, crash: .*root tracked \(changes since point #1\)/)
    expect(output).toMatch(/db01: point #2, incremental, offline: .*root compared/)
    expect(output).toContain('nothing is damaged')
    expect(existsSync(join(folder, 'restored/root-only/root.raw'))).toBe(true)

    const [program = ''] = blocks('js')
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(root, join(folder, 'node_modules/refpoint'))
    writeFileSync(join(folder, 'program.mjs'), program)
    expect(run('node', ['program.mjs'])).toMatch(/^\d+ \d+$/m)
  })
})

describe('README.md', () => {
  it('links to files that are there', () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map((match) => match[1] ?? '')
    expect(links.length).toBeGreaterThan(5)
    expect(links.filter((link) => !existsSync(join(root, link)))).toEqual([])
  })

  it('knows every key of the configuration and every command', () => {
    const schema = readdirSync(join(root, 'src/config'))
      .filter((name) => name.startsWith('schema'))
      .map((name) => readFileSync(join(root, 'src/config', name), 'utf8'))
      .join('\n')
    const keys = [...schema.matchAll(/^ +(\w+): (?:z\.|size|level|audit|integer|stores|defaults|schedule|spread|hooks|verify|zone|notify|metrics|limits|perSecond|duration|program|patience)/gm)].map((match) => match[1] ?? '')
    expect(keys.length).toBeGreaterThan(8)
    expect(keys.filter((key) => !readme.includes(key))).toEqual([])
    const program = readFileSync(join(root, 'src/cli/program.ts'), 'utf8')
    const commands = [...program.matchAll(/new Command\('(\w+)'\)/g)].map((match) => match[1] ?? '')
    expect(commands.filter((command) => !readme.includes(`refpoint ${command}`) && command !== 'refpoint')).toEqual([])
  })
})

describe('samples/refpoint.yaml', () => {
  it('is a configuration', async () => {
    const { parseConfig } = await import('../src/config/load-config.js')
    const file = join(root, 'samples/refpoint.yaml')
    const { machines } = parseConfig(readFileSync(file, 'utf8'), file)
    expect(machines.map(({ name, tracker }) => `${name} ${tracker}`)).toEqual(['web01 disk', 'db01 image', 'mail01 qemu'])
  })
})
