"""What is Python's own: files, fsspec, signals, forks, exceptions, threads, event loops."""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import multiprocessing
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import threading
from typing import Any, Self

import dragonfly
import fsspec
import pytest
from conftest import World
from dragonfly import _errors, aio


def test_exceptions_are_of_their_kind_and_of_pythons_own() -> None:
    assert issubclass(dragonfly.NotFoundError, FileNotFoundError)
    assert issubclass(dragonfly.TimeoutError, TimeoutError)
    for kind, cls in _errors.KINDS.items():
        error = _errors.make(kind, True, "what happened")
        assert type(error) is cls and error.kind == kind and error.temporary and str(error) == "what happened"
        if isinstance(error, OSError):
            assert error.errno
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is cls and str(again) == str(error) and again.temporary


def test_a_reader_is_a_file(world: World) -> None:
    with dragonfly.Node() as node, node.peer() as peer:
        with io.BufferedReader(peer.open(world.origin + "/large")) as file:
            assert len(file.read(10)) == 10
            assert file.seek(-5, 2) == 8388620
            assert len(file.read()) == 5 and file.readable() and file.seekable() and not file.writable()
        assert file.closed
        with pytest.raises(ValueError):
            file.raw.readinto(bytearray(1))
        reader = peer.open(world.origin + "/small")
        with pytest.raises(BufferError):
            reader.readinto(b"read only")
        with pytest.raises(ValueError):
            reader.seek(-1)
        with pytest.raises(TypeError, match="unknown options: colour"):
            peer.fetch(world.origin + "/small", colour="red")  # type: ignore[call-arg]


def test_other_threads_run_while_one_waits(world: World) -> None:
    with dragonfly.Node() as node, node.peer() as peer:
        reader = peer.open(world.origin + "/stalled")
        reader.seek(-1, 2)
        failed: list[BaseException] = []

        def read() -> None:
            try:
                reader.read(1)
            except dragonfly.CancelledError as error:
                failed.append(error)

        waiting = threading.Thread(target=read)
        waiting.start()
        assert sum(range(100_000)) > 0 and waiting.is_alive()
        reader.close()
        waiting.join(60)
        assert len(failed) == 1


def test_timeouts_withdraw_nothing(world: World) -> None:
    with dragonfly.Node() as node, node.peer() as peer:
        download = peer.start(world.origin + "/stalled")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                download.wait(timeout=0.01)
        download.cancel()
        with pytest.raises(dragonfly.CancelledError):
            download.wait()


class Endless:
    """An origin whose content never ends to come, and which knows when nobody wants it any more."""

    def __init__(self) -> None:
        self.left = left = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-length", str(1 << 30))
                self.end_headers()
                self.wfile.write(bytes(1 << 16))
                # Nothing comes from the other end but its end.
                self.connection.recv(1)
                left.set()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/content"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


CTRL_C = {
    "fetch": "peer.fetch(url, progress=waiting)",
    "preheat": "seed.preheat(url, progress=waiting)",
    "read": "print('waiting', flush=True); reader.read(1)",
}


@pytest.mark.parametrize("how", CTRL_C)
def test_ctrl_c(how: str) -> None:
    """It ends the call, and what was fetched for it is left."""
    with Endless() as origin:
        program = f"""if True:
    import dragonfly, signal
    # A shell that starts the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    url = {origin.url!r}
    told = []
    def waiting(event):
        if not told:
            told.append(print("waiting", flush=True))
    node = dragonfly.Node(allow_loopback_origins=True); seed = node.seed(); peer = seed.peer
    reader = peer.open(url) if {how!r} == "read" else None
    try:
        {CTRL_C[how]}
    except KeyboardInterrupt:
        if reader:
            reader.close()
        print("interrupted", flush=True)
    input()
"""
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            # The signal may come before the call waits: Python then raises before it, which is as good.
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert origin.left.wait(60), "it is still fetched"
            process.communicate("\n", timeout=60)
            assert process.returncode == 0


def test_a_forked_child_is_told_so(world: World) -> None:
    node = dragonfly.Node()
    peer = node.peer()
    reader = peer.open(world.origin + "/small")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            told = 0
            for call in (node.metrics, lambda: peer.fetch("http://127.0.0.1:1/"), lambda: reader.read(1)):
                try:
                    call()
                except dragonfly.ConfigError as error:
                    told += "fork" in str(error)
            del reader, peer, node
            with dragonfly.Node() as own, own.peer() as fresh:
                code = 0 if told == 3 and fresh.fetch(world.origin + "/small").length == 1000 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.read() != b""
    peer.close()
    node.close()


def test_an_awaited_call_is_cancelled_with_its_task(world: World) -> None:
    async def main() -> None:
        async with await aio.Node.start() as node, await node.peer() as peer:
            started = asyncio.Event()
            fetch = asyncio.create_task(
                peer.fetch(world.origin + "/slower", progress=lambda event: started.set() if event.bytes else None)
            )
            await started.wait()
            fetch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetch
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await peer.fetch(world.origin + "/stalled")

    asyncio.run(main())


