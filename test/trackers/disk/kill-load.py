#!/usr/bin/python3
"""Writes numbered sectors to an NBD export, several requests in flight, until its server dies.

  kill-load.py SEED SEQUENCE URI FILE      writes the export's content to FILE first, and then says "ready"

Tells on stdout, in their true order: before it is sent, a write ("w ID OFFSET FIRST SECTORS": sectors are filled with
the numbers from FIRST on; 0 stands for zeroes) or a flush ("f"); and after its answer, that it is done ("e ID", "g").
The last line is "gone"; a request that a living server refuses is told as "refused WHY", and ends it with status 1.
"""
import errno, random, struct, sys, time
import nbd

WRITERS, SECTOR = 6, 512
seed, sequence, uri, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
draw = random.Random(seed)
handle = nbd.NBD()
handle.connect_uri(uri)
size = handle.get_size()
# Not whole blocks, so that writers meet within blocks.
stripe = size // SECTOR // WRITERS
with open(path, 'wb') as file:
    for offset in range(0, size, 1 << 20):
        file.write(handle.pread(min(1 << 20, size - offset), offset))

idle, flushing, next_flush, number = set(range(WRITERS)), False, 0.0, 0

def tell(*words):
    print(*words, flush=True)

def ended(error, then):
    if error.value == 0:
        then()
    elif error.value not in (errno.ENOTCONN, errno.ESHUTDOWN):
        tell('refused', errno.errorcode.get(error.value, error.value))
        sys.exit(1)
    return 1

def write(writer):
    global sequence, number
    number += 1
    mine, sectors = number, draw.choice([1, 3, 8, 40, 200])
    # Most writes meet in a few places.
    within = draw.randrange(300) if draw.random() < 0.7 else draw.randrange(stripe - sectors)
    offset = (writer * stripe + within) * SECTOR
    zero = draw.random() < 0.15
    first = 0 if zero else sequence + 1
    idle.discard(writer)

    def done():
        tell('e', mine)
        idle.add(writer)

    tell('w', mine, offset, first, sectors)
    if zero:
        handle.aio_zero(sectors * SECTOR, offset, lambda error: ended(error, done))
        return
    sequence += sectors
    content = b''.join(struct.pack('<I', first + n) * (SECTOR // 4) for n in range(sectors))
    buffer = nbd.Buffer.from_bytearray(bytearray(content))
    handle.aio_pwrite(buffer, offset, lambda error: ended(error, done))

def flush():
    global flushing, next_flush
    flushing, next_flush = True, time.monotonic() + draw.random() * 0.04

    def done():
        global flushing
        tell('g')
        flushing = False

    tell('f')
    handle.aio_flush(lambda error: ended(error, done))

tell('ready')
try:
    while not (handle.aio_is_dead() or handle.aio_is_closed()):
        for writer in sorted(idle):
            write(writer)
        if not flushing and time.monotonic() >= next_flush:
            flush()
        handle.poll(-1)
except nbd.Error as error:
    if not (handle.aio_is_dead() or handle.aio_is_closed()):
        tell('refused', error)
        sys.exit(1)
tell('gone')
