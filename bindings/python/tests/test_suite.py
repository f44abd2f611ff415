"""The behaviour suite in Python, with and without an event loop."""

from __future__ import annotations

import asyncio
import io
import os
import pathlib
import shutil
import threading
import zlib
from typing import Any

import dragonfly
import pytest
from conftest import ROOT, World
from dragonfly import aio

LISTEN = ["/ip4/127.0.0.1/tcp/0"]


class Case:
    def __init__(self, line: str) -> None:
        _, self.name, self.operation, *words = line.split()
        self.keys = dict(word.split("=", 1) for word in words)

    def get(self, key: str) -> str | None:
        return self.keys.get(key)

    def __repr__(self) -> str:
        return self.name


TABLE = pathlib.Path(os.environ.get("DRAGONFLY_TABLE", ROOT / "bindings/suite/cases.txt"))
CASES = [Case(line) for line in TABLE.read_text().splitlines() if line.startswith("case ")]


def check_crc(case: Case, content: bytes) -> None:
    assert f"{zlib.crc32(content):08x}" == case.keys["crc"]


def check_whole(receipt: dragonfly.Receipt) -> None:
    assert receipt.bytes_from_origin + receipt.bytes_from_peers + receipt.bytes_held == receipt.length


def judge(case: Case, error: dragonfly.DragonflyError | None) -> None:
    expected = case.get("error")
    if error is None or expected is None:
        if error is not None:
            raise error
        assert expected is None, f"no error, expected {expected}"
        return
    assert (error.kind, error.temporary) == (expected, case.get("temporary") == "yes"), repr(error)


class Request:
    def __init__(self, world: World, case: Case, dir: pathlib.Path) -> None:
        self.url = case.get("url") or world.origin + case.keys["path"] if "path" in case.keys else case.get("url") or ""
        self.output = dir / case.keys.get("dir", "") / case.name
        self.options: Any = {}
        if digest := case.get("digest"):
            self.options["digest"] = digest
        if bound := case.get("timeout_ms"):
            self.options["timeout"] = int(bound) / 1000


