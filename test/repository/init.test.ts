import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { initRepository } from '../../src/repository/init.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import { openRepository } from '../../src/repository/open.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { temporaryFolder } from '../temporary.js'

const json = (value: unknown): Uint8Array[] => [new TextEncoder().encode(JSON.stringify(value))]

async function withRecord(change: Record<string, unknown>): Promise<PruneRepository> {
  const repository = memoryRepository()
  const { record } = await initRepository(repository)
  await repository.put('refpoint.json', json({ ...record, ...change }))
  return repository
}

describe('init', () => {
  it('makes a repository, in folders that it creates, once', async () => {
    const folder = join(temporaryFolder(), 'a', 'b')
    const repository = localRepository(folder, { create: true })
    const first = await initRepository(repository)
    expect(first.created).toBe(true)
    expect(readdirSync(folder)).toEqual(['refpoint.json'])
    expect(await initRepository(repository)).toEqual({ record: first.record, created: false })
    expect(await openRepository(localRepository(folder))).toEqual(first.record)
  })

  it('refuses a folder that holds something else, naming it, and leaves it as it was', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'My thesis (final).odt'), 'x')
    await expect(initRepository(localRepository(folder))).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('My thesis (final).odt'),
    })
    expect(readdirSync(folder)).toEqual(['My thesis (final).odt'])
  })

  it('takes a new file system, and a folder in which an earlier init was killed', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'lost+found'))
    writeFileSync(join(folder, 'init-probe-0123456789abcdef'), '{}')
    expect((await initRepository(localRepository(folder))).created).toBe(true)
    expect(readdirSync(folder)).toEqual(['lost+found', 'refpoint.json'])
  })

  it('refuses storage on which two creators both succeed', async () => {
    const memory = memoryRepository()
    const lax: PruneRepository = {
      ...memory,
      async claim(name, bytes) {
        await memory.put(name, [bytes])
        return 'created'
      },
    }
    await expect(initRepository(lax)).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('exactly once'),
    })
    expect(await memory.children('')).toEqual([])
  })

  it('makes one repository of two inits at once', async () => {
    const folder = temporaryFolder()
    const results = await Promise.allSettled([1, 2].map(() => initRepository(localRepository(folder))))
    const made = results.filter((result) => result.status === 'fulfilled' && result.value.created)
    expect(made.length).toBeLessThanOrEqual(1)
    const { record } = await initRepository(localRepository(folder))
    for (const result of results) if (result.status === 'fulfilled') expect(result.value.record).toEqual(record)
  })
})

describe('open', () => {
  it('tells where there is no repository', async () => {
    const folder = temporaryFolder()
    for (const path of [folder, join(folder, 'nowhere')]) {
      await expect(openRepository(localRepository(path))).rejects.toMatchObject({
        code: 'no-repository',
        message: `there is no repository at ${path}`,
        hint: expect.stringContaining('refpoint init'),
      })
    }
    await expect(localRepository(join(folder, 'nowhere')).put('a', [])).rejects.toMatchObject({ code: 'no-repository' })
  })

  it('refuses a newer format and features it does not know, naming them', async () => {
    await expect(openRepository(await withRecord({ format: 7, id: 5 }))).rejects.toMatchObject({
      code: 'no-repository',
      message: expect.stringContaining('format 7'),
      hint: expect.stringContaining('newer refpoint'),
    })
    await expect(openRepository(await withRecord({ requires: ['folded'] }))).rejects.toMatchObject({
      code: 'no-repository',
      message: expect.stringContaining('folded'),
    })
    const optional = await withRecord({ optional: ['shiny'], more: 1 })
    expect(await openRepository(optional)).toMatchObject({ format: 1, optional: ['shiny'] })
  })

  it('says what is damaged', async () => {
    const repository = memoryRepository()
    await repository.put('refpoint.json', [new TextEncoder().encode('{"form')])
    await expect(openRepository(repository)).rejects.toMatchObject({
      code: 'damaged',
      message: 'object refpoint.json is not JSON',
    })
    await expect(openRepository(await withRecord({ id: 'x' }))).rejects.toMatchObject({
      code: 'damaged',
      message: expect.stringContaining('id: '),
    })
  })

  it('reads a repository through a link to it, but none inside it', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'real'))
    const { record } = await initRepository(localRepository(join(folder, 'real')))
    symlinkSync('real', join(folder, 'link'))
    const repository = localRepository(join(folder, 'link'))
    expect(await openRepository(repository)).toEqual(record)
    mkdirSync(join(folder, 'outside'))
    writeFileSync(join(folder, 'outside', 'x'), 'secret')
    symlinkSync('../outside', join(folder, 'real', 'machines'))
    symlinkSync('../outside/x', join(folder, 'real', 'file'))
    const refused = { code: 'io', message: expect.stringContaining('symbolic link') }
    await expect(repository.read('machines/x', 100)).rejects.toMatchObject(refused)
    await expect(repository.put('machines/y', [])).rejects.toMatchObject(refused)
    await expect(repository.claim('machines/y', new Uint8Array())).rejects.toMatchObject(refused)
    await expect(repository.read('file', 100)).rejects.toMatchObject(refused)
    await expect(repository.locate('file')).rejects.toMatchObject(refused)
    expect(readdirSync(join(folder, 'outside'))).toEqual(['x'])
  })
})
