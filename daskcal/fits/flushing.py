"""Ask the system to begin writing a file to disk, so that the last flush finds little to do."""

from __future__ import annotations

import ctypes
from typing import Any

_WRITE = 2  # SYNC_FILE_RANGE_WRITE of <fcntl.h>: begin, and do not wait


def _system_call() -> Any:
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError, TypeError):  # not Linux
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _system_call()


def begin_flush(handle: int, offset: int, size: int) -> None:
    """Begin to flush `size` bytes from `offset`, where the system can; promises nothing."""
    if _sync_file_range is not None:
        _sync_file_range(handle, offset, size, _WRITE)
