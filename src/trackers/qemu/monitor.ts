import type * as z from 'zod'
import { RefpointError } from '../../model/errors.js'
import type { QmpClient, QmpWaitOptions } from '../../qmp/client.js'

/** A QMP connection whose answers are checked to be what is expected. */
export interface Monitor {
  readonly client: QmpClient
  ask<Schema extends z.ZodType>(schema: Schema, command: string, args?: object): Promise<z.output<Schema>>
  /** Runs a command for its effect. */
  do(command: string, args?: object, options?: QmpWaitOptions): Promise<void>
  /** Runs a command of the human monitor, which says nothing when it worked. */
  human(line: string): Promise<void>
}

export interface TransactionAction {
  readonly type: string
  readonly data: object
}

export function monitorOf(client: QmpClient): Monitor {
  return {
    client,
    async ask(schema, command, args = {}) {
      const parsed = schema.safeParse(await client.execute(command, args))
      if (parsed.success) return parsed.data
      throw new RefpointError('tracker', `QEMU answered ${command} with something unexpected: ${parsed.error.message}`, {
        hint: 'This version of QEMU may be newer than this refpoint.',
        fields: { command },
      })
    },
    async do(command, args = {}, options = {}) {
      await client.execute(command, args, options)
    },
    async human(line) {
      const printed = String(await client.execute('human-monitor-command', { 'command-line': line }))
      if (printed.trim() === '') return
      throw new RefpointError('tracker', `QEMU: ${line}: ${printed.trim()}`, { fields: { command: line } })
    },
  }
}

/** Whether QEMU itself refused a command; otherwise the connection is lost or the time was over. */
export function isRefusal(error: unknown): error is RefpointError {
  return error instanceof RefpointError && 'class' in error.fields
}
