import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { ObjectLocation } from '../../src/model/location.js'
import type { PruneRepository } from '../../src/repository/repository.js'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (content: Uint8Array | undefined): string | undefined =>
  content === undefined ? undefined : new TextDecoder().decode(content)

const badNames = ['', '/', '/a', 'a/', 'a//b', '..', 'a/../b', './a', '.a', 'a/.tmp', 'a b', 'a\0', 'ä', 'a\\b']
  .concat('x'.repeat(1025))

/** What every repository promises; `make` gives a new and empty one. */
export function repositoryConformance(name: string, make: () => PruneRepository | Promise<PruneRepository>): void {
  describe(`${name}: a repository`, () => {
    it('answers undefined or nothing for what is not there', async () => {
      const repository = await make()
      expect(await repository.read('a/b.json', 10)).toBeUndefined()
      expect(await repository.locate('a/b.json')).toBeUndefined()
      expect(await repository.stat('a')).toBeUndefined()
      expect(await listed(repository, 'a')).toEqual([])
      expect(await repository.children('a')).toEqual([])
      await repository.remove(['a/b.json'])
      expect(await repository.sweep('')).toBe(0)
    })

    it('tells how much room there is, or that it can not be told', async () => {
      const repository = await make()
      await repository.put('a', [bytes('there')])
      const room = await repository.room()
      if (room === undefined) return
      expect(room.freeBytes).toBeGreaterThan(0)
      expect(room.sizeBytes).toBeGreaterThanOrEqual(room.freeBytes)
    })

    it('stores and gives back what was put, in pieces of any size', async () => {
      const repository = await make()
      const pieces = Array.from({ length: 2500 }, (_, i) => new Uint8Array((i * 37) % 9000).fill(i & 255))
      const whole = Buffer.concat(pieces)
      async function* stream(): AsyncGenerator<Uint8Array> {
        yield* pieces
      }
      expect(await repository.put('m/x.bin', stream())).toEqual({ name: 'm/x.bin', bytes: whole.length })
      expect(whole.equals((await repository.read('m/x.bin', whole.length)) ?? new Uint8Array())).toBe(true)
      expect(whole.equals(contentAt(await repository.locate('m/x.bin')))).toBe(true)
      expect(await repository.put('m/empty', [])).toEqual({ name: 'm/empty', bytes: 0 })
      expect(await repository.read('m/empty', 0)).toEqual(new Uint8Array())
      expect(await repository.stat('m/empty')).toEqual({ name: 'm/empty', bytes: 0 })
    })

    it('replaces an object as a whole', async () => {
      const repository = await make()
      await repository.put('beat', [bytes('a longer one')])
      await repository.put('beat', [bytes('short')])
      expect(text(await repository.read('beat', 100))).toBe('short')
    })

    it('refuses to read more than the limit', async () => {
      const repository = await make()
      await repository.put('big', [bytes('12345')])
      await expect(repository.read('big', 4)).rejects.toMatchObject({ code: 'damaged' })
      expect(text(await repository.read('big', 5))).toBe('12345')
    })

    it('lists in the order of full names, and only below the folder', async () => {
      const repository = await make()
      const names = ['a/b', 'a/c/d', 'a.b', 'a-b/x', 'ab', 'a/c-d', 'a/c/0']
      for (const name of names) await repository.put(name, [bytes(name)])
      expect(await listed(repository, '')).toEqual([...names].sort())
      expect(await listed(repository, 'a')).toEqual(['a/b', 'a/c-d', 'a/c/0', 'a/c/d'])
      expect(await repository.children('')).toEqual(['a', 'a-b', 'a.b', 'ab'])
      expect(await repository.children('a')).toEqual(['b', 'c', 'c-d'])
    })

    it('removes many, and passes over those that are not there', async () => {
      const repository = await make()
      for (const name of ['a/1', 'a/2', 'b/1', 'b/2']) await repository.put(name, [])
      await repository.remove(['a/1', 'b/1', 'a/none', 'none/at/all', 'b/2'])
      expect(await repository.children('a')).toEqual(['2'])
      expect(await repository.children('b')).toEqual([])
    })

    it('removes for good, once or twice', async () => {
      const repository = await make()
      await repository.put('a/b', [bytes('x')])
      await repository.remove(['a/b'])
      await repository.remove(['a/b'])
      expect(await repository.stat('a/b')).toBeUndefined()
      expect(await repository.claim('a/b', bytes('new'))).toBe('created')
    })

    it.each(badNames)(
      'refuses the name %j before it touches storage',
      async (bad) => {
        const repository = await make()
        const usage = { code: 'usage' }
        await expect(repository.read(bad, 10)).rejects.toMatchObject(usage)
        await expect(repository.locate(bad)).rejects.toMatchObject(usage)
        await expect(repository.stat(bad)).rejects.toMatchObject(usage)
        await expect(repository.put(bad, [bytes('x')])).rejects.toMatchObject(usage)
        await expect(repository.claim(bad, bytes('x'))).rejects.toMatchObject(usage)
        await expect(repository.remove([bad])).rejects.toMatchObject(usage)
        if (bad !== '') {
          await expect(repository.children(bad)).rejects.toMatchObject(usage)
          await expect(listed(repository, bad)).rejects.toMatchObject(usage)
          await expect(repository.sweep(bad)).rejects.toMatchObject(usage)
        }
        expect(await repository.children('')).toEqual([])
      },
    )

    it('creates on claim only what is not there', async () => {
      const repository = await make()
      expect(await repository.claim('points/1', bytes('first'))).toBe('created')
      expect(await repository.claim('points/1', bytes('second'))).toBe('exists')
      expect(text(await repository.read('points/1', 100))).toBe('first')
      await repository.put('points/2', [bytes('put')])
      expect(await repository.claim('points/2', bytes('claim'))).toBe('exists')
    })

    it('tells exactly one of many claims at once that it created', async () => {
      const repository = await make()
      for (let round = 0; round < 10; round += 1) {
        const outcomes = await Promise.all(
          Array.from({ length: 16 }, (_, i) => repository.claim(`race/${round}`, bytes(`claim ${i}`))),
        )
        expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1)
        expect(text(await repository.read(`race/${round}`, 100))).toBe(`claim ${outcomes.indexOf('created')}`)
      }
      expect(await repository.children('race')).toHaveLength(10)
    })

    it('leaves nothing of a put whose stream fails, and passes the error on as it is', async () => {
      const repository = await make()
      const failure = Object.assign(new Error('the disk being read failed'), { code: 'EIO', syscall: 'read' })
      async function* stream(): AsyncGenerator<Uint8Array> {
        yield bytes('some')
        throw failure
      }
      await expect(repository.put('a/x', stream())).rejects.toBe(failure)
      expect(await repository.children('a')).toEqual([])
      expect(await repository.sweep('')).toBe(0)
    })

    it('shows nothing of a put before it is whole', async () => {
      const repository = await make()
      async function* stream(): AsyncGenerator<Uint8Array> {
        yield bytes('some')
        expect(await repository.children('')).not.toContain('x')
        expect(await repository.stat('a/x')).toBeUndefined()
        expect(await listed(repository, '')).toEqual([])
        yield bytes('more')
      }
      await repository.put('a/x', stream())
      expect(text(await repository.read('a/x', 8))).toBe('somemore')
    })

    it('stops a put with the reason of the signal, and leaves nothing', async () => {
      const repository = await make()
      const before = AbortSignal.abort(new Error('before'))
      await expect(repository.put('a/x', [bytes('x')], { signal: before })).rejects.toBe(before.reason)
      const controller = new AbortController()
      const reason = new Error('enough')
      async function* stream(): AsyncGenerator<Uint8Array> {
        yield bytes('x')
        controller.abort(reason)
        yield bytes('y')
      }
      await expect(repository.put('a/x', stream(), { signal: controller.signal })).rejects.toBe(reason)
      expect(await listed(repository, '')).toEqual([])
    })
  })
}

async function listed(repository: PruneRepository, prefix: string): Promise<string[]> {
  const names: string[] = []
  for await (const info of repository.list(prefix)) {
    names.push(info.name)
    expect((await repository.stat(info.name))?.bytes).toBe(info.bytes)
  }
  return names
}

function contentAt(location: ObjectLocation | undefined): Uint8Array {
  if (location === undefined) throw new Error('not located')
  const whole = location.kind === 'file' ? readFileSync(location.path) : new Uint8Array(location.buffer)
  return whole.subarray(0, location.bytes)
}
