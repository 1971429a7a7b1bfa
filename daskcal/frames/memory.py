"""How many rows a stack block may have: the memory budget decides, not the number of frames."""

from __future__ import annotations

import os
from typing import Any

import dask
from dask.base import get_scheduler
from dask.local import get_sync
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from daskcal.errors import ArgumentError
from daskcal.frames.blocks import Stack
from daskcal.frames.recipe import promoted

SHARE = 0.25  # of the machine's memory, where no budget is set
SLACK = 0.75  # of the budget for blocks: the allocator keeps some of what was freed
FIXED = 6 << 20  # bytes of a thread, whatever its block: tiles and slabs of the kernels
STEP_TEMPORARIES = 2  # arrays as large as the image that a step has beside the planes (flat, clip)
PER_PIXEL = 32  # bytes a pixel of a band, whatever the number of frames: the combined planes
INPUT_BYTES = 8  # of a pixel of a master's plane
USEFUL_ROWS = 32  # of fewer, the overhead of a task costs more than it helps to spread the work


def budget() -> int:
    """Bytes that a computation may use: ``dask.config`` key ``daskcal.memory``, or a share.

    Of each worker, where there are workers.
    """
    wanted = dask.config.get("daskcal.memory", None)
    if wanted is None:
        return int(SHARE * _memory())
    try:
        size = int(parse_bytes(wanted))
    except (ValueError, TypeError, AttributeError):
        size = 0
    if size < 1_000_000:
        raise ArgumentError(f"memory={wanted!r} should be a size of 1 MB or more, such as '4GB'")
    return size


def threads() -> int:
    """How many blocks are worked on at once within the budget: those of dask's active scheduler."""
    workers = _cluster_workers()
    if workers:
        return max(int(worker["nthreads"]) for worker in workers)
    if get_scheduler() is get_sync:
        return 1
    pool = dask.config.get("pool", None)
    for given in (
        getattr(pool, "_max_workers", None),
        getattr(pool, "_processes", None),
        dask.config.get("num_workers", None),
    ):
        if given:
            return int(given)
    return int(CPU_COUNT)


def band_rows(stack: Stack) -> int:
    """Rows of a block that holds all frames of `stack`."""
    rows = stack.section.shape[0]
    at_once = threads()
    room = int(SLACK * budget()) // at_once - FIXED
    fitting = room // max(1, row_bytes(stack))
    spread = max(USEFUL_ROWS, rows // (4 * at_once))
    return int(max(1, min(fitting, spread, rows)))


def row_bytes(stack: Stack) -> int:
    """Bytes that are alive at once for each row of a block while it is read and combined.

    Of the columns that are read, which may be more than those that are kept. Where steps follow,
    the raw pixels are gone by the time that all planes are there.
    """
    recipe = stack.recipe
    raw, number = recipe.source.dtype.itemsize, promoted(recipe.source.dtype).itemsize
    planes = recipe.source.planes
    for step in recipe.steps:
        planes = step.planes(planes)
    sample = number * (1 + STEP_TEMPORARIES) if recipe.steps else raw
    sample += sum(2 if plane == "mask" else number for plane in planes if plane != "image")
    pixel = PER_PIXEL + INPUT_BYTES * len(recipe.inputs)
    columns = recipe.reaches(stack.section)[0].shape[1]
    return columns * (stack.n_frames * sample + pixel)


def _memory() -> int:
    """Bytes of the smallest worker, or of this machine."""
    limits = [int(worker["memory_limit"] or 0) for worker in _cluster_workers()]
    if any(limits):
        return min(limit for limit in limits if limit)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cluster_workers() -> list[dict]:
    """What is known of the workers of the cluster that computes; none without one."""
    client: Any = getattr(get_scheduler(), "__self__", None)
    if not hasattr(client, "scheduler_info"):
        return []
    return list(client.scheduler_info()["workers"].values())
