"""Growth of rejections: what lies near a rejected value of the same frame is rejected as well."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from daskcal.combination.kernels import Combined
from daskcal.combination.kernels.record import unpack
from daskcal.frames.masks import Flag


class Growth(NamedTuple):
    """Rows of which the rejections have grown.

    `mask` (frame, rows, columns) has ``no_data`` where values were rejected; `rejected` are the
    bits of those and `tally` their counts, as the kernels have them; `n_low` and `n_high` (rows,
    columns) count them on either side of what was combined before they grew.
    """

    mask: np.ndarray
    rejected: np.ndarray
    tally: np.ndarray
    n_low: np.ndarray
    n_high: np.ndarray


def grow_rejections(
    image: np.ndarray,
    mask: np.ndarray | None,
    before: Combined,
    radius: float,
    kept: slice,
    numbers: dict[str, Any],
) -> Growth:
    """Grow what `before` rejected by `radius` pixels, in the rows that are `kept`.

    A pixel that would be left with fewer than ``n_keep`` values, or with none, loses no more than
    before. `image` and `mask` (frame, rows, columns) are what was combined, with ``scale`` and
    ``zero`` of the frames, ``method`` and ``reject`` in `numbers`.
    """
    assert before.rejected is not None
    n, centre = len(image), before.image[kept]
    if numbers["method"] == "sum":
        centre = centre / n
    near = unpack(dilated(before.rejected, radius)[:, kept], n)
    first = unpack(before.rejected[:, kept], n)
    grown_mask = np.zeros(near.shape, np.uint16)
    if mask is not None:
        grown_mask[...] = mask[:, kept]
    good = (grown_mask == 0) & np.isfinite(image[:, kept])
    near &= good
    starved = (good & ~near).sum(axis=0) < max(numbers["reject"].n_keep, 1)
    near[:, starved] = first[:, starved]
    grown_mask[near] |= Flag.NO_DATA
    tally = np.stack([near.sum(axis=(1, 2)), good.sum(axis=(1, 2))])  # REJECTED, GOOD
    n_low, n_high = before.n_low[kept].copy(), before.n_high[kept].copy()
    for i in range(n):
        grown = near[i] & ~first[i]
        low = grown & (_scaled(image[i, kept], i, numbers) < centre)
        n_low += low
        n_high += grown & ~low
    bits = np.packbits(near, axis=0, bitorder="little")
    return Growth(grown_mask, bits, tally, n_low, n_high)


def dilated(bits: np.ndarray, radius: float) -> np.ndarray:
    """Planes of bits (bytes, rows, columns) with all bits set within `radius` of one that is."""
    out, wide = bits.copy(), bits.copy()  # wide: grown along x by `reach`
    reach = 0
    heights = range(math.floor(radius), -1, -1)
    for height in heights:  # from the narrowest rows of the disc to the widest
        half = math.isqrt(math.floor(radius * radius) - height * height)
        while reach < half:
            reach += 1
            wide[:, :, reach:] |= bits[:, :, :-reach]
            wide[:, :, :-reach] |= bits[:, :, reach:]
        if height:
            out[:, height:] |= wide[:, :-height]
            out[:, :-height] |= wide[:, height:]
        else:
            out |= wide
    return out


def _scaled(pixels: np.ndarray, i: int, numbers: dict[str, Any]) -> np.ndarray:
    zero = 0.0 if numbers["zero"] is None else numbers["zero"][i]
    scale = 1.0 if numbers["scale"] is None else numbers["scale"][i]
    return (pixels.astype(np.float64) - zero) * scale
