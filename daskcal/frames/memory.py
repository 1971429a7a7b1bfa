"""How many rows a stack block may have: the memory budget decides, not the number of frames."""

from __future__ import annotations

import os

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from daskcal.errors import ArgumentError
from daskcal.frames.blocks import Stack

SHARE = 0.25  # of the machine's memory, where no budget is set
IN_FLIGHT = 2  # blocks that one thread has alive: the one it works on, and one being handed on
TEMPORARY = 12  # bytes a sample that kernels and steps use beside the planes
USEFUL_ROWS = 16  # below it, the overhead of a task costs more than it helps to spread the work


def budget() -> int:
    """Bytes that a computation may use: ``dask.config`` key ``daskcal.memory``, or a share."""
    wanted = dask.config.get("daskcal.memory", None)
    if wanted is None:
        return int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        size = int(parse_bytes(wanted))
    except ValueError:
        size = 0
    if size < 1 << 20:
        raise ArgumentError(f"memory={wanted!r} should be a size of 1 MB or more, such as '4GB'")
    return size


def band_rows(stack: Stack) -> int:
    """Rows of a block that holds all frames of `stack`."""
    rows, columns = stack.section.shape
    sample = stack.recipe.source.dtype.itemsize + TEMPORARY
    sample += sum(stack.recipe.plane_dtype(plane).itemsize for plane in stack.recipe.planes)
    share = budget() // (CPU_COUNT * IN_FLIGHT)
    fitting = share // max(1, stack.n_frames * columns * sample)
    spread = max(USEFUL_ROWS, rows // (4 * CPU_COUNT))
    return int(max(1, min(fitting, spread, rows)))
