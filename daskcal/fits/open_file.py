"""An open file, here or behind a URL: bytes by their place, and whether it is as it was."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple, Protocol

from daskcal.errors import FrameError
from daskcal.fits.urls import is_url
from daskcal.retry import shared

_PAGE = 4096


class Stamp(NamedTuple):
    """What tells a file from the same one when it has changed.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns : int
        Time of the last change; 0 behind a URL.
    tag : str
        What the store calls this version of an object (its ETag, say); ``""`` of files.
    """

    size: int
    mtime_ns: int = 0
    tag: str = ""


class OpenFile(Protocol):
    """Bytes of one file; no task hands one on to another.

    Attributes
    ----------
    path : str
        The file, absolute, or its URL.
    stamp : Stamp
        What it is now.
    gap : int
        So many bytes that nobody wants are rather left out than read, between two that are wanted.
    """

    path: str
    stamp: Stamp
    gap: int

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` on; return how many bytes there were, 0 at the end."""
        ...

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size); fewer bytes where the file ends."""
        ...

    def stream(self) -> BinaryIO:
        """The same file as Python's own, from its start."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class LocalFile:
    """A regular file of this machine, or of a shared file system."""

    __slots__ = ("_handle", "gap", "path", "stamp")

    def __init__(self, path: str, handle: int, status: os.stat_result) -> None:
        self.path, self._handle, self.gap = path, handle, _PAGE
        self.stamp = Stamp(status.st_size, status.st_mtime_ns)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` on; return how many bytes there were, 0 at the end."""
        try:
            return os.preadv(self._handle, [buffer], offset)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self._reopen()
        return os.preadv(self._handle, [buffer], offset)

    def _reopen(self) -> None:
        """Another host has put a file in its place, which may be the same one."""
        handle, status = open_regular(self.path, known=True)
        os.close(self._handle)
        self._handle = handle
        check_unchanged(self.path, Stamp(status.st_size, status.st_mtime_ns), self.stamp)

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size); fewer bytes where the file ends."""
        return [os.pread(self._handle, size, offset) for offset, size in ranges]

    def stream(self) -> BinaryIO:
        """The same file as Python's own, from its start."""
        os.lseek(self._handle, 0, os.SEEK_SET)
        return open(os.dup(self._handle), "rb")

    def close(self) -> None:
        """Let go of it."""
        os.close(self._handle)


def open_file(path: str, expected: Stamp | None = None) -> OpenFile:
    """The file at `path`, which is as it was when it was `expected`.

    Raises
    ------
    FrameError
        ``missing``, ``not-fits`` where it is no regular file, ``changed``, or ``unreadable``.
    """
    if is_url(path):
        from daskcal.fits.remote import RemoteFile

        return RemoteFile(path, expected)
    handle, status = open_regular(path, known=expected is not None)
    file = LocalFile(path, handle, status)
    if expected is not None:
        try:
            check_unchanged(path, file.stamp, expected)
        except FrameError:
            file.close()
            raise
    return file


def check_unchanged(path: str, now: Stamp, then: Stamp) -> None:
    """Raise a `FrameError` ``changed`` unless the file is as it was when it was scanned."""
    if now != then:
        raise changed(path, f" ({then.size} bytes then, {now.size} now)")


def changed(path: str, how: str = "") -> FrameError:
    """The error for a file that is not what was scanned."""
    return FrameError(
        path, "changed", f"the file changed after it was scanned{how}; open the frames again"
    )


def open_regular(path: str, known: bool = False) -> tuple[int, os.stat_result]:
    """A file descriptor of the regular file at `path` and its status.

    One that is `known` to be there may be late to show up on a shared file system.

    Raises
    ------
    FrameError
        ``missing``, ``not-fits`` where it is no regular file, or ``unreadable``.
    """
    try:
        handle = shared(lambda: _open(path), path) if known else _open(path)
    except FileNotFoundError:
        raise FrameError(path, "missing", "there is no such file") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # says nothing about the file
        if error.errno in (errno.ENXIO, errno.ENODEV):  # a socket
            raise FrameError(path, "not-fits", "is not a regular file") from None
        raise FrameError(path, "unreadable", f"cannot be opened: {error.strerror}") from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FrameError(path, "not-fits", "is not a regular file")
    return handle, status


def _open(path: str) -> int:
    # without O_NONBLOCK, opening a FIFO waits for a writer
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
