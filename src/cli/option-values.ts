import { isIP } from 'node:net'
import { durationExamples, parseDuration, parseSize, sizeExamples } from '../config/units.js'
import { RefpointError } from '../model/errors.js'
import type { ServeAddress } from './disk-actions.js'

/** Bytes of an option's value. @throws RefpointError `usage` */
export function sizeValue(text: string): number {
  const bytes = parseSize(text)
  if (bytes !== undefined) return bytes
  throw new RefpointError('usage', `"${text}" is no size`, { hint: `A size is ${sizeExamples}.` })
}

/** Milliseconds of an option's value. @throws RefpointError `usage` */
export function durationValue(text: string): number {
  const milliseconds = parseDuration(text)
  if (milliseconds !== undefined) return milliseconds
  throw new RefpointError('usage', `"${text}" is no time`, { hint: `It is ${durationExamples}.` })
}

/** A whole number from 1 on. @throws RefpointError `usage` */
export function countValue(text: string): number {
  const count = Number(text)
  if (/^\d{1,9}$/.test(text) && count > 0) return count
  throw new RefpointError('usage', `"${text}" is no number from 1 on`, { hint: 'Say a whole number, such as 7.' })
}

/** `host:port` or a port of 127.0.0.1; whether the host is allowed is the server's question. */
export function tcpValue(text: string): ServeAddress {
  const match = /^(?:(.*):)?(\d{1,5})$/.exec(text)
  const host = (match?.[1] ?? '127.0.0.1').replace(/^\[(.*)\]$/, '$1')
  const port = Number(match?.[2] ?? Number.NaN)
  if (port <= 65_535 && (isIP(host) !== 0 || host === 'localhost')) return { host, port }
  throw new RefpointError('usage', `"${text}" is no address`, {
    hint: 'Say a port, such as 10809, or an address of this host with a port, such as 127.0.0.1:10809 or [::1]:10809.',
  })
}
