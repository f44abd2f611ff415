"""A scheduler and a seed inside your own service: prints the token that others join with, ends with standard input."""

import sys

import dragonfly

with (
    dragonfly.Node(listen=["/ip4/127.0.0.1/tcp/0"], allow_loopback_origins=True) as node,
    node.scheduler() as scheduler,
    node.seed(),
):
    print(node.token(), flush=True)
    # Here your service does its work.
    sys.stdin.read()
    print(len(scheduler.snapshot()["hosts"]), "hosts", file=sys.stderr)
