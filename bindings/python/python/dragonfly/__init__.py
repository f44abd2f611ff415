"""Dragonfly: moves files from an origin to many machines, so that each byte leaves the origin once and the machines pass
the rest among themselves.

    import dragonfly

    with dragonfly.Node() as node, node.peer() as peer:
        receipt = peer.fetch("https://example.org/model.bin", "model.bin")

Calls that wait release the interpreter's lock and can be ended with Ctrl-C. `dragonfly.aio` is the same for asyncio.
After os.fork() the child must make a Node of its own: what the parent made raises ConfigError there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, Unpack

from . import _native, _types
from ._errors import (
    CancelledError,
    ConfigError,
    DigestMismatchError,
    DragonflyError,
    ExistsError,
    ForbiddenError,
    FullError,
    InternalError,
    InvalidInputError,
    IoError,
    NetworkError,
    NotFoundError,
    OriginError,
    TimeoutError,
)
from ._native import __version__
from ._own import (
    LogRecord,
    Member,
    NodeEvent,
    PeerRequest,
    Policy,
    Source,
    SourceContent,
    SourceRequest,
    set_log,
)
from ._types import NodeOptions, Options, Path, Progress, ProgressCallback, Receipt, TaskInfo

__all__ = [
    "CancelledError",
    "ConfigError",
    "DigestMismatchError",
    "Download",
    "DragonflyError",
    "ExistsError",
    "ForbiddenError",
    "FullError",
    "InternalError",
    "InvalidInputError",
    "IoError",
    "LogRecord",
    "Member",
    "NetworkError",
    "Node",
    "NodeEvent",
    "NodeOptions",
    "NotFoundError",
    "Options",
    "OriginError",
    "Peer",
    "PeerRequest",
    "Policy",
    "Progress",
    "Reader",
    "Receipt",
    "Scheduler",
    "Seed",
    "Source",
    "SourceContent",
    "SourceRequest",
    "TaskInfo",
    "TimeoutError",
    "__version__",
    "fetch",
    "set_log",
]

#: How many tasks are asked for at a time when they are listed.
_PAGE = 100


class _Closing:
    """What is shut down at the end of a `with` block."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Node(_Closing):
    """A host as a member of its network. As a library it is quiet: without being told so it does not listen."""

    def __init__(self, **options: Unpack[NodeOptions]) -> None:
        """Starts it: takes the data directory, loads or makes its identity, joins or founds a network, listens."""
        self._native: _native.NativeNode = _native.node_start(_types.node(options)).run()

    @property
    def peer_id(self) -> str:
        """Who this host is."""
        return self._native.peer_id()

    @property
    def listeners(self) -> list[str]:
        """Where it listens: addresses that another node can dial."""
        return self._native.listeners()

    @property
    def peers(self) -> list[str]:
        """The members that are connected now."""
        return self._native.peers()

    def token(
        self, roles: str = "peer", *, not_after: int | None = None, addresses: list[str] | None = None
    ) -> str:
        """A token with which others join this node's network: a secret. `not_after` in seconds since 1970."""
        return self._native.token(roles, not_after, addresses)

    def metrics(self) -> str:
        """Its metrics in the Prometheus text format."""
        return self._native.metrics()

    def events(self) -> Iterator[NodeEvent]:
        """Members that come and go from now on, until the node is gone. Lossy: who lags far behind misses some."""
        native = self._native.events()

        def told() -> Iterator[NodeEvent]:
            while (event := native.next().run()) is not None:
                if event:
                    yield NodeEvent(**event)

        return told()

    def peer(self) -> Peer:
        """Starts its peer, or gives another handle of it."""
        return Peer(self._native.peer_start().run())

    def seed(self) -> Seed:
        """Starts its seed; before its peer, where it is to be both."""
        return Seed(self._native.seed_start().run())

    def scheduler(self) -> Scheduler:
        """Starts its scheduler."""
        return Scheduler(self._native.scheduler_start().run())

    def close(self) -> None:
        """Closes listeners and connections and makes the store durable. Close the engines on it first."""
        self._native.shutdown().run()


