import { execFileSync } from 'node:child_process'
import { closeSync, openSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ExtentMap } from '../../src/model/extent-map.js'
import { KIND_DATA, KIND_ZERO, WINDOW_BYTES, WINDOW_SECTORS } from '../../src/model/geometry.js'
import { CLUSTER_BYTES, planRefcounts, refcountBlock } from '../../src/operations/restore/qcow2-layout.js'
import { prepareQcow2 } from '../../src/operations/restore/qcow2-target.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'

const gib = 2 ** 30
const options = { force: false, attempt: 'test' }

/** Rows of sectors with data; the others are holes or explicit zeroes. */
function mapOf(sectors: number, rows: readonly { start: number; sectors: number; zero?: boolean }[]): ExtentMap {
  const map = new ExtentMap(sectors)
  map.addOlder(
    {
      count: rows.length,
      start: Uint32Array.from(rows, (row) => row.start),
      sectors: Uint32Array.from(rows, (row) => row.sectors),
      kind: Uint32Array.from(rows, (row) => (row.zero === true ? KIND_ZERO : KIND_DATA)),
      frame: new Uint32Array(rows.length),
      at: new Uint32Array(rows.length),
    },
    0,
  )
  return map
}

function qemu(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8' })
}

describe('refcounts of a qcow2 image', () => {
  test('count every cluster of the file, their own too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300_000_000 }), (used) => {
        const { blocks, tableClusters, totalClusters } = planRefcounts(used)
        expect(totalClusters).toBe(used + blocks + tableClusters)
        expect(blocks * 32_768).toBeGreaterThanOrEqual(totalClusters)
        expect((blocks - 1) * 32_768).toBeLessThan(totalClusters)
        expect(tableClusters * CLUSTER_BYTES).toBeGreaterThanOrEqual(blocks * 8)
      }),
    )
  })

  test('are 1 up to the end of the file and 0 past it', () => {
    const refcounts = planRefcounts(40_000)
    const counts = Array.from({ length: refcounts.blocks }, (_, i) => refcountBlock(refcounts, i))
    const all = Buffer.concat(counts)
    for (let i = 0; i < all.length / 2; i++) {
      if (all.readUInt16BE(i * 2) !== (i < refcounts.totalClusters ? 1 : 0)) expect.fail(`refcount of cluster ${i}`)
    }
  })
})

describeWith(['qemu-img', 'qemu-io'], 'qcow2 images that are restored', () => {
  test('of 8 TiB hold data from their first to their last sector', async () => {
    const sizeBytes = 8192 * gib
    const path = join(temporaryFolder(), 'big.qcow2')
    const target = await prepareQcow2(path, sizeBytes, options)
    const file = openSync(target.path, 'r+')
    const last = WINDOW_SECTORS - 1
    // Runs over the border of two L2 tables, in the middle of clusters, and at the very end.
    const border = WINDOW_SECTORS / 2
    for (const window of [0, 1, 4095, 8191]) {
      const rows = [
        { start: 0, sectors: 1 },
        { start: border - 3, sectors: 300 },
        { start: border + 1000, sectors: 500, zero: true },
        { start: last, sectors: 1 },
      ]
      const place = await target.openWindow(window * WINDOW_BYTES, mapOf(WINDOW_SECTORS, rows))
      for (const { start, sectors, zero } of rows) {
        if (zero === true) continue
        writeSync(file, Buffer.alloc(sectors * 512, window % 251 || 7), 0, null, place(window * WINDOW_BYTES + start * 512))
      }
      expect(() => place(window * WINDOW_BYTES + (border + 1000) * 512)).toThrow(RangeError)
    }
    closeSync(file)
    await target.finish()
    expect(qemu('qemu-img', 'check', '-f', 'qcow2', path)).toContain('No errors were found')
    const commands = [0, 1, 4095, 8191].flatMap((window) => {
      const at = (sector: number): number => window * WINDOW_BYTES + sector * 512
      const pattern = window % 251 || 7
      return [
        `read -P ${pattern} ${at(0)} 512`,
        `read -P 0 ${at(1)} 512`,
        `read -P 0 ${at(border - 4)} 512`,
        `read -P ${pattern} ${at(border - 3)} ${300 * 512}`,
        `read -P 0 ${at(border + 297)} 64k`,
        `read -P ${pattern} ${at(last)} 512`,
      ]
    })
    qemu('qemu-io', '-r', '-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), path)
    expect(statSync(path).blocks * 512).toBeLessThan(4 * 2 ** 20)
  })

  test('full of data need several blocks of refcounts', async () => {
    const sizeBytes = 5 * gib + 512
    const path = join(temporaryFolder(), 'full.qcow2')
    const target = await prepareQcow2(path, sizeBytes, options)
    for (let offset = 0; offset < sizeBytes; offset += WINDOW_BYTES) {
      const sectors = Math.min(WINDOW_SECTORS, (sizeBytes - offset) / 512)
      await target.openWindow(offset, mapOf(sectors, [{ start: 0, sectors }]))
    }
    await target.finish()
    const checked = qemu('qemu-img', 'check', '-f', 'qcow2', path)
    expect(checked).toContain('No errors were found')
    expect(checked).toContain(`${Math.ceil(sizeBytes / CLUSTER_BYTES)}/${Math.ceil(sizeBytes / CLUSTER_BYTES)} = 100.00% allocated`)
    // QEMU can write to it: it takes clusters that are counted, and counts new ones.
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 9 3G 1M', '-c', 'read -P 9 3G 1M', path)
    qemu('qemu-img', 'snapshot', '-c', 'one', path)
    qemu('qemu-io', '-f', 'qcow2', '-c', 'write -P 8 0 3M', path)
    expect(qemu('qemu-img', 'check', '-f', 'qcow2', path)).toContain('No errors were found')
  })

  test('without any data are empty, and end with whole sectors', async () => {
    const path = join(temporaryFolder(), 'empty.qcow2')
    const target = await prepareQcow2(path, 1_000_001, options)
    await target.finish()
    expect(qemu('qemu-img', 'check', '-f', 'qcow2', path)).toContain('No errors were found')
    expect(JSON.parse(qemu('qemu-img', 'info', '-f', 'qcow2', '--output=json', path))).toMatchObject({
      format: 'qcow2',
      'virtual-size': 1_000_448,
    })
  })
})
