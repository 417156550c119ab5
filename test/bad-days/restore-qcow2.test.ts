import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { describeWith } from '../layers.js'
import { archivePath, expectSame, expectTold, filesBelow, openScene, overwrite, takeHistory } from './scene.js'

/** The content of an image, by QEMU. */
function contentOfImage(path: string, raw: string): Buffer {
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw])
  return readFileSync(raw)
}

describeWith(['qemu-img'], 'restore --format qcow2', () => {
  it('gives every point as an image without errors', async () => {
    const scene = openScene(undefined, { within: true })
    const taken = await takeHistory(scene)
    for (const { point, content } of taken) {
      const folder = scene.path(`at-${point}`)
      const args = ['restore', 'web01', '--at', String(point), '--to', folder, '--format', 'qcow2']
      expect((await scene.ok(args)).stdout).toContain('root.qcow2')
      expect(filesBelow(folder)).toEqual(['root.qcow2'])
      const image = `${folder}/root.qcow2`
      expect(execFileSync('qemu-img', ['check', '-f', 'qcow2', image], { encoding: 'utf8' })).toContain('No errors')
      expectSame(contentOfImage(image, scene.path('raw')), content, `point #${point}`)
    }
  })

  it('leaves nothing of a point that is damaged, and writes no image onto a device', async () => {
    const scene = openScene(undefined, { within: true })
    await takeHistory(scene, 300_032)
    const archive = archivePath(scene, 1)
    const bytes = readFileSync(archive)
    const middle = Math.floor(bytes.length / 2)
    bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle)
    overwrite(archive, bytes)
    const folder = scene.path('damaged')
    const args = ['restore', 'web01', '--at', '1', '--format', 'qcow2']
    expectTold(await scene.run([...args, '--to', folder]), 13)
    expect(filesBelow(folder)).toEqual([])
    writeFileSync(scene.path('target'), 'mine')
    expectTold(await scene.run([...args, '--write-to', scene.path('target'), '--force']), 2, /as they are/)
    expect(readFileSync(scene.path('target'), 'utf8')).toBe('mine')
    expectTold(await scene.run([...args.slice(0, -1), 'vmdk', '--to', folder]), 2, /raw, qcow2/)
    expect(existsSync(`${folder}/root.vmdk`)).toBe(false)
  })
})
