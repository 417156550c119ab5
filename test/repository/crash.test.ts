import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { localRepository } from '../../src/repository/local/local-repository.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { crashStates, materialise } from '../crash-states.js'
import { recordFiles } from '../recording-files.js'
import { temporaryFolder } from '../temporary.js'

const seed = Number(process.env['REFPOINT_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const content = new Uint8Array(5000).map((_, index) => index & 255)
const older = new Uint8Array(700).fill(7)
const name = 'machines/web01/points/00000001.json'

/** What the object is after each crash, before and after the call resolved: 'absent', 'old', 'whole' or 'torn'. */
async function crashes(act: (repository: PruneRepository) => Promise<unknown>, prepare?: typeof act) {
  const folder = temporaryFolder()
  if (prepare !== undefined) await prepare(localRepository(folder))
  const recording = recordFiles(folder)
  await act(localRepository(folder, { files: recording.files }))
  const resolved = recording.now()
  const before = new Set<string>()
  const after = new Set<string>()
  for (const state of crashStates(recording, { seed, random: 6 })) {
    const into = temporaryFolder()
    materialise(recording, state, into)
    const repository = localRepository(into)
    await repository.sweep('')
    const found = await repository.read(name, 1e6)
    const what = found === undefined ? 'absent' : same(found, content) ? 'whole' : same(found, older) ? 'old' : 'torn'
    const set = state.cut >= resolved ? after : before
    set.add(what)
    const names = await repository.children('machines/web01/points').catch(() => [])
    const stray = names.filter((child) => child !== '00000001.json')
    expect(stray, `${JSON.stringify(state)}, seed ${seed}`).toEqual([])
  }
  return { before, after }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

describe(`a power cut (seed ${seed})`, () => {
  it('finds a claimed object absent or whole, and whole for certain once the claim has resolved', async () => {
    const { before, after } = await crashes((repository) => repository.claim(name, content))
    expect(before).toEqual(new Set(['absent', 'whole']))
    expect(after).toEqual(new Set(['whole']))
  })

  it('finds a put object absent or whole, and whole for certain once the put has resolved', async () => {
    const pieces = [content.subarray(0, 100), content.subarray(100, 3000), content.subarray(3000)]
    const { before, after } = await crashes((repository) => repository.put(name, pieces))
    expect(before).toEqual(new Set(['absent', 'whole']))
    expect(after).toEqual(new Set(['whole']))
  })

  it('finds a replaced object old or new, never a mixture and never nothing', async () => {
    const { before, after } = await crashes(
      (repository) => repository.put(name, [content]),
      (repository) => repository.put(name, [older]),
    )
    expect(before).toEqual(new Set(['old', 'whole']))
    expect(after).toEqual(new Set(['whole']))
  })

  it('finds a removed object gone once the removal has resolved', async () => {
    const { before, after } = await crashes(
      (repository) => repository.remove([name]),
      (repository) => repository.put(name, [content]),
    )
    expect(before).toEqual(new Set(['absent', 'whole']))
    expect(after).toEqual(new Set(['absent']))
  })

  it('finds an object that a second claimer was told of', async () => {
    const folder = temporaryFolder()
    const recording = recordFiles(folder)
    // The winner dies after its link, before it can sync the folder.
    const dying = { ...recording.files, syncFolder: (path: string) => dieOnceLinked(path) }
    function dieOnceLinked(path: string): Promise<void> {
      if (existsSync(join(folder, name))) return Promise.reject(Object.assign(new Error('dead'), { code: 'EIO' }))
      return recording.files.syncFolder(path)
    }
    const first = localRepository(folder, { files: dying }).claim(name, content)
    await expect(first).rejects.toMatchObject({ code: 'commit-unknown' })
    const second = localRepository(folder, { files: recording.files })
    expect(await second.claim(name, older)).toBe('exists')
    for (const state of crashStates(recording, { seed, from: recording.now(), random: 20 })) {
      const into = temporaryFolder()
      materialise(recording, state, into)
      expect(same(readFileSync(join(into, name)), content)).toBe(true)
    }
  })
})
