"""Files that are read and written whole, on this machine or behind a URL."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from daskcal.atomic import flush_folder, write_atomically
from daskcal.errors import FrameError, OutputError
from daskcal.fits.content import spool_folder
from daskcal.fits.open_file import open_file
from daskcal.fits.urls import is_url


def read_whole(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises
    ------
    FileNotFoundError
        There is none; also behind a URL.
    OSError, FrameError
        It cannot be read.
    """
    if not is_url(path):
        return Path(path).read_bytes()
    from daskcal.fits.objects import read_object

    try:
        return read_object(os.fspath(path))
    except FrameError as error:
        if error.reason != "missing":
            raise
        there = os.fspath(path)
        raise FileNotFoundError(errno.ENOENT, "there is no such file", there) from error


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file.

    Raises
    ------
    FrameError
        A store does not say.
    """
    if not is_url(path):
        return os.path.isfile(path)
    from daskcal.fits.objects import object_stamp

    with contextlib.suppress(FileNotFoundError):
        object_stamp(os.fspath(path))
        return True
    return False


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a file there, whole or not at all; its folder is made where it is missing.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    if not is_url(path):
        write_atomically(Path(path), content)
        return
    from daskcal.fits.objects import put_object

    put_object(os.fspath(path), content)


def remove_whole(path: str | os.PathLike[str]) -> None:
    """Remove a file for good; that there is none is right, too."""
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
        flush_folder(Path(path).parent)
        return
    from daskcal.fits.objects import remove_object

    remove_object(os.fspath(path))


@contextlib.contextmanager
def at_hand(path: str | os.PathLike[str]) -> Iterator[str]:
    """A file of this machine with the content of a file: itself, or a copy of what a URL has.

    Raises
    ------
    FrameError
        The URL cannot be read.
    OutputError
        There is no room for the copy in scratch space.
    """
    if not is_url(path):
        yield os.fspath(path)
        return
    source = open_file(os.fspath(path))
    copy = spool_folder() / f"copy-{secrets.token_hex(8)}.fits"
    try:
        with source.stream() as there, open(copy, "xb") as here:
            try:
                shutil.copyfileobj(there, here, 8 << 20)
            except OSError as error:
                said = error.strerror or error
                raise OutputError(f"{copy}: {path} cannot be copied: {said}") from error
        yield str(copy)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(copy)
