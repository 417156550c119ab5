#!/bin/bash
# Makes a small Linux guest for tests, kernel and initrd, in the folder that is given: Debian's cloud kernel, busybox and
# the QEMU guest agent. Does nothing where it is there already. Needs apt-get, dpkg, and what qemu-ga is linked with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
[ ! -e "$folder/initrd.gz" ] || exit 0
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

unpack() { # the newest package of that name, unpacked into a folder of the same name
  apt-get -qq -o APT::Sandbox::User=root download "$1" > /dev/null
  mkdir -p "$2"
  dpkg -x "$1"_*.deb "$2"
}
unpack "$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')" kernel
busybox=$(command -v busybox || true)
if [ -z "$busybox" ] || ldd "$busybox" > /dev/null 2>&1; then # it must be static
  unpack busybox-static busybox
  busybox=$(find busybox -name busybox -type f)
fi
agent=$(command -v qemu-ga || true)
if [ -z "$agent" ]; then
  unpack qemu-guest-agent agent
  agent=$(find agent -name qemu-ga -type f)
fi

mkdir -p root/{bin,dev,proc,sys,mnt,run,tmp,modules}
cp "$busybox" root/bin/busybox
cp "$agent" root/bin/qemu-ga
cp "$here/init" root/init
chmod +x root/init root/bin/*
for library in $(ldd "$agent" | grep -o '/[^ ]*'); do # where its loader looks for them
  mkdir -p "root$(dirname "$library")"
  cp -L "$library" "root$library"
done
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console virtio_blk; do
  found=$(find kernel -name "$module.ko*" | head -n 1)
  case $found in
    *.ko) cp "$found" root/modules/ ;;
    *.ko.xz) xz -dc "$found" > "root/modules/$module.ko" ;;
    *.ko.zst) zstd -qdc "$found" > "root/modules/$module.ko" ;;
  esac # one that is not there is built into the kernel
done
(cd root && find . | "$busybox" cpio -o -H newc 2> /dev/null) | gzip -9 > "$work/initrd.gz"
cp kernel/boot/vmlinuz-* "$folder/kernel"
mv initrd.gz "$folder/initrd.gz" # last: it says that all is there
