import { describe, expect, it } from 'vitest'
import { hostIdentity } from '../../src/repository/host-identity.js'
import { listMachines, openMachine, readMachine } from '../../src/repository/machine.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'

const options = { create: true, hostId: 'host a' }

describe('a machine', () => {
  it('is recorded by its first run, and the same at the next', async () => {
    const repository = memoryRepository()
    const first = await openMachine(repository, 'web01', options)
    expect(first).toMatchObject({ name: 'web01', hostId: 'host a' })
    expect(await openMachine(repository, 'web01', options)).toEqual(first)
    expect(await readMachine(repository, 'web01')).toEqual(first)
    expect(await listMachines(repository)).toEqual(['web01'])
  })

  it('is not made up by whoever only looks', async () => {
    const repository = memoryRepository()
    const looking = openMachine(repository, 'web01', { ...options, create: false })
    await expect(looking).rejects.toMatchObject({ code: 'config', message: expect.stringContaining("'web01'") })
    expect(await readMachine(repository, 'web01')).toBeUndefined()
    expect(await listMachines(repository)).toEqual([])
  })

  it('is refused to a second host that calls its machine the same, unless it adopts it', async () => {
    const repository = memoryRepository()
    const first = await openMachine(repository, 'web01', options)
    const elsewhere = { ...options, hostId: 'host b' }
    await expect(openMachine(repository, 'web01', elsewhere)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(/'web01' .* another host/),
      hint: expect.stringContaining('another name'),
    })
    expect(await openMachine(repository, 'web01', options)).toEqual(first)
    const adopted = await openMachine(repository, 'web01', { ...elsewhere, adopt: true })
    expect(adopted).toMatchObject({ uuid: first.uuid, hostId: 'host b' })
    await expect(openMachine(repository, 'web01', options)).rejects.toMatchObject({ code: 'config' })
  })

  it('goes to one of two hosts that record it at once', async () => {
    const repository = memoryRepository()
    const results = await Promise.allSettled(
      ['host a', 'host b'].map((hostId) => openMachine(repository, 'web01', { ...options, hostId })),
    )
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it.each(['', '../web', 'a/b', '.web', 'x'.repeat(65)])('can not be called %j', async (name) => {
    await expect(openMachine(memoryRepository(), name, options)).rejects.toMatchObject({ code: 'usage' })
  })

  it('is damaged when its record is of another', async () => {
    const repository = memoryRepository()
    const record = await openMachine(repository, 'web01', options)
    const bytes = new TextEncoder().encode(JSON.stringify(record))
    await repository.put('machines/web02/machine.json', [bytes])
    await expect(readMachine(repository, 'web02')).rejects.toMatchObject({ code: 'damaged' })
  })
})

it('names this host the same every time, without telling its machine ID', () => {
  expect(hostIdentity()).toMatch(/^[0-9a-f]{32}$/)
  expect(hostIdentity()).toBe(hostIdentity())
})
