"""Reads held content over and over: stream URL TIMES. Prints the processor seconds of the reading."""

import sys
import time

import dragonfly

_, url, times = sys.argv
with dragonfly.Node() as node, node.peer() as peer:
    peer.fetch(url)
    buffer = bytearray(1 << 20)
    with peer.open(url) as reader:
        before = time.process_time()
        for _turn in range(int(times)):
            reader.seek(0)
            while reader.readinto(buffer):
                pass
        print(f"{time.process_time() - before:.3f}")
