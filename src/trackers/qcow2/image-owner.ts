import { statSync } from 'node:fs'
import type { PinnedImage } from './pinned-image.js'

export interface User {
  readonly uid: number
  readonly gid: number
}

/**
 * Who the storage daemon runs as when the agent is root: the user that owns every one of the images, if there is one.
 * Whoever can write an image could try what crafted tables do to its reader, and has nothing to win from one that is
 * no more than its owner. Undefined: as the agent itself.
 */
export function ownerOf(images: readonly PinnedImage[]): User | undefined {
  if (process.getuid?.() !== 0) return undefined
  const owners = images.flatMap(layers).map(({ path }) => statSync(path))
  const [first] = owners
  if (first === undefined || first.uid === 0 || owners.some(({ uid }) => uid !== first.uid)) return undefined
  return { uid: first.uid, gid: first.gid }
}

function layers(image: PinnedImage): PinnedImage[] {
  return image.backing === undefined ? [image] : [image, ...layers(image.backing)]
}