def test_a_preheat_is_cancelled_with_its_task() -> None:
    async def main(origin: Endless) -> None:
        async with await aio.Node.start(allow_loopback_origins=True) as node, await node.seed() as seed:
            started = asyncio.Event()
            preheat = asyncio.create_task(seed.preheat(origin.url, progress=lambda _: started.set()))
            await started.wait()
            preheat.cancel()
            with pytest.raises(asyncio.CancelledError):
                await preheat
            assert await asyncio.to_thread(origin.left.wait, 60), "it is still fetched"

    with Endless() as origin:
        asyncio.run(main(origin))


def test_the_interpreter_ends_while_work_is_under_way(world: World) -> None:
    program = f"""
import dragonfly
node = dragonfly.Node(); peer = node.peer()
download = peer.start({world.origin!r} + "/stalled", progress=print)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("times", range(5))
def test_the_interpreter_ends_while_the_log_talks(times: int) -> None:
    # What it raises is printed, by a thread that the end of the interpreter does not wait for by itself.
    program = """if True:
    import dragonfly
    dragonfly.set_log(lambda record: record.nothing, level="trace")
    node = dragonfly.Node(listen=["/ip4/127.0.0.1/tcp/0"]); peer = node.peer()
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr[-2000:]


def test_fsspec(world: World, tmp_path: pathlib.Path) -> None:
    url = "dragonfly+" + world.origin
    with fsspec.open(url + "/large", "rb") as file:
        file.seek(8388600)
        assert len(file.read()) == 25
    fs = fsspec.filesystem("dragonfly+http")
    assert fs.info(url + "/large")["size"] == 8388625 and fs.isfile(url + "/small") and not fs.isdir(url + "/small")
    assert len(fs.cat_file(url + "/large", 100, 200)) == 100 and len(fs.cat_file(url + "/large", -7, None)) == 7
    assert fs.exists(url + "/small") and not fs.exists(url + "/missing")
    with pytest.raises(FileNotFoundError):
        fs.cat(url + "/missing")
    with pytest.raises(NotImplementedError):
        fs.open(url + "/small", "wb")
    # What is named by it is its own, whoever keeps the name; and a URL may have a query.
    assert fs.info(url + "/small")["name"] == url + "/small" and fs.glob(url + "/small?a=*") == [url + "/small?a=*"]
    assert fs.glob(url + "/missing") == [] and len(fs.cat(url + "/small?a=*")) == 1000
    fs.get(url + "/small", str(tmp_path / "small"))
    assert (tmp_path / "small").stat().st_size == 1000
    fs.close()


def length_of(fs: fsspec.AbstractFileSystem, url: str) -> int:
    return len(fs.cat_file(url))


def test_fsspec_goes_on_after_a_fork(world: World) -> None:
    """As the workers of a data loader do, which have the file system of the process that forked them."""
    url = f"dragonfly+{world.origin}/small"
    fs = fsspec.filesystem("dragonfly+http", skip_instance_cache=True)
    assert length_of(fs, url) == 1000

    def work(results: Any) -> None:
        results.put(length_of(fs, url))

    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    workers = [fork.Process(target=work, args=(results,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0] and [results.get() for _ in workers] == [1000, 1000]
    assert length_of(fs, url) == 1000, "the parent's is as it was"
    fs.close()


def test_readers_of_tables_know_nothing_of_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas, pyarrow and Hugging Face's datasets read a table of ours through their own `dragonfly+http` URLs, and
    tensors are read one by one."""
    if not os.environ.get("CI"):
        for name in ("datasets", "pandas", "pyarrow", "safetensors"):
            pytest.importorskip(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets
    import numpy
    import pandas
    import pyarrow.dataset
    import pyarrow.parquet
    import safetensors.numpy

    table = pandas.DataFrame({"number": range(1000), "square": [n * n for n in range(1000)]})
    table.to_csv(tmp_path / "table.csv", index=False)
    table.to_parquet(tmp_path / "table.parquet")
    tensors = {"range": numpy.arange(1000, dtype=numpy.float32), "ones": numpy.ones((30, 30), dtype=numpy.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def handler(*args: object) -> Quiet:
        return Quiet(*args, directory=str(tmp_path))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"dragonfly+http://127.0.0.1:{server.server_port}"
        assert pandas.read_csv(url + "/table.csv").equals(table)
        assert pandas.read_parquet(url + "/table.parquet", columns=["square"])["square"].sum() == table["square"].sum()
        fs = fsspec.filesystem("dragonfly+http")
        # pyarrow opens it itself, by its URL and by the file system.
        assert pyarrow.parquet.read_table("fsspec+" + url + "/table.parquet").num_rows == 1000
        assert pyarrow.dataset.dataset(url + "/table.parquet", filesystem=fs).count_rows() == 1000
        files = {"data_files": url + "/table.parquet", "split": "train"}
        assert sum(datasets.load_dataset("parquet", **files)["square"]) == table["square"].sum()
        assert sum(row["number"] for row in datasets.load_dataset("parquet", streaming=True, **files)) == 499500
        with fs.open(url + "/model.safetensors") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            first, last = json.loads(file.read(length))["ones"]["data_offsets"]
            file.seek(8 + length + first)
            assert file.read(last - first) == tensors["ones"].tobytes()
        fs.close()
        server.shutdown()
