"""The compiled entry point: takes the pixels of a slab, tile by tile, through all of it."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np

from daskcal.combination.kernels.clip import noise_floor, sigma_lanes
from daskcal.combination.kernels.minmax import minmax_lanes
from daskcal.combination.kernels.moments import (
    mean_lanes,
    median_lanes,
    propagated_lanes,
    variance_lanes,
)
from daskcal.combination.kernels.networks import rank
from daskcal.combination.kernels.tiles import (
    load,
    new_tile,
    tile_width,
    write,
    write_counts,
    write_mask,
)

NONE, SIGMA, MINMAX = 0, 1, 2
TURNED = 32  # frames × pixels that are turned at once: both sides fit into the L1 cache


def _compile(sources: str, kind: int, presorted: int, cache: bool) -> Callable[..., None]:
    # One loop for each kind of rejection, so that none waits for the others to compile: numba
    # leaves out the branches of the other kinds. Its cache looks at this file's date only, but
    # hashes what a function closes over: naming `sources` remakes it when any file changes.
    @nb.njit(nogil=True, cache=cache, error_model="numpy")
    def combine_pixels(
        image, mask, variance, shared, in_order, scale, zero, whole, first, last,
        by_median, by_mad, low, high, floor, maxiters, take_median, size, gains, empty,
        out, out_variance, out_shared, out_mask, out_used, out_low, out_high,
    ):  # fmt: skip
        sources  # noqa: B018
        n = image.shape[0]
        lanes = tile_width(n, empty.itemsize, last - first)
        raw, tile = new_tile(n, lanes, empty), new_tile(n, lanes, empty)
        good, used = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
        n_low, n_high = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
        losing, ties = np.zeros(lanes, np.bool_), np.empty((2, lanes), np.int32)
        floors, value, total = np.full(lanes, floor), np.empty(lanes), np.empty(lanes)
        scratch = np.empty((3, lanes))
        ranks = take_median or kind == MINMAX or (kind == SIGMA and (by_median or by_mad))

        for start in range(first, last, lanes):
            width = min(lanes, last - start)
            load(image, mask, scale, zero, whole, start, raw, good, width)
            if presorted == 1:
                ranked = in_order[start - first : start - first + width].T
            else:
                ranked = tile
                if ranks:
                    rank(raw, ranked, width)

            if kind == SIGMA:
                if floor < 0:  # "variance"
                    noise_floor(raw, variance, scale, start, used, floors, width)
                sigma_lanes(
                    raw, ranked, ranks, good, by_median, by_mad, low, high, floors, maxiters,
                    scratch, losing, n_low, n_high, width,
                )  # fmt: skip
            elif kind == MINMAX:
                minmax_lanes(
                    raw, ranked, good, int(low), int(high), scratch, ties, n_low, n_high, width
                )
            for k in range(width):
                used[k] = good[k] - n_low[k] - n_high[k]

            mean_lanes(raw, used, value, width)
            if out_variance.size:
                variance_lanes(raw, variance, scale, start, used, value, total, width)
                for k in range(width):
                    total[k] *= gains[used[k]]
                write(total, 1.0, out_variance[start : start + width], width)
            if out_shared.size:
                propagated_lanes(raw, shared, scale, start, used, total, width)
                for k in range(width):
                    total[k] *= used[k] * size
                write(total, size, out_shared[start : start + width], width)
            if take_median:
                median_lanes(ranked, used, n_low, value, width)
            write(value, size, out[start : start + width], width)
            write_counts(
                used, n_low, n_high,
                out_used[start : start + width], out_low[start : start + width],
                out_high[start : start + width], width,
            )  # fmt: skip
            write_mask(mask, used, start, out_mask[start : start + width], width)

    return combine_pixels


def _sources() -> str:
    """A digest of the sources of the kernels."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _compile_order(sources: str, cache: bool) -> Callable[..., None]:
    @nb.njit(nogil=True, cache=cache, error_model="numpy")
    def by_pixel(image, mask, scale, zero, whole, first, out):
        sources  # noqa: B018
        pixels, n = out.shape
        raw = new_tile(TURNED, TURNED, out)
        good = np.empty(TURNED, np.int32)
        for start in range(0, pixels, TURNED):
            width = min(TURNED, pixels - start)
            for top in range(0, n, TURNED):
                some = slice(top, min(top + TURNED, n))
                load(image[some], mask[some], scale[some], zero[some], whole, first + start,
                     raw, good, width)  # fmt: skip
                for k in range(width):
                    row = out[start + k, some]
                    for i in range(row.size):
                        row[i] = raw[i, k]

    return by_pixel


def _kept(compile_with: Callable[..., Any], *options: int) -> Any:
    """A compiled loop, kept on disk where there is a folder for it."""
    try:
        return compile_with(_sources(), *options, cache=True)
    except RuntimeError:  # read-only installation and no home: each process compiles its own
        return compile_with(_sources(), *options, cache=False)


@cache
def combining_loop(kind: int, presorted: int) -> Any:
    """The loop of a kind of rejection.

    `presorted`: it is given the sorted values of each pixel (pixels, n), and does not sort.
    """
    return _kept(_compile, kind, presorted)


@cache
def ordering_loop() -> Any:
    """The loop that lays the loaded values of each pixel side by side."""
    return _kept(_compile_order)
