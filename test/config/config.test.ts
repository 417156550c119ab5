import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig, parseConfig } from '../../src/config/load-config.js'
import { RefpointError } from '../../src/model/errors.js'
import { temporaryFolder } from '../temporary.js'

const minimal = 'repository: /srv/backup\nmachines:\n  web01:\n    tracker: disk\n    stores: { root: ./disks/root }\n'

function refusal(text: string): RefpointError {
  try {
    parseConfig(text, '/etc/refpoint/refpoint.yaml')
  } catch (error) {
    if (error instanceof RefpointError) return error
    throw error
  }
  throw new Error('the configuration was accepted')
}

describe('a configuration', () => {
  test('of the least gets every default, and paths relative to its own folder', () => {
    expect(parseConfig(minimal, '/etc/refpoint/refpoint.yaml')).toEqual({
      file: '/etc/refpoint/refpoint.yaml',
      repository: { path: '/srv/backup' },
      otherRepositories: {},
      concurrentMachines: 1,
      workers: 'auto',
      notifiers: [],
      metricsFile: undefined,
      zone: undefined,
      verify: { schedule: undefined, budgetMs: undefined, withinMs: undefined },
      prune: { schedule: undefined },
      limits: {
        host: undefined,
        repository: undefined,
        device: undefined,
        readBytesPerSecond: undefined,
        writeBytesPerSecond: undefined,
        nice: undefined,
        ionice: undefined,
      },
      memoryBytes: 64 * 2 ** 20,
      machines: [
        {
          name: 'web01',
          tracker: 'disk',
          stores: { root: '/etc/refpoint/disks/root' },
          concurrentStores: 2,
          compressionLevel: 1,
          audit: { bytes: 256 * 2 ** 20, milliseconds: 5000 },
          files: {},
          schedule: undefined,
          hooks: { before: undefined, after: undefined, timeoutMs: 600_000 },
        },
      ],
    })
  })

  test('takes what is said, a machine over the defaults', () => {
    const config = parseConfig(
      `
repository: { path: ../backup }
defaults:
  compression: { level: 3, workers: 2 }
  concurrency: { machines: 4, stores: 3 }
  memory: 128 MiB
  audit: { bytes: 1G, seconds: 120 }
machines:
  nas:
    tracker: image
    stores: { vol1: /dev/vg/vol1, boot: { path: ./boot.img, format: raw } }
    allow: [torn]
    files: { domain.xml: /etc/libvirt/qemu/nas.xml, net/eth0: eth0 }
    compression: { level: 9 }
    audit: { bytes: 0 }
  web01: { tracker: disk, stores: { root: /disks/root }, concurrency: { stores: 1 } }
`,
      '/srv/refpoint/refpoint.yaml',
    )
    expect(config).toMatchObject({
      repository: { path: '/srv/backup' },
      concurrentMachines: 4,
      workers: 2,
      memoryBytes: 128 * 2 ** 20,
    })
    expect(config.machines).toEqual([
      {
        name: 'nas',
        tracker: 'image',
        stores: { vol1: { path: '/dev/vg/vol1' }, boot: { path: '/srv/refpoint/boot.img', format: 'raw' } },
        allowTorn: true,
        files: { 'domain.xml': '/etc/libvirt/qemu/nas.xml', 'net/eth0': '/srv/refpoint/eth0' },
        schedule: undefined,
        hooks: { before: undefined, after: undefined, timeoutMs: 600_000 },
        concurrentStores: 3,
        compressionLevel: 9,
        audit: { bytes: 0, milliseconds: 120_000 },
      },
      {
        name: 'web01',
        tracker: 'disk',
        stores: { root: '/disks/root' },
        files: {},
        schedule: undefined,
        hooks: { before: undefined, after: undefined, timeoutMs: 600_000 },
        concurrentStores: 1,
        compressionLevel: 3,
        audit: { bytes: 2 ** 30, milliseconds: 120_000 },
      },
    ])
  })

  test('of a running machine needs its QMP socket, and takes where old data goes', () => {
    const text = (more: string) => `repository: /b\nmachines:\n  web01: { tracker: qemu, qmp: web01.qmp${more} }\n`
    expect(parseConfig(text(''), '/etc/refpoint/refpoint.yaml').machines[0]).toMatchObject({
      tracker: 'qemu',
      qmp: '/etc/refpoint/web01.qmp',
      exclude: [],
      fleecing: { folder: undefined, limitBytes: undefined },
      granularityBytes: undefined,
    })
    const more = ', disks: { exclude: [swap] }, fleecing: { folder: /fast, limit: 2G }, granularity: 16KiB'
    expect(parseConfig(text(more), '/etc/refpoint/refpoint.yaml').machines[0]).toMatchObject({
      exclude: ['swap'],
      fleecing: { folder: '/fast', limitBytes: 2 * 2 ** 30 },
      granularityBytes: 16_384,
    })
    expect(refusal(text(', granularity: 12KiB')).message).toContain('expected a power of two from 4KiB to 16MiB')
    expect(refusal(text(', fleecing: { limit: 1MiB }')).message).toContain('expected at least 16MiB')
  })

  test('takes images of a machine that is shut down, each with what backs it', () => {
    const config = parseConfig(
      `repository: /b
machines:
  web01:
    tracker: qcow2
    stores:
      root: ./root.qcow2
      data: { path: data.img, backing: { path: /base/b.qcow2, format: qcow2, backing: { path: c, format: raw } } }
      swap: { path: swap.raw, format: raw }
`,
      '/srv/refpoint.yaml',
    )
    expect(config.machines[0]).toMatchObject({
      tracker: 'qcow2',
      stores: {
        root: { path: '/srv/root.qcow2', format: 'qcow2' },
        data: {
          path: '/srv/data.img',
          format: 'qcow2',
          backing: { path: '/base/b.qcow2', format: 'qcow2', backing: { path: '/srv/c', format: 'raw' } },
        },
        swap: { path: '/srv/swap.raw', format: 'raw' },
      },
    })
  })

  const machine = (body: string): string => `repository: /b\nmachines:\n  web01:\n    ${body}\n`
  test.each([
    [
      'a misspelt key',
      minimal.replace('repository', 'repositry'),
      ':1:1: repositry: unknown key "repositry"; did you mean "repository"?',
    ],
    [
      'a misspelt key of a machine',
      machine('tracker: disk\n    store: { root: /r }'),
      ':5:5: machines.web01.store: unknown key "store"; did you mean "stores"?',
    ],
    [
      'a misspelt key of a store',
      machine('tracker: image\n    stores: { r: { pth: /r } }'),
      ':5:20: machines.web01.stores.r.pth: unknown key "pth"; did you mean "path"?',
    ],
    [
      'a misspelt default',
      `${minimal}defaults: { compresion: { level: 1 } }`,
      ':6:13: defaults.compresion: unknown key "compresion"; did you mean "compression"?',
    ],
    [
      'a key that is like none',
      machine('tracker: disk\n    stores: { root: /r }\n    zzz: 1'),
      'unknown key "zzz"; known here: tracker, stores, files, compression, concurrency, audit',
    ],
    [
      'a key of another tracker',
      machine('tracker: disk\n    stores: { root: /r }\n    allow: [torn]'),
      'machines.web01.allow: unknown key "allow"',
    ],
    [
      'a key of all machines at one',
      machine('tracker: disk\n    stores: { root: /r }\n    memory: 1G'),
      'belongs to defaults.memory',
    ],
    [
      'a misspelt tracker',
      machine('tracker: dsk\n    stores: { root: /r }'),
      ':4:14: machines.web01.tracker: expected disk, image, qemu or qcow2, found "dsk"; did you mean "disk"?',
    ],
    ['no tracker', machine('stores: { root: /r }'), 'machines.web01.tracker: is missing: expected disk, image, qemu or qcow2'],
    [
      'no repository',
      'machines: { a: { tracker: disk, stores: { r: /r } } }',
      'repository: is missing: expected a path',
    ],
    ['no machines', 'repository: /b', 'machines: is missing: expected machines by name'],
    [
      'an empty list of machines',
      'repository: /b\nmachines:\n',
      ':2:10: machines: expected machines by name, found nothing',
    ],
    ['machines without one', 'repository: /b\nmachines: {}\n', 'machines: expected at least one machine'],
    [
      'a machine without stores',
      machine('tracker: disk'),
      'machines.web01.stores: is missing: expected stores by name',
    ],
    [
      'a bad machine name',
      minimal.replace('web01', 'Web01'),
      ':3:3: machines.Web01: the name is wrong: expected a name of at most 64 small letters',
    ],
    ['a bad store name', minimal.replace('root:', '../x:'), 'machines.web01.stores.../x: the name is wrong'],
    [
      'a bad size',
      `${minimal}defaults: { memory: 12 parsecs }`,
      ':6:21: defaults.memory: expected bytes, or a size such as 64KiB, 256MiB',
    ],
    ['too little memory', `${minimal}defaults: { memory: 1K }`, 'expected at least 8MiB and at most 64GiB, found "1K"'],
    [
      'a time without unit',
      `${minimal}defaults: { audit: { time: 5 } }`,
      'defaults.audit.time: expected a time with its unit',
    ],
    ['seconds with a unit', `${minimal}defaults: { audit: { seconds: 5s } }`, 'expected seconds, such as 5 or 0.5, found "5s"'],
    [
      'an audit of two lengths',
      `${minimal}defaults: { audit: { seconds: 5, time: 5s } }`,
      'defaults.audit: expected either seconds or time',
    ],
    [
      'a bad level',
      `${minimal}defaults: { compression: { level: 99 } }`,
      'defaults.compression.level: expected a whole number from 1 to 19, found 99',
    ],
    [
      'bad workers',
      `${minimal}defaults: { compression: { workers: many } }`,
      'expected "auto" or a whole number from 1 to 256, found "many"',
    ],
    [
      'a thing that can not be allowed',
      machine('tracker: image\n    stores: { r: /r }\n    allow: [tron]'),
      'machines.web01.allow.0: expected "torn", found "tron"',
    ],
    [
      'a file that leads out',
      machine('tracker: disk\n    stores: { r: /r }\n    files: { ../x: /y }'),
      'machines.web01.files.../x: the name is wrong: expected a relative file name',
    ],
    ['a key said twice', `${minimal}repository: /other\n`, ':6:1: Map keys must be unique'],
    ['broken YAML', 'repository: [/b\n', ':2:1: '],
    ['nothing at all', '', ':1:1: expected keys with values, found nothing'],
    ['a list', '- a\n', ':1:1: expected keys with values, found a list'],
  ])('with %s is refused where it stands', (_what, text, message) => {
    const error = refusal(text)
    expect(error.code).toBe('config')
    expect(error.message).toContain(message)
    expect(error.message).toMatch(/^\/etc\/refpoint\/refpoint\.yaml:/)
  })

  test('with several faults tells all of them, in the order of the file', () => {
    const error = refusal('repositry: /b\nmachines:\n  Web: { tracker: disk, stores: {} }\n')
    expect(error.message.split('\n').map((line) => line.replace(/^[^ ]*: ([^ ]*): .*/, '$1'))).toEqual([
      'repositry', 'machines.Web',
    ])
    expect(error.fields['faults']).toHaveLength(2)
  })

  test('that expands aliases without end is refused', () => {
    const bomb = ['a: &a [x,x,x,x,x,x,x,x,x,x]']
    for (const [here, before] of ['ba', 'cb', 'dc', 'ed', 'fe'].map((pair) => [...pair])) {
      bomb.push(`${here}: &${here} [${Array.from({ length: 10 }, () => `*${before}`).join(',')}]`)
    }
    expect(refusal(bomb.join('\n')).message).toContain('alias')
  })
})

