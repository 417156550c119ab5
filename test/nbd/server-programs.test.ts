import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { memoryBackend } from './memory-backend.js'
import { nbdsh, pattern, run, serve } from './programs.js'

const mib = 1024 * 1024

describeWith(['nbdinfo'], 'the server and nbdinfo', () => {
  it('tells size, flags, block sizes and contexts', async () => {
    const { uri } = await serve(memoryBackend(10 * mib))
    const { exports } = JSON.parse(await run('nbdinfo', '--json', uri))
    expect(exports[0]).toMatchObject({
      'export-name': 'disk',
      'export-size': 10 * mib,
      contexts: ['base:allocation', 'test:written'],
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      can_df: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 * mib,
    })
  })

  it('lists exports, and gives the only one by the empty name', async () => {
    const { uri } = await serve(memoryBackend(mib, { readOnly: true }))
    const { exports } = JSON.parse(await run('nbdinfo', '--json', '--list', uri.replace('/disk?', '/?')))
    expect(exports).toHaveLength(1)
    expect(exports[0]).toMatchObject({ 'export-name': 'disk', is_read_only: true, can_trim: false })
    expect((await run('nbdinfo', '--size', uri.replace('/disk?', '/?'))).trim()).toBe(String(mib))
    await expect(run('nbdinfo', '--size', uri.replace('/disk?', '/other?'))).rejects.toThrow(/no export named 'other'/)
  })

  it('maps allocation and a context that is asked for by name', async () => {
    const backend = memoryBackend(mib)
    await backend.write([pattern(65_536)], 131_072)
    const { uri } = await serve(backend)
    const allocation = JSON.parse(await run('nbdinfo', '--map', '--json', uri))
    expect(allocation.map(({ offset, length, type }: Record<string, number>) => [offset, length, type])).toEqual([
      [0, 131_072, 3],
      [131_072, 65_536, 0],
      [196_608, mib - 196_608, 3],
    ])
    const every = JSON.parse(await run('nbdinfo', '--map=test:every:4', '--json', uri))
    expect(every).toHaveLength(8)
    expect(every[0]).toMatchObject({ offset: 0, length: 65_536, type: 1 })
  })
})

describeWith(['nbdcopy'], 'the server and nbdcopy', () => {
  it('takes an image and gives it back', async () => {
    const folder = temporaryFolder()
    const size = 40 * mib + 512
    const content = Buffer.concat([pattern(20 * mib), Buffer.alloc(15 * mib), pattern(5 * mib + 512, 7)])
    writeFileSync(join(folder, 'in'), content)
    const backend = memoryBackend(size)
    const { uri, server } = await serve(backend)
    await run('nbdcopy', '--flush', join(folder, 'in'), uri)
    expect(backend.content().equals(content)).toBe(true)
    expect(backend.counts.flushes).toBeGreaterThan(0)
    await run('nbdcopy', uri, join(folder, 'out'))
    expect(readFileSync(join(folder, 'out')).equals(content)).toBe(true)
    expect(server.peakBufferedBytes).toBeLessThanOrEqual(64 * mib)
    expect(server.bufferedBytes).toBe(0)
  })
})

