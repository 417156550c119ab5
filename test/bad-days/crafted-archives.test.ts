import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { loadCodec } from '../../src/compress/load-codec.js'
import { describeWith } from '../layers.js'
import { archivePath, contentOf, editManifest, expectTold, filesBelow, oneImage, openScene, overwrite, type Scene } from './scene.js'

interface Frame {
  stored: Uint8Array
  contentBytes: number
}

/** Takes an archive apart and puts it together again, with a manifest that vouches for it: as an attacker would. */
async function craft(scene: Scene, edit: (content: Buffer, frame: Frame) => Buffer | undefined): Promise<void> {
  const codec = await loadCodec()
  const path = archivePath(scene, 1)
  const file = readFileSync(path)
  const count = file.readUInt32LE(file.length - 9)
  const table = file.length - 17 - 8 * count
  const frames: Frame[] = []
  let offset = 0
  for (let index = 0; index < count; index += 1) {
    const bytes = file.readUInt32LE(table + 8 + 8 * index)
    const stored = file.subarray(offset, offset + bytes)
    const frame: Frame = { stored, contentBytes: file.readUInt32LE(table + 12 + 8 * index) }
    const content = edit(Buffer.from(codec.decompress(frame.stored, frame.contentBytes)), frame)
    if (content !== undefined) frame.stored = codec.compress(content, 1)
    if (content !== undefined) frame.contentBytes = content.length
    frames.push(frame)
    offset += bytes
  }
  const entries = Buffer.alloc(8 * count)
  frames.forEach((frame, index) => {
    entries.writeUInt32LE(frame.stored.length, 8 * index)
    entries.writeUInt32LE(frame.contentBytes, 8 * index + 4)
  })
  const seekTable = Buffer.concat([file.subarray(table, table + 8), entries, file.subarray(-9)])
  const crafted = Buffer.concat([...frames.map(({ stored }) => stored), seekTable])
  overwrite(path, crafted)
  editManifest(scene, 1, ({ archive }) => {
    archive.bytes = crafted.length
    archive.sha256 = createHash('sha256').update(crafted).digest('hex')
  })
}

/** Replaces text by text of the same length; a tar header gets its checksum anew. */
function replaced(content: Buffer, from: string, to: string): Buffer | undefined {
  const at = content.indexOf(from)
  if (at === -1) return undefined
  const next = Buffer.from(content)
  next.write(to, at, 'latin1')
  if (next.subarray(257, 262).toString() === 'ustar') {
    next.fill(' ', 148, 156)
    const sum = next.subarray(0, 512).reduce((total, byte) => total + byte, 0)
    next.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  }
  return next
}

describe('an archive made to do harm', () => {
  it('can not write outside the folder that is restored to', async () => {
    const scene = openScene(`${oneImage}    files: { ab/cd/vm.xml: ./refpoint.yaml }\n`, { within: true })
    await scene.ok(['init'])
    writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
    await scene.ok(['backup'])
    await craft(scene, (content) => replaced(content, 'ab/cd/vm.xml', '../../vm.xml'))
    const told = await scene.run(['restore', 'web01', '--at', '1', '--to', scene.path('there')])
    expectTold(told, 13, /\.\.\/\.\.\/vm\.xml/)
    expect(filesBelow(scene.path('there'))).toEqual([])
    expect(existsSync(scene.path('vm.xml'))).toBe(false)
    expectTold(await scene.run(['verify']), 13, /\.\.\/\.\.\/vm\.xml/, /affects points: #1/)
  })

  it('can not write outside by a manifest or a store either', async () => {
    const scene = openScene(oneImage, { within: true })
    await scene.ok(['init'])
    writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
    await scene.ok(['backup'])
    editManifest(scene, 1, ({ stores }) => stores.forEach((store) => (store.name = '../evil')))
    expectTold(await scene.run(['verify']), 13, /store name/)
    expectTold(await scene.run(['restore', 'web01', '--at', '1', '--to', scene.path('there')]), 13, /store name/)
    expect(existsSync(scene.path('evil.raw'))).toBe(false)
  })
})

/** Runs a command and prints its peak of resident memory, in KiB, on stderr. */
const measured = [
  'python3',
  '-c',
  'import resource,subprocess,sys\nstatus=subprocess.call(sys.argv[1:])\n' +
    'print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\nsys.exit(status)',
]

describeWith(['zstd', 'python3'], 'a decompression bomb', () => {
  it.each([
    ['data', false],
    ['data', true],
    ['tables', true],
    ['header', true],
    ['index', true],
  ] as const)('in the %s costs no memory (told in the seek table: %s)', async (where, told) => {
    const scene = openScene()
    await scene.ok(['init'])
    writeFileSync(scene.path('root.img'), contentOf(1, 262_144))
    await scene.ok(['backup'])
    const bytes = 1024 ** 3
    writeFileSync(scene.path('bomb'), execFileSync('bash', ['-c', `head -c ${bytes} /dev/zero | zstd -1 --stream-size=${bytes}`], { maxBuffer: bytes }))
    const bomb = new Uint8Array(readFileSync(scene.path('bomb')))
    let before = ''
    await craft(scene, (content, frame) => {
      const name = before
      before = content.subarray(257, 262).toString() === 'ustar' ? content.subarray(0, 100).toString('latin1').replace(/\0.*$/, '') : ''
      const wanted = { data: '/data/', tables: '/tables/', header: 'refpoint.json', index: 'index.json' }[where]
      if (!name.includes(wanted)) return undefined
      frame.stored = bomb
      if (told) frame.contentBytes = bytes
      return undefined
    })
    for (const args of [['verify'], ['restore', 'web01', '--at', '1', '--to', 'there']]) {
      const ended = await scene.run(args, { through: measured })
      expectTold(ended, 13, /damaged|can't be read/)
      expect(Number(/peak (\d+)/.exec(ended.stderr)?.[1])).toBeLessThan(400 * 1024)
    }
    expect(filesBelow(scene.path('there'))).toEqual([])
  })
})
