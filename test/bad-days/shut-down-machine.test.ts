import { spawn } from 'node:child_process'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import { makeImage } from '../qemu/images.js'
import { holdOpen, killWriter, qemuIo, storedBitmaps } from '../trackers/qcow2/machine.js'
import { contentOf, expectSame, expectTold, expectVerifies, openScene, restoreWithoutRefpoint, type Scene } from './scene.js'

const mib = 2 ** 20
const layers = ['qemu-storage-daemon', 'qemu-img', 'qemu-io', 'python3', 'zstd'] as const
/** In the short form, those between which a bitmap begins, becomes the one that counts, or goes. */
const steps =
  process.env['REFPOINT_LONG'] === '1'
    ? ['locked', 'cleaned', 'checkpointed', 'planned', 'streamed', 'archived', 'committed', 'released', 'disposed']
    : ['checkpointed', 'archived', 'committed', 'released']

const configuration = `
repository: ./repository
machines:
  web01:
    tracker: qcow2
    stores:
      root: { path: ./root.qcow2, backing: { path: ./base.raw, format: raw } }
      data: ./data.qcow2
      swap: { path: ./swap.raw, format: raw }
`

/** A machine that is shut down: a disk over a base image, one by itself, and a raw one. */
async function openMachine(): Promise<Scene> {
  const scene = openScene(configuration, { within: true })
  writeFileSync(scene.path('base.raw'), contentOf(1, 3 * mib))
  await makeImage(scene.path('root.qcow2'), 'qcow2', 4 * mib, { path: scene.path('base.raw'), format: 'raw' })
  await makeImage(scene.path('data.qcow2'), 'qcow2', 6 * mib)
  writeFileSync(scene.path('swap.raw'), '')
  truncateSync(scene.path('swap.raw'), mib)
  await scene.ok(['init'])
  return scene
}

/** What the disks hold, by qemu-img, which shares no code with refpoint. */
async function disksOf(scene: Scene): Promise<Record<string, Buffer>> {
  const raw = scene.path('raw')
  const contents: Record<string, Buffer> = { swap: readFileSync(scene.path('swap.raw')) }
  for (const store of ['root', 'data']) {
    await execa('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', scene.path(`${store}.qcow2`), raw])
    contents[store] = readFileSync(raw)
  }
  return contents
}

async function expectPoint(
  scene: Scene,
  point: number,
  disks: Record<string, Buffer>,
  { byHand = true } = {},
): Promise<void> {
  const folder = scene.path(`restored-${point}`)
  await scene.ok(['restore', 'web01', '--at', String(point), '--to', folder, '--format', 'raw', '--force'])
  for (const [store, content] of Object.entries(disks)) {
    expectSame(readFileSync(join(folder, `${store}.raw`)), content, `${store} of #${point}`)
    if (!byHand) continue
    expectSame(await restoreWithoutRefpoint(scene.repository, store, point), content, `${store} of #${point}, by hand`)
  }
}

async function newestPoint(scene: Scene): Promise<number> {
  const { stdout } = await scene.ok(['show', 'web01', 'latest', '--json'])
  return (JSON.parse(stdout) as { point: number }).point
}

async function modesOf(scene: Scene): Promise<Record<string, string>> {
  const { stdout } = await scene.ok(['show', 'web01', 'latest', '--json'])
  const { stores } = JSON.parse(stdout) as { stores: { name: string; mode: string; reason: string }[] }
  return Object.fromEntries(stores.map(({ name, mode, reason }) => [name, `${mode}: ${reason}`]))
}