describeWith(['nbdsh'], 'the server and libnbd', () => {
  it('does odd sizes, FUA, trim, zero and status', async () => {
    const backend = memoryBackend(4 * mib)
    const { uri } = await serve(backend)
    const script = `
h.pwrite(b'abc' * 333, 65530)
assert h.pread(1005, 65527) == b'\\0' * 3 + b'abc' * 333 + b'\\0' * 3
h.pwrite(b'x' * 7, 4 * 1024 * 1024 - 7, nbd.CMD_FLAG_FUA)
assert h.pread(7, 4 * 1024 * 1024 - 7) == b'x' * 7
h.zero(100, 65600)
assert h.pread(100, 65600) == b'\\0' * 100
h.zero(10, 0, nbd.CMD_FLAG_NO_HOLE)
h.trim(65536, 65536, nbd.CMD_FLAG_FUA)
assert h.pread(65536, 65536) == b'\\0' * 65536
h.flush()
print(h.get_structured_replies_negotiated())
`
    expect(await nbdsh(uri, script)).toContain('True')
    expect(backend.counts).toEqual({ flushes: 3, trims: 1, zeroes: 2, punches: 1 })
  })

  it('answers what must not be done with the right error', async () => {
    const { uri } = await serve(memoryBackend(mib, { minimum: 512 }))
    const { uri: readOnly } = await serve(memoryBackend(mib, { readOnly: true }))
    const script = (commands: string): string => `
import errno
h.set_strict_mode(0)
h.connect_uri("URI")
def fails(number, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == number, (error, number)
        return
    assert False, 'should fail'
${commands}
assert len(h.pread(512, 0)) == 512
print('done')`
    const writable = `
fails(errno.EINVAL, lambda: h.pread(512, 1024*1024))
fails(errno.ENOSPC, lambda: h.pwrite(b'1' * 512, 1024*1024 - 100))
fails(errno.EINVAL, lambda: h.pread(100, 0))
fails(errno.EINVAL, lambda: h.pwrite(b'1' * 512, 1))
fails(errno.EINVAL, lambda: h.trim(512, 2**62))
fails(errno.EINVAL, lambda: h.cache(512, 0))
fails(errno.ENOTSUP, lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))`
    expect(await nbdsh(undefined, script(writable).replace('URI', uri))).toContain('done')
    const denied = `
fails(errno.EPERM, lambda: h.pwrite(b'1' * 512, 0))
fails(errno.EPERM, lambda: h.trim(512, 0))
fails(errno.EPERM, lambda: h.zero(512, 0))`
    expect(await nbdsh(undefined, script(denied).replace('URI', readOnly))).toContain('done')
  })

  it('says an unforeseen error of the backend, and goes on', async () => {
    const backend = memoryBackend(mib)
    backend.before = (_, offset) => {
      if (offset === 512) throw Object.assign(new Error('the disk is full'), { code: 'ENOSPC' })
      if (offset === 1024) throw new Error('something else')
    }
    const { uri } = await serve(backend)
    const script = `
import errno
for offset, number in ((512, errno.ENOSPC), (1024, errno.EIO)):
    for call in (lambda: h.pread(8, offset), lambda: h.pwrite(b'12345678', offset)):
        try:
            call()
            assert False
        except nbd.Error as error:
            assert error.errnum == number
print(len(h.pread(8, 0)))`
    expect((await nbdsh(uri, script)).trim()).toBe('8')
  })

  it('shows every connection what another wrote, and selects contexts by name', async () => {
    const { uri } = await serve(memoryBackend(mib))
    const script = `
a = nbd.NBD(); a.add_meta_context('test:every:2'); a.add_meta_context('base:allocation'); a.add_meta_context('test:no')
a.connect_uri("${uri}")
b = nbd.NBD(); b.set_request_structured_replies(False); b.connect_uri("${uri}")
assert a.can_multi_conn() and not b.get_structured_replies_negotiated()
b.pwrite(b'z' * 512, 65536); b.flush()
assert a.pread(512, 65536) == b'z' * 512 and b.pread(512, 65536) == b'z' * 512
found = {}
def extents(context, offset, entries, error):
    found[context] = entries
a.block_status(262144, 0, extents)
assert found['base:allocation'] == [65536, 3, 65536, 0, 131072, 3], found
assert found['test:every:2'] == [65536, 1, 65536, 0, 65536, 1, 65536, 0], found
assert not a.can_meta_context('test:no')
a.block_status(262144, 0, extents, nbd.CMD_FLAG_REQ_ONE)
assert found['base:allocation'] == [65536, 3], found
a.shutdown(); b.shutdown()
print('done')`
    expect(await nbdsh(undefined, script)).toContain('done')
  })

  it('haggles: INFO before GO, listing contexts by wildcard, ABORT', async () => {
    const { uri } = await serve(memoryBackend(mib))
    const script = `
h.set_opt_mode(True); h.set_full_info(True)
h.connect_uri("${uri}")
names = []
h.opt_info()
assert h.get_size() == 1048576 and h.get_canonical_export_name() == 'disk'
h.add_meta_context('test:')
h.opt_list_meta_context(lambda name: names.append(name))
h.clear_meta_contexts(); h.opt_list_meta_context(lambda name: names.append(name))
h.opt_list(lambda name, description: names.append(name))
print(','.join(names))
h.opt_abort()
h = nbd.NBD(); h.set_handshake_flags(0); h.set_opt_mode(False)
h.connect_uri("${uri}")
print(h.get_size())`
    const [names, size] = (await nbdsh(undefined, script)).trim().split('\n')
    expect(names).toBe('test:written,base:allocation,test:written,disk')
    expect(size).toBe(String(mib))
  })
})

describeWith(['qemu-img', 'qemu-io'], 'the server and QEMU', () => {
  it('converts there and back, compares and maps', async () => {
    const folder = temporaryFolder()
    const raw = join(folder, 'raw')
    writeFileSync(raw, Buffer.concat([pattern(3 * mib), Buffer.alloc(5 * mib), pattern(mib, 3)]))
    const { uri } = await serve(memoryBackend(9 * mib))
    await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', raw, uri)
    expect(await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', raw, uri)).toContain('identical')
    const map = JSON.parse(await run('qemu-img', 'map', '-f', 'raw', '--output=json', uri))
    expect(map.map(({ start, length, zero }: Record<string, unknown>) => [start, length, zero])).toEqual([
      [0, 3 * mib, false],
      [3 * mib, 5 * mib, true],
      [8 * mib, mib, false],
    ])
    await run('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uri, join(folder, 'qcow2'))
    expect(await run('qemu-img', 'compare', raw, join(folder, 'qcow2'))).toContain('identical')
  })

  it('takes the requests of qemu-io, larger than one payload too', async () => {
    const { uri } = await serve(memoryBackend(80 * mib))
    const commands = ['write -P 0x5a 1k 70M', 'write -z 2M 1M', 'discard 4M 1M', 'flush', 'read -P 0x5a 1k 1023k',
      'read -P 0 2M 1M', 'write -f -P 0x11 64M 4k', 'read -P 0x11 64M 4k', 'read -P 0x5a 5M 59M']
    const output = await run('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri)
    expect(output).not.toMatch(/fail|error/i)
    expect(output.match(/ops;/g)).toHaveLength(8)
  })
})

describeWith(['fio'], 'the server and fio', () => {
  it('keeps what many random writes say, verified by their own checksums', async () => {
    const { uri, server } = await serve(memoryBackend(16 * mib))
    const folder = temporaryFolder()
    await run('fio', '--name=verify', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', '--bsrange=512-256k',
      '--bs_unaligned=0', '--size=16M', '--iodepth=32', '--verify=crc32c', '--do_verify=1', '--verify_fatal=1',
      '--randseed=7', `--output=${join(folder, 'report')}`, '--output-format=json', `--aux-path=${folder}`)
    const report = JSON.parse(readFileSync(join(folder, 'report'), 'utf8'))
    expect(report.jobs[0].error).toBe(0)
    expect(report.jobs[0].read.io_bytes).toBeGreaterThan(0)
    expect(server.bufferedBytes).toBe(0)
  })
})
