"""Images made small: means of the good pixels of square blocks, so that every pixel counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BAND = 1 << 21  # pixels that are averaged at once


def defined(values: np.ndarray) -> NDArray[np.bool_]:
    """Where `values` are numbers, and small enough for sums and differences of them to be."""
    if values.dtype.itemsize < 8:
        return np.isfinite(values)
    return np.abs(values) < 1e300


def averaged(image: np.ndarray, mask: np.ndarray | None, block: int) -> NDArray[np.float64]:
    """Means of the good pixels of each block of `block` × `block`; NaN where there are none.

    Blocks at the far edges may be smaller. Memory is that of a band of rows.
    """
    height = band_height(image.shape[1], block)
    bands = [slice(at, at + height) for at in range(0, image.shape[0], height)]
    means = [
        block_means(image[band], None if mask is None else mask[band], block) for band in bands
    ]
    return np.concatenate(means)


def band_height(columns: int, block: int) -> int:
    """Rows of whole blocks that are averaged at once."""
    return max(1, _BAND // (block * columns)) * block


def block_means(
    values: np.ndarray, mask: np.ndarray | None, block: int, tall: int | None = None
) -> NDArray[np.float64]:
    """Means of the good pixels of each block of an image or of a band of it; NaN without any.

    Parameters
    ----------
    values, mask : arrays (rows, columns)
        As for `picture`; the blocks at their far edges may be smaller.
    block : int
        Columns of a block.
    tall : int, optional
        Rows of a block, where it has others.
    """
    return means(*block_sums(values, mask, block, tall=tall))


def means(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over counts; NaN where nothing counts."""
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def block_sums(
    values: np.ndarray,
    mask: np.ndarray | None,
    block: int,
    *,
    tall: int | None = None,
    start: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts of the good pixels of each block of a band of an image.

    Parameters
    ----------
    values, mask : arrays (rows, columns)
    block, tall : int
        As for `block_means`.
    start : int
        Row of the image that the band begins with: its first block may be the rest of one.
    """
    tall = tall or block
    down = block_starts(values.shape[0], tall, start)
    right = np.arange(0, values.shape[1], block)
    heights, widths = np.diff(down, append=len(values)), np.diff(right, append=values.shape[1])
    counts = np.outer(heights, widths).astype(np.float64)
    bad = _bad(values, mask)
    if bad is None:
        return _totals(values, down, right), counts
    return _totals(np.where(bad, 0, values), down, right), counts - _totals(bad, down, right)


def block_starts(rows: int, tall: int, start: int) -> NDArray[np.intp]:
    """The first row of each block, of those of a band that begins with row `start`."""
    first = -start % tall
    return np.union1d([0], np.arange(first, rows, tall)).astype(np.intp)


def _bad(values: np.ndarray, mask: np.ndarray | None) -> NDArray[np.bool_] | None:
    """Where pixels count for nothing; None where all are good, which is quicker to add up."""
    bad = None if mask is None else np.asarray(mask) != 0
    if values.dtype.kind == "f":
        undefined = ~defined(values)
        bad = undefined if bad is None else bad | undefined
    return bad if bad is not None and bad.any() else None


def _totals(values: np.ndarray, down: np.ndarray, right: np.ndarray) -> NDArray[np.float64]:
    """Sums of blocks: rows first, which stand beside each other in memory."""
    rows = np.empty((down.size, values.shape[1]))
    for i, (first, last) in enumerate(zip(down, [*down[1:], len(values)], strict=True)):
        np.add.reduce(values[first:last], axis=0, dtype=np.float64, out=rows[i])
    return np.add.reduceat(rows, right, axis=1)
