"""What a program brings of its own: sources, a policy, a place for the log."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from . import _native


class Body(Protocol):
    """A binary file that is read once, from its start: what `open(path, "rb")` or `io.BytesIO` gives."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


@dataclass(frozen=True)
class SourceRequest:
    """What a source is asked for: the bytes from `start` up to `end`, which is None for the end of the content."""

    url: str
    start: int
    end: int | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class SourceContent:
    """What a source answers.

    `body` is the bytes from `offset` on: from the request's start, or 0 if the origin has no `ranges`. `length` is that
    of the whole. `version` tells this version from all others; without it a download that breaks off begins anew.
    `fresh`: how many seconds the answer stays current.
    """

    body: Body
    length: int | None = None
    offset: int = 0
    version: str | None = None
    ranges: bool = False
    fresh: float | None = None


class Source(Protocol):
    """An origin of the program's own, for one URL scheme: see the option `sources` of a node.

    It is called from several threads at once. What it raises is told apart: a DragonflyError is itself,
    FileNotFoundError, PermissionError and TimeoutError are what they say, other OSErrors are taken to be the network's,
    and may pass. A call under way cannot be withdrawn from: what waits in it must have a bound of its own.
    """

    def open(self, request: SourceRequest, /) -> SourceContent: ...


@dataclass(frozen=True)
class Member:
    """Another member. `not_after`: when its credential ends, in seconds since 1970; None: never."""

    peer_id: str
    roles: str
    tenant: str
    not_after: int | None


@dataclass(frozen=True)
class PeerRequest:
    """What another member asks of this host.

    `type`: "serve" (to be sent pieces of a task that this host holds) or "fetch" (to fetch a task from its origin, as a
    seed does when a scheduler says so; `peer_id` is then None). `label` is the task's URL without anything secret.
    """

    type: str
    peer_id: str | None
    task: str
    label: str


class Policy:
    """The program's own rules about other members: override what there is something to say about.

    They come after the network's: who is no member is refused before anything here is asked. The methods are called from
    several threads of the library's at once, and the network waits for them. What they raise is shown, and refuses.
    """

    def admit_peer(self, member: Member, /) -> bool:
        """Whether a member may be connected to this host, whoever dialled. Asked once per connection."""
        return True

    def admit_request(self, request: PeerRequest, /) -> bool:
        """Whether this host does what another member asks for."""
        return True


@dataclass(frozen=True)
class NodeEvent:
    """What happened to a node: `type` is "peer_up" or "peer_down"."""

    type: str
    peer_id: str


@dataclass(frozen=True)
class LogRecord:
    """One thing that the library has to say. `level`: "error", "warn", "info", "debug" or "trace"."""

    level: str
    target: str
    message: str


_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG - 5,
}


def opener(source: Source) -> Callable[[str, int, int | None, list[tuple[str, str]]], Any]:
    """A source as the native half calls it."""

    def call(url: str, start: int, end: int | None, headers: list[tuple[str, str]]) -> Any:
        content = source.open(SourceRequest(url, start, end, dict(headers)))
        return content.body, content.length, content.offset, content.version, content.ranges, content.fresh

    return call


def rules(policy: Policy) -> tuple[Callable[..., bool], Callable[..., bool]]:
    """A policy as the native half calls it."""

    def admit_peer(peer_id: str, roles: str, tenant: str, not_after: int | None) -> bool:
        return policy.admit_peer(Member(peer_id, roles, tenant, not_after))

    def admit_request(type: str, peer_id: str | None, task: str, label: str) -> bool:
        return policy.admit_request(PeerRequest(type, peer_id, task, label))

    return admit_peer, admit_request


def set_log(sink: logging.Logger | Callable[[LogRecord], object] | None, level: str = "info") -> None:
    """Where the library's log goes, from `level` on: a logger, or a function; None: nowhere, as it is at the start.

    One for the process. Of the libraries beneath this one it tells warnings and errors at most. It is called from a
    thread of the library's; after this call nothing more comes to the one before, unless the call is made by that one
    itself. It ends with the interpreter.
    """
    if sink is None:
        _native.log_set(level, None)
    elif isinstance(sink, logging.Logger):
        logger = sink
        _native.log_set(
            level, lambda name, target, message: logger.log(_LEVELS[name], "%s", message, extra={"target": target})
        )
    else:
        tell = sink
        _native.log_set(level, lambda name, target, message: tell(LogRecord(name, target, message)))


def _end(pid: int) -> None:
    # A thread that prints while the interpreter ends would abort it. In a forked child there is no such thread.
    if os.getpid() == pid:
        set_log(None)


atexit.register(_end, os.getpid())
