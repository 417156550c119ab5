import type { z } from 'zod'
import { RefpointError } from '../model/errors.js'

const decoder = new TextDecoder('utf-8', { fatal: true })

/** A value as the bytes of a JSON object, readable by a person. */
export function encodeJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)
}

/** @throws RefpointError `damaged`, naming the object, when the bytes are not JSON. */
export function decodeJson(name: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw new RefpointError('damaged', `object ${name} is not JSON`, { cause, fields: { object: name } })
  }
}

/** @throws RefpointError `damaged`, naming the object and the first thing wrong in it. */
export function parseObject<T>(name: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const what = issue === undefined ? 'unreadable' : `${issue.path.join('.') || 'it'}: ${issue.message}`
  throw new RefpointError('damaged', `object ${name} is not what it should be (${what})`, { fields: { object: name } })
}
