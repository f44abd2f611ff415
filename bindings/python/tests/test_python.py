"""What is Python's own: files, fsspec, signals, forks, exceptions, threads, event loops."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import threading

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


@pytest.mark.parametrize("how", ["fetch", "read"])
def test_ctrl_c(world: World, how: str) -> None:
    program = f"""
import dragonfly
node = dragonfly.Node(); peer = node.peer()
reader = peer.open({world.origin!r} + "/stalled")
reader.seek(-1, 2)
print("waiting", flush=True)
try:
    peer.fetch({world.origin!r} + "/stalled") if {how!r} == "fetch" else reader.read(1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        # The signal may come before the call: Python then raises before it, which is as good.
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "interrupted\n" or process.returncode in (1, -signal.SIGINT)


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


def test_readers_of_tables_know_nothing_of_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pandas, pyarrow and Hugging Face's datasets read a table of ours through their own `dragonfly+http` URLs, and
    tensors are read one by one."""
    if not os.environ.get("CI"):
        for name in ("datasets", "pandas", "pyarrow", "safetensors"):
            pytest.importorskip(name)
    import http.server

    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets
    import numpy
    import pandas
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
        with fs.open(url + "/table.parquet") as file:
            assert pyarrow.parquet.read_table(file).num_rows == 1000
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
