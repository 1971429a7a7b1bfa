"""The compiled entry point: takes the pixels of a slab, tile by tile, through all of it."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np

from daskcal.combination.kernels.clip import (
    clip_lane,
    find_losers_mean,
    find_losers_median,
    noise_floor,
)
from daskcal.combination.kernels.minmax import minmax_lane
from daskcal.combination.kernels.moments import (
    lost_mask,
    mean_lanes,
    median_lanes,
    propagated_lanes,
    scatter_lanes,
)
from daskcal.combination.kernels.networks import rank
from daskcal.combination.kernels.tiles import load

NONE, SIGMA, MINMAX = 0, 1, 2
WIDEST, NARROWEST = 256, 32
TILE_BYTES = 1 << 19  # the raw and the sorted tile together: about half of a core's L2 cache
# Rows of a tile lie an odd number of cache lines apart, or a column would fall into few cache sets.
PADDING_BYTES = 64


@nb.njit(error_model="numpy")
def _lanes(n, itemsize, pixels):
    """How many pixels a tile of n frames takes (no result depends on it)."""
    lanes = TILE_BYTES // (2 * n * itemsize) // NARROWEST * NARROWEST
    return min(max(lanes, NARROWEST), WIDEST, max(pixels, 1))


@nb.njit(error_model="numpy")
def _reject(raw, ranked, good, kind, by_median, by_mad, low, high, floor, maxiters,
            lanes, losing, n_low, n_high, width):  # fmt: skip
    """Turn rejected values of `raw` into +inf and count them in n_low and n_high (lanes)."""
    if kind == SIGMA and by_median and by_mad:
        find_losers_median(ranked, good, low, high, floor, lanes, losing, width)
    elif kind == SIGMA and not by_median and not by_mad:
        find_losers_mean(raw, good, low, high, floor, lanes, losing, width)
        losers = 0
        for k in range(width):
            losers += losing[k]
        if losers:
            rank(raw, ranked, width)
    elif kind != NONE:
        for k in range(width):
            losing[k] = True
    for k in range(width):
        n_low[k], n_high[k] = 0, 0
        if losing[k] and good[k]:
            if kind == SIGMA:
                n_low[k], n_high[k] = clip_lane(
                    raw, ranked, good[k], k, by_median, by_mad, low, high, floor[k], maxiters
                )
            else:
                n_low[k], n_high[k] = minmax_lane(raw, ranked, good[k], k, int(low), int(high))


def _compile(sources: str, cache: bool) -> Callable[..., None]:
    # numba's cache looks at this file's date only, but hashes what a function closes over: naming
    # `sources` in the loop remakes it when any file of the folder changes.
    @nb.njit(nogil=True, cache=cache, error_model="numpy")
    def combine_pixels(
        image, mask, variance, shared, scale, zero,
        kind, by_median, by_mad, low, high, floor, maxiters, take_median, size, gains, empty,
        out, out_variance, out_shared, out_mask, out_used, out_low, out_high,
    ):  # fmt: skip
        sources  # noqa: B018
        n, pixels = image.shape
        lanes = _lanes(n, empty.itemsize, pixels)
        columns = lanes + PADDING_BYTES // empty.itemsize
        raw = np.empty((n, columns), empty.dtype)
        ranked = np.empty((n, columns), empty.dtype)
        good, used = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
        n_low, n_high = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
        losing = np.zeros(lanes, np.bool_)
        floors, value, total = np.full(lanes, floor), np.empty(lanes), np.empty(lanes)
        scratch = np.empty((3, lanes))
        sort = take_median or kind == MINMAX or (kind == SIGMA and (by_median or by_mad))

        for start in range(0, pixels, lanes):
            width = min(lanes, pixels - start)
            load(image, mask, scale, zero, start, raw, good, width)
            if sort:
                rank(raw, ranked, width)
            if floor < 0:  # "variance"
                noise_floor(raw, variance, scale, start, floors, width)
            _reject(raw, ranked, good, kind, by_median, by_mad, low, high, floors, maxiters,
                    scratch, losing, n_low, n_high, width)  # fmt: skip
            for k in range(width):
                used[k] = good[k] - n_low[k] - n_high[k]

            scatter = out_variance.size and not variance.shape[0]
            if scatter or not take_median:
                mean_lanes(raw, used, value, width)
            if scatter:
                scatter_lanes(raw, used, value, total, width)
            elif out_variance.size:
                propagated_lanes(raw, variance, scale, start, used, total, width)
            if out_variance.size:
                for k in range(width):
                    out_variance[start + k] = total[k] * gains[used[k]]
            if out_shared.size:
                propagated_lanes(raw, shared, scale, start, used, total, width)
                for k in range(width):
                    out_shared[start + k] = total[k] * used[k] * size * size
            if take_median:
                median_lanes(ranked, used, n_low, value, width)
            for k in range(width):
                out[start + k] = value[k] * size
                out_used[start + k] = used[k]
                out_low[start + k] = n_low[k]
                out_high[start + k] = n_high[k]
                out_mask[start + k] = 0 if used[k] else lost_mask(mask, start + k)

    return combine_pixels


def _sources() -> str:
    """A digest of the sources of the kernels."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compile_cached() -> Callable[..., None]:
    """The loop, kept on disk once compiled where numba finds a folder it may write to."""
    try:
        return _compile(_sources(), cache=True)
    except RuntimeError:  # read-only installation and no home: each process compiles its own
        return _compile(_sources(), cache=False)


combine_pixels: Any = _compile_cached()
