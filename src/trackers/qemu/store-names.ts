/** What a name is made of, as `query-block` tells it. */
export interface NamedDevice {
  readonly device: string
  readonly qdev?: string | undefined
  readonly inserted?: { readonly 'node-name': string } | undefined
}

/**
 * Names for the stores of a machine, the same each time it is started with the same command line: the drive's ID
 * (-drive), else the device's (-device), else the node's (-blockdev), else the device's place in QEMU's object tree.
 * In small letters; characters that no store's name may have become `-`. In the order of `devices`, each only once.
 */
export function storeNames(devices: readonly NamedDevice[]): string[] {
  const taken = new Set<string>()
  return devices.map((device) => {
    const wanted = cleaned(givenName(device))
    let name = wanted
    for (let n = 2; taken.has(name); n += 1) name = `${wanted.slice(0, 60)}-${n}`
    taken.add(name)
    return name
  })
}

function givenName({ device, qdev = '', inserted }: NamedDevice): string {
  if (device !== '') return device
  const id = /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? (qdev.startsWith('/') ? undefined : qdev)
  if (id !== undefined && id !== '') return id
  const node = inserted?.['node-name'] ?? ''
  // QEMU's own names for nodes that have none are not the same twice.
  return node === '' || node.startsWith('#') ? qdev : node
}

function cleaned(name: string): string {
  const clean = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '')
    .replace(/-+$/, '')
  return clean === '' ? 'disk' : clean.slice(0, 64)
}
