#!/usr/bin/python3
"""Writes self-describing blocks to NBD exports, one after the other, until told to pause.

  write-load.py SEED BLOCKS URI...      commands on stdin: "go", "pause", "read FILE..."; answers on stdout

Every block says its store, its offset and the sequence number of its write, and ends with a checksum. "pause" waits for
the first write since "go" (on a busy machine it may have to), flushes, and answers with the number of the last write; a
write is told ("<sequence> <store> <offset>") before it is sent.
"""
import random, struct, sys, threading, time, zlib
import nbd

SIZE = 4096
seed, blocks, uris = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
draw = random.Random(seed)
handles = []
for uri in uris:
    handle = nbd.NBD()
    handle.connect_uri(uri)
    handles.append(handle)
go, writing = threading.Event(), threading.Lock()
sequence = 0

def block(store, offset, number):
    body = struct.pack('<QQQ', store, offset, number)
    noise = random.Random(number).randbytes(1000)
    body += noise + bytes(SIZE - 4 - len(body) - len(noise))
    return body + struct.pack('<I', zlib.crc32(body))

def write():
    global sequence
    while go.wait():
        with writing:
            if not go.is_set():
                continue
            sequence += 1
            store = draw.randrange(len(handles))
            # Half of the writes meet in a few places.
            offset = SIZE * (draw.randrange(blocks) if draw.random() < 0.5 else draw.randrange(24))
            print(sequence, store, offset, flush=True)
            handles[store].pwrite(block(store, offset, sequence), offset)
            if draw.random() < 0.05:
                handles[store].flush()

threading.Thread(target=write, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin:
    words = line.split()
    if words[0] == 'go':
        before = sequence
        go.set()
    elif words[0] == 'pause':
        while go.is_set() and sequence == before:
            time.sleep(0.001)
        go.clear()
        with writing:
            for handle in handles:
                handle.flush()
        print('paused', sequence, flush=True)
    elif words[0] == 'read':
        for handle, path in zip(handles, words[1:]):
            with open(path, 'wb') as file:
                for offset in range(0, handle.get_size(), 1 << 20):
                    file.write(handle.pread(min(1 << 20, handle.get_size() - offset), offset))
        print('read', flush=True)
