import { execa } from 'execa'

/** Makes an empty qcow2 or raw image; `backing` is a qcow2 or raw image below a qcow2 one. */
export async function makeImage(
  path: string,
  format: 'qcow2' | 'raw',
  sizeBytes: number,
  backing?: { readonly path: string; readonly format: 'qcow2' | 'raw' },
): Promise<string> {
  const below = backing === undefined ? [] : ['-b', backing.path, '-F', backing.format]
  await execa('qemu-img', ['create', '-q', '-f', format, ...below, path, String(sizeBytes)])
  return path
}

/** Arguments for a virtio disk as people start it with -blockdev; its device ID and node are `name`. */
export function blockdevDisk(name: string, path: string, format: 'qcow2' | 'raw', device = 'virtio-blk-pci'): string[] {
  return [
    ...['-blockdev', `driver=file,filename=${path},node-name=${name}-file,discard=unmap`],
    ...['-blockdev', `driver=${format},file=${name}-file,node-name=${name}-node,discard=unmap`],
    ...['-device', `${device},drive=${name}-node,id=${name}`],
  ]
}

/** A virtio disk of `blockdevDisk` as the part that has the disk behind it: QEMU's own name for it in its object tree. */
export function virtioDisk(name: string): string {
  return `/machine/peripheral/${name}/virtio-backend`
}
