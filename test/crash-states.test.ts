import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { type CrashState, crashStates, materialise } from './crash-states.js'
import { type Recording, recordFiles } from './recording-files.js'
import { temporaryFolder } from './temporary.js'

const full = (byte: number, length: number): Uint8Array => new Uint8Array(length).fill(byte)

/** Every state, as what a folder holds: its names, and each one's bytes as text of runs ("1x512 0x512"). */
function outcomes(recording: Recording, states: readonly CrashState[]): Set<string> {
  return new Set(
    states.map((state) => {
      const folder = temporaryFolder()
      materialise(recording, state, folder)
      return readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .sort()
        .map((name) => {
          const path = join(folder, name)
          return statSync(path).isDirectory() ? `${name}/` : `${name}: ${runs(path)}`
        })
        .join('; ')
    }),
  )
}

function runs(path: string): string {
  const found: [number, number][] = []
  for (const byte of readFileSync(path)) {
    const last = found.at(-1)
    if (last?.[0] === byte) last[1] += 1
    else found.push([byte, 1])
  }
  return found.map(([byte, count]) => `${byte}x${count}`).join(' ')
}

it('keeps what was synced and any sectors of what was not', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'a'), full(1, 1024))
  const recording = recordFiles(folder)
  const file = await recording.files.open(join(folder, 'a'), 'write')
  await file.write([full(2, 512)], 512)
  await file.sync()
  const synced = recording.now()
  await file.write([full(3, 512), full(4, 512)], 0)
  await file.close()
  expect(outcomes(recording, crashStates(recording, { seed: 1, from: synced, random: 30 }))).toEqual(
    new Set(['a: 1x512 2x512', 'a: 3x512 2x512', 'a: 1x512 4x512', 'a: 3x512 4x512']),
  )
  const early = outcomes(recording, crashStates(recording, { seed: 1, to: synced - 1, random: 5 }))
  expect(early).toEqual(new Set(['a: 1x1024', 'a: 1x512 2x512']))
})

it('may show a grown size before the bytes, and a cut or zeroed file as it was', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'a'), full(1, 512))
  const recording = recordFiles(folder)
  const file = await recording.files.open(join(folder, 'a'), 'write')
  await file.write([full(2, 512)], 512)
  const written = outcomes(recording, crashStates(recording, { seed: 2, random: 30 }))
  expect(written).toEqual(new Set(['a: 1x512', 'a: 1x512 0x512', 'a: 1x512 2x512']))
  await file.sync()
  const synced = recording.now()
  await file.zero(0, 512)
  await file.truncate(512)
  await file.close()
  expect(outcomes(recording, crashStates(recording, { seed: 2, from: synced, random: 30 }))).toEqual(
    new Set(['a: 1x512 2x512', 'a: 0x512 2x512', 'a: 1x512', 'a: 0x512']),
  )
})

it('keeps names by the sync of their folder, and never loses a file to a rename', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'old'), full(1, 8))
  const recording = recordFiles(folder)
  await recording.files.rename(join(folder, 'old'), join(folder, 'new'))
  expect(outcomes(recording, crashStates(recording, { seed: 3, random: 30 }))).toEqual(
    new Set(['old: 1x8', 'new: 1x8', 'new: 1x8; old: 1x8']),
  )
  await recording.files.syncFolder(folder)
  const after = outcomes(recording, crashStates(recording, { seed: 3, from: recording.now() }))
  expect(after).toEqual(new Set(['new: 1x8']))
})

it('replaces by a rename wholly or not at all, by an empty file where content was not synced', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'a'), full(1, 8))
  const recording = recordFiles(folder)
  const file = await recording.files.open(join(folder, 'temp'), 'create')
  await file.write([full(2, 8)], 0)
  await file.close()
  await recording.files.rename(join(folder, 'temp'), join(folder, 'a'))
  const found = outcomes(recording, crashStates(recording, { seed: 4, from: recording.now(), random: 60 }))
  expect(found).toContain('a: 1x8')
  expect(found).toContain('a: ')
  expect(found).toContain('a: 2x8')
  expect([...found].every((state) => state.startsWith('a: '))).toBe(true)
})

it('loses a folder that its parent was not synced for, with all that is in it', async () => {
  const folder = temporaryFolder()
  const recording = recordFiles(folder)
  await recording.files.makeFolder(join(folder, 'sub'))
  const file = await recording.files.open(join(folder, 'sub', 'a'), 'create')
  await file.close()
  await recording.files.syncFolder(join(folder, 'sub'))
  const before = outcomes(recording, crashStates(recording, { seed: 5, from: recording.now() }))
  expect(before).toEqual(new Set(['', 'sub/; sub/a: ']))
  await recording.files.syncFolder(folder)
  const after = outcomes(recording, crashStates(recording, { seed: 5, from: recording.now() }))
  expect(after).toEqual(new Set(['sub/; sub/a: ']))
})

it('keeps two names of one file one file, and forgets calls that failed', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'a'), full(1, 8))
  const recording = recordFiles(folder)
  await recording.files.link(join(folder, 'a'), join(folder, 'b'))
  await expect(recording.files.link(join(folder, 'a'), join(folder, 'b'))).rejects.toMatchObject({ code: 'EEXIST' })
  expect(recording.log).toHaveLength(1)
  const into = temporaryFolder()
  materialise(recording, { cut: recording.now(), luck: 'all' }, into)
  expect(statSync(join(into, 'a')).ino).toBe(statSync(join(into, 'b')).ino)
  const none = temporaryFolder()
  materialise(recording, { cut: recording.now(), luck: 'none' }, none)
  expect(existsSync(join(none, 'b'))).toBe(false)
})

it('counts a write that overlaps a sync as not synced', async () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'a'), full(1, 512))
  const recording = recordFiles(folder)
  const file = await recording.files.open(join(folder, 'a'), 'write')
  await Promise.all([file.write([full(2, 512)], 0), file.sync()])
  await file.close()
  const found = outcomes(recording, crashStates(recording, { seed: 6, from: recording.now() }))
  expect(found).toEqual(new Set(['a: 1x512', 'a: 2x512']))
})

it('gives the same states for the same seed, and no more than asked', async () => {
  const folder = temporaryFolder()
  const recording = recordFiles(folder)
  const file = await recording.files.open(join(folder, 'a'), 'create')
  for (let i = 0; i < 20; i += 1) await file.write([full(i, 512)], i * 512)
  await file.close()
  const states = crashStates(recording, { seed: 7, limit: 25 })
  expect(states).toHaveLength(25)
  expect(crashStates(recording, { seed: 7, limit: 25 })).toEqual(states)
  expect(outcomes(recording, states).size).toBeGreaterThan(5)
})
