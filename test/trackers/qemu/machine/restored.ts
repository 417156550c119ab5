import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { connectQmp, type QmpClient } from '../../../../src/qmp/client.js'

export interface RestoredMachine {
  readonly qmp: QmpClient
  /** Asks QEMU to end, and waits for it. */
  quit(): Promise<void>
}

/**
 * Starts a restored machine by its `start.sh` and waits until its QMP socket, `run/<qmp>`, answers. Whatever it started
 * ends with the test.
 */
export async function startRestored(
  folder: string,
  qmpName: string,
  more: readonly string[] = [],
): Promise<RestoredMachine> {
  // A group of its own, so that an swtpm that it started ends with it, too.
  const child = spawn(join(folder, 'start.sh'), [...more], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    cwd: '/',
  })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (said += bytes.toString()))
  const ended = once(child, 'exit')
  onTestFinished(async () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
    await ended
  })
  const path = join(folder, 'run', qmpName)
  for (let tries = 0; ; tries += 1) {
    try {
      const qmp = await connectQmp(path)
      onTestFinished(() => qmp.close())
      return {
        qmp,
        async quit() {
          await qmp.execute('quit')
          await ended
        },
      }
    } catch (error) {
      if (child.exitCode !== null || tries > 2000) throw new Error(`start.sh: ${said}`, { cause: error })
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
