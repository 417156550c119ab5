import { readFileSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename } from 'node:path'

/** Which file or device is looked for: a device by its number, a file by file system and inode. */
export interface FileIdentity {
  readonly path: string
  readonly dev: bigint
  readonly ino: bigint
  /** Of a block device; undefined for a file. */
  readonly rdev: bigint | undefined
}

/**
 * Who has a file or device open for writing, as far as this user may see, for people to read: processes and loop
 * devices. It sees what takes no locks (loop mounts, nbdkit, dd), and names who holds a lock. Finding nobody proves
 * nothing: processes of other users and names in other mount namespaces stay unseen.
 */
export function findWriters(identity: FileIdentity): string[] {
  return [...loopDevices(identity), ...processes(identity)]
}

function* loopDevices(identity: FileIdentity): Generator<string> {
  for (const name of entries('/sys/block').filter((entry) => entry.startsWith('loop'))) {
    const backing = text(`/sys/block/${name}/loop/backing_file`)
    if (backing === undefined || text(`/sys/block/${name}/ro`) === '1') continue
    if (isSame(backing, identity)) yield `loop device /dev/${name}`
  }
}

function* processes(identity: FileIdentity): Generator<string> {
  const mayBe = candidates(identity)
  for (const pid of entries('/proc').filter((entry) => /^\d+$/.test(entry))) {
    const writes = entries(`/proc/${pid}/fd`).some((fd) => {
      const target = link(`/proc/${pid}/fd/${fd}`)
      if (target === undefined || !mayBe(target)) return false
      return isSame(`/proc/${pid}/fd/${fd}`, identity) && isWritable(text(`/proc/${pid}/fdinfo/${fd}`))
    })
    if (writes) yield `${text(`/proc/${pid}/comm`) ?? 'a process'} (pid ${pid})`
  }
}

/**
 * Which names are looked at: to stat every file of every process could hang on a dead network mount. A file has its
 * name in every mount namespace; a device may have another one (libvirt gives each machine a /dev of its own, where
 * QEMU's lock bytes are not ours either), so that every device counts.
 */
function candidates({ path, rdev }: FileIdentity): (target: string) => boolean {
  if (rdev !== undefined) return (target) => target.startsWith('/dev/')
  const names = new Set([basename(path), basename(realpathSync(path))])
  return (target) => names.has(basename(target))
}

/** The access mode is in the lowest two bits of the flags, which are octal: 1 write only, 2 read and write. */
function isWritable(fdinfo: string | undefined): boolean {
  const flags = /^flags:\s*([0-7]+)/m.exec(fdinfo ?? '')?.[1]
  return flags !== undefined && (Number.parseInt(flags, 8) & 3) !== 0
}

function isSame(path: string, { dev, ino, rdev }: FileIdentity): boolean {
  try {
    const found = statSync(path, { bigint: true })
    return rdev === undefined ? found.dev === dev && found.ino === ino : found.isBlockDevice() && found.rdev === rdev
  } catch {
    return false
  }
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}

function text(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}
