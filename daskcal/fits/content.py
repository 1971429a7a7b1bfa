"""What a file is, by its bytes, and the unpacked copies of packed files in scratch space."""

from __future__ import annotations

import bz2
import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from daskcal.errors import FrameError, OutputError
from daskcal.fits.open_file import Stamp, check_unchanged, open_file
from daskcal.fits.urls import is_url

FITS_MAGIC = b"SIMPLE  ="
COPIED = "copied"  # of a source: read from a copy, though it is not packed
PIECE = 1 << 20
_READ = 1 << 18
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2"}
_CLAIM = re.compile(r"\.(fits|fit|fts|fz)(\.gz|\.bz2)?$", re.IGNORECASE)
_DAYS_KEPT = 2.0


def kind(start: bytes) -> str:
    """``"fits"``, ``"gzip"``, ``"bzip2"`` or ``""`` for a file that begins with `start`."""
    if start.startswith(FITS_MAGIC):
        return "fits"
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def claims_fits(path: str) -> bool:
    """Whether the name says that the file is FITS."""
    return _CLAIM.search(path) is not None


def unpack(file: BinaryIO, path: str, wrapper: str) -> Iterator[bytes]:
    """The unpacked content of `file` in pieces of at most 1 MiB, checksums verified.

    Where nothing is packed, as it is.

    Several packed members one after the other are one content, as for gzip and bzip2 themselves.

    Raises
    ------
    FrameError
        ``truncated`` where the packed stream ends early, ``damaged`` where it is not intact.
    """
    members = {"gzip": _gzip_members, "bzip2": _bzip2_members}.get(wrapper)
    if members is None:
        yield from iter(lambda: file.read(PIECE), b"")
        return
    try:
        yield from members(file, path)
    except (zlib.error, ValueError, EOFError) as error:
        raise _damaged(path, wrapper, error) from error
    except OSError as error:
        if error.errno is not None:  # of the operating system, not of the decoder
            raise
        raise _damaged(path, wrapper, error) from error


def _damaged(path: str, wrapper: str, error: Exception) -> FrameError:
    return FrameError(path, "damaged", f"the {wrapper} data are damaged: {error}")


def _ends_early(path: str, wrapper: str) -> FrameError:
    return FrameError(
        path, "truncated", f"the {wrapper} data end early; copy or download the file again"
    )


def _gzip_members(file: BinaryIO, path: str) -> Iterator[bytes]:
    packed = file.read(_READ)
    while True:
        decoder = zlib.decompressobj(wbits=31)  # 31: gzip header, CRC and length checked
        while not decoder.eof:
            if not packed:
                packed = file.read(_READ)
                if not packed:
                    raise _ends_early(path, "gzip")
            piece = decoder.decompress(packed, PIECE)
            packed = decoder.unconsumed_tail
            if piece:
                yield piece
        packed = decoder.unused_data or file.read(_READ)
        if not packed.startswith(b"\x1f\x8b"):
            return  # padding, which gzip ignores too


def _bzip2_members(file: BinaryIO, path: str) -> Iterator[bytes]:
    packed = file.read(_READ)
    while True:
        decoder = bz2.BZ2Decompressor()
        while not decoder.eof:
            if decoder.needs_input and not packed:
                packed = file.read(_READ)
                if not packed:
                    raise _ends_early(path, "bzip2")
            piece = decoder.decompress(packed, PIECE)
            packed = b""
            if piece:
                yield piece
        packed = decoder.unused_data or file.read(_READ)
        if not packed.startswith(b"BZh"):
            return


