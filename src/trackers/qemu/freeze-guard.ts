/*
 * A process of its own that holds a guest's file systems frozen, so that they thaw whatever becomes of the backup:
 *
 *   freeze-guard.js SOCKET LIMIT_MS
 *
 * It prints `ready` when the guest's agent answers. At the line `freeze` on its input it freezes, and prints `frozen N`.
 * It thaws at the line `thaw`, when its input ends (the backup was killed), and LIMIT_MS after it began to freeze (the
 * backup was stopped), and then prints `thawed N`, or `late` where the limit came first. Whatever else it prints is
 * `failed` and why. Not imported by anything.
 */
import { createInterface } from 'node:readline'
import { connectGuestAgent, type GuestAgent } from '../../qmp/guest-agent.js'

const [, , socket = '', limit = ''] = process.argv
const limitMs = Number(limit)
const thawTimeoutMs = 10_000
const thawTries = 6

let freezing: Promise<boolean> | undefined
let late = false
let ending = false

const say = (line: string): void => void process.stdout.write(`${line}\n`)
const why = (error: unknown): string => (error instanceof Error ? error.message : String(error)).replaceAll('\n', ' ')

// A reader that has gone must not end this process before it has thawed.
process.stdout.on('error', () => {})

/** Whether the agent said that it is done; some file systems may be frozen even when it did not. */
async function freeze(agent: GuestAgent): Promise<boolean> {
  setTimeout(() => {
    late = true
    void end(agent)
  }, limitMs)
  try {
    say(`frozen ${Number(await agent.execute('guest-fsfreeze-freeze', { timeoutMs: limitMs }))}`)
    return true
  } catch (error) {
    say(`failed ${why(error)}`)
    void end(agent)
    return false
  }
}

async function end(agent: GuestAgent): Promise<void> {
  if (ending) return
  ending = true
  // The agent does one thing at a time. After one that it did not answer, only a new connection tells answers apart.
  if (freezing !== undefined) await thaw((await freezing) ? agent : undefined, agent)
  process.exit(0)
}

async function thaw(usable: GuestAgent | undefined, old: GuestAgent): Promise<void> {
  let agent = usable
  for (let tries = 1; ; tries += 1) {
    try {
      if (agent === undefined) {
        old.close()
        agent = await connectGuestAgent(socket)
      }
      const count = Number(await agent.execute('guest-fsfreeze-thaw', { timeoutMs: thawTimeoutMs }))
      return say(late ? 'late' : `thawed ${count}`)
    } catch (error) {
      agent?.close()
      agent = undefined
      if (tries === thawTries) return say(`failed to thaw: ${why(error)}`)
    }
  }
}

try {
  const agent = await connectGuestAgent(socket)
  say('ready')
  const lines = createInterface({ input: process.stdin })
  lines.on('line', (line) => {
    if (line === 'freeze') freezing ??= freeze(agent)
    else void end(agent)
  })
  lines.on('close', () => void end(agent))
} catch (error) {
  say(`failed ${why(error)}`)
  process.exit(0)
}
