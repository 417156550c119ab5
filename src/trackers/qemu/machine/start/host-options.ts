import type { QemuOption } from './command-line.js'
import { firstWord, formatOptionValue, isOn, parseOptionValue, valueOf, withValue } from './option-value.js'
import { shown } from './character-devices.js'
import type { Rewriting } from './rewriting.js'
import { formatTree, parseTree, textAt, textsIn, type Tree } from './tree.js'

/** Options whose value is a file of the host that is only read, or that holds one at a key. */
const readFiles: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  initrd: [],
  dtb: [],
  bios: [],
  'option-rom': [],
  L: [],
  shim: [],
  fw_cfg: ['file'],
  smbios: ['file', 'path'],
  acpitable: ['file', 'data'],
  plugin: ['file'],
}

/** Says which files of the host an option needs as they are. */
export function tellHostFiles({ name, value = '' }: QemuOption, rewriting: Rewriting): void {
  const keys = readFiles[name]
  if (keys === undefined) return
  const parts = parseOptionValue(value)
  const files = keys.length === 0 ? [value] : keys.flatMap((key) => valueOf(parts, key) ?? [])
  for (const file of files) rewriting.needsOnHost(`${file} (-${name})`)
}

/** `-vnc` and `-spice`: sockets move; what listens on a port needs it free. */
export function rewriteDisplay(option: QemuOption, rewriting: Rewriting): QemuOption {
  const parts = parseOptionValue(option.value ?? '')
  const [first, ...rest] = parts
  if (option.name === 'vnc') {
    const address = first !== undefined && 'word' in first ? first.word : ''
    if (!address.startsWith('unix:')) {
      if (address !== 'none') rewriting.needsOnHost(`VNC display ${address} free to listen on (-vnc)`)
      return option
    }
    const path = rewriting.runPath(address.slice('unix:'.length))
    rewriting.changed(`VNC listens on ${shown(path)}`)
    return { name: 'vnc', value: formatOptionValue([{ word: `unix:${path}` }, ...rest]) }
  }
  if (isOn(parts, 'unix')) {
    const path = rewriting.runPath(valueOf(parts, 'addr') ?? 'spice.sock')
    rewriting.changed(`SPICE listens on ${shown(path)}`)
    return { name: 'spice', value: formatOptionValue(withValue(parts, 'addr', path)) }
  }
  rewriting.needsOnHost(`SPICE's port ${valueOf(parts, 'port') ?? valueOf(parts, 'tls-port') ?? ''} free to listen on`)
  return option
}

/** `-object`: memory in a file of the host, input devices and dumps are not the machine's own. */
export function rewriteObject(
  option: QemuOption,
  others: readonly QemuOption[],
  rewriting: Rewriting,
): QemuOption | undefined {
  const { form, tree } = parseTree(option.value ?? '', 'qom-type')
  const type = textAt(tree, 'qom-type') ?? ''
  const id = textAt(tree, 'id') ?? ''
  const object = (changed: Tree): QemuOption => ({ name: 'object', value: formatObject(form, changed) })
  switch (type) {
    case 'memory-backend-file': {
      rewriting.changed(`memory '${id}' is the machine's own, in place of ${textAt(tree, 'mem-path') ?? 'a file'}`)
      const kept = [
        'id',
        'size',
        'merge',
        'dump',
        'prealloc',
        'prealloc-threads',
        'host-nodes',
        'policy',
        'x-use-canonical-path-for-ramblock-id',
      ]
      const own = Object.fromEntries(Object.entries(tree).filter(([key]) => kept.includes(key)))
      return object({ 'qom-type': 'memory-backend-ram', ...own })
    }
    case 'input-linux':
      rewriting.changed(`without '${id}', an input device of the host`)
      return undefined
    case 'filter-dump':
      return object({ ...tree, file: rewriting.runPath(textAt(tree, 'file') ?? id) })
    case 'secret':
    case 'secret_keyring': {
      // What only the images needed to be read with is needed no more, and its key may be gone.
      const used = others.some((other) => other !== option && mentions(other, id))
      if (!used) rewriting.changed(`without the secret '${id}', which nothing uses any more`)
      const file = textAt(tree, 'file')
      if (used && file !== undefined) rewriting.needsOnHost(`${file} (secret '${id}')`)
      return used ? option : undefined
    }
    case 'x-remote-object':
    case 'x-vfio-user-server':
    case 'vfio-user-server':
    case 'colo-compare':
      rewriting.refuse(`-object ${type} makes it a part of another machine`)
      return option
    default:
      if (type.startsWith('tls-creds'))
        rewriting.needsOnHost(`${textAt(tree, 'dir') ?? 'the certificates'} (-object ${type})`)
      return option
  }
}

/** Whether an option names this id anywhere. */
function mentions({ value = '' }: QemuOption, id: string): boolean {
  if (value.startsWith('{')) {
    const { tree } = parseTree(value, '')
    return textsIn(tree).includes(id)
  }
  return parseOptionValue(value).some((part) => 'key' in part && part.value === id)
}

function formatObject(form: 'json' | 'keys', tree: Tree): string {
  if (form === 'json') return formatTree({ form, tree })
  const { 'qom-type': type, ...rest } = tree
  return `${String(type)},${formatTree({ form, tree: rest })}`
}

/** `-readconfig`: fine where it sets up buses and the like, which are no part of what is rewritten. */
export function checkOptionFile({ value = '' }: QemuOption, rewriting: Rewriting): void {
  const known = rewriting.document.process?.optionFiles.find(({ path }) => path === value)
  const found = known?.sections ?? null
  const harmful = found?.filter(
    (name) => !['device', 'machine', 'global', 'object', 'rtc', 'smp-opts', 'memory', 'boot-opts'].includes(name),
  )
  if (found === null) rewriting.refuse(`what ${value} (-readconfig) sets up is not known`)
  else if (harmful !== undefined && harmful.length > 0) {
    rewriting.refuse(`${value} (-readconfig) sets up ${[...new Set(harmful)].join(', ')}`)
  } else rewriting.needsOnHost(`${value} (-readconfig)`)
}

/** `-set group.id.key=value`. Undefined where it goes; `gone` are ids of what is there no more. */
export function rewriteSet(
  option: QemuOption,
  gone: ReadonlySet<string>,
  rewriting: Rewriting,
): QemuOption | undefined {
  const [group = '', id = '', key = ''] = (option.value ?? '').split('=')[0]?.split('.') ?? []
  if (gone.has(id)) return undefined
  if (group !== 'device' || key === 'drive') rewriting.refuse(`-set ${group}.${id}.${key} changes what is rewritten`)
  return option
}

/** `-usbdevice`: a device of the host is not the machine's. */
export function keepsUsb({ value = '' }: QemuOption, rewriting: Rewriting): boolean {
  const type = firstWord(parseOptionValue(value)) ?? value
  if (!/^(host|disk|serial|net|bt):/.test(type)) return true
  rewriting.changed(`without -usbdevice ${type}`)
  return false
}
