import { statSync } from 'node:fs'
import type { PinnedImage } from './pinned-image.js'

/*
 * How images are put to QEMU's block layer: each as a node of its format over a node of its file, with every node below
 * it given, so that QEMU opens nothing that an image names. Nodes of one disk are called `<node>`, `<node>-file`,
 * `<node>-below`, `<node>-below-file`, and so on down.
 */

/** What `blockdev-add` opens an image with. Images below it are only read. */
export function openNode(node: string, image: PinnedImage, { readOnly }: { readonly readOnly: boolean }): object {
  const { format, path, backing } = image
  return {
    'node-name': node,
    driver: format,
    'read-only': readOnly,
    file: { 'node-name': `${node}-file`, driver: protocolOf(path), filename: path, 'read-only': readOnly },
    ...(format === 'qcow2' && {
      backing: backing === undefined ? null : openNode(`${node}-below`, backing, { readOnly: true }),
    }),
  }
}

/** What `blockdev-reopen` makes an open image read-only or writable with. */
export function reopenNode(node: string, { backing }: PinnedImage, { readOnly }: { readonly readOnly: boolean }): object {
  return {
    'node-name': node,
    driver: 'qcow2',
    'read-only': readOnly,
    file: `${node}-file`,
    backing: backing === undefined ? null : `${node}-below`,
  }
}

function protocolOf(path: string): 'file' | 'host_device' {
  return statSync(path).isBlockDevice() ? 'host_device' : 'file'
}
