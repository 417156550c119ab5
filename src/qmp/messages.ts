/** What QEMU says of itself in its greeting. */
export interface QemuVersion {
  readonly major: number
  readonly minor: number
  readonly micro: number
  /** The distribution's name of its build, often empty. */
  readonly package: string
}

export interface QmpEvent {
  readonly event: string
  readonly data: Readonly<Record<string, unknown>>
}

export type QmpMessage =
  | { readonly kind: 'greeting'; readonly version: QemuVersion }
  | { readonly kind: 'event'; readonly event: QmpEvent }
  | { readonly kind: 'return'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: number | undefined; readonly errorClass: string; readonly description: string }

/** Reads one line of QMP. Throws for what is none. */
export function parseMessage(text: string): QmpMessage {
  const message = record(JSON.parse(text))
  if ('QMP' in message) return { kind: 'greeting', version: versionOf(record(message['QMP'])) }
  if ('event' in message) {
    const data = message['data'] === undefined ? {} : record(message['data'])
    return { kind: 'event', event: { event: string(message['event']), data } }
  }
  const id = typeof message['id'] === 'number' ? message['id'] : undefined
  if ('error' in message) {
    const error = record(message['error'])
    return { kind: 'error', id, errorClass: string(error['class']), description: string(error['desc']) }
  }
  if (!('return' in message) || id === undefined) throw new Error('neither an answer nor an event')
  return { kind: 'return', id, value: message['return'] }
}

function versionOf(greeting: Readonly<Record<string, unknown>>): QemuVersion {
  const version = record(greeting['version'])
  const qemu = record(version['qemu'])
  return {
    major: number(qemu['major']),
    minor: number(qemu['minor']),
    micro: number(qemu['micro']),
    package: typeof version['package'] === 'string' ? version['package'] : '',
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('expected an object')
  return value as Readonly<Record<string, unknown>>
}

function string(value: unknown): string {
  if (typeof value !== 'string') throw new Error('expected a text')
  return value
}

function number(value: unknown): number {
  if (typeof value !== 'number') throw new Error('expected a number')
  return value
}
