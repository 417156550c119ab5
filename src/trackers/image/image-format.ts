import { readSync } from 'node:fs'

/** What image formats begin with; read as raw, each would be backed up as bytes that no guest ever saw. */
const formats: readonly { readonly name: string; readonly magic: Buffer }[] = [
  { name: 'qcow2', magic: Buffer.from('QFI\xfb', 'latin1') },
  { name: 'VMDK', magic: Buffer.from('KDMV', 'latin1') },
  { name: 'VMDK', magic: Buffer.from('# Disk DescriptorFile', 'latin1') },
  { name: 'VHDX', magic: Buffer.from('vhdxfile', 'latin1') },
  { name: 'VHD', magic: Buffer.from('conectix', 'latin1') },
  { name: 'VDI', magic: Buffer.from('<<< ', 'latin1') },
  { name: 'QED', magic: Buffer.from('QED\0', 'latin1') },
  { name: 'Parallels', magic: Buffer.from('WithoutFreeSpace', 'latin1') },
  { name: 'Parallels', magic: Buffer.from('WithouFreSpacExt', 'latin1') },
]

/** The image format that an open file begins like; undefined for what looks raw. */
export function foreignFormat(fd: number): string | undefined {
  const head = Buffer.alloc(64)
  const length = readSync(fd, head, 0, head.length, 0)
  return formats.find(({ magic }) => magic.length <= length && head.subarray(0, magic.length).equals(magic))?.name
}
