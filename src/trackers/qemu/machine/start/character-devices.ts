import type { QemuOption } from './command-line.js'
import {
  firstWord,
  formatOptionValue,
  isOn,
  type OptionPart,
  parseOptionValue,
  valueOf,
  without,
  withValue,
} from './option-value.js'
import type { Rewriting } from './rewriting.js'

/** `-chardev`: sockets that it listens on move into the folder; what it would connect to is left alone. */
export function rewriteChardev(
  option: QemuOption,
  tpms: ReadonlyMap<string, string>,
  rewriting: Rewriting,
): QemuOption {
  const text = option.value ?? ''
  if (text.startsWith('{')) {
    rewriting.refuse('a -chardev in JSON is not known')
    return option
  }
  const parts = moveLog(parseOptionValue(text), rewriting)
  const id = valueOf(parts, 'id') ?? ''
  const chardev = (changed: readonly OptionPart[]): QemuOption => ({
    name: 'chardev',
    value: formatOptionValue(changed),
  })
  const nothing = (): QemuOption => {
    rewriting.changed(`character device '${id}' is connected to nothing, in place of ${describe(parts)}`)
    const log = without(parts, (key) => !/^(id|mux|logfile|logappend)$/.test(key))
    return chardev([{ word: 'null' }, ...log.filter((part) => 'key' in part)])
  }
  switch (firstWord(parts) ?? valueOf(parts, 'backend')) {
    case 'socket': {
      const tpm = tpms.get(id)
      if (tpm !== undefined) return chardev([{ word: 'socket' }, { key: 'id', value: id }, { key: 'path', value: tpm }])
      if (!isOn(parts, 'server')) return nothing()
      if (valueOf(parts, 'port') !== undefined && valueOf(parts, 'path') === undefined) {
        rewriting.needsOnHost(`TCP port ${valueOf(parts, 'port') ?? ''} free to listen on (character device '${id}')`)
        return chardev(parts)
      }
      const path = rewriting.runPath(valueOf(parts, 'path') ?? `${id}.sock`)
      rewriting.changed(`character device '${id}' listens on ${shown(path)}`)
      return chardev(
        withValue(
          without(parts, (key) => /^(fd|abstract|tight)$/.test(key)),
          'path',
          path,
        ),
      )
    }
    case 'file': {
      const path = rewriting.runPath(valueOf(parts, 'path') ?? id)
      rewriting.changed(`character device '${id}' writes to ${shown(path)}`)
      return chardev(
        withValue(
          without(parts, (key) => key === 'input-path'),
          'path',
          path,
        ),
      )
    }
    case 'pipe':
    case 'serial':
    case 'tty':
    case 'parallel':
    case 'parport':
      return nothing()
    case 'udp':
      rewriting.needsOnHost(`UDP as it was (character device '${id}')`)
      return chardev(parts)
    default:
      return chardev(parts)
  }
}

/** The short form of a character device, as `-qmp`, `-monitor` and `-serial` take it. */
export function rewriteShortChardev(option: QemuOption, rewriting: Rewriting): QemuOption {
  const value = option.value ?? ''
  const rewritten = shortChardev(value, option.name, rewriting)
  return { name: option.name, value: rewritten }
}

function shortChardev(value: string, option: string, rewriting: Rewriting): string {
  if (value.startsWith('mon:')) return `mon:${shortChardev(value.slice(4), option, rewriting)}`
  const nothing = (): string => {
    rewriting.changed(`-${option} is connected to nothing, in place of ${value.split(',')[0] ?? ''}`)
    return option === 'gdb' ? 'none' : 'null'
  }
  if (value.startsWith('file:') || value.startsWith('unix:')) {
    const parts = parseOptionValue(value)
    const [first] = parts
    const address = value.startsWith('file:') ? value : first !== undefined && 'word' in first ? first.word : value
    const kind = address.slice(0, 5)
    if (kind === 'unix:' && !isOn(parts, 'server')) return nothing()
    const path = rewriting.runPath(address.slice(5) === '' ? option : address.slice(5))
    rewriting.changed(`-${option} is at ${shown(path)}`)
    if (kind === 'file:') return `file:${path}`
    const rest = without(parts.slice(1), (key) => key === 'fd')
    return formatOptionValue([{ word: `unix:${path}` }, ...rest])
  }
  if (/^(tcp|telnet|websocket|udp):/.test(value)) {
    if (!value.startsWith('udp:') && !isOn(parseOptionValue(value), 'server')) return nothing()
    rewriting.needsOnHost(`the address ${value.split(',')[0] ?? ''} free to listen on (-${option})`)
    return value
  }
  if (value.startsWith('pipe:') || value.startsWith('/dev/')) return nothing()
  return value
}

function moveLog(parts: readonly OptionPart[], rewriting: Rewriting): readonly OptionPart[] {
  const log = valueOf(parts, 'logfile')
  return log === undefined ? parts : withValue(parts, 'logfile', rewriting.runPath(log))
}

function describe(parts: readonly OptionPart[]): string {
  const address = valueOf(parts, 'path') ?? valueOf(parts, 'host')
  return `${firstWord(parts) ?? 'what it was'}${address === undefined ? '' : ` ${address}`}`
}

/** How a place in the folder is called in what people read. */
export function shown(path: string): string {
  return path.replace(/^\0run\0/, 'run')
}
