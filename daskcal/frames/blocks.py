"""Frames in blocks of whatever layout is wanted: cut where they are read, not rechunked."""

from __future__ import annotations

import operator

import xarray as xr

from daskcal.errors import ArgumentError
from daskcal.frames.band import Band
from daskcal.frames.block import PLANES
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.recovery import DIMS, recover, require_frames
from daskcal.frames.stack import Stack, cut_planes, describe_input, pack
from daskcal.strict import strict_keywords

__all__ = ["DIMS", "Band", "Stack", "assign", "blocks", "describe_input", "pack", "recover",
           "require_frames"]  # fmt: skip

BLOCK_BYTES = 8 << 20  # of an image in a default block: hides a task's overhead many times over


def assign(frames: xr.Dataset, stack: Stack, frame: int = 1, rows: int | None = None) -> xr.Dataset:
    """`frames` with the pixel variables of `stack`, cut into blocks."""
    arrays = cut_planes(stack, frame, _default_rows(stack) if rows is None else rows)
    attrs = {plane: dict(frames[plane].attrs) for plane in arrays if plane in frames}
    attrs.setdefault("mask", dict(MASK_ATTRS))
    planes = {plane: xr.Variable(DIMS, arrays[plane], attrs.get(plane)) for plane in arrays}
    return frames.drop_vars([p for p in PLANES if p in frames.data_vars]).assign(planes)


def _default_rows(stack: Stack) -> int:
    """Rows of a block of one frame in the layout that users hold."""
    row = max(1, stack.section.shape[1] * stack.recipe.dtype.itemsize)
    return max(1, min(stack.section.shape[0], BLOCK_BYTES // row))


@strict_keywords
def blocks(frames: xr.Dataset, frame: int = -1, rows: int = 64) -> xr.Dataset:
    """Cut the pixels of frames anew: `frame` frames × `rows` rows a block, columns whole.

    Only the layout changes. The pixels of frames that daskcal opened or calibrated are cut where
    they are read; no rechunk moves them, even after a selection. Coordinates stay in memory.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    frame, rows : int
        Frames and rows of one block; -1 is all of them.

    Returns
    -------
    xarray.Dataset
        The same frames.

    Raises
    ------
    ArgumentError
        `frame` or `rows` is neither -1 nor a positive number.

    Notes
    -----
    Arithmetic of your own on the pixels (``frames.image - 100``) stays lazy, but has to be
    rechunked here: each file may then be read once for each block that it is cut into.

    Examples
    --------
    >>> blocks = daskcal.blocks(frames, frame=-1, rows=64)  # all frames × 64 rows
    >>> blocks.image.chunks[1]
    (64, 64)
    """
    sizes = [_size("frame", frame), _size("rows", rows)]
    return assign(frames, recover(frames), *sizes)


def _size(name: str, value: int) -> int:
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if size < 1 and size != -1:
        raise ArgumentError(f"{name}={value!r} should be a positive number, or -1 for all")
    return size
