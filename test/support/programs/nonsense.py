# Writes nonsense into a page of hints, as its worker could. The page is descriptor 3. Every line of stdin says what:
# `write HEX` puts these bytes at the page's begin, `flip` writes such bytes at random until the next line, or the end of
# input. Each is answered by a line once it has begun.
import mmap
import os
import random
import select
import struct

PAGE = 4096

page = mmap.mmap(3, PAGE)
chance = random.Random(1)
times = [0, 1, 2**47, 2**48 - 1]
lines = os.fdopen(0, 'rb', 0)


def flip():
    # Whatever states, turns, times and wishes to drain there can be, and what is none of them.
    since = chance.choice(times + [chance.getrandbits(48)])
    page[0:8] = struct.pack('=Q', since << 16 | chance.getrandbits(16))
    page[8:16] = struct.pack('=Q', chance.choice([0, 1, chance.getrandbits(64)]))


for line in iter(lines.readline, b''):
    words = line.decode().split()
    if words[0] == 'write':
        data = bytes.fromhex(words[1])
        page[0 : len(data)] = data
    print('done', flush=True)
    # The pauses leave the processor to those who read it.
    while words[0] == 'flip' and not select.select([0], [], [], 0.0005)[0]:
        for _ in range(100):
            flip()
