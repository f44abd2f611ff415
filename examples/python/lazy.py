"""Reads a part of a remote file: lazy URL OFFSET LENGTH writes it to standard output."""

import io
import sys

import dragonfly

if len(sys.argv) != 4:
    sys.exit("usage: lazy URL OFFSET LENGTH")
with dragonfly.Node() as node, node.peer() as peer, io.BufferedReader(peer.open(sys.argv[1])) as file:
    file.seek(int(sys.argv[2]))
    sys.stdout.buffer.write(file.read(int(sys.argv[3])))