def spool_folder() -> Path:
    """The folder, the user's own, for unpacked copies: made with mode 0700 where missing."""
    base = os.environ.get("DASKCAL_SCRATCH")
    if not base:
        import dask

        base = dask.config.get("temporary-directory", None) or tempfile.gettempdir()
    folder = Path(base) / f"daskcal-{os.getuid()}"
    try:
        Path(base).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise OutputError(
            f"scratch space {folder} cannot be made: {error.strerror}; set DASKCAL_SCRATCH to a "
            "folder on a local disk"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OutputError(
            f"scratch space {folder} is not a folder of yours; set DASKCAL_SCRATCH to another place"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def spool(path: str, stamp: Stamp, unpacked_size: int) -> str:
    """The path of the unpacked copy of a packed file, or of a file behind a URL, made once on each
    host.

    Parameters
    ----------
    path : str
        The file, or its URL.
    stamp : Stamp
        What it was when it was scanned, and must be still.
    unpacked_size : int
        Bytes of its content, as the scan counted them.

    Raises
    ------
    FrameError
        ``missing``, ``changed``, ``damaged`` or ``truncated``.
    OutputError
        Where scratch space is too small or cannot be used.
    """
    place = path
    if not is_url(path):
        place = os.path.realpath(path)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise FrameError(path, "missing", "there is no such file any more") from None
        check_unchanged(path, Stamp(status.st_size, status.st_mtime_ns), stamp)
    folder = spool_folder()
    version = f"{stamp.size}\0{stamp.mtime_ns}{stamp.tag}"
    key = f"{place}\0{version}".encode("utf-8", "surrogateescape")
    copy = folder / (hashlib.blake2b(key, digest_size=16).hexdigest() + ".fits")
    if _is_whole(copy, unpacked_size):
        return str(copy)
    with _locked(copy.with_suffix(".lock")):
        if not _is_whole(copy, unpacked_size):  # another process may have made it meanwhile
            _forget_old(folder)
            _unpack_to(copy, path, stamp, unpacked_size)
    return str(copy)


def spool_whole(url: str) -> tuple[str, Stamp] | None:
    """The copy, made once on each host, of a FITS file behind a URL, and what is there now.

    None where it is packed. Reading a source of the wrapper `COPIED` makes the copy, too.
    """
    file = open_file(url)
    start = bytearray(len(FITS_MAGIC))
    file.read_into(memoryview(start), 0)
    if kind(bytes(start)) != "fits":
        return None
    return spool(url, file.stamp, file.stamp.size), file.stamp


def _is_whole(copy: Path, unpacked_size: int) -> bool:
    try:
        status = copy.stat()
    except FileNotFoundError:
        return False
    if status.st_size != unpacked_size:
        return False
    if time.time() - status.st_mtime > 3600:
        with contextlib.suppress(OSError):
            os.utime(copy)  # in use: keeps it from `_forget_old`
    return True


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock between threads, and processes of this host; a dead holder's lock is free."""
    import fcntl

    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                current = os.stat(lock).st_ino == os.fstat(handle).st_ino
            except FileNotFoundError:
                current = False
            if current:  # else its holder removed the file that we waited for
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def _forget_old(folder: Path) -> None:
    """Remove copies that nobody used for two days, and the remains of runs that were ended."""
    limit = time.time() - _DAYS_KEPT * 86400
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    os.unlink(entry.path)


def _unpack_to(copy: Path, path: str, stamp: Stamp, unpacked_size: int) -> None:
    part = copy.with_suffix(".part")  # one writer at a time: the caller holds the lock
    _check_space(copy.parent, path, unpacked_size, unpacked_size)
    written = 0
    file = open_file(path, stamp)
    try:
        with file.stream() as packed, open(part, "wb") as target:
            wrapper = kind(packed.read(4))
            packed.seek(0)
            for piece in unpack(packed, path, wrapper):
                written += len(piece)
                if written > unpacked_size:
                    break
                target.write(piece)
        if written != unpacked_size:
            raise FrameError(
                path, "changed", f"unpacks to other than the {unpacked_size} bytes of its scan"
            )
        os.replace(part, copy)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_space(copy.parent, path, unpacked_size) from error
        raise
    finally:
        file.close()
        part.unlink(missing_ok=True)


def _check_space(folder: Path, path: str, needed: int, unpacked_size: int) -> None:
    if shutil.disk_usage(folder).free < needed:
        raise _no_space(folder, path, unpacked_size)


def _no_space(folder: Path, path: str, needed: int) -> OutputError:
    free = shutil.disk_usage(folder).free
    return OutputError(
        f"{path}: unpacking it needs {needed} bytes of scratch space, and {folder} has {free} "
        "free; make room, or set DASKCAL_SCRATCH to a folder on a larger local disk"
    )
