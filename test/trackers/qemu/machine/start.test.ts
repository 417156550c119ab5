import { describe, expect, test } from 'vitest'
import { StartRefused } from '../../../../src/trackers/qemu/machine/start/rewriting.js'
import { diskOf, machineOf, startOf } from './document.js'

function refusals(run: () => unknown): readonly string[] {
  try {
    run()
  } catch (error) {
    if (error instanceof StartRefused) return error.reasons
    throw error
  }
  throw new Error('it was not refused')
}

const root = diskOf('root', '/vm/a.qcow2', {
  drive: 'virtio0',
  device: '/machine/peripheral-anon/device[0]/virtio-backend',
})

describe('disks of -drive', () => {
  test('the image is replaced; how the guest sees it and how it is cached stays', () => {
    const args = [
      '-drive',
      'file=/vm/a.qcow2,format=qcow2,if=virtio,cache=none,aio=native,serial=x,,y,l2-cache-size=1M',
    ]
    const { lines, changes } = startOf(machineOf(args, { disks: [root] }), { root: 'raw' })
    expect(lines).toEqual(['-drive file=$folder/root.raw,if=virtio,cache=none,aio=native,serial=x,,y,format=raw'])
    expect(changes).toEqual([
      'disk root is root.raw (raw), in place of /vm/a.qcow2',
      'disk root without what was said of its image: l2-cache-size',
    ])
  })

  test('what is left out may be a secret: its value is not told', () => {
    const args = ['-drive', 'file=rbd:pool/a,if=virtio,file.password-secret=TOPSECRET,encrypt.key-secret=TOPSECRET']
    const disk = { ...root, images: [{ format: 'raw', filename: 'json:{}', path: null }] }
    const { lines, changes } = startOf(machineOf([...args, '-drive', 'file=/b,if=virtio'], { disks: [disk] }), {
      root: 'raw',
    })
    expect(`${changes.join()} ${lines.join()}`).not.toContain('TOPSECRET')
  })

  test.each([
    [['-hda', 'a.qcow2'], 'index=0,media=disk'],
    [['a.qcow2'], 'index=0,media=disk'],
    [['--hdd', 'a.qcow2'], 'index=3,media=disk'],
    [['-drive', 'if=ide,file=a.qcow2,readonly=off'], 'if=ide,readonly=off'],
  ])('%j is found by its file, from the folder that QEMU ran in', (args, rest) => {
    const { lines } = startOf(machineOf(args, { disks: [diskOf('root', '/srv/a.qcow2')] }), { root: 'qcow2' })
    expect(lines).toEqual([`-drive file=$folder/root.qcow2,${rest},format=qcow2`])
  })

  test('a disk that got a snapshot since the start is found by its drive', () => {
    const args = ['-drive', 'file=/vm/base.qcow2,id=d0,if=none', '-device', 'virtio-blk-pci,drive=d0']
    const images = ['/vm/snap.qcow2', '/vm/base.qcow2'].map((path) => ({ format: 'qcow2', filename: path, path }))
    const { lines } = startOf(machineOf(args, { disks: [{ ...root, drive: 'd0', images }] }), { root: 'qcow2' })
    expect(lines).toEqual([
      '-drive file=$folder/root.qcow2,id=d0,if=none,format=qcow2',
      '-device virtio-blk-pci,drive=d0',
    ])
  })

  test('a disk that is not in the point goes with its device, and its file is named nowhere but in a comment', () => {
    const args = [
      '-drive',
      'file=/vm/scratch.raw,id=s,if=none',
      '-device',
      'scsi-hd,drive=s,id=sd',
      '-drive',
      'file=/vm/a.qcow2,if=virtio',
    ]
    const scratch = diskOf(null, '/vm/scratch.raw', { drive: 's' })
    const { lines, changes } = startOf(machineOf(args, { disks: [root, scratch] }), { root: 'raw' })
    expect(lines).toEqual(['-drive file=$folder/root.raw,if=virtio,format=raw'])
    expect(changes).toContain('without the disk /vm/scratch.raw (drive s), which is not in this point')
  })

  test('a disk that was unplugged since the start is gone too', () => {
    const args = ['-drive', 'file=/vm/old.raw,id=s,if=none', '-device', 'virtio-blk-pci,drive=s,id=sd']
    expect(startOf(machineOf(args)).lines).toEqual([])
  })

  test('a disc is taken out, and its drive stays', () => {
    const { lines, changes } = startOf(machineOf(['-cdrom', '/iso/x.iso', '-drive', 'media=cdrom,if=ide,index=3']))
    expect(lines).toEqual(['-drive index=2,media=cdrom', '-drive media=cdrom,if=ide,index=3'])
    expect(changes).toEqual(['no medium in the drive that had /iso/x.iso'])
  })

  test('a read-only disk stays, and is told', () => {
    const args = ['-drive', 'file=/vm/tools.raw,if=virtio,readonly=on,format=raw']
    const { lines, needs } = startOf(machineOf(args, { disks: [diskOf(null, '/vm/tools.raw', { readOnly: true })] }))
    expect(lines).toEqual([`-drive ${args[1]}`])
    expect(needs).toEqual(['/vm/tools.raw, which is only read'])
  })

  test('a disk that was plugged in later is told to be missing', () => {
    const { changes } = startOf(machineOf([]), { extra: 'raw' })
    expect(changes).toEqual([
      'disk extra (extra.raw, raw) is NOT in it: it was plugged in after the start; add it yourself',
    ])
  })
})

