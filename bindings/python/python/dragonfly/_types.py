"""What goes in and what comes out, as plain values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from . import _own

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Receipt:
    """The outcome of a finished download."""

    task: str
    generation: str
    length: int
    blake3: str
    verified: bool
    bytes_from_origin: int
    bytes_from_peers: int
    bytes_held: int
    elapsed: float
    exported: str | None


@dataclass(frozen=True)
class TaskInfo:
    """A task as the store holds it."""

    task: str
    generation: str
    label: str
    length: int
    bytes_held: int
    complete: bool
    pinned: bool
    neighbours: int


@dataclass(frozen=True)
class Progress:
    """Progress of a download. `type`: "described" (the length is known), "progress" or "complete"."""

    type: str
    bytes: int = 0
    length: int = 0
    from_origin: int = 0
    from_peers: int = 0
    neighbours: int = 0


ProgressCallback = Callable[[Progress], object]


class Options(TypedDict, total=False):
    """How content is fetched; every field has a default."""

    digest: str
    headers: Mapping[str, str]
    tag: str
    application: str
    filtered_query_params: Sequence[str]
    priority: int
    timeout: float
    back_to_source: bool
    ca_pem: bytes
    insecure: bool
    age_max: float
    stale_ok: bool


class NodeOptions(TypedDict, total=False):
    """How a node is configured; every field has a default."""

    data_dir: Path
    memory_bytes: int
    quota_bytes: int
    listen: Sequence[str]
    token: str
    schedulers: Sequence[str]
    bootstrap: Sequence[str]
    upload_slots: int
    site: str
    allow_loopback_origins: bool
    trust_seeds_only: bool
    workers: int
    identity: bytes
    sources: Mapping[str, _own.Source]
    policy: _own.Policy


_OPTIONS = frozenset(Options.__annotations__)
_NODE_OPTIONS = frozenset(NodeOptions.__annotations__)


def request(url: str, output: Path | None, overwrite: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the native half."""
    unknown = set(options) - _OPTIONS
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    made = dict(options)
    if "headers" in made:
        made["headers"] = [(str(name), str(value)) for name, value in made["headers"].items()]
    if output is not None:
        made["output"] = os.fspath(output)
    return {**made, "url": url, "overwrite": overwrite}


def node(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a node for the native half."""
    unknown = set(options) - _NODE_OPTIONS
    if unknown:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    made = dict(options)
    if made.get("data_dir") is not None:
        made["data_dir"] = os.fspath(made["data_dir"])
    for name in ("listen", "schedulers", "bootstrap"):
        if isinstance(made.get(name), str):
            raise TypeError(f"{name} is a list of addresses")
    if made.get("sources") is not None:
        made["sources"] = [(scheme, _own.opener(source)) for scheme, source in made["sources"].items()]
    if made.get("policy") is not None:
        made["policy"] = _own.rules(made["policy"])
    return made
