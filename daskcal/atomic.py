"""Put bytes at a path whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from daskcal.errors import OutputError


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write `data` beside `path`, flush it to disk, and rename it into place.

    Whatever stood at `path` before survives any failure.

    Raises
    ------
    OutputError
        Where the folder cannot be made or written, or the disk is full; names `path`.
    """
    path = Path(path)
    # not tempfile: its files are readable by their owner alone
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _flush_folder(folder: Path) -> None:
    """Make the rename itself last; some file systems cannot flush a folder, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