describe('disks of -blockdev', () => {
  const device = ['-device', 'virtio-blk-pci,drive=fmt,id=da']
  const disk = diskOf('root', '/vm/a.qcow2', { device: '/machine/peripheral/da/virtio-backend', node: 'fmt' })

  test('of keys: the node keeps its name and how it is used; what was below it goes', () => {
    const args = [
      ...['-blockdev', 'driver=file,filename=/vm/base.qcow2,node-name=base-file,read-only=on'],
      ...['-blockdev', 'driver=qcow2,file=base-file,node-name=base,read-only=on'],
      ...['-blockdev', 'file,filename=/vm/a.qcow2,node-name=storage,cache.direct=on,aio=native,discard=unmap'],
      ...['-blockdev', 'driver=qcow2,file=storage,node-name=fmt,backing=base,discard=unmap,cache.direct=on'],
      ...device,
    ]
    const { lines } = startOf(machineOf(args, { disks: [disk] }), { root: 'raw' })
    expect(lines).toEqual([
      '-blockdev driver=raw,node-name=fmt,discard=unmap,cache.direct=on,read-only=off,file.driver=file,' +
        'file.filename=$folder/root.raw,file.aio=native,file.cache.direct=on,file.discard=unmap',
      '-device virtio-blk-pci,drive=fmt,id=da',
    ])
  })

  test('of JSON, as libvirt has them', () => {
    const args = [
      '-blockdev',
      '{"driver":"file","filename":"/vm/a.qcow2","node-name":"libvirt-1-storage","auto-read-only":true,"discard":"unmap"}',
      '-blockdev',
      '{"node-name":"libvirt-1-format","read-only":false,"driver":"qcow2","file":"libvirt-1-storage","backing":null}',
      '-device',
      '{"driver":"virtio-blk-pci","bus":"pci.4","addr":"0x0","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1}',
    ]
    const told = { ...disk, device: '/machine/peripheral/virtio-disk0/virtio-backend', node: 'libvirt-1-format' }
    const { lines } = startOf(machineOf(args, { disks: [told] }), { root: 'qcow2' })
    expect(lines).toEqual([
      '-blockdev {"driver":"qcow2","node-name":"libvirt-1-format","read-only":false,' +
        '"file":{"driver":"file","filename":"$folder/root.qcow2","discard":"unmap"}}',
      `-device ${args[5]}`,
    ])
  })

  test('filters above the image stay', () => {
    const args = [
      '-blockdev',
      '{"driver":"throttle","node-name":"drive-scsi0","throttle-group":"g","file":{"driver":"raw","node-name":"f","file":{"driver":"host_device","filename":"/dev/vg/a","aio":"io_uring"}}}',
      ...['-device', 'scsi-hd,drive=drive-scsi0,id=scsi0'],
    ]
    const { lines } = startOf(machineOf(args, { disks: [{ ...disk, device: 'scsi0', format: 'raw' }] }), {
      root: 'raw',
    })
    expect(lines[0]).toBe(
      '-blockdev {"driver":"throttle","node-name":"drive-scsi0","throttle-group":"g","file":' +
        '{"driver":"raw","node-name":"f","read-only":false,"file":{"driver":"file","filename":"$folder/root.raw","aio":"io_uring"}}}',
    )
  })

  test('a disc and what nothing uses are not opened', () => {
    const args = [
      ...[
        '-blockdev',
        'driver=file,filename=/iso/x.iso,node-name=cd,read-only=on',
        '-device',
        'ide-cd,drive=cd,id=cd0',
      ],
      ...['-blockdev', 'driver=file,filename=/vm/spare.raw,node-name=spare'],
    ]
    const { lines, changes } = startOf(machineOf(args))
    expect(lines).toEqual(['-device ide-cd,id=cd0'])
    expect(changes).toEqual(['no medium in the drive that had /iso/x.iso (node cd)'])
  })

  test("a number that JSON can't keep stops it", () => {
    const args = ['-blockdev', '{"driver":"null-co","node-name":"n","size":9007199254740993}']
    expect(refusals(() => startOf(machineOf(args)))).toEqual(['a number is larger than can be kept exactly'])
  })
})

