import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { imagePath } from '../../../../src/trackers/qemu/machine/open-images.js'
import { temporaryFolder } from '../../../temporary.js'

const opened = (path: string) => ({ descriptor: '/proc/1/fd/9', path, writable: true })

describe('the path of an image that QEMU names', () => {
  it('is that of a file or device, without links', async () => {
    const folder = temporaryFolder()
    const image = join(folder, 'a.qcow2')
    writeFileSync(image, '')
    symlinkSync(image, join(folder, 'link'))
    expect(await imagePath(image, '/', [])).toBe(image)
    expect(await imagePath('link', folder, [])).toBe(image)
    expect(await imagePath(`file:${image}`, '/', [])).toBe(image)
    const options = { driver: 'qcow2', backing: null, file: { driver: 'file', filename: image } }
    expect(await imagePath(`json:${JSON.stringify(options)}`, '/', [])).toBe(image)
  })

  it('is what QEMU has open, where a daemon was started with a relative name', async () => {
    expect(await imagePath('vm/a.qcow2', '/', [opened('/srv/vm/a.qcow2'), opened('/srv/b')])).toBe('/srv/vm/a.qcow2')
    expect(await imagePath('./a.qcow2', '/', [opened('/srv/vm/a.qcow2')])).toBe('/srv/vm/a.qcow2')
    // Either of two: not to be guessed.
    expect(await imagePath('a.qcow2', '/', [opened('/x/a.qcow2'), opened('/y/a.qcow2')])).toBeNull()
  })

  it.each(['nbd://host/x', 'rbd:pool/image', 'json:{"driver":"nbd","host":"x"}', 'json:{', '/not/there', ''])(
    'is none for %j',
    async (name) => {
      expect(await imagePath(name, '/', [])).toBeNull()
    },
  )
})
