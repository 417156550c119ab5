/** One option of QEMU's command line, and its value where it takes one; a bare word is an image, called `image`. */
export interface QemuOption {
  readonly name: string
  readonly value: string | undefined
}

/** Options that take no value; and every other that QEMU, or Proxmox's QEMU, knows. What is in neither is told. */
const bare = words(`h help version snapshot no-fd-bootchk full-screen no-quit nographic portrait win2k-hack usb no-acpi
  no-hpet singlestep one-insn-per-tb S s enable-kvm enable-fips nodefaults no-user-config nodefconfig no-reboot
  no-shutdown daemonize mem-prealloc preconfig xen-attach xen-domid-restrict enable-sync-profile only-migratable
  async-teardown old-param semihosting no-kvm`)
const valued = words(`machine M cpu accel smp numa add-fd set global boot m mem-path k audio audio-help audiodev
  soundhw device name uuid fda fdb hda hdb hdc hdd cdrom blockdev drive mtdblock sd fsdev virtfs iscsi usbdevice display
  spice rotate vga g vnc acpitable smbios netdev nic net chardev tpmdev bios pflash kernel shim append initrd dtb compat
  fw_cfg serial parallel monitor qmp qmp-pretty mon debugcon pidfile overcommit gdb d D dfilter seed L xen-domid action
  loadvm option-rom rtc icount watchdog watchdog-action echr incoming chroot runas run-with sandbox readconfig
  writeconfig trace plugin msg dump-vmstate object semihosting-config prom-env tb-size id qtest qtest-log bt virtioserial igvm-cfg
  jitdump perfmap`)

function words(text: string): ReadonlySet<string> {
  return new Set(text.split(/\s+/))
}

/**
 * Takes the arguments apart, the program's name left out.
 * @throws Error naming an option that is not known: whether the next argument is its value is not known either.
 */
export function parseCommandLine(args: readonly string[]): QemuOption[] {
  const options: QemuOption[] = []
  for (let at = 0; at < args.length; at += 1) {
    const argument = args[at] ?? ''
    if (!argument.startsWith('-')) {
      options.push({ name: 'image', value: argument })
      continue
    }
    const name = argument.replace(/^--?/, '')
    if (bare.has(name)) {
      options.push({ name, value: undefined })
      continue
    }
    if (!valued.has(name)) throw new Error(`the option -${name} is not known`)
    const value = args[(at += 1)]
    if (value === undefined) throw new Error(`the option -${name} has no value`)
    options.push({ name, value })
  }
  return options
}