describe('the firmware', () => {
  const code = ['-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd']
  const vars = ['-drive', 'if=pflash,format=raw,unit=1,file=/vm/vars.fd']
  const image = { format: 'raw', filename: '/vm/vars.fd', path: '/vm/vars.fd' }
  const chip = { slot: 'pflash1', node: '#b', drive: 'pflash1', format: 'raw', readOnly: false, image, problem: null }

  test('its variables are the copy, and it is the host’s own', () => {
    const firmware = [{ ...chip, file: 'qemu/pflash1.fd' }]
    const { lines, needs } = startOf(machineOf([...code, ...vars], { firmware }))
    expect(lines).toEqual([
      `-drive ${code[1]}`,
      '-drive file=$folder/config/qemu/pflash1.fd,if=pflash,unit=1,format=raw',
    ])
    expect(needs).toEqual(['/usr/share/OVMF/OVMF_CODE.fd, which is only read'])
  })

  test('of a node', () => {
    const args = [
      ...['-blockdev', '{"driver":"file","filename":"/vm/vars.fd","node-name":"vars-storage"}'],
      ...['-blockdev', '{"node-name":"vars","driver":"raw","file":"vars-storage"}', '-machine', 'q35,pflash1=vars'],
    ]
    const { lines } = startOf(
      machineOf(args, { firmware: [{ ...chip, node: 'vars', drive: null, file: 'qemu/pflash1.fd' }] }),
    )
    expect(lines).toEqual([
      '-blockdev {"driver":"raw","node-name":"vars","read-only":false,"file":{"driver":"file","filename":"$folder/config/qemu/pflash1.fd"}}',
      '-machine q35,pflash1=vars',
    ])
  })

  test('without a copy of its variables there is no start', () => {
    const firmware = [{ ...chip, file: null, problem: 'it is gone' }]
    expect(refusals(() => startOf(machineOf(vars, { firmware })))).toEqual([
      "the firmware's variables (/vm/vars.fd) are not in the point: it is gone",
    ])
  })
})