class Own:
    """The origin that bindings/suite/README.md describes."""

    def __init__(self, length: int) -> None:
        self.length, self.opened, self.closed = length, 0, 0
        self.lock = threading.Lock()

    def open(self, request: dragonfly.SourceRequest) -> dragonfly.SourceContent:
        path = request.url.removeprefix("suite://any")
        with self.lock:
            self.opened += 1
            first = self.opened % 2 == 1
        if path == "/missing":
            raise FileNotFoundError("as the test wants it")
        if path == "/refused":
            raise dragonfly.ForbiddenError("as the test wants it")
        if path == "/flaky" and first:
            raise ConnectionResetError("not this time")
        own = self

        class Body(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    with own.lock:
                        own.closed += 1
                super().close()

        body = Body(bytes(place % 251 for place in range(request.start, self.length)))
        return dragonfly.SourceContent(body, self.length, request.start, "1", ranges=True)


class Rules(dragonfly.Policy):
    """Does not admit one member, does not fetch one path for others, and remembers what it was asked."""

    def __init__(self, refused: str, unfetched: str) -> None:
        self.refused, self.unfetched = refused, unfetched
        self.asked: list[dragonfly.PeerRequest] = []

    def admit_peer(self, member: dragonfly.Member) -> bool:
        return "peer" in member.roles and member.peer_id != self.refused

    def admit_request(self, request: dragonfly.PeerRequest) -> bool:
        self.asked.append(request)
        return not self._is_unfetched(request)

    def _is_unfetched(self, request: dragonfly.PeerRequest) -> bool:
        return request.type == "fetch" and self.unfetched in request.label

    def check(self, peer_id: str, case: Case) -> None:
        assert any(
            asked.type == "serve" and asked.peer_id == peer_id and case.keys["path"] in asked.label
            for asked in self.asked
        ), self.asked
        assert any(map(self._is_unfetched, self.asked)), self.asked


#: What a file was written to before content is.
BEFORE = b"before"

#: Who is not admitted.
REFUSED = bytes([2]) * 32


class Log:
    """What was said, and a way to wait until something was."""

    def __init__(self) -> None:
        self.heard = threading.Event()

    def __call__(self, record: dragonfly.LogRecord) -> None:
        if record.target.startswith("dragonfly") and record.message:
            self.heard.set()


class Sync:
    def __init__(self, world: World, dir: pathlib.Path) -> None:
        self.world, self.dir = world, dir
        self.node = dragonfly.Node(data_dir=dir / "node", listen=LISTEN, token=world.token)
        self.peer = self.node.peer()

    def close(self) -> None:
        self.peer.close()
        self.node.close()

    def run(self, case: Case) -> None:
        error = None
        try:
            getattr(self, case.operation)(case, Request(self.world, case, self.dir))
        except dragonfly.DragonflyError as caught:
            error = caught
        judge(case, error)

    def fetch(self, case: Case, request: Request) -> None:
        if case.get("exists"):
            request.output.write_text("in the way")
        check_whole(self.peer.fetch(request.url, request.output, **request.options))
        check_crc(case, request.output.read_bytes())

    def stream(self, case: Case, request: Request) -> None:
        with self.peer.open(request.url, **request.options) as reader:
            chunks = []
            while chunk := reader.read(int(case.keys["chunk"])):
                chunks.append(chunk)
            content = b"".join(chunks)
            assert len(content) == reader.length
            check_whole(reader.receipt())
        check_crc(case, content)

    def descriptor(self, case: Case, request: Request) -> None:
        with open(request.output, "wb") as file, self.peer.open(request.url) as reader:
            file.write(BEFORE)
            shutil.copyfileobj(reader, file)
            check_whole(reader.receipt())
        content = request.output.read_bytes()
        assert content.startswith(BEFORE)
        check_crc(case, content.removeprefix(BEFORE))

    def seek(self, case: Case, request: Request) -> None:
        with self.peer.open(request.url) as reader:
            for read in case.keys["reads"].split(","):
                place, crc = read.split(":")
                offset, count = map(int, place.split("+"))
                assert reader.seek(offset) == offset
                content = bytearray(count)
                view, filled = memoryview(content), 0
                while filled < count:
                    more = reader.readinto(view[filled:])
                    assert more > 0
                    filled += more
                assert f"{zlib.crc32(content):08x}" == crc
            assert reader.seek(0, 2) == reader.length == reader.tell()
            assert reader.read(8) == b""

    def two(self, case: Case, request: Request) -> None:
        nodes = [dragonfly.Node(listen=LISTEN, token=self.world.token) for _ in range(2)]
        peers = [node.peer() for node in nodes]
        assert nodes[0].peer_id != nodes[1].peer_id
        outputs = [self.dir / f"{case.name}.{number}" for number in range(2)]
        downloads = [peer.start(request.url, output) for peer, output in zip(peers, outputs, strict=True)]
        for download, output in zip(downloads, outputs, strict=True):
            check_whole(download.wait())
            check_crc(case, output.read_bytes())
        for engine in [*peers, *nodes]:
            engine.close()

    def many(self, case: Case, request: Request) -> None:
        downloads = [self.peer.start(f"{request.url}{number}") for number in range(int(case.keys["count"]))]
        for download in downloads:
            receipt = download.wait()
            check_whole(receipt)
            assert receipt.length == 600

    def progress(self, case: Case, request: Request) -> None:
        called: list[dragonfly.Progress] = []
        download = self.peer.start(request.url, progress=called.append)
        seen = [event for event in download.events() if event.type == "progress"]
        receipt = download.wait()
        places = [event.bytes for event in seen]
        assert places == sorted(places) and 0 < places[-1] <= receipt.length
        assert all(event.length == receipt.length for event in seen)
        assert any(event.type == "progress" for event in called)

    def cancel(self, case: Case, request: Request) -> None:
        download = self.peer.start(request.url)
        for event in download.events():
            if event.bytes > 0:
                download.cancel()
        download.wait()

    def cancel_read(self, case: Case, request: Request) -> None:
        reader = self.peer.open(request.url)
        reader.seek(-1, 2)
        closing = threading.Thread(target=reader._native.close)
        closing.start()
        try:
            reader.read(1)
        finally:
            closing.join()
            reader.close()

    def store(self, case: Case, request: Request) -> None:
        receipt = self.peer.fetch(request.url)
        task = self.peer.task_id(request.url)
        assert task == receipt.task
        [held] = self.peer.stat(task)
        assert held.complete and held.length == receipt.length and not held.pinned
        assert any(info.task == task for info in self.peer.tasks())
        self.peer.pin(task)
        assert self.peer.stat(task)[0].pinned
        assert self.peer.remove(task) >= receipt.length
        assert self.peer.stat(task) == []
        with pytest.raises(dragonfly.NotFoundError):
            self.peer.pin(task)

    def preheat(self, case: Case, request: Request) -> None:
        with (
            dragonfly.Node(listen=LISTEN, token=self.world.token_all, allow_loopback_origins=True) as node,
            node.seed() as seed,
        ):
            receipt = seed.preheat(request.url)
            check_whole(receipt)
            assert receipt.length == 70000
            assert seed.peer.stat(receipt.task)[0].complete

    def own(self, case: Case, request: Request) -> None:
        with (
            dragonfly.Node(listen=LISTEN, allow_loopback_origins=True) as first,
            first.scheduler() as scheduler,
            first.seed(),
            dragonfly.Node(listen=LISTEN, token=first.token()) as node,
            node.peer() as peer,
        ):
            receipt = peer.fetch(request.url, request.output)
            assert receipt.bytes_from_peers == receipt.length
            check_crc(case, request.output.read_bytes())
            assert scheduler.snapshot()["hosts"]

    def metrics(self, case: Case, request: Request) -> None:
        assert case.keys["contains"] in self.node.metrics()

    def identity(self, case: Case, request: Request) -> None:
        with dragonfly.Node(identity=bytes([int(case.keys["byte"])]) * 32) as node:
            assert node.peer_id == case.keys["peer"]

    def source(self, case: Case, request: Request) -> None:
        own = Own(int(case.get("length") or 0))
        with dragonfly.Node(sources={"suite": own}) as node, node.peer() as peer:
            receipt = peer.fetch(request.url, request.output)
            assert receipt.length == own.length
            check_crc(case, request.output.read_bytes())
            with peer.open(request.url) as reader:
                check_crc(case, reader.readall())
        assert own.opened > 0

    def policy(self, case: Case, request: Request) -> None:
        with dragonfly.Node(identity=REFUSED) as node:
            rules = Rules(node.peer_id, case.keys["unfetched"])
        with (
            dragonfly.Node(listen=LISTEN, allow_loopback_origins=True, policy=rules) as first,
            first.scheduler(),
            first.seed(),
        ):
            token = first.token()
            with dragonfly.Node(listen=LISTEN, token=token) as node, node.peer() as peer:
                receipt = peer.fetch(request.url, request.output)
                assert receipt.bytes_from_peers == receipt.length
                check_crc(case, request.output.read_bytes())
                receipt = peer.fetch(self.world.origin + rules.unfetched)
                assert receipt.bytes_from_origin == receipt.length
                rules.check(node.peer_id, case)
            with dragonfly.Node(listen=LISTEN, token=token, identity=REFUSED) as node, node.peer() as peer:
                receipt = peer.fetch(self.world.origin + case.keys["refused"])
                assert receipt.bytes_from_origin == receipt.length
                assert rules.refused not in first.peers

    def events(self, case: Case, request: Request) -> None:
        with dragonfly.Node(listen=LISTEN, allow_loopback_origins=True) as first, first.scheduler(), first.seed():
            events = first.events()
            with dragonfly.Node(listen=LISTEN, token=first.token()) as node, node.peer() as peer:
                peer.fetch(request.url)
                assert next(events) == dragonfly.NodeEvent("peer_up", node.peer_id)
            assert next(events) == dragonfly.NodeEvent("peer_down", node.peer_id)
        assert list(events) == []

    def log(self, case: Case, request: Request) -> None:
        log = Log()
        dragonfly.set_log(log, case.keys["level"])
        try:
            with dragonfly.Node() as node, node.peer() as peer:
                peer.fetch(request.url)
            assert log.heard.wait(60)
        finally:
            dragonfly.set_log(None)

    def node_(self, case: Case) -> None:
        options: Any = {}
        if token := case.get("token"):
            options["token"] = token
        if listen := case.get("listen"):
            options["listen"] = [listen]
        if case.get("same_dir"):
            options["data_dir"] = self.dir / "node"
        with dragonfly.Node(**options) as node:
            if listeners := case.get("listeners"):
                assert len(node.listeners) == int(listeners)
                assert all(address.endswith(f"/p2p/{node.peer_id}") for address in node.listeners)

    def full(self, case: Case, request: Request) -> None:
        with dragonfly.Node(memory_bytes=int(case.keys["memory"])) as node, node.peer() as peer:
            peer.fetch(request.url)

    def stopped(self, case: Case, request: Request) -> None:
        with dragonfly.Node() as node:
            peer = node.peer()
            peer.close()
            peer.fetch(request.url)


@pytest.fixture(scope="module")
def sync(world: World, tmp_path_factory: pytest.TempPathFactory) -> Any:
    runner = Sync(world, tmp_path_factory.mktemp("sync"))
    yield runner
    runner.close()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_sync(sync: Sync, case: Case) -> None:
    if case.operation == "node":
        error = None
        try:
            sync.node_(case)
        except dragonfly.DragonflyError as caught:
            error = caught
        judge(case, error)
    else:
        sync.run(case)


class Async:
    """The same with an event loop."""

    def __init__(self, world: World, dir: pathlib.Path, node: aio.Node, peer: aio.Peer) -> None:
        self.world, self.dir, self.node, self.peer = world, dir, node, peer

    async def fetch(self, case: Case, request: Request) -> None:
        if case.get("exists"):
            request.output.write_text("in the way")
        check_whole(await self.peer.fetch(request.url, request.output, **request.options))
        check_crc(case, request.output.read_bytes())

    async def stream(self, case: Case, request: Request) -> None:
        async with await self.peer.open(request.url, **request.options) as reader:
            chunks = []
            while chunk := await reader.read(int(case.keys["chunk"])):
                chunks.append(chunk)
            check_whole(await reader.receipt())
        check_crc(case, b"".join(chunks))

    async def descriptor(self, case: Case, request: Request) -> None:
        async with await self.peer.open(request.url) as reader:
            with open(request.output, "wb") as file:
                file.write(BEFORE)
                while chunk := await reader.read(1 << 20):
                    file.write(chunk)
            check_whole(await reader.receipt())
        content = request.output.read_bytes()
        assert content.startswith(BEFORE)
        check_crc(case, content.removeprefix(BEFORE))

    async def seek(self, case: Case, request: Request) -> None:
        async with await self.peer.open(request.url) as reader:
            for read in case.keys["reads"].split(","):
                place, crc = read.split(":")
                offset, count = map(int, place.split("+"))
                assert reader.seek(offset) == offset
                content = b""
                while len(content) < count:
                    more = await reader.read(count - len(content))
                    assert more
                    content += more
                assert f"{zlib.crc32(content):08x}" == crc
            assert reader.seek(0, 2) == reader.length
            assert await reader.read() == b""

    async def two(self, case: Case, request: Request) -> None:
        nodes = await asyncio.gather(*(aio.Node.start(listen=LISTEN, token=self.world.token) for _ in range(2)))
        peers = [await node.peer() for node in nodes]
        outputs = [self.dir / f"{case.name}.{number}" for number in range(2)]
        fetches = (peer.fetch(request.url, output) for peer, output in zip(peers, outputs, strict=True))
        for receipt in await asyncio.gather(*fetches):
            check_whole(receipt)
        for output in outputs:
            check_crc(case, output.read_bytes())
        for engine in [*peers, *nodes]:
            await engine.close()

    async def many(self, case: Case, request: Request) -> None:
        count = int(case.keys["count"])
        for receipt in await asyncio.gather(*(self.peer.fetch(f"{request.url}{number}") for number in range(count))):
            check_whole(receipt)
            assert receipt.length == 600

    async def progress(self, case: Case, request: Request) -> None:
        download = self.peer.start(request.url)
        places = [event.bytes async for event in download.events() if event.type == "progress"]
        receipt = await download.wait()
        assert places == sorted(places) and 0 < places[-1] <= receipt.length

    async def cancel(self, case: Case, request: Request) -> None:
        download = self.peer.start(request.url)
        async for event in download.events():
            if event.bytes > 0:
                download.cancel()
        await download.wait()

    async def cancel_read(self, case: Case, request: Request) -> None:
        async with await self.peer.open(request.url) as reader:
            reader.seek(-1, 2)
            reading = asyncio.create_task(reader.read(1))
            asyncio.get_running_loop().call_soon(reader.close)
            await reading

    async def store(self, case: Case, request: Request) -> None:
        receipt = await self.peer.fetch(request.url)
        assert self.peer.task_id(request.url) == receipt.task
        assert receipt.task in [info.task async for info in self.peer.tasks()]
        await self.peer.pin(receipt.task)
        assert (await self.peer.stat(receipt.task))[0].pinned
        assert await self.peer.remove(receipt.task) >= receipt.length
        assert await self.peer.stat(receipt.task) == []
        with pytest.raises(dragonfly.NotFoundError):
            await self.peer.pin(receipt.task)

    async def preheat(self, case: Case, request: Request) -> None:
        options: Any = {"listen": LISTEN, "token": self.world.token_all, "allow_loopback_origins": True}
        async with await aio.Node.start(**options) as node, await node.seed() as seed:
            receipt = await seed.preheat(request.url)
            check_whole(receipt)
            assert (await seed.peer.stat(receipt.task))[0].complete

    async def own(self, case: Case, request: Request) -> None:
        async with await aio.Node.start(listen=LISTEN, allow_loopback_origins=True) as first:
            async with await first.scheduler() as scheduler, await first.seed():
                async with await aio.Node.start(listen=LISTEN, token=first.token()) as node, await node.peer() as peer:
                    receipt = await peer.fetch(request.url, request.output)
                    assert receipt.bytes_from_peers == receipt.length
                    assert (await scheduler.snapshot())["hosts"]
        check_crc(case, request.output.read_bytes())

    async def metrics(self, case: Case, request: Request) -> None:
        assert case.keys["contains"] in self.node.metrics()

    async def identity(self, case: Case, request: Request) -> None:
        async with await aio.Node.start(identity=bytes([int(case.keys["byte"])]) * 32) as node:
            assert node.peer_id == case.keys["peer"]

    async def source(self, case: Case, request: Request) -> None:
        own = Own(int(case.get("length") or 0))
        async with await aio.Node.start(sources={"suite": own}) as node, await node.peer() as peer:
            receipt = await peer.fetch(request.url, request.output)
            assert receipt.length == own.length
            async with await peer.open(request.url) as reader:
                check_crc(case, await reader.read())
        assert own.opened > 0
        check_crc(case, request.output.read_bytes())

    async def policy(self, case: Case, request: Request) -> None:
        async with await aio.Node.start(identity=REFUSED) as node:
            rules = Rules(node.peer_id, case.keys["unfetched"])
        async with await aio.Node.start(listen=LISTEN, allow_loopback_origins=True, policy=rules) as first:
            async with await first.scheduler(), await first.seed():
                token = first.token()
                async with await aio.Node.start(listen=LISTEN, token=token) as node, await node.peer() as peer:
                    receipt = await peer.fetch(request.url, request.output)
                    assert receipt.bytes_from_peers == receipt.length
                    receipt = await peer.fetch(self.world.origin + rules.unfetched)
                    assert receipt.bytes_from_origin == receipt.length
                    rules.check(node.peer_id, case)
                options: Any = {"listen": LISTEN, "token": token, "identity": REFUSED}
                async with await aio.Node.start(**options) as node, await node.peer() as peer:
                    receipt = await peer.fetch(self.world.origin + case.keys["refused"])
                    assert receipt.bytes_from_origin == receipt.length
        check_crc(case, request.output.read_bytes())

    async def events(self, case: Case, request: Request) -> None:
        async with await aio.Node.start(listen=LISTEN, allow_loopback_origins=True) as first:
            async with await first.scheduler(), await first.seed():
                events = first.events()
                async with await aio.Node.start(listen=LISTEN, token=first.token()) as node, await node.peer() as peer:
                    await peer.fetch(request.url)
                    assert await anext(events) == dragonfly.NodeEvent("peer_up", node.peer_id)
                assert await anext(events) == dragonfly.NodeEvent("peer_down", node.peer_id)
        assert [event async for event in events] == []

    async def log(self, case: Case, request: Request) -> None:
        log = Log()
        dragonfly.set_log(log, case.keys["level"])
        try:
            async with await aio.Node.start() as node, await node.peer() as peer:
                await peer.fetch(request.url)
            assert await asyncio.to_thread(log.heard.wait, 60)
        finally:
            dragonfly.set_log(None)

    async def start(self, case: Case, request: Request) -> None:
        options: Any = {}
        if token := case.get("token"):
            options["token"] = token
        if listen := case.get("listen"):
            options["listen"] = [listen]
        if case.get("same_dir"):
            options["data_dir"] = self.dir / "node"
        await (await aio.Node.start(**options)).close()

    async def full(self, case: Case, request: Request) -> None:
        async with await aio.Node.start(memory_bytes=int(case.keys["memory"])) as node, await node.peer() as peer:
            await peer.fetch(request.url)

    async def stopped(self, case: Case, request: Request) -> None:
        async with await aio.Node.start() as node:
            peer = await node.peer()
            await peer.close()
            await peer.fetch(request.url)


def test_asyncio(world: World, tmp_path: pathlib.Path) -> None:
    async def main() -> list[str]:
        failed = []
        async with await aio.Node.start(data_dir=tmp_path / "node", listen=LISTEN, token=world.token) as node:
            async with await node.peer() as peer:
                runner = Async(world, tmp_path, node, peer)
                for case in CASES:
                    operation = "start" if case.operation == "node" else case.operation
                    error = None
                    try:
                        await getattr(runner, operation)(case, Request(world, case, tmp_path))
                    except dragonfly.DragonflyError as caught:
                        error = caught
                    try:
                        judge(case, error)
                    except Exception as wrong:
                        failed.append(f"{case.name}: {wrong!r}")
        return failed

    assert asyncio.run(main()) == []
