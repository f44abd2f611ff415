"""The shortest program that embeds a peer: fetch URL OUTPUT."""

import sys

import dragonfly

if len(sys.argv) != 3:
    sys.exit("usage: fetch URL OUTPUT")
with dragonfly.Node() as node, node.peer() as peer:
    receipt = peer.fetch(sys.argv[1], sys.argv[2])
    print(f"{receipt.length} bytes, {receipt.blake3}")
