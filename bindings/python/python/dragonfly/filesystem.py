"""Dragonfly behind fsspec: `dragonfly+https://host/path` is read through a peer of this process, so that libraries which
read through fsspec need not know of it. Options of the node go into `storage_options`, those of a request into
`request`."""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import fsspec  # type: ignore[import-untyped]

from . import Node, Peer

#: What is read ahead of a caller that reads little.
_BUFFER = 1 << 20


#: Those of this process, by id: fsspec calls file systems with the same options equal.
_instances: weakref.WeakValueDictionary[int, DragonflyFileSystem] = weakref.WeakValueDictionary()


def _forked() -> None:
    """In a child made by fork(2), as workers of data loaders are, the parent's engine has no threads: each file system
    starts its own when it is first needed. The lock may have been held by a thread that is not there."""
    for one in list(_instances.values()):
        one._lock, one._engine = threading.Lock(), None


os.register_at_fork(after_in_child=_forked)


class DragonflyFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """Files of HTTP origins, read only. One node and peer for each set of options, per process."""

    protocol = ("dragonfly+https", "dragonfly+http", "dragonfly")
    root_marker = ""

    def __init__(self, *args: Any, request: Mapping[str, Any] | None = None, **options: Any) -> None:
        known = ("use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache", "asynchronous", "loop")
        general = {name: options.pop(name) for name in known if name in options}
        super().__init__(*args, **general)
        self._options = options
        self._request = dict(request or {})
        self._lock = threading.Lock()
        self._engine: tuple[Node, Peer] | None = None
        _instances[id(self)] = self

    @property
    def peer(self) -> Peer:
        """The peer behind it, started when it is first needed."""
        with self._lock:
            if self._engine is None:
                node = Node(**self._options)
                self._engine = (node, node.peer())
            return self._engine[1]

    def close(self) -> None:
        """Stops the peer, if it runs."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine[1].close()
            engine[0].close()

    @classmethod
    def _strip_protocol(cls, path: str | list[str]) -> str | list[str]:
        """A path as this file system names it: `dragonfly+` and what is fetched, so that whoever keeps it comes back
        here. `dragonfly://` is HTTPS."""
        if isinstance(path, list):
            return [cls._name(one) for one in path]
        return cls._name(path)

    @classmethod
    def _name(cls, path: str) -> str:
        if path.startswith("dragonfly+"):
            return path
        if path.startswith("dragonfly://"):
            return "dragonfly+https://" + path.removeprefix("dragonfly://")
        return "dragonfly+" + path

    @classmethod
    def _url(cls, path: str) -> str:
        """What is fetched."""
        return cls._name(path).removeprefix("dragonfly+")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {}

    @classmethod
    def _parent(cls, path: str) -> str:
        return path.rsplit("/", 1)[0]

    def _open_reader(self, path: str) -> Any:
        return self.peer.open(self._url(path), **self._request)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BufferedReader:
        if mode != "rb":
            raise NotImplementedError("an origin is read only")
        return io.BufferedReader(self._open_reader(path), _BUFFER)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and length. What was begun to be fetched for it is withdrawn."""
        with self._open_reader(path) as reader:
            return {"name": self._name(path), "size": reader.length, "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The file itself: an origin has no listings."""
        info = self.info(path)
        return [info] if detail else [info["name"]]

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """The file itself, if there is one: `?` and `*` are characters of a URL like any other."""
        found = [self._name(path)] if self.exists(path) else []
        return {name: self.info(name) for name in found} if options.get("detail") else found

    def expand_path(self, path: str | list[str], **_: Any) -> list[str]:
        """The files themselves, as they are named."""
        return [self._name(one) for one in ([path] if isinstance(path, str) else path)]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether the origin has it."""
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        """Never: an origin has no directories."""
        return False

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The bytes of a file, or of a range of it; negative places count from the end."""
        with self._open_reader(path) as reader:
            first, last, _step = slice(start, end).indices(reader.length)
            reader.seek(first)
            with io.BufferedReader(reader, _BUFFER) as buffered:
                return buffered.read(max(last - first, 0))

    def get_file(self, rpath: str, lpath: Any, **_: Any) -> None:
        """To a local file, complete and checked."""
        self.peer.fetch(self._url(rpath), lpath, overwrite=True, **self._request)
