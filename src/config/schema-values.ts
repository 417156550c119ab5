import * as z from 'zod'
import { durationExamples, parseDuration, parseSize, sizeExamples } from './units.js'

export const path = z.string('a path').min(1, 'a path')

export const size = z.union([z.string(), z.number()], sizeExamples).transform((value, context) => {
  const bytes = parseSize(value)
  if (bytes !== undefined) return bytes
  context.addIssue({ code: 'custom', message: sizeExamples })
  return z.NEVER
})

export const duration = z.string(durationExamples).transform((value, context) => {
  const milliseconds = parseDuration(value)
  if (milliseconds !== undefined) return milliseconds
  context.addIssue({ code: 'custom', message: durationExamples })
  return z.NEVER
})

export const integer = (minimum: number, maximum: number) => {
  const message = `a whole number from ${minimum} to ${maximum}`
  return z.int(message).min(minimum, message).max(maximum, message)
}