describe('what belongs to the host', () => {
  const cases: readonly (readonly [readonly string[], readonly string[]])[] = [
    [['-qmp', 'unix:/run/web01.qmp,server=on,wait=off'], ['-qmp unix:$run/web01.qmp,server=on,wait=off']],
    [['-monitor', 'unix:/run/m,server,nowait'], ['-monitor unix:$run/m,server,nowait']],
    [['-serial', 'file:/var/log/a,b.log'], ['-serial file:$run/a,b.log']],
    [
      ['-serial', 'mon:stdio', '-serial', 'mon:unix:/s,server=on'],
      ['-serial mon:stdio', '-serial mon:unix:$run/s,server=on'],
    ],
    [['-qmp', 'unix:/run/client'], ['-qmp null']],
    [
      ['-chardev', 'socket,id=qmp,path=/var/run/100.qmp,server=on,wait=off', '-mon', 'chardev=qmp,mode=control'],
      ['-chardev socket,id=qmp,path=$run/100.qmp,server=on,wait=off', '-mon chardev=qmp,mode=control'],
    ],
    [
      ['-chardev', 'socket,id=charmonitor,fd=28,server=on,wait=off'],
      ['-chardev socket,id=charmonitor,server=on,wait=off,path=$run/charmonitor.sock'],
    ],
    [['-chardev', 'socket,id=e,path=/var/run/qmeventd.sock,reconnect=5'], ['-chardev null,id=e']],
    [
      ['-chardev', 'file,id=l,path=/a/console.log', '-chardev', 'file,id=m,path=/b/console.log'],
      ['-chardev file,id=l,path=$run/console.log', '-chardev file,id=m,path=$run/console.log.2'],
    ],
    [['-chardev', 'pty,id=charserial0'], ['-chardev pty,id=charserial0']],
    [['-chardev', 'serial,id=s,path=/dev/ttyS0'], ['-chardev null,id=s']],
    [['-vnc', 'unix:/run/100.vnc,password=on'], ['-vnc unix:$run/100.vnc,password=on']],
    [
      ['-spice', 'unix=on,addr=/run/s.sock,disable-ticketing=on'],
      ['-spice unix=on,addr=$run/s.sock,disable-ticketing=on'],
    ],
    [
      ['-pidfile', '/run/100.pid', '-daemonize'],
      ['-pidfile $run/qemu.pid', '-daemonize'],
    ],
    [['-D', '/var/log/q.log', '-S', '-incoming', 'defer', '-loadvm', 'x', '-add-fd', 'set=1,fd=3'], ['-D $run/q.log']],
    [['-netdev', 'tap,id=n0,ifname=tap0,script=no'], ['-netdev hubport,id=n0,hubid=1001']],
    [
      ['-netdev', '{"type":"tap","fds":"34:36","vhost":true,"id":"hostnet0"}'],
      ['-netdev {"type":"hubport","id":"hostnet0","hubid":1001}'],
    ],
    [['-netdev', 'user,id=n0'], ['-netdev user,id=n0']],
    [
      ['-nic', 'bridge,br=br0,model=virtio,mac=52:54:00:00:00:01'],
      ['-nic hubport,hubid=1001,model=virtio,mac=52:54:00:00:00:01'],
    ],
    [['-net', 'nic,model=e1000', '-net', 'tap,ifname=t'], ['-net nic,model=e1000']],
    [
      [
        '-device',
        'vfio-pci,host=01:00.0,id=gpu',
        '-device',
        '{"driver":"usb-host","hostbus":1}',
        '-device',
        'virtio-rng-pci',
      ],
      ['-device virtio-rng-pci'],
    ],
    [
      ['-object', 'memory-backend-file,id=ram,size=1G,mem-path=/dev/hugepages,share=on'],
      ['-object memory-backend-ram,id=ram,size=1G'],
    ],
    [
      ['-object', '{"qom-type":"memory-backend-file","id":"ram","size":1024,"mem-path":"/dev/shm/x"}'],
      ['-object {"qom-type":"memory-backend-ram","id":"ram","size":1024}'],
    ],
    [['-object', 'secret,id=luks,data=abc'], []],
    [
      ['-object', 'secret,id=vncpw,data=abc', '-vnc', ':1,password-secret=vncpw'],
      ['-object secret,id=vncpw,data=abc', '-vnc :1,password-secret=vncpw'],
    ],
    [
      ['-object', 'iothread,id=iothread0', '-object', 'rng-random,id=r,filename=/dev/urandom'],
      ['-object iothread,id=iothread0', '-object rng-random,id=r,filename=/dev/urandom'],
    ],
    [
      ['-usb', '-usbdevice', 'tablet', '-usbdevice', 'host:1.2'],
      ['-usb', '-usbdevice tablet'],
    ],
  ]
  test.each(cases)('%j', (args, lines) => {
    expect(startOf(machineOf(args)).lines).toEqual(lines)
  })

  test('files that are used as they are, and ports, are told', () => {
    const args = [
      '-kernel',
      '/boot/vmlinuz',
      '-append',
      'quiet',
      '-bios',
      'x.bin',
      '-fw_cfg',
      'name=opt/a,file=/etc/a',
      '-vnc',
      ':1',
    ]
    const { lines, needs } = startOf(machineOf([...args, '-netdev', 'user,id=n,hostfwd=tcp::2222-:22']))
    expect(lines).toHaveLength(6)
    expect(needs).toEqual([
      '/boot/vmlinuz (-kernel)',
      'x.bin (-bios)',
      '/etc/a (-fw_cfg)',
      'VNC display :1 free to listen on (-vnc)',
      'the port of tcp::2222-:22 free to listen on (forwarded to the machine)',
    ])
  })
})

describe('what would have to be guessed', () => {
  test.each([
    [['-frobnicate', 'x'], 'the option -frobnicate is not known'],
    [['-drive'], 'the option -drive has no value'],
    [['-readconfig', '/etc/x.cfg'], 'what /etc/x.cfg (-readconfig) sets up is not known'],
    [['-set', 'drive.d0.file=/x'], '-set drive.d0.file changes what is rewritten'],
    [['-chardev', '{"id":"a"}'], 'a -chardev in JSON is not known'],
    [['-append', 'a\ufffdb'], 'the command line has bytes that are no text'],
  ])('%j', (args, reason) => {
    expect(refusals(() => startOf(machineOf(args)))).toEqual([reason])
  })

  test('options from a file: buses are fine, disks are not', () => {
    const process = (sections: string[] | null) => {
      const document = machineOf(['-readconfig', '/usr/share/pve-q35.cfg'])
      if (document.process === null) throw new Error('no process')
      return {
        ...document,
        process: { ...document.process, optionFiles: [{ path: '/usr/share/pve-q35.cfg', sections }] },
      }
    }
    expect(startOf(process(['device'])).needs).toEqual(['/usr/share/pve-q35.cfg (-readconfig)'])
    expect(refusals(() => startOf(process(['device', 'drive'])))).toEqual([
      '/usr/share/pve-q35.cfg (-readconfig) sets up drive',
    ])
  })

  test('a machine whose process could not be seen', () => {
    const document = machineOf([], { process: null, processProblem: 'EACCES' })
    expect(refusals(() => startOf(document))).toEqual(["the machine's command line is not in the point: EACCES"])
  })
})
