import { readFileSync, rmSync } from 'node:fs'
import { expect, it } from 'vitest'
import {
  editManifest,
  type EditableManifest,
  expectRestores,
  expectRightOrRefused,
  expectTold,
  expectVerifies,
  manifestPath,
  oneImage,
  openScene,
  overwrite,
  readManifest,
  takeHistory,
} from './scene.js'

interface Damage {
  readonly name: string
  readonly edit: ((manifest: EditableManifest) => void) | 'remove' | 'not JSON' | 'cut' | 'empty'
  /** What verify says. */
  readonly told: RegExp
}

const damages: readonly Damage[] = [
  { name: 'is missing', edit: 'remove', told: /manifest of point #2 is missing/ },
  { name: 'is not JSON', edit: 'not JSON', told: /00000002\.json/ },
  { name: 'is cut', edit: 'cut', told: /00000002\.json/ },
  { name: 'is empty', edit: 'empty', told: /00000002\.json/ },
  { name: 'has another SHA-256', edit: (it) => (it.archive.sha256 = '0'.repeat(64)), told: /SHA-256 differs/ },
  { name: 'has another size', edit: (it) => (it.archive.bytes += 1), told: /bytes instead of/ },
  { name: 'names another archive', edit: (it) => (it.archive.name = it.archive.name.replace(/[^/]+$/, 'none.tar.zst')), told: /archive .*is missing/ },
  { name: 'leads out', edit: (it) => (it.archive.name = '../../etc/passwd'), told: /outside the repository/ },
  { name: 'is of another machine', edit: (it) => (it.machine = 'web02'), told: /is of machine 'web02'/ },
  { name: 'is of another machine of this name', edit: (it) => (it.machineUuid = 'c0ffee00-0000-4000-8000-000000000000'), told: /another machine/ },
  { name: 'is of another point', edit: (it) => (it.point = 3), told: /#3|point 3/ },
  { name: 'has another nonce', edit: (it) => (it.nonce = 'another'), told: /nonce/ },
  { name: 'is its own parent', edit: (it) => (it.parent = 2), told: /not earlier/ },
  { name: 'has no parent', edit: (it) => (it.parent = null), told: /parent/ },
  { name: 'has another store size', edit: (it) => void it.stores.forEach((store) => (store.sizeBytes -= 65_536)), told: /list of stores.*334848 bytes/ },
  { name: 'has another content sum', edit: (it) => void it.stores.forEach((store) => (store.contentSum = '1'.repeat(64))), told: /content sum/ },
  { name: 'calls itself a full', edit: (it) => void it.stores.forEach((store) => (store.mode = 'full')), told: /list of stores.*full/ },
  { name: 'has a store under another name', edit: (it) => void it.stores.forEach((store) => (store.name = 'rooot')), told: /rooot/ },
  { name: 'is of a newer format', edit: (it) => (it.format = 9), told: /format 9/ },
  { name: 'requires what nobody knows', edit: (it) => (it.requires = ['teleport']), told: /teleport/ },
]

it('tells every way in which a manifest may lie, restores what it does not touch, and goes on', async () => {
  const scene = openScene(oneImage, { within: true })
  const taken = await takeHistory(scene, 400_384)
  const [first, second, third, fourth] = taken
  if (first === undefined || second === undefined || third === undefined || fourth === undefined) throw new RangeError()
  const path = manifestPath(scene, 2)
  const whole = readFileSync(path)
  for (const { name, edit, told } of damages) {
    if (edit === 'remove') rmSync(path)
    else if (edit === 'not JSON') overwrite(path, 'not JSON')
    else if (edit === 'cut') overwrite(path, whole.subarray(0, whole.length / 2))
    else if (edit === 'empty') overwrite(path, '')
    else editManifest(scene, 2, edit)
    const verified = await scene.run(['verify'])
    expect(verified.status, `${name}: ${verified.stderr}`).toBe(13)
    expectTold(verified, 13, told, /affects points: .*#2/)
    expect(verified.stderr, name).not.toMatch(/affects points: [^\n]*#[14]/)
    await expectRightOrRefused(scene, second)
    await expectRightOrRefused(scene, third)
    overwrite(path, whole)
  }
  await expectVerifies(scene)
  for (const entry of taken) await expectRestores(scene, entry)
})

it('goes on from the newest whole point when a manifest is lost, and removes nothing that it might have named', async () => {
  const scene = openScene(oneImage, { within: true })
  const taken = await takeHistory(scene, 400_384)
  rmSync(manifestPath(scene, 3))
  const { stderr } = await scene.ok(['backup'])
  expect(stderr).toMatch(/manifest of point #3 is missing/)
  expect(readManifest(scene, 5).parent).toBe(4)
  for (const entry of taken.filter(({ point }) => point !== 3)) await expectRestores(scene, entry)
  const content = taken.at(-1)?.content
  if (content !== undefined) await expectRestores(scene, { point: 5, content })

  rmSync(manifestPath(scene, 4))
  const after = await scene.ok(['backup'])
  expect(after.stderr).toMatch(/#4/)
  expect(readManifest(scene, 6).parent).toBe(2)
  if (content !== undefined) await expectRestores(scene, { point: 6, content })
  expectTold(await scene.run(['verify']), 13, /#3 is missing|#3 to #4 is missing|points #3 to #4/, /#5/)
})
