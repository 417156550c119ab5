import { expect, it } from 'vitest'
import { whileFrozen } from '../../../src/trackers/qemu/guest-freeze.js'
import { shippedModule, startChild } from '../../child-process.js'
import { scriptedAgent } from './scripted-agent.js'

const freeze = 'guest-fsfreeze-freeze'
const thaw = 'guest-fsfreeze-thaw'
const good = (): string => '{"return": 2}'

it('freezes around the instant only', async () => {
  const agent = await scriptedAgent(good)
  let during: readonly string[] = []
  const quiesced = await whileFrozen(agent.path, async () => {
    during = [...agent.commands]
  })
  expect(quiesced).toEqual({ consistency: 'filesystem', problem: undefined })
  expect(during).toEqual([freeze])
  expect(agent.commands).toEqual([freeze, thaw])
})

it('thaws when the instant fails, and lets its error through', async () => {
  const agent = await scriptedAgent(good)
  const failure = new Error('no instant')
  await expect(whileFrozen(agent.path, () => Promise.reject(failure))).rejects.toBe(failure)
  await agent.came(thaw)
})

it.each([
  ['refuses to freeze', (command: string) => (command === freeze ? '{"error": {"desc": "no"}}' : '{"return": 0}'), /"no"/, 60_000],
  ['has nothing to freeze', () => '{"return": 0}', /no file system/, 60_000],
  ['does not answer in time', (command: string) => (command === freeze ? undefined : '{"return": 1}'), /within 300 ms/, 300],
] as const)('goes on without when the guest %s', async (_, answer, problem, limitMs) => {
  const agent = await scriptedAgent(answer)
  let taken = false
  const quiesced = await whileFrozen(agent.path, async () => void (taken = true), { limitMs })
  expect(taken).toBe(true)
  expect(quiesced).toEqual({ consistency: 'crash', problem: expect.stringMatching(problem) })
  await agent.came(thaw)
})

it('goes on without when nobody is there', async () => {
  const quiesced = await whileFrozen('/nowhere/agent.sock', () => Promise.resolve())
  expect(quiesced).toEqual({ consistency: 'crash', problem: expect.stringContaining('/nowhere/agent.sock') })
})

it('does not claim what the time limit ended before', async () => {
  const agent = await scriptedAgent(good)
  const quiesced = await whileFrozen(agent.path, () => agent.came(thaw), { limitMs: 2_000 })
  expect(quiesced).toEqual({ consistency: 'crash', problem: expect.stringContaining('too long') })
})

it('tries again when thawing fails', async () => {
  let tries = 0
  const agent = await scriptedAgent((command) => {
    if (command !== thaw) return '{"return": 1}'
    return (tries += 1) < 3 ? '{"error": {"desc": "not now"}}' : '{"return": 1}'
  })
  expect(await whileFrozen(agent.path, () => Promise.resolve())).toMatchObject({ consistency: 'filesystem' })
  expect(agent.commands).toEqual([freeze, thaw, thaw, thaw])
})

it.each(['SIGKILL', 'SIGSTOP'] as const)('thaws when the backup gets %s in between', async (signal) => {
  const agent = await scriptedAgent(good)
  const child = startChild(`
    const { whileFrozen } = await import(${shippedModule('trackers/qemu/guest-freeze.js')})
    const keep = setInterval(() => {}, 1000)
    await whileFrozen(${JSON.stringify(agent.path)}, () => {
      console.log('frozen')
      return new Promise(() => {})
    }, { limitMs: ${signal === 'SIGSTOP' ? 500 : 60_000} })
  `)
  expect(await child.line()).toBe('frozen')
  child.process.kill(signal)
  await agent.came(thaw)
})
