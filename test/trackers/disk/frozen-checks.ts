import { expect } from 'vitest'
import { loadNative } from '../../../src/files/native.js'
import { parseChangeId } from '../../../src/trackers/disk/change-id.js'
import type { FrozenDisk } from '../../../src/trackers/disk/disk-set.js'
import { FrozenStack } from '../../../src/trackers/disk/frozen-stack.js'
import { differingBlocks, type Instant } from './model-disk.js'

/** Everything a frozen disk holds. */
export function readFrozen({ source }: FrozenDisk): Buffer {
  const stack = new FrozenStack(source, undefined)
  try {
    const content = Buffer.alloc(source.sizeBytes)
    for (let at = 0; at < content.length; at += 1_000_000) stack.read(content.subarray(at, at + 1_000_000), at)
    return content
  } finally {
    stack.close()
  }
}

/** Blocks that a frozen disk says may have changed since a change ID of its own. */
export function changedBlocks({ source }: FrozenDisk, since: string): Set<number> {
  const stack = new FrozenStack(source, undefined)
  const blocks = new Set<number>()
  let end = 0
  try {
    for (const page of stack.changedSince(parseChangeId(since)?.generation ?? 0)) {
      for (const { offset, length } of page) {
        expect(offset).toBeGreaterThanOrEqual(end)
        end = offset + length
        for (let at = offset; at < end; at += source.blockBytes) blocks.add(at / source.blockBytes)
      }
    }
  } finally {
    stack.close()
  }
  return blocks
}

/** Where the frozen disk says that there are only zeroes, there are; and its extents leave no gaps. */
export async function expectAllocationTrue({ source }: FrozenDisk, content: Buffer): Promise<void> {
  const stack = new FrozenStack(source, await loadNative())
  try {
    let at = 0
    for (const page of stack.allocated({ offset: 0, length: source.sizeBytes })) {
      for (const { offset, length, kind } of page) {
        expect(offset).toBe(at)
        at += length
        if (kind === 'zero') expect(content.subarray(offset, at).every((byte) => byte === 0)).toBe(true)
      }
    }
    expect(at).toBe(source.sizeBytes)
  } finally {
    stack.close()
  }
}

/** Since every earlier instant: every block that differs is reported; and, where `exact`, none that nobody touched. */
export function expectChangesTold(
  frozen: FrozenDisk,
  content: Buffer,
  instants: readonly Instant[],
  { exact }: { readonly exact: boolean },
): void {
  for (const [index, instant] of instants.entries()) {
    const told = changedBlocks(frozen, instant.changeId)
    const size = Math.min(content.length, instant.content.length)
    const { blockBytes } = frozen.source
    const missed = differingBlocks(content.subarray(0, size), instant.content.subarray(0, size), blockBytes)
      .concat(grownBlocks(content, instant.content, blockBytes))
      .filter((block) => !told.has(block))
    expect(missed, `changed since instant ${index}, not told`).toEqual([])
    if (!exact) continue
    const untouched = [...told].filter((block) => !instant.touched.has(block))
    expect(untouched, `told since ${index}, untouched`).toEqual([])
  }
}

function grownBlocks(now: Buffer, then: Buffer, blockBytes: number): number[] {
  if (now.length <= then.length) return []
  const first = Math.floor(then.length / blockBytes)
  return Array.from({ length: Math.ceil(now.length / blockBytes) - first }, (_, index) => first + index)
}
