"""How many rows a band may have: the memory budget decides, not the number of frames."""

from __future__ import annotations

import os
from typing import Any

import dask
import numpy as np
from dask.base import get_scheduler
from dask.local import get_sync
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from daskcal.errors import ArgumentError
from daskcal.frames.band import SLAB, pixel_bytes
from daskcal.frames.block import promoted
from daskcal.frames.blocks import Stack
from daskcal.frames.recipe import Input

SHARE = 0.25  # of the machine's memory, where no budget is set
SLACK = 0.75  # of the budget for bands: the allocator keeps some of what was freed
FIXED = 8 << 20  # bytes of a task, whatever its band: tiles and copies of the kernels
OUTPUT = 32  # bytes of a combined pixel: three planes of numbers and the counts
USEFUL_ROWS = 32  # of fewer, the overhead of a task costs more than it helps to spread the work
HANDY = 48 << 20  # bytes of raw pixels: larger bands were not faster


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


def all_threads() -> int:
    """Of all workers together, or of this process."""
    return sum(int(worker["nthreads"]) for worker in _cluster_workers()) or threads()


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


def band_rows(stack: Stack, whole: bool = False) -> int:
    """Rows of a band that holds all frames of `stack`: within the budget, and no more than help.

    `whole`: of one whose calibrated planes are there as a whole, not walked through. A power of
    two where it is not all rows.
    """
    rows, at_once = stack.section.shape[0], threads()
    room = SLACK * budget() / at_once - task_bytes(stack, 0, whole)
    row = task_bytes(stack, 1, whole) - task_bytes(stack, 0, whole)
    fitting = int(room // max(1, row))
    handy = HANDY // max(1, _raw_bytes(stack))
    wanted = max(USEFUL_ROWS, min(handy, rows // (4 * at_once)))
    height = max(1, min(fitting, wanted))
    return rows if height >= rows else 1 << (height.bit_length() - 1)


def task_bytes(stack: Stack, rows: int, whole: bool = False) -> int:
    """Bytes that a task holds while it reads, calibrates and combines a band of so many rows.

    The raw pixels of all frames; of the calibrated ones what waits in the cache, of one row at
    least, or the `whole` of them and what marks some; the combined planes; of each master its
    band, as it is and as the steps use it, and the block that the band was cut from.
    """
    recipe, columns = stack.recipe, stack.section.shape[1]
    line = stack.n_frames * columns * pixel_bytes(recipe)
    raw = _raw_bytes(stack) + (line + 2 * stack.n_frames * columns if whole and recipe.steps else 0)
    slab = max(SLAB, line)
    masters = [i for i in recipe.inputs if i.index == "yx"]
    row = raw + OUTPUT * columns + sum(2 * columns * _itemsize(i) for i in masters)
    blocks = sum(max(i.chunks[0]) * columns * _itemsize(i) for i in masters)
    return rows * row + slab + blocks + FIXED


def _raw_bytes(stack: Stack) -> int:
    """Bytes of one row of the raw pixels of all frames, of all columns that steps must see."""
    recipe = stack.recipe
    source, columns = recipe.source, recipe.reaches(stack.section)[0].shape[1]
    value = promoted(source.dtype).itemsize
    sizes = {"image": source.dtype.itemsize, "mask": 2}
    pixel = sum(sizes.get(plane, value) for plane in source.planes)
    return stack.n_frames * columns * pixel * source.copies


def _itemsize(i: Input) -> int:
    return np.dtype(i.dtype).itemsize


def _memory() -> int:
    """Bytes of the smallest worker, or of this machine."""
    limits = [int(worker["memory_limit"] or 0) for worker in _cluster_workers()]
    if any(limits):
        return min(limit for limit in limits if limit)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def active_client() -> Any:
    """The client of the cluster that computes; None without one."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "scheduler_info") else None


def _cluster_workers() -> list[dict]:
    """What is known of the workers of the cluster that computes; none without one."""
    client = active_client()
    return [] if client is None else list(client.scheduler_info(n_workers=-1)["workers"].values())
