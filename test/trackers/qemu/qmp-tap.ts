import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { temporaryFolder } from '../../temporary.js'

export interface QmpTap {
  /** The socket that passes everything on. */
  readonly path: string
  /** Names of the commands that passed, in order. */
  readonly commands: readonly string[]
}

/**
 * A socket between an agent and QEMU's monitor that sees each command.
 * @param passed called with a command's number, from 1 on, when it has just been given to QEMU
 * @param before waited for before a command is given to QEMU
 */
export async function tapQmp(
  qmp: string,
  passed: (number: number, command: string) => void,
  before: (command: string) => Promise<void> = async () => {},
): Promise<QmpTap> {
  const path = join(temporaryFolder(), 'tap.qmp')
  const commands: string[] = []
  const server = createServer((agent) => {
    const qemu = connect({ path: qmp })
    agent.on('error', () => {})
    qemu.on('error', () => {})
    agent.on('close', () => qemu.destroy())
    qemu.on('close', () => agent.destroy())
    qemu.pipe(agent)
    let rest = ''
    let given = Promise.resolve()
    agent.on('data', (bytes) => {
      const lines = (rest + bytes.toString()).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) given = given.then(() => give(line))
    })
    const give = async (line: string): Promise<void> => {
      const { execute } = JSON.parse(line) as { execute: string }
      await before(execute)
      qemu.write(`${line}\n`)
      if (execute === 'qmp_capabilities') return
      commands.push(execute)
      passed(commands.length, execute)
    }
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => void server.close())
  return { path, commands }
}
