"""The same for asyncio: what waits is awaited, and cancelling the task withdraws.

    async with await aio.Node.start() as node, await node.peer() as peer:
        receipt = await peer.fetch("https://example.org/model.bin", "model.bin")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, Unpack

from . import _native, _types
from ._own import NodeEvent
from ._types import NodeOptions, Options, Path, Progress, ProgressCallback, Receipt, TaskInfo

__all__ = ["Download", "Node", "Peer", "Reader", "Scheduler", "Seed"]

_PAGE = 100
_CHUNK = 1 << 20


async def _result(op: _native.Op) -> Any:
    """Waits for an operation; cancelling the wait withdraws from the operation."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            pass

    op.on_done(tell)
    try:
        await done
    except asyncio.CancelledError:
        op.cancel()
        raise
    return op.result()


class _Closing:
    """What is shut down at the end of an `async with` block."""

    async def close(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Node(_Closing):
    """See `dragonfly.Node`."""

    def __init__(self, native: _native.NativeNode) -> None:
        self._native = native

    @classmethod
    async def start(cls, **options: Unpack[NodeOptions]) -> Self:
        """Starts it."""
        return cls(await _result(_native.node_start(_types.node(options))))

    @property
    def peer_id(self) -> str:
        """Who this host is."""
        return self._native.peer_id()

    @property
    def listeners(self) -> list[str]:
        """Where it listens."""
        return self._native.listeners()

    @property
    def peers(self) -> list[str]:
        """The members that are connected now."""
        return self._native.peers()

    def token(
        self, roles: str = "peer", *, not_after: int | None = None, addresses: list[str] | None = None
    ) -> str:
        """A token with which others join this node's network: a secret."""
        return self._native.token(roles, not_after, addresses)

    def metrics(self) -> str:
        """Its metrics in the Prometheus text format."""
        return self._native.metrics()

    def events(self) -> AsyncIterator[NodeEvent]:
        """Members that come and go from now on."""
        native = self._native.events()

        async def told() -> AsyncIterator[NodeEvent]:
            while (event := await _result(native.next())) is not None:
                if event:
                    yield NodeEvent(**event)

        return told()

    async def peer(self) -> Peer:
        """Starts its peer."""
        return Peer(await _result(self._native.peer_start()))

    async def seed(self) -> Seed:
        """Starts its seed."""
        return Seed(await _result(self._native.seed_start()))

    async def scheduler(self) -> Scheduler:
        """Starts its scheduler."""
        return Scheduler(await _result(self._native.scheduler_start()))

    async def close(self) -> None:
        """Closes listeners and connections and makes the store durable."""
        await _result(self._native.shutdown())


class Peer(_Closing):
    """See `dragonfly.Peer`."""

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
        """Starts a download. `progress` is called on the event loop."""
        download = Download(self._native.fetch(_types.request(url, output, overwrite, options)))
        if progress is not None:
            download.watch(progress)
        return download

    async def fetch(
        self,
        url: str,
        output: Path | None = None,
        *,
        overwrite: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[Options],
    ) -> Receipt:
        """Downloads. Cancelling withdraws."""
        download = self.start(url, output, overwrite=overwrite, progress=progress, **options)
        return await download._finish()

    async def open(self, url: str, **options: Unpack[Options]) -> Reader:
        """Opens content as a stream."""
        return Reader(await _result(self._native.open(_types.request(url, None, False, options))))

    def task_id(self, url: str, **options: Unpack[Options]) -> str:
        """The id of the task that a request names."""
        return self._native.task_id(_types.request(url, None, False, options))

    async def stat(self, task: str) -> list[TaskInfo]:
        """What the store holds of a task."""
        return [TaskInfo(**info) for info in await _result(self._native.stat(task))]

    async def tasks(self) -> AsyncIterator[TaskInfo]:
        """What the store holds."""
        after: tuple[str, str] | None = None
        while page := [TaskInfo(**info) for info in await _result(self._native.list(after, _PAGE))]:
            for info in page:
                yield info
            after = (page[-1].task, page[-1].generation)

    async def remove(self, task: str) -> int:
        """Removes a task from the store; how many bytes that freed."""
        freed: int = await _result(self._native.remove(task))
        return freed

    async def pin(self, task: str, pinned: bool = True) -> None:
        """Keeps a task whatever the quota says, or no longer."""
        await _result(self._native.pin(task, pinned))

    async def close(self) -> None:
        """Stops the engine."""
        await _result(self._native.shutdown())


class Seed(_Closing):
    """See `dragonfly.Seed`."""

    def __init__(self, native: _native.NativeSeed) -> None:
        self._native = native

    async def preheat(
        self, url: str, *, progress: ProgressCallback | None = None, **options: Unpack[Options]
    ) -> Receipt:
        """Fetches content before anyone asks for it. Cancelling withdraws."""
        download = Download(self._native.preheat(_types.request(url, None, False, options)))
        if progress is not None:
            download.watch(progress)
        return await download._finish()

    @property
    def peer(self) -> Peer:
        """The peer that it is."""
        return Peer(self._native.peer())

    async def close(self) -> None:
        """Stops the engine."""
        await _result(self._native.shutdown())


class Scheduler(_Closing):
    """See `dragonfly.Scheduler`."""

    def __init__(self, native: _native.NativeScheduler) -> None:
        self._native = native

    async def snapshot(self) -> dict[str, Any]:
        """What it knows now."""
        known: dict[str, Any] = json.loads(await _result(self._native.snapshot()))
        return known

    async def close(self) -> None:
        """Stops it."""
        await _result(self._native.shutdown())


class Download:
    """See `dragonfly.Download`. It can be awaited."""

    def __init__(self, native: _native.NativeDownload) -> None:
        self._native = native

    async def wait(self) -> Receipt:
        """Waits until it has ended. Cancelling the wait withdraws nothing."""
        return Receipt(**await _result(self._native.wait()))

    async def events(self) -> AsyncIterator[Progress]:
        """Progress, until it has ended."""
        while (event := await _result(self._native.next_event())) is not None:
            if event:
                yield Progress(**event)

    def watch(self, callback: ProgressCallback) -> None:
        """Calls back on the running event loop."""
        loop = asyncio.get_running_loop()

        def tell(event: dict[str, Any]) -> None:
            try:
                loop.call_soon_threadsafe(callback, Progress(**event))
            except RuntimeError:
                # The loop is closed: nobody looks any more.
                pass

        self._native.watch(tell)

    async def _finish(self) -> Receipt:
        """Waits until it has ended; what ends the wait before withdraws."""
        try:
            return await self.wait()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Withdraws this caller's interest."""
        self._native.cancel()


class Reader:
    """Proven bytes of one piece of content, from any place, before the whole is complete."""

    def __init__(self, native: _native.NativeReader) -> None:
        self._native = native

    @property
    def length(self) -> int:
        """The content's length in bytes."""
        return self._native.length

    @property
    def task(self) -> str:
        """The id of its task."""
        return self._native.task

    async def read(self, size: int = -1) -> bytes:
        """At least one byte and at most `size`, none at the end; all of the rest without a size."""
        if size >= 0:
            chunk: bytes = await _result(self._native.read(size))
            return chunk
        chunks = []
        while chunk := await _result(self._native.read(_CHUNK)):
            chunks.append(chunk)
        return b"".join(chunks)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves; gives the place, from the start. Wait for reads before it."""
        return self._native.seek(offset, whence)

    async def receipt(self) -> Receipt:
        """Waits until every piece is held and the whole was checked."""
        return Receipt(**await _result(self._native.receipt()))

    def close(self) -> None:
        """Withdraws its interest in the content."""
        self._native.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
