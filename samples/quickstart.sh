#!/bin/bash
# The main job of refpoint on a real disk, step by step: a full, two incrementals, and a restore of each.
# Needs neither root, QEMU nor a server:   npm run quickstart   (or: samples/quickstart.sh [new folder])
# Everything happens in one folder, which stays for you to look into.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
PATH=$PATH:/usr/sbin:/sbin # mkfs.ext4 is there
server=
finish() { # the disk's server goes in any case: at the end, after a failure, and on Ctrl-C
  local status=$?
  trap - EXIT INT TERM
  [ -z "$server" ] || { kill "$server" 2> /dev/null && wait "$server" 2> /dev/null; } || true
  [ "$status" = 0 ] || echo "The quickstart ended early, status $status. Its folder is $PWD" >&2
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
guest() { # stands for the virtual machine that uses the disk: a small NBD client
  printf '$ node samples/nbd-client.mjs %s\n' "$*"
  node "$here/nbd-client.mjs" "$@"
}
[ -e "$project/dist/main.js" ] || { echo "refpoint is not built yet: run 'npm ci' first" >&2; exit 1; }

folder=${1:-$(mktemp -d "${TMPDIR:-/tmp}/refpoint-quickstart.XXXXXX")}
mkdir -p "$folder"
cd "$folder"
folder=$PWD
[ -z "$(ls -A)" ] || { echo "$folder is not empty: name a new folder" >&2; exit 2; }

step "A disk image with a file system of real files: a compiler, for one that is here"
content=$project/node_modules/@typescript
[ -d "$content" ] || content=$project
mib=$(du -sm --apparent-size "$content" | cut -f1)
if command -v mkfs.ext4 > /dev/null; then
  run truncate -s "$((mib * 3 / 2 + 64))M" image.raw
  run mkfs.ext4 -q -F -d "$content" image.raw
else # without e2fsprogs the files come as a tar, which is as good a content of a disk as any
  run tar -cf image.raw -C "$content" .
  run truncate -s "$((mib * 3 / 2 + 64))M" image.raw
fi
ls -lsh image.raw

step "A tracked disk with that content. It remembers which blocks were written since when"
run mkdir disks
run refpoint disk import image.raw disks/root

step "Served over NBD, for a virtual machine to use"
echo '$ refpoint disk serve disks/root &'
node "$project/dist/main.js" disk serve "$folder/disks/root" > server.log 2>&1 &
server=$!
uri=
for _ in $(seq 200); do # it prints the disk's address when it is ready
  uri=$(grep -o 'nbd+unix:.*' server.log || true)
  [ -z "$uri" ] || break
  kill -0 "$server" 2> /dev/null || { cat server.log >&2; exit 1; }
  sleep 0.05
done
[ -n "$uri" ] || { echo "the server did not become ready; see $folder/server.log" >&2; exit 1; }
echo "$uri"

step "What to back up, and to where"
cat > refpoint.yaml << 'YAML'
repository: ./repository
machines:
  demo:
    tracker: disk
    stores:
      root: ./disks/root
YAML
run cat refpoint.yaml
run refpoint init

mkdir checksums
remember() { # what the disk is at this instant, as a client of its server reads it
  node "$here/nbd-client.mjs" sha256 "$uri" > "checksums/$1"
  echo "The disk's SHA-256 now: $(cat "checksums/$1")"
}

step "Point #1: a full, while the disk is in use"
remember 1
run refpoint backup demo

step "The guest writes 40 pieces of 16 KiB here and there. Point #2 stores what changed"
guest write "$uri" 40 16384
remember 2
run refpoint backup demo

step "The guest rewrites 25 pieces of 64 KiB and discards 8 MiB. Point #3"
guest write "$uri" 25 65536
guest trim "$uri" $((16 * 1048576)) $((8 * 1048576))
remember 3
run refpoint backup demo

step "What there is to go back to, and what each point cost"
run refpoint points demo

step "Each point, restored to a file of its own, equals the disk at its instant"
for point in 1 2 3; do
  run refpoint restore demo --at "$point" --to "restored/$point" > restore.log 2>&1 || { cat restore.log >&2; exit 1; }
  head -n 1 restore.log
  restored=$(sha256sum "restored/$point/root.raw" | cut -d' ' -f1)
  if [ "$restored" = "$(cat "checksums/$point")" ]; then
    echo "  its SHA-256 is $restored: the same"
  else
    echo "  its SHA-256 is $restored: NOT the disk at that instant, which was $(cat "checksums/$point")" >&2
    exit 1
  fi
done

step "Every byte in the repository is what was written"
run refpoint verify

if command -v python3 zstd > /dev/null; then
  step "The newest point once more, this time without refpoint"
  run python3 "$here/restore-without-refpoint.py" root without-refpoint.raw --repository repository demo 3
  echo "$(cat checksums/3)  without-refpoint.raw" | sha256sum --check
fi

kill "$server"
wait "$server" || true
server=
cat << END

Done: one full, two incrementals, three restores, all equal.
All of it is in $folder
  refpoint.yaml  repository/  disks/root/  restored/1 to restored/3

What to type next:
  cd $folder
  alias refpoint='node $project/dist/main.js'
  refpoint show demo latest                       # all about one point
  refpoint backup demo                            # nothing changed, so next to nothing is stored
  refpoint disk serve disks/root                  # the disk again, for a guest of your own; Ctrl-C ends it
  refpoint restore demo --at 2 --to elsewhere
  tar --zstd -tf $(echo repository/machines/demo/archives/*.tar.zst | cut -d' ' -f1)
  rm -r $folder   # when you have seen enough
The same for machines of your own: README.md, samples/refpoint.yaml and samples/crontab.
END
