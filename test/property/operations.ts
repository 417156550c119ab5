import { expect } from 'vitest'
import type { Random } from '../trackers/disk/random.js'
import type { World } from './world.js'

const sector = 512

function range(dice: Random, size: number, largest: number): { offset: number; length: number } {
  const sectors = Math.floor(size / sector)
  const length = 1 + dice.below(Math.min(sectors, dice.pick([1, 8, 40, largest / sector])))
  return { offset: dice.below(sectors - length + 1) * sector, length: length * sector }
}

async function write(world: World, dice: Random): Promise<void> {
  const name = dice.pick(world.names)
  const content = world.content(name)
  const { offset, length } = range(dice, content.length, 200_000)
  const bytes = Buffer.alloc(length, dice.below(256))
  // Half of it tells one write from another; some of it is zero, some repeats.
  if (dice.below(2) === 0) for (let at = 0; at < length; at += 64) bytes.writeUInt32LE(dice.below(2 ** 31), at)
  await world.client(name).write([bytes], offset)
  bytes.copy(content, offset)
}

async function zero(world: World, dice: Random): Promise<void> {
  const name = dice.pick(world.names)
  const content = world.content(name)
  const { offset, length } = range(dice, content.length, 400_000)
  await world.client(name).zero(offset, length)
  content.fill(0, offset, offset + length)
}

async function trim(world: World, dice: Random): Promise<void> {
  const name = dice.pick(world.names)
  const content = world.content(name)
  const { offset, length } = range(dice, content.length, 400_000)
  await world.client(name).trim(offset, length)
  // What a trimmed range reads as is the disk's choice; from now on it must stay what it is.
  await world.client(name).read(content.subarray(offset, offset + length), offset)
}

async function backup(world: World, dice: Random): Promise<string> {
  const step = dice.pick([0, 0, 0, -3_600_000, 7_200_000])
  const manifest = await world.backup({
    request: dice.below(8) === 0 ? 'full' : 'auto',
    loseTrack: dice.below(5) === 0,
    clockStepMs: step,
    during: async () => {
      if (world.serving) for (let n = dice.below(6); n > 0; n--) await dice.pick([write, write, zero])(world, dice)
    },
  })
  return `point #${manifest?.point}: ${manifest?.stores.map((store) => `${store.name} ${store.mode}`).join(', ')}`
}

async function failedBackup(world: World): Promise<void> {
  await expect(world.backup({ request: 'auto', failAfterStreaming: true })).rejects.toThrow('made to fail')
}

async function restart(world: World): Promise<void> {
  await world.stop()
  await world.serve()
}

async function offline(world: World, dice: Random): Promise<string> {
  await world.stop()
  const told = await backup(world, dice)
  await world.serve()
  return told
}

async function checkpoint(world: World, dice: Random): Promise<string | undefined> {
  const name = `c${dice.below(3)}`
  if (world.checkpoints.has(name)) return 'not: it is there'
  const frozen = world.snapshot()
  await using access = await world.access(world.names)
  await access.checkpointAs(name)
  world.checkpoints.set(name, frozen)
  return name
}

async function rollback(world: World, dice: Random): Promise<string> {
  const names = [...world.checkpoints.keys()]
  const name = names[dice.below(names.length)]
  if (name === undefined) return 'not: no checkpoint'
  await world.stop()
  for (const disk of world.names) {
    await using access = await world.access([disk])
    await access.rollback(name)
    const frozen = world.checkpoints.get(name)?.[disk]
    if (frozen !== undefined) world.model[disk] = Buffer.from(frozen)
  }
  for (const later of names.slice(names.indexOf(name) + 1)) world.checkpoints.delete(later)
  await world.serve()
  return name
}

async function merge(world: World, dice: Random): Promise<string> {
  const names = [...world.checkpoints.keys()]
  const name = names[dice.below(names.length)]
  if (name === undefined) return 'not: no checkpoint'
  for (const disk of world.names) {
    await using access = await world.access([disk])
    await access.merge(name)
  }
  world.checkpoints.delete(name)
  return name
}

async function resize(world: World, dice: Random): Promise<string> {
  if (world.checkpoints.size > 0) return 'not: there are checkpoints'
  const name = dice.pick(world.names)
  const before = world.content(name)
  const size = (1 + dice.below(4000)) * sector
  await world.stop()
  await using access = await world.access([name])
  await access.resize(size)
  await access[Symbol.asyncDispose]()
  const after = Buffer.alloc(size)
  before.copy(after, 0, 0, Math.min(size, before.length))
  world.model[name] = after
  await world.serve()
  return `${name} ${before.length} to ${size}`
}

async function prune(world: World, dice: Random): Promise<string> {
  if (world.points.size === 0) return 'not: no points'
  if (dice.below(6) === 0) await world.hold(dice.pick([...world.points.keys()]))
  const rules = { last: dice.below(5), hourly: dice.below(3) }
  const { plan, slot } = await world.prune(rules, dice.pick([1, 4096, 65_536, 1 << 20]))
  const folds = plan.folds.map(({ members, parent }) => `${members.join('+')} on ${parent}`)
  return `last ${rules.last}, hourly ${rules.hourly}: slot ${slot}, dropped ${plan.dropped}; folds ${folds.join('; ')}`
}

/** What may happen, and how often. */
export const operations: readonly [number, string, (world: World, dice: Random) => Promise<string | undefined | void>][] =
  [
    [12, 'write', write],
    [4, 'zero', zero],
    [3, 'trim', trim],
    [8, 'backup', backup],
    [1, 'failed backup', failedBackup],
    [1, 'restart', restart],
    [1, 'offline backup', offline],
    [2, 'checkpoint', checkpoint],
    [1, 'rollback', rollback],
    [1, 'merge', merge],
    [2, 'resize', resize],
    [3, 'prune', prune],
  ]
