import { spawnSync } from 'node:child_process'
import { describe } from 'vitest'

/** The system's Python: libnbd's module belongs to it, whatever other Python comes first. */
export const systemPython = '/usr/bin/python3'

/** The real programs that some tests run against, and the command that proves that one is there. */
export const layers = {
  'qemu-img': ['qemu-img', '--version'],
  'qemu-io': ['qemu-io', '--version'],
  'qemu-nbd': ['qemu-nbd', '--version'],
  'qemu-system-x86_64': ['qemu-system-x86_64', '--version'],
  'qemu-storage-daemon': ['qemu-storage-daemon', '--version'],
  as: ['as', '--version'],
  swtpm: ['swtpm', '--version'],
  nbdinfo: ['nbdinfo', '--version'],
  nbdcopy: ['nbdcopy', '--version'],
  /** It runs the python3 that comes first, which may lack the system's libnbd module. */
  nbdsh: ['sh', '-c', 'PATH=/usr/bin:$PATH nbdsh -c "print(h.get_version())"'],
  /** Root and FUSE: an NBD export as a file, below which nbdkit can fail and be slow. */
  nbdfuse: ['sh', '-c', '[ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && command -v nbdfuse'],
  libnbd: [systemPython, '-c', 'import nbd'],
  nbdkit: ['nbdkit', '--version'],
  fio: ['fio', '--version'],
  zstd: ['zstd', '--version'],
  tar: ['tar', '--version'],
  python3: ['python3', '--version'],
  'mkfs.ext4': ['mkfs.ext4', '-V'],
  /** What `test/qemu/linux-guest/make.sh` makes, in the folder of REFPOINT_LINUX_GUEST. */
  'linux-guest': ['sh', '-c', '[ -e "${REFPOINT_LINUX_GUEST:-node_modules/.cache/linux-guest}/initrd.gz" ]'],
  /** Root and loop devices: a small file system of our own. */
  'loop-ext4': ['sh', '-c', '[ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] && command -v mkfs.ext4 && command -v losetup'],
  /** Root, loop devices and mkfs.xfs: a small file system of our own that can clone files and can be full. */
  'loop-xfs': ['sh', '-c', '[ "$(id -u)" = 0 ] && [ -e /dev/loop-control ] && command -v mkfs.xfs && command -v losetup && grep -qw xfs /proc/filesystems'],
} as const satisfies Record<string, readonly string[]>

export type Layer = keyof typeof layers

/** The layers that this machine lacks. */
export function missingLayers(): Layer[] {
  return (Object.keys(layers) as Layer[]).filter((layer) => {
    const [command, ...args] = layers[layer]
    return spawnSync(command, args, { stdio: 'ignore' }).status !== 0
  })
}

const missing = new Set((process.env['REFPOINT_TEST_MISSING'] ?? '').split(',').filter(Boolean))

/**
 * `describe` for tests that need real layers: skipped where one is missing. `test/requirements.ts` tells what was
 * skipped, and fails the run when a layer named in REFPOINT_REQUIRE is missing.
 */
export function describeWith(needed: readonly Layer[], name: string, body: () => void): void {
  const lacking = needed.filter((layer) => missing.has(layer))
  if (lacking.length === 0) describe(name, body)
  else describe.skip(`${name} (needs ${lacking.join(', ')})`, body)
}
