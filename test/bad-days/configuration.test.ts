import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { contentOf, expectRestores, expectTold, expectVerifies, filesBelow, oneImage, openScene, overwrite, takeHistory } from './scene.js'

it('says that there is no repository, and makes none by accident', async () => {
  const scene = openScene(oneImage, { within: true })
  writeFileSync(scene.path('root.img'), contentOf(1, 65536))
  for (const args of [['backup'], ['points'], ['verify'], ['restore', 'web01', '--at', 'latest', '--to', 'there']]) {
    expectTold(await scene.run(args), 10, /no repository at .*repository/, /mounted/, /refpoint init/)
  }
  expect(existsSync(scene.repository)).toBe(false)
  expect(existsSync(scene.path('there'))).toBe(false)
})

it('leaves a repository alone that it does not understand', async () => {
  const scene = openScene(oneImage, { within: true })
  const [first] = await takeHistory(scene, 131_072)
  const path = join(scene.repository, 'refpoint.json')
  const record = readFileSync(path, 'utf8')
  const before = filesBelow(scene.repository)
  for (const [change, substance] of [
    [{ format: 7 }, /format 7.*knows format 1/],
    [{ requires: ['teleport'] }, /requires what this version does not know: teleport/],
  ] as const) {
    overwrite(path, JSON.stringify({ ...(JSON.parse(record) as object), ...change }))
    for (const args of [['backup'], ['points'], ['verify'], ['init'], ['restore', 'web01', '--at', '1', '--to', 'there']]) {
      expectTold(await scene.run(args), 10, substance, /newer refpoint/)
    }
    expect(existsSync(scene.path('there'))).toBe(false)
  }
  overwrite(path, '{"format":')
  expectTold(await scene.run(['backup']), 13, /refpoint\.json/)
  expectTold(await scene.run(['verify']), 13, /refpoint\.json/)
  overwrite(path, record)
  expect(filesBelow(scene.repository)).toEqual(before)
  await expectVerifies(scene)
  if (first !== undefined) await expectRestores(scene, first)
})

it('tells an unknown machine and which there are', async () => {
  const scene = openScene(oneImage, { within: true })
  await takeHistory(scene, 65_536)
  expectTold(await scene.run(['backup', 'web02']), 2, /no machine 'web02' in the configuration/, /has: web01/)
  for (const args of [['points', 'web02'], ['verify', 'web02'], ['restore', 'web02', '--at', '1', '--to', 'there']]) {
    expectTold(await scene.run(args), 2, /no machine 'web02'/, /has: web01/)
  }
  expectTold(await scene.run(['restore', 'web01', '--at', '9', '--to', 'there']), 2, /no point #9/, /refpoint points/)
  expectTold(await scene.run(['verify', 'web01', '--at', '9']), 2, /no point #9/)
  expectTold(await scene.run(['restore', 'web01', '--at', '1', '--to', 'there', '--store', 'rot']), 2, /no store 'rot'/, /has: root/)
  expect(existsSync(scene.path('there', 'root.raw'))).toBe(false)
})

it('tells a misspelt key with the near match, where it stands', async () => {
  const scene = openScene(oneImage, { within: true })
  await takeHistory(scene, 65_536)
  for (const [from, to, ...substance] of [
    ['tracker:', 'trakcer:', /trakcer/, /tracker/],
    ['stores:', 'stroes:', /stroes/, /stores/],
    ['repository:', 'repositroy:', /repositroy/, /repository/],
    ['tracker: image', 'tracker: imgae', /imgae/, /image/],
    ['tracker: image', 'tracker: image\n    alow: [torn]', /alow/, /allow/],
    ['tracker: image', 'tracker: image\n    compression: { levle: 3 }', /levle/, /level/],
  ] as const) {
    scene.configure(oneImage.replace(from, to))
    expectTold(await scene.run(['backup']), 2, ...substance, /refpoint\.yaml/)
  }
  scene.configure('machines: [')
  expectTold(await scene.run(['backup']), 2, /refpoint\.yaml/)
  expectTold(await scene.run(['backup', '--config', 'nowhere.yaml']), 2, /nowhere\.yaml/)
  scene.configure(oneImage)
  expectTold(await scene.run(['bakcup']), 2, /bakcup/, /backup/)
  expectTold(await scene.run(['backup', '--fulll']), 2, /--fulll/)
  expect((await scene.ok(['backup'])).stdout).toMatch(/point #5/)
  await expectVerifies(scene)
})

it('refuses an incremental where there is nothing to go on from, and says why', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
  expectTold(await scene.run(['backup', '--incremental']), 2, /can't take an incremental/, /first point/, /without --incremental/)
  expect((await scene.ok(['points'])).stdout).not.toMatch(/#1/)
  expectTold(await scene.run(['backup', '--full', '--incremental']), 2, /--full/, /--incremental/)
  await scene.ok(['backup'])
  await scene.ok(['backup', '--incremental'])
  await expectVerifies(scene)
})

it('refuses a file of the machine that is not there, before anything is committed', async () => {
  const scene = openScene(`${oneImage}    files: { vm.xml: ./vm.xml }\n`, { within: true })
  await scene.ok(['init'])
  writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
  expectTold(await scene.run(['backup']), 2, /vm\.xml/, /files/)
  writeFileSync(scene.path('vm.xml'), '<domain/>')
  await scene.ok(['backup'])
  await scene.ok(['restore', 'web01', '--at', 'latest', '--to', 'there'])
  expect(readFileSync(scene.path('there', 'config', 'vm.xml'), 'utf8')).toBe('<domain/>')
  await expectVerifies(scene)
})

it('takes the other machines when one fails, and says which', async () => {
  const scene = openScene(`${oneImage}  web02:\n    tracker: image\n    stores: { root: ./gone.img }\n`, { within: true })
  await scene.ok(['init'])
  writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
  const told = await scene.run(['backup', '--all'])
  expectTold(told, 3, /web02: failed: .*gone\.img is not there/, /1 of 2 machines failed: web02/)
  expect(told.stdout).toMatch(/web01: point #1/)
  expectTold(await scene.run(['backup']), 2, /no machine was named/, /web01, web02/)
  await expectRestores(scene, { point: 1, content: contentOf(1, 65_536) })
  await expectVerifies(scene)
})
