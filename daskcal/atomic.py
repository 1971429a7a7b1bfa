"""Put bytes at a path whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from pathlib import Path
from typing import Any

from daskcal.errors import OutputError
from daskcal.temporaries import forget, new_temporary, remove

_HERE = -100  # AT_FDCWD of <fcntl.h>: paths as they are
_EXCHANGE = 2  # RENAME_EXCHANGE of <linux/fs.h>


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write `data` beside `path`, flush it to disk, and rename it into place.

    Whatever stood at `path` before survives any failure.

    Raises
    ------
    OutputError
        Where the folder cannot be made or written, or the disk is full; names `path`.
    """
    path = Path(path)
    part = new_temporary(path)  # not tempfile: its files are readable by their owner alone
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        flush_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        remove(part)
        forget(path, part)
    return path


def put_in_place(temporary: str, path: Path) -> None:
    """Give a temporary, complete and flushed, its name, in one step and for good.

    Raises
    ------
    OutputError
        The file system refuses.
    """
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    flush_folder(path.parent)
    forget(path, temporary)


def flush_folder(folder: str | Path) -> None:
    """Make renames in a folder last; some file systems cannot flush a folder, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def exchange(new: str | Path, old: str | Path) -> bool:
    """Swap two paths in one step, where the system can (Linux, most local file systems).

    Returns
    -------
    bool
        False where it cannot, and nothing has happened.
    """
    call = _renameat2()
    if call is None:
        return False
    done: int = call(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE)
    return done == 0


@functools.cache
def _renameat2() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call