class Peer(_Closing):
    """The Peer engine of a node: it downloads, stores, and serves what it holds to its neighbours."""

    def __init__(self, native: _native.NativePeer) -> None:
        self._native = native

    def start(
        self,
        url: str,
        output: Path | None = None,
        *,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[Options],
    ) -> Download:
        """Starts a download: into the store and, if one is named, to an output that appears when it is complete."""
        download = Download(self._native.fetch(_types.request(url, output, overwrite, options)))
        if progress is not None:
            download.watch(progress)
        return download

    def fetch(
        self,
        url: str,
        output: Path | None = None,
        *,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[Options],
    ) -> Receipt:
        """Downloads, and waits for it. Ctrl-C withdraws from it."""
        download = self.start(url, output, overwrite=overwrite, progress=progress, **options)
        return download._finish()

    def open(self, url: str, **options: Unpack[Options]) -> Reader:
        """Opens content as a file of proven bytes, before it is complete."""
        return Reader(self._native.open(_types.request(url, None, False, options)).run())

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id of the task that a request names."""
        return self._native.task_id(_types.request(url, None, False, options))

    def stat(self, task: str) -> list[TaskInfo]:
        """What the store holds of a task, the newest version first."""
        return [TaskInfo(**info) for info in self._native.stat(task).run()]

    def tasks(self) -> Iterator[TaskInfo]:
        """What the store holds, in the order of ids."""
        after: tuple[str, str] | None = None
        while page := [TaskInfo(**info) for info in self._native.list(after, _PAGE).run()]:
            yield from page
            after = (page[-1].task, page[-1].generation)

    def remove(self, task: str) -> int:
        """Removes a task from the store; how many bytes that freed."""
        freed: int = self._native.remove(task).run()
        return freed

    def pin(self, task: str, pinned: bool = True) -> None:
        """Keeps a task whatever the quota says, or no longer."""
        self._native.pin(task, pinned).run()

    def close(self) -> None:
        """Stops the engine: downloads end with CancelledError, what is held is made durable."""
        self._native.shutdown().run()


class Seed(_Closing):
    """The Seed engine of a node: a peer that is expected to go to the origin, and that is preheated."""

    def __init__(self, native: _native.NativeSeed) -> None:
        self._native = native

    def preheat(self, url: str, *, progress: ProgressCallback | None = None, **options: Unpack[Options]) -> Receipt:
        """Fetches content before anyone asks for it, and keeps it to be served. Ctrl-C withdraws from it."""
        download = Download(self._native.preheat(_types.request(url, None, False, options)))
        if progress is not None:
            download.watch(progress)
        return download._finish()

    @property
    def peer(self) -> Peer:
        """The peer that it is."""
        return Peer(self._native.peer())

    def close(self) -> None:
        """Stops the engine."""
        self._native.shutdown().run()


class Scheduler(_Closing):
    """The Scheduler engine of a node: it pairs the members that want a task and leases the origin to them."""

    def __init__(self, native: _native.NativeScheduler) -> None:
        self._native = native

    def snapshot(self) -> dict[str, Any]:
        """What it knows now: `hosts` and `tasks`."""
        import json

        known: dict[str, Any] = json.loads(self._native.snapshot().run())
        return known

    def close(self) -> None:
        """Ends its sessions and stops. Members go on with what they have."""
        self._native.shutdown().run()


class Download:
    """A download under way. It runs whether or not anyone looks."""

    def __init__(self, native: _native.NativeDownload) -> None:
        self._native = native

    def wait(self, timeout: float | None = None) -> Receipt:
        """Waits until it has ended. TimeoutError withdraws nothing: it can be waited for again."""
        return Receipt(**self._native.wait().run(timeout))

    def events(self) -> Iterator[Progress]:
        """Progress, until it has ended. Lossy: who asks seldom misses some."""
        while (event := self._native.next_event().run()) is not None:
            if event:
                yield Progress(**event)

    def watch(self, callback: ProgressCallback) -> None:
        """Calls back with progress from now on, from a thread of the library's, one call at a time."""
        self._native.watch(lambda event: callback(Progress(**event)))

    def _finish(self) -> Receipt:
        """Waits until it has ended; what ends the wait before withdraws."""
        try:
            return self.wait()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Withdraws this caller's interest; others who fetch the same content go on."""
        self._native.cancel()


class Reader(io.RawIOBase):
    """Proven bytes of one piece of content, from any place, before the whole is complete: a file.

    Wrap it in io.BufferedReader for many small reads.
    """

    def __init__(self, native: _native.NativeReader) -> None:
        super().__init__()
        self._native = native

    @property
    def length(self) -> int:
        """The content's length in bytes."""
        return self._native.length

    @property
    def task(self) -> str:
        """The id of its task."""
        return self._native.task

    def receipt(self, timeout: float | None = None) -> Receipt:
        """Waits until every piece is held and the whole was checked."""
        self._check()
        return Receipt(**self._native.receipt().run(timeout))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._check()
        return self._native.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check()
        return self._native.seek(offset, whence)

    def tell(self) -> int:
        self._check()
        return self._native.seek(0, io.SEEK_CUR)

    def close(self) -> None:
        """Withdraws its interest in the content; reads of other threads end with CancelledError."""
        if not self.closed:
            self._native.close()
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def fetch(url: str, output: Path, **options: Unpack[Options]) -> Receipt:
    """Fetches one file from its origin alone: a node in memory for one download. It shares nothing."""
    with Node() as node, node.peer() as peer:
        return peer.fetch(url, output, **options)
