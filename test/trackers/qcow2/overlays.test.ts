import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { findOverlays } from '../../../src/trackers/qcow2/overlays.js'
import { describeWith } from '../../layers.js'
import { makeImage } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'

const mib = 1024 * 1024

describeWith(['qemu-img'], 'overlays of an image', () => {
  it('are found beside it, below its folder, and in folders beside that; others are none', async () => {
    const folder = temporaryFolder()
    const at = async (name: string, backing?: string): Promise<string> => {
      const path = join(folder, name)
      mkdirSync(dirname(path), { recursive: true })
      const below = backing === undefined ? undefined : ({ path: backing, format: 'qcow2' } as const)
      return await makeImage(path, 'qcow2', mib, below)
    }
    const base = await at('images/base.qcow2')
    const root = await at('images/root.qcow2', base)
    const data = await at('data/disk.qcow2')
    writeFileSync(join(folder, 'images/notes.txt'), 'no image')
    symlinkSync('/', join(folder, 'images/everything'))
    expect(findOverlays([root, data], [base])).toEqual({ overlays: [], limited: false })
    for (const name of ['images/b', 'images/1/2/3/b', 'snapshots/b', 'top', 'data/b']) {
      const path = await at(name, root)
      expect(findOverlays([root], [])).toEqual({ overlays: [{ path, below: root }], limited: false })
      await makeImage(path, 'qcow2', mib)
    }
    // Near another disk of the machine, and by a name relative to where it is.
    const near = join(dirname(data), '1/2/b')
    mkdirSync(dirname(near), { recursive: true })
    await makeImage(near, 'qcow2', mib, { path: '../../../images/root.qcow2', format: 'qcow2' })
    expect(findOverlays([root], [data]).overlays).toEqual([{ path: near, below: root }])
    expect(findOverlays([root], [data], { limit: 3 }).limited).toBe(true)
  })
})
