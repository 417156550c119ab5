#!/usr/bin/env python3
"""Restores a store from refpoint archives to a raw image, without refpoint: needs Python 3 and the zstd command.

  restore-without-refpoint.py STORE IMAGE ARCHIVE...                    (oldest first, beginning with a full)
  restore-without-refpoint.py STORE IMAGE --repository DIR MACHINE POINT

Written from src/archive/FORMAT.md ("§" below). IMAGE must not exist, and appears when all is checked.
"""
import contextlib, hashlib, itertools, json, os, re, struct, subprocess, sys, threading

SECTOR, BLOCK, WINDOW, MIB = 512, 65536, 1 << 30, 1 << 20

def check(condition, message):
    condition or sys.exit(f'restore-without-refpoint: {message}')

def words(data):
    return struct.unpack(f'<{len(data) // 4}I', data)

class Archive:
    def __init__(self, path):
        self.path, self.file, size = path, open(path, 'rb'), os.path.getsize(path)
        self.file.seek(max(0, size - 9))  # §1, the seek table
        count, descriptor, magic = struct.unpack('<IBI', self.file.read(9).rjust(9, b'\0'))
        check(magic == 0x8F92EAB1 and descriptor == 0, f'{path} does not end with a seek table')
        self.file.seek(max(0, size - 17 - 8 * count))
        check(struct.unpack('<II', self.file.read(8)) == (0x184D2A5E, 8 * count + 9), f'{path}: bad seek table')
        table = words(self.file.read(8 * count))
        self.stored, self.content = table[0::2], table[1::2]
        self.offsets = list(itertools.accumulate(self.stored, initial=0))
        check(self.offsets[-1] == size - 17 - 8 * count, f'{path}: the seek table disagrees with the file')
        self.header, self.index = (json.loads(b''.join(self.frames([frame]))) for frame in (1, count - 2))
        check(self.header['format'] == 1 and set(self.header['requires']) <= {'partly-stored'}, f'{path} needs a newer reader')

    def frames(self, numbers):
        """The contents of frames, in the order asked for, through one zstd process."""
        if not numbers: return
        zstd = subprocess.Popen(['zstd', '-dcq'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        def feed():
            with contextlib.suppress(BrokenPipeError), zstd.stdin:  # zstd says what is wrong with a frame
                for number in numbers:
                    self.file.seek(self.offsets[number])
                    zstd.stdin.write(self.file.read(self.stored[number]))
        threading.Thread(target=feed, daemon=True).start()
        for number in numbers:
            content = zstd.stdout.read(self.content[number])
            check(len(content) == self.content[number], f'{self.path}: frame {number} can not be decompressed')
            yield content
        check(zstd.stdout.read(1) == b'' and zstd.wait() == 0, f'{self.path}: more content than the seek table says')

    def store(self, name):
        names = [store['name'] for store in self.header['stores']]
        check(name in names, f'{self.path} has no store {name}')
        return {**self.header['stores'][names.index(name)], **self.index['stores'][names.index(name)]}

    def windows(self, store):
        """For each window of a store its number, extent rows, digest runs and digests: §4, §5."""
        first = store['directoryFrame']
        directory = words(b''.join(self.frames(range(first, first + store['directoryFrames']))))
        rows = [directory[at:at + 7] for at in range(0, 7 * store['windows'], 7)]
        spans = [range(frame, frame + (at + length + MIB - 1) // MIB) for _, _, _, _, frame, at, length in rows]
        needed = sorted({frame for span in spans for frame in span})
        contents = dict(zip(needed, list(self.frames(needed))))
        for (window, e, r, digests, _, at, length), span in zip(rows, spans):
            table = b''.join(contents[frame] for frame in span)[at:at + length]
            check(len(table) == 20 * e + 12 * r + 16 * digests, f'{self.path}: bad directory')
            extents = zip(*(words(table[4 * e * i:4 * e * (i + 1)]) for i in range(5)))
            runs = zip(*(words(table[20 * e + 4 * r * i:20 * e + 4 * r * (i + 1)]) for i in range(3)))
            yield window, list(extents), runs, table[20 * e + 12 * r:]

def next_data(image, offset):
    with contextlib.suppress(OSError):  # ENXIO: nothing but a hole up to the end
        return os.lseek(image, offset, os.SEEK_DATA)
    return 1 << 62

def write_zeroes(image, offset, length):
    end = offset + length
    while (offset := next_data(image, offset)) < end:
        offset += os.pwrite(image, bytes(min(end - offset, MIB)), offset)

def apply(archive, store, image, states, digests):
    """Lays one archive over the image, and its digests over those of the archives before it: §4, §8."""
    windows, content, current = list(archive.windows(store)), b'', None
    rows = [(frame, window * WINDOW + start * SECTOR, sectors * SECTOR, kind, at * SECTOR)
            for window, extents, _, _ in windows for start, sectors, kind, frame, at in extents]
    rows.sort()  # by frame: what is in one may be anywhere on the store, and no two extents overlap
    contents = archive.frames(sorted({frame for frame, _, _, kind, _ in rows if kind == 1}))
    for frame, offset, length, kind, at in rows:
        if kind == 2:
            write_zeroes(image, offset, length)
        else:
            content, current = content if frame == current else next(contents), frame
            os.pwrite(image, content[at:at + length], offset)
    for window, _, runs, known in windows:
        at = 0
        for first, count, state in runs:
            first += window * WINDOW // BLOCK
            states[first:first + count] = bytes([1 if state == 4 else state]) * count
            if state in (1, 4):
                digests[16 * first:16 * (first + count)] = known[at:at + 16 * count]
                at += 16 * count

def verify(image, size, states, digests):
    """Holds the image against the digests; returns the content sum (§7), None where a digest is unknown."""
    total, data, blocks = 0, -1, (size + BLOCK - 1) // BLOCK
    for block in range(blocks):
        offset, length = block * BLOCK, min(BLOCK, size - block * BLOCK)
        data = data if data >= offset else next_data(image, offset)
        content = bytes(length) if data >= offset + length else os.pread(image, length, offset)
        if states[block] == 1:
            digest = bytes(digests[16 * block:16 * block + 16])
            check(hashlib.sha256(content).digest()[:16] == digest, f'the block at {offset} is not what was backed up')
            total += int.from_bytes(hashlib.sha256(struct.pack('<I', block) + digest).digest(), 'big')
        elif states[block] != 3:
            check(content == bytes(length), f'the block at {offset} is not zero')
    return None if 3 in states[:blocks] else f'{total % (1 << 256):064x}'

def find_chain(repository, machine, point, store):
    """The archives that a point needs, oldest first; the highest revision of a manifest counts."""
    folder, paths = os.path.join(repository, 'machines', machine, 'points'), []
    while point is not None:
        names = [re.fullmatch(rf'0*{point}(?:\.r(\d+))?\.json', name) for name in os.listdir(folder)]
        newest = max(((int(match[1] or 0), match[0]) for match in names if match), default=None)
        check(newest, f'{folder} holds no point {point}')
        manifest = json.load(open(os.path.join(folder, newest[1]), 'rb'))
        check(manifest['type'] == 'point', f'slot {point} holds no point: {manifest["type"]}')
        paths.insert(0, os.path.join(repository, manifest['archive']['name']))
        full = {'name': store, 'mode': 'full'}.items()
        point = None if any(full <= each.items() for each in manifest['stores']) else manifest['parent']
    return paths

def main(store, path, *archives):
    paths = find_chain(*archives[1:3], int(archives[3]), store) if archives[0] == '--repository' else archives
    chain = [(archive, archive.store(store)) for archive in map(Archive, paths)]
    check(chain[0][1]['mode'] == 'full', f'the first archive is no full of {store}: give them oldest first')
    for (older, _), (newer, _) in zip(chain, chain[1:]):
        expected = [older.header['machineUuid'], older.header['point']]
        check([newer.header['machineUuid'], newer.header['parent']] == expected, f'{newer.path} is of another chain')
    check(not os.path.exists(path), f'{path} exists')
    size, largest = chain[-1][1]['sizeBytes'], max(part['sizeBytes'] for _, part in chain)
    image = os.open(f'{path}.part', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    states, digests = bytearray(largest // BLOCK + 1), bytearray(16 * (largest // BLOCK + 1))
    os.ftruncate(image, largest)
    for archive, part in chain:
        apply(archive, part, image, states, digests)
    os.ftruncate(image, size)
    total, expected = verify(image, size, states, digests), chain[-1][1]['contentSum']
    check(expected in (None, total), 'the content sum disagrees: something is missing or misplaced')
    os.fsync(image)
    os.rename(f'{path}.part', path)
    print(f"{path}: {size} bytes, content sum {'checked' if expected else 'absent'}")

main(*sys.argv[1:]) if len(sys.argv) > 3 else print(__doc__)
