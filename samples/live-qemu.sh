#!/bin/bash
# A machine that runs under QEMU: three backups while it runs, then the machine is killed and starts again from the
# second of them. Needs QEMU (qemu-system-x86_64, qemu-img) and no root:   bash samples/live-qemu.sh [new folder]
# Everything happens in one folder, which stays for you to look into. Commands that it shows can be copied.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
machines=() # process IDs of the machines that were started; none is left running
finish() {
  local status=$? pid
  trap - EXIT INT TERM
  for pid in "${machines[@]}"; do
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  [ "$status" = 0 ] || echo "This ended early, status $status. Its folder is $PWD" >&2
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

refpoint() { node "$project/dist/main.js" "$@"; }
step() { printf '\n== %s\n' "$*"; }
run() { # shows a command, then runs it
  printf '$ %s\n' "$*"
  "$@"
}
until_it_says() { # waits until a machine's serial log has a line; stops if the machine ended
  local log=$1 line=$2 pid=$3
  until grep -q "$line" "$log" 2> /dev/null; do
    kill -0 "$pid" 2> /dev/null || { echo "the machine ended; see $PWD" >&2; exit 1; }
    sleep 0.05
  done
}
counter() { sed -n 's/^count //p' serial.log | tail -n 1; } # the newest number that the guest told
[ -e "$project/dist/main.js" ] || { echo "refpoint is not built yet: run 'npm ci' first" >&2; exit 1; }
for program in qemu-system-x86_64 qemu-img; do
  command -v "$program" > /dev/null || { echo "$program is needed, and is not here" >&2; exit 1; }
done

folder=${1:-$(mktemp -d "${TMPDIR:-/tmp}/refpoint-live.XXXXXX")}
mkdir -p "$folder"
cd "$folder"
folder=$PWD
[ -z "$(ls -A)" ] || { echo "$folder is not empty: name a new folder" >&2; exit 2; }

step "A disk with a tiny guest: one boot sector that counts up on the disk (samples/tiny-guest.S)"
truncate -s 64M boot.raw
base64 -d << 'END' | dd of=boot.raw conv=notrunc status=none
McCO2I7QvAB8+/y0QugnAL55fOgrAP8GAIC0Q+gYAL6IfOgcALkEAIsebAT0Ox5sBHT54vPr375pfDDAsoDNE8PoGQChAIC/lHy7
CgAx0vfzgMIwT4gVhcB18on+rITAdAa6+APu6/XDEAABAACAAAABAAAAAAAAAGJvb3RlZCwgZm91bmQgAGNvdW50IAAwMDAwMAo=
END
printf '\125\252' | dd of=boot.raw bs=1 seek=510 conv=notrunc status=none # what makes it a boot sector
run qemu-img convert -O qcow2 boot.raw root.qcow2 # dirty bitmaps of qcow2 images outlive a shutdown
rm boot.raw

step "The machine. All that refpoint needs of it is the QMP socket"
command=(qemu-system-x86_64 -name tiny -accel tcg -m 16 -nodefaults -no-user-config -display none
  -drive "file=$folder/root.qcow2,format=qcow2,if=none,id=root" -device virtio-blk-pci,drive=root
  -serial "file:$folder/serial.log"
  -qmp "unix:$folder/tiny.qmp,server=on,wait=off")
printf '$ %s &\n' "${command[*]}"
"${command[@]}" &
machine=$!
machines+=("$machine")
until_it_says serial.log '^count ' "$machine"
echo "It runs, and counts: $(counter)"

step "What to back up, and to where"
cat > refpoint.yaml << 'YAML'
repository: ./repository
machines:
  tiny:
    tracker: qemu
    qmp: ./tiny.qmp
YAML
run cat refpoint.yaml
run refpoint init

before=() after=()
for point in 1 2 3; do
  step "Point #$point, while the guest goes on"
  before[point]=$(counter)
  run refpoint backup tiny
  after[point]=$(counter)
  echo "The guest counted from ${before[point]} to ${after[point]} meanwhile"
  until_it_says serial.log "^count $((after[point] + 5))\$" "$machine"
done
run refpoint points tiny

step "The bad day: the machine is killed, and its disk is lost"
run kill -9 "$machine"
wait "$machine" 2> /dev/null || true
run rm root.qcow2

step "Point #2, with the script that starts the machine from it"
run refpoint restore tiny --at 2 --to restored
run cat restored/start.sh

step "It starts"
echo '$ restored/start.sh &'
restored/start.sh &
machine=$!
machines+=("$machine")
until_it_says restored/run/serial.log '^count ' "$machine"
head -n 3 restored/run/serial.log
found=$(sed -n 's/^booted, found //p' restored/run/serial.log)
# The guest tells a number after it wrote it, so the disk may have been one ahead of what was told.
if [ "$found" -ge "${before[2]}" ] && [ "$found" -le $((after[2] + 1)) ]; then
  echo "It goes on from $found: where the guest was when point #2 was taken (${before[2]} to ${after[2]})"
else
  echo "It goes on from $found, and NOT from where it was at point #2 (${before[2]} to ${after[2]})" >&2
  exit 1
fi
kill -9 "$machine"
wait "$machine" 2> /dev/null || true
machines=()
cat << END

Done: three points of a running machine, and the machine back from the second.
All of it is in $folder
  refpoint.yaml  repository/  restored/

What to type next:
  cd $folder
  alias refpoint='node $project/dist/main.js'
  refpoint show tiny 2
  refpoint restore tiny --at latest --to newest && newest/start.sh
  refpoint verify
  rm -r $folder   # when you have seen enough
For machines of your own: "Back up a machine that QEMU runs" in README.md.
END
