"""Exceptions: one class per kind, all of them DragonflyError, and the closest of Python's own as well."""

from __future__ import annotations

import builtins
import errno


class DragonflyError(Exception):
    """What went wrong. `kind` is the same name in every language; `temporary`: the same call may succeed later."""

    kind = "internal"

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.temporary = temporary

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_make, (type(self), self.message, self.temporary))


class _OsLike(DragonflyError, OSError):
    """An error that is also an OSError, with a number."""

    number = errno.EIO

    def __init__(self, message: str, *, temporary: bool = False) -> None:
        super().__init__(message, temporary=temporary)
        self.errno = self.number
        self.strerror = message


class CancelledError(DragonflyError):
    """The caller withdrew, or the engine shut down first."""

    kind = "cancelled"


class ConfigError(DragonflyError):
    """The configuration or the environment does not allow it."""

    kind = "config"


class DigestMismatchError(_OsLike):
    """The content does not have the digest that the caller gave."""

    kind = "digest_mismatch"
    number = errno.EBADMSG


class ExistsError(_OsLike, FileExistsError):
    """The output exists and was not to be overwritten."""

    kind = "exists"
    number = errno.EEXIST


class ForbiddenError(_OsLike, PermissionError):
    """The origin, or a rule of this node, refuses."""

    kind = "forbidden"
    number = errno.EACCES


class FullError(_OsLike):
    """No space: disk, quota or memory budget."""

    kind = "full"
    number = errno.ENOSPC


class InvalidInputError(DragonflyError, ValueError):
    """An argument is malformed."""

    kind = "invalid_input"


class IoError(_OsLike):
    """The local file system failed."""

    kind = "io"


class NetworkError(_OsLike, ConnectionError):
    """Peers or the scheduler could not be reached."""

    kind = "network"
    number = errno.EHOSTUNREACH


class NotFoundError(_OsLike, FileNotFoundError):
    """The origin has no such content, or the task is not held."""

    kind = "not_found"
    number = errno.ENOENT


class OriginError(_OsLike):
    """The origin failed in another way."""

    kind = "origin"


class TimeoutError(_OsLike, builtins.TimeoutError):
    """Not within the time."""

    kind = "timeout"
    number = errno.ETIMEDOUT


class InternalError(DragonflyError, RuntimeError):
    """A bug or a broken invariant; please report it."""

    kind = "internal"


KINDS: dict[str, type[DragonflyError]] = {
    cls.kind: cls
    for cls in (
        CancelledError,
        ConfigError,
        DigestMismatchError,
        ExistsError,
        ForbiddenError,
        FullError,
        InvalidInputError,
        IoError,
        NetworkError,
        NotFoundError,
        OriginError,
        TimeoutError,
        InternalError,
    )
}


def _make(cls: type[DragonflyError], message: str, temporary: bool) -> DragonflyError:
    return cls(message, temporary=temporary)


def classify(raised: BaseException) -> tuple[str, bool, str]:
    """What a program's own source raised, for the native half: kind, whether it may pass, message."""
    message = str(raised) or type(raised).__name__
    if isinstance(raised, DragonflyError):
        return raised.kind, raised.temporary, message
    for cls, kind, temporary in (
        (FileNotFoundError, "not_found", False),
        (PermissionError, "forbidden", False),
        (builtins.TimeoutError, "timeout", True),
        (OSError, "network", True),
    ):
        if isinstance(raised, cls):
            return kind, temporary, message
    return "origin", False, f"{type(raised).__name__}: {message}"


def make(kind: str, temporary: bool, message: str) -> DragonflyError:
    """The exception for a kind: what the native half raises."""
    return KINDS.get(kind, DragonflyError)(message, temporary=temporary)