describe('finding the configuration', () => {
  const write = (...parts: string[]): string => {
    const file = join(...parts)
    mkdirSync(join(file, '..'), { recursive: true })
    writeFileSync(file, minimal)
    return file
  }

  test('--config, then ./refpoint.yaml, then $REFPOINT_CONFIG', async () => {
    const cwd = temporaryFolder()
    const other = write(cwd, 'elsewhere', 'named.yaml')
    const byVariable = write(cwd, 'elsewhere', 'variable.yaml')
    const env = { REFPOINT_CONFIG: byVariable }
    expect((await loadConfig({ cwd, env })).file).toBe(byVariable)
    const here = write(cwd, 'refpoint.yaml')
    expect((await loadConfig({ cwd, env })).file).toBe(here)
    expect((await loadConfig({ path: 'elsewhere/named.yaml', cwd, env })).file).toBe(other)
  })

  test('one that is named and not there is an error, whatever else there is', async () => {
    const cwd = temporaryFolder()
    await expect(loadConfig({ cwd, env: { REFPOINT_CONFIG: '/nowhere' } })).rejects.toMatchObject({
      code: 'config', message: 'the configuration /nowhere, named by $REFPOINT_CONFIG, is not there',
    })
    write(cwd, 'refpoint.yaml')
    await expect(loadConfig({ path: 'gone.yaml', cwd, env: {} })).rejects.toMatchObject({ code: 'config' })
  })

  test('none at all tells where it was looked for', async () => {
    const cwd = temporaryFolder()
    await expect(loadConfig({ cwd, env: {} })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringContaining(join(cwd,
      'refpoint.yaml')),
      hint: expect.stringContaining('--config'),
    })
  })

  test('a folder in its place is told plainly', async () => {
    const cwd = temporaryFolder()
    mkdirSync(join(cwd, 'refpoint.yaml'))
    await expect(loadConfig({ cwd, env: {} })).rejects.toMatchObject({
      code: 'config', message: expect.stringContaining("can't read the configuration"),
    })
  })
})