describeWith(layers, 'a machine that is shut down', () => {
  it('is backed up incrementally, its raw disk by comparing', async () => {
    const scene = await openMachine()
    const before = await disksOf(scene)
    await scene.ok(['backup'])
    await qemuIo(scene.path('root.qcow2'), 'write -P 7 100k 70k')
    await qemuIo(scene.path('root.qcow2'), 'write -z 1M 1M')
    await qemuIo(scene.path('data.qcow2'), 'write -P 8 5M 512')
    const after = await disksOf(scene)
    await scene.ok(['backup', '--incremental'])
    const modes = await modesOf(scene)
    expect(modes['root']).toMatch(/^(tracked|refined): changes since point #1/)
    expect(modes['data']).toMatch(/^(tracked|refined): changes since point #1/)
    expect(modes['swap']).toMatch(/^compared: .*nothing tracks/)
    await expectPoint(scene, 1, before)
    await expectPoint(scene, 2, after)
    await expectVerifies(scene)
    // One bitmap a disk, which records.
    for (const disk of ['root', 'data']) {
      const bitmaps = await storedBitmaps(scene.path(`${disk}.qcow2`))
      expect(bitmaps).toEqual([{ name: expect.stringMatching(/^refpoint-/), flags: ['auto'], granularity: 8192 }])
    }
  })

  it('keeps nothing of a doctor that looked at it', async () => {
    const scene = await openMachine()
    await scene.ok(['doctor'])
    expect(await storedBitmaps(scene.path('data.qcow2'))).toEqual([])
    await scene.ok(['backup'])
    const before = await storedBitmaps(scene.path('data.qcow2'))
    expect((await scene.ok(['doctor'])).stdout).toMatch(/data: tracked since point #1/)
    expect(await storedBitmaps(scene.path('data.qcow2'))).toEqual(before)
  })

  it('is not backed up while somebody has an image open', async () => {
    const scene = await openMachine()
    await scene.ok(['backup'])
    const holder = await holdOpen(scene.path('data.qcow2'))
    expect(holder).toBeDefined()
    expectTold(await scene.run(['backup']), 11, /store data: .*data\.qcow2 is in use/, /QMP/)
    holder?.kill('SIGKILL')
  })

  it('goes on after the agent is killed at any step, and keeps no bitmap too many', async () => {
    const scene = await openMachine()
    await scene.ok(['backup'])
    let point = 1
    for (const [index, step] of steps.entries()) {
      await qemuIo(scene.path('root.qcow2'), `write -P ${index + 1} ${index * 100}k 5k`)
      const atKill = await disksOf(scene)
      await killedAt(scene, step)
      const committed = index >= steps.indexOf('committed')
      if (committed) {
        point = await newestPoint(scene)
        await expectPoint(scene, point, atKill, { byHand: false })
      }
      await qemuIoWhenFree(scene.path('data.qcow2'), `write -P ${index + 10} ${index * 100}k 5k`)
      const now = await disksOf(scene)
      await scene.ok(['backup', '--incremental'])
      // A slot that the killed run might still have claimed is burnt.
      point = await newestPoint(scene)
      const modes = await modesOf(scene)
      expect(modes['root'], step).toMatch(/^(tracked|refined)/)
      expect(modes['data'], step).toMatch(/^(tracked|refined)/)
      await expectPoint(scene, point, now, { byHand: step === steps.at(-1) })
      for (const disk of ['root', 'data']) expect(await storedBitmaps(scene.path(`${disk}.qcow2`)), step).toHaveLength(1)
    }
    await expectVerifies(scene)
  }, 300_000)

  it('is backed up to two repositories, neither of which touches what is of the other, or of anybody', async () => {
    const scene = await openMachine()
    await execa('qemu-img', ['bitmap', '--add', '-f', 'qcow2', scene.path('data.qcow2'), 'mine'])
    await scene.ok(['backup'])
    const [first] = [scene.repository]
    scene.configure(configuration.replace('./repository', './other'))
    await scene.ok(['init'])
    await scene.ok(['backup'])
    await qemuIo(scene.path('data.qcow2'), 'write -P 1 0 64k')
    await scene.ok(['backup', '--incremental'])
    await qemuIo(scene.path('data.qcow2'), 'write -P 2 1M 64k')
    await scene.ok(['backup', '--incremental'])
    expect((await modesOf(scene))['data']).toMatch(/^(tracked|refined)/)
    scene.configure(configuration)
    await scene.ok(['backup', '--incremental'])
    expect((await modesOf(scene))['data']).toMatch(/^(tracked|refined): changes since point #1/)
    expect(first).toBe(scene.repository)
    await expectPoint(scene, 2, await disksOf(scene))
    const names = (await storedBitmaps(scene.path('data.qcow2'))).map(({ name }) => name)
    expect(names).toHaveLength(3)
    expect(names).toContain('mine')
  })

  it('is compared where a bitmap can not vouch, and says why', async () => {
    const scene = await openMachine()
    const [root, data] = [scene.path('root.qcow2'), scene.path('data.qcow2')]
    await scene.ok(['backup'])
    await killWriter(root)
    const [bitmap] = await storedBitmaps(data)
    await execa('qemu-img', ['bitmap', '--disable', '-f', 'qcow2', data, bitmap?.name ?? ''])
    await qemuIo(data, 'write -P 9 64k 64k')
    await scene.ok(['backup', '--incremental'])
    expect(await modesOf(scene)).toMatchObject({
      root: expect.stringMatching(/^compared: .*was not saved/),
      data: expect.stringMatching(/^compared: .*somebody stopped the dirty bitmap/),
    })
    await expectPoint(scene, 2, await disksOf(scene))

    // Another bitmap of the same name, and none.
    const [coarse] = await storedBitmaps(data)
    await execa('qemu-img', ['bitmap', '--remove', '--add', '-g', '65536', '-f', 'qcow2', data, coarse?.name ?? ''])
    const [gone] = await storedBitmaps(root)
    await execa('qemu-img', ['bitmap', '--remove', '-f', 'qcow2', root, gone?.name ?? ''])
    await scene.ok(['backup', '--incremental'])
    expect(await modesOf(scene)).toMatchObject({
      root: expect.stringMatching(/^compared: .*no dirty bitmap of that point/),
      data: expect.stringMatching(/^compared: .*another granularity/),
    })

    // A snapshot of the image can't be gone back to while a bitmap records; without it, the content is compared.
    await execa('qemu-img', ['snapshot', '-c', 'before', data])
    await qemuIo(data, 'write -P 11 2M 128k')
    await scene.ok(['backup', '--incremental'])
    expect((await modesOf(scene))['data']).toMatch(/^(tracked|refined)/)
    await expect(execa('qemu-img', ['snapshot', '-a', 'before', data])).rejects.toThrow('active dirty bitmaps')
    const [recording] = await storedBitmaps(data)
    await execa('qemu-img', ['bitmap', '--remove', '-f', 'qcow2', data, recording?.name ?? ''])
    await execa('qemu-img', ['snapshot', '-a', 'before', data])
    await execa('qemu-img', ['resize', '-q', '-f', 'qcow2', root, '5M'])
    await scene.ok(['backup', '--incremental'])
    expect(await modesOf(scene)).toMatchObject({
      root: expect.stringMatching(/^compared: .*resized/),
      data: expect.stringMatching(/^compared: .*no dirty bitmap/),
    })
    await expectPoint(scene, 5, await disksOf(scene))
    await expectVerifies(scene)
  })

  it('whose image is not what the configuration says is refused, and nothing that an image names is opened', async () => {
    const scene = await openMachine()
    const data = scene.path('data.qcow2')
    const refused = async (what: RegExp): Promise<void> => {
      expectTold(await scene.run(['backup']), 14, /store (data|root)/, what)
    }
    await execa('qemu-img', ['rebase', '-u', '-b', '/etc/passwd', '-F', 'raw', '-f', 'qcow2', data])
    await refused(/backing file \/etc\/passwd, for which nothing vouches/)
    await execa('qemu-img', ['rebase', '-u', '-b', '', '-f', 'qcow2', data])
    await scene.ok(['backup'])

    await execa('qemu-img', ['rebase', '-u', '-b', 'other.raw', '-F', 'raw', '-f', 'qcow2', scene.path('root.qcow2')])
    await refused(/backing file other\.raw, and .*base\.raw was expected/)
    await execa('qemu-img', ['rebase', '-u', '-b', 'base.raw', '-F', 'raw', '-f', 'qcow2', scene.path('root.qcow2')])

    // The second bit of the incompatible features.
    const image = readFileSync(data)
    image[79] = 2
    writeFileSync(data, image)
    await refused(/marked as corrupt/)

    const secret = ['--object', 'secret,id=key,data=secret', '-o', 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10']
    // It measures how quick the processor is for it, and gives up where that is busy.
    for (let done = false; !done;) {
      const { failed, stderr } = await execa('qemu-img', ['create', '-q', '-f', 'qcow2', ...secret, data, '6M'], { reject: false })
      if (failed) expect(stderr).toMatch(/CPU usage/)
      done = !failed
    }
    await refused(/encrypted/)
    await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'data_file=data.raw', data, '6M'], { cwd: scene.folder })
    await refused(/its data in another file/)
    writeFileSync(data, contentOf(5, 300_032))
    await refused(/is no qcow2 image/)
  })

  it('whose raw disk looks like a qcow2 image is read as the raw disk that it is', async () => {
    const scene = await openMachine()
    await makeImage(scene.path('trap'), 'qcow2', mib, { path: '/etc/passwd', format: 'raw' })
    const content = Buffer.alloc(mib)
    readFileSync(scene.path('trap')).copy(content)
    writeFileSync(scene.path('swap.raw'), content)
    await scene.ok(['backup'])
    await expectPoint(scene, 1, await disksOf(scene))
  })

  it('whose image is of version 2 is compared, and told how that ends', async () => {
    const scene = await openMachine()
    await execa('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', scene.path('data.qcow2'), '6M'])
    const { stderr } = await scene.ok(['backup'])
    expect(stderr).toMatch(/version 2.*qemu-img amend/)
    await qemuIo(scene.path('data.qcow2'), 'write -P 3 0 64k')
    await scene.ok(['backup', '--incremental'])
    expect((await modesOf(scene))['data']).toMatch(/^compared/)
    await expectPoint(scene, 2, await disksOf(scene))
  })
})

async function killedAt(scene: Scene, step: string): Promise<void> {
  const script = join(import.meta.dirname, 'kill-at-step.mjs')
  const args = [script, scene.path('refpoint.yaml'), 'web01', step]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const signal = await new Promise((done) => child.on('exit', (_, by) => done(by)))
  expect(signal, `killed at ${step}`).toBe('SIGKILL')
}

/** The storage daemon of a killed agent ends by itself, in its own time. */
async function qemuIoWhenFree(path: string, command: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      await qemuIo(path, command)
      return
    } catch (error) {
      if (tries > 600 || !String(error).includes('lock')) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
