#!/bin/bash
# nbdcopy through our server and through `nbdkit file`, on the same image in the same run, warm cache, median of RUNS.
#   test/nbd/bench.sh [IMAGE]     default: makes one of 2.5 GB of random bytes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
runs=${RUNS:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=${1:-$work/image}
[ -e "$image" ] || dd if=/dev/urandom of="$image" bs=1M count=2400 status=none
cat "$image" > /dev/null
size=$(stat -c %s "$image")
truncate -s "$size" "$work/target"
dd if=/dev/zero of="$work/target" bs=1M count=$((size / 1048576)) conv=notrunc status=none

seconds() { # the median of the command's wall-clock times
  for _ in $(seq "$runs"); do
    local start end
    start=$(date +%s.%N); "$@"; end=$(date +%s.%N)
    echo "$end - $start" | bc
  done | sort -n | sed -n "$(((runs + 1) / 2))p"
}
measure() { # server kind, direction
  local kind=$1 way=$2 file sock pid
  sock=$work/$kind-$way.sock
  file=$image; [ "$way" = write ] && file=$work/target
  if [ "$kind" = nbdkit ]; then nbdkit -f -U "$sock" file "$file" & pid=$!
  else node ${NODE_ARGS:-} "$here/bench-server.js" "$file" "$sock" >&2 & pid=$!; fi
  for _ in $(seq 100); do [ -S "$sock" ] && break; sleep 0.1; done
  if [ "$way" = read ]; then seconds nbdcopy "nbd+unix:///?socket=$sock" null:
  else seconds nbdcopy --flush --allocated "$image" "nbd+unix:///?socket=$sock"; fi
  kill "$pid"; wait "$pid" || true
}
for way in read write; do
  theirs=$(measure nbdkit "$way")
  ours=$(measure refpoint "$way")
  echo "nbdcopy $way: nbdkit file $theirs s, refpoint $ours s: $(echo "scale=2; $theirs / $ours" | bc) of its speed"
done
