import type * as z from 'zod'
import { RefpointError } from '../../../model/errors.js'

/** What is asked of a QMP client here: commands that only look. */
export interface QmpCommands {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number; readonly package: string }
  execute(command: string, args?: object): Promise<unknown>
}

/** @throws RefpointError `tracker` for an answer that is not what it should be. */
export function parseAnswer<Schema extends z.ZodType>(
  schema: Schema,
  command: string,
  answer: unknown,
): z.output<Schema> {
  const parsed = schema.safeParse(answer)
  if (parsed.success) return parsed.data
  throw new RefpointError('tracker', `QEMU answered ${command} with something unexpected: ${parsed.error.message}`, {
    hint: 'This version of QEMU may be newer than this refpoint.',
    fields: { command },
  })
}
