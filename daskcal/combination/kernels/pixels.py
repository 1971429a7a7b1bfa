"""The compiled entry point: takes the pixels of a slab, tile by tile, through all of it."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from daskcal.combination.kernels.averaged import add_scatter, averaged_lanes
from daskcal.combination.kernels.clip import noise_floor, sigma_lanes
from daskcal.combination.kernels.esd import esd_lanes, most_outliers
from daskcal.combination.kernels.linear_fit import linear_fit_lanes
from daskcal.combination.kernels.minmax import minmax_lanes
from daskcal.combination.kernels.moments import (
    mean_lanes,
    median_lanes,
    propagated_lanes,
    variance_lanes,
    weighted_lanes,
    winsorised_lanes,
)
from daskcal.combination.kernels.networks import rank, rank_narrow
from daskcal.combination.kernels.noise_clip import FROM_MODEL, FROM_VARIANCE, noise_lanes
from daskcal.combination.kernels.percentile import percentile_lanes
from daskcal.combination.kernels.record import record
from daskcal.combination.kernels.rules import (
    AVERAGED,
    ESD,
    LINEAR_FIT,
    MINMAX,
    MODEL,
    NONE,
    PERCENTILE,
    SIGMA,
    VARIANCE,
    WINSORISED,
)
from daskcal.combination.kernels.tiles import (
    load,
    new_tile,
    tile_width,
    write,
    write_counts,
    write_mask,
)
from daskcal.combination.kernels.winsorised import winsorised_clip_lanes
from daskcal.compiled import compile_cached, once

MEAN, MEDIAN, LOWER_MEDIAN = 0, 1, 2
IN_TILES, NARROW, GIVEN = 0, 1, 2  # how values are sorted: see `combining_loop`
TURNED = 32  # frames × pixels that are turned at once: both sides fit into the L1 cache


def _combining(sources: str, kind: int, order: int) -> Callable[..., None]:
    # One loop for each kind of rejection, so that none waits for the others to compile: numba
    # leaves out the branches of the other kinds. Its cache looks at this file's date only, but
    # hashes what a function closes over: naming `sources` remakes it when any file changes.
    def combine_pixels(
        image, mask, variance, shared, spread, in_order, scale, zero, whole, first, last,
        rules, floor, take, weights, slopes, size, gains, empty,
        out, out_variance, out_shared, out_mask, out_used, out_low, out_high,
        bits, tally, offset,
    ):  # fmt: skip
        sources  # noqa: B018
        n = image.shape[0]
        lanes = tile_width(n, empty.itemsize, last - first)
        raw, tile = new_tile(n, lanes, empty), new_tile(n, lanes, empty)
        narrow = new_tile(n if order == NARROW else 0, lanes, image)
        good, used = np.empty(lanes, np.int32), np.empty(lanes, np.int32)
        n_low, n_high = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
        losing, ties = np.zeros(lanes, np.bool_), np.empty((2, lanes), np.int32)
        frames, terms = np.empty((3, n), np.int32), np.empty((3, n))
        most = most_outliers(n, rules.fraction) if kind == ESD else 0
        sums = np.empty((4, most + 1, lanes))
        floors, value, total = np.full(lanes, floor), np.empty(lanes), np.empty(lanes)
        scratch, common = np.empty((6, lanes)), np.empty(lanes)
        by_mean = kind == SIGMA and not rules.by_median and not rules.by_mad
        from_scatter = out_variance.size > 0 and not variance.shape[0]
        by_their_mean = take == MEAN or weights.size > 0 or from_scatter
        ranks = take != MEAN or (kind != NONE and not by_mean)

        for start in range(first, last, lanes):
            width = min(lanes, last - start)
            load(image, mask, scale, zero, whole, start, raw, good, width)
            if order == GIVEN:
                ranked = in_order[start - first : start - first + width].T
            else:
                ranked = tile
                if ranks and order == NARROW:
                    rank_narrow(image, start, narrow, ranked, width)
                elif ranks:
                    rank(raw, ranked, width)

            if floor < 0:  # "variance"
                noise_floor(raw, variance, scale, start, used, floors, width)
            if kind == SIGMA:
                sigma_lanes(raw, ranked, ranks, good, rules, floors,
                            scratch, losing, n_low, n_high, width)  # fmt: skip
            elif kind == MINMAX:
                minmax_lanes(raw, ranked, good, rules.lost, scratch, ties, n_low, n_high, width)
            elif kind == PERCENTILE:
                percentile_lanes(raw, ranked, good, rules, scratch, losing, n_low, n_high, width)
            elif kind == WINSORISED:
                winsorised_clip_lanes(
                    raw, ranked, good, rules, floors, scratch, losing, n_low, n_high, width
                )
            elif kind == LINEAR_FIT:
                linear_fit_lanes(
                    raw, ranked, good, rules, floors, scratch, losing, n_low, n_high, width
                )
            elif kind == ESD:
                esd_lanes(raw, ranked, good, rules, floors, sums, ties,
                          scratch, losing, n_low, n_high, width)  # fmt: skip
            elif kind == AVERAGED:
                averaged_lanes(raw, ranked, good, rules, spread[start : start + width],
                               scratch, losing, n_low, n_high, width)  # fmt: skip
            elif kind == VARIANCE:
                noise_lanes(FROM_VARIANCE, raw, ranked, good, start, variance, rules,
                            frames, terms, scratch, n_low, n_high, width)  # fmt: skip
            elif kind == MODEL:
                noise_lanes(FROM_MODEL, raw, ranked, good, start, variance, rules,
                            frames, terms, scratch, n_low, n_high, width)  # fmt: skip
            for k in range(width):
                used[k] = good[k] - n_low[k] - n_high[k]

            if by_their_mean:
                mean_lanes(raw, used, value, width)
            if weights.size:
                weighted_lanes(
                    raw, variance, shared, scale, start, weights, slopes, used,
                    value, total, common, scratch, width,
                )  # fmt: skip
            else:
                if kind == MINMAX and not variance.shape[0]:
                    winsorised_lanes(raw, n_low, n_high, used, scratch, total, width)
                elif out_variance.size:
                    variance_lanes(raw, variance, scale, start, used, value, total, width)
                if out_shared.size:
                    propagated_lanes(raw, shared, scale, start, used, common, width)
                    for k in range(width):
                        common[k] *= used[k]
            if out_variance.size:
                for k in range(width):
                    total[k] *= gains[good[k] if kind == MINMAX else used[k]]
                write(total, 1.0, out_variance[start : start + width], width)
            if out_shared.size:
                write(common, size * size, out_shared[start : start + width], width)
            if take != MEAN:
                median_lanes(ranked, used, n_low, take == LOWER_MEDIAN, value, width)
            write(value, size, out[start : start + width], width)
            write_counts(
                used, n_low, n_high,
                out_used[start : start + width], out_low[start : start + width],
                out_high[start : start + width], width,
            )  # fmt: skip
            write_mask(mask, used, start, out_mask[start : start + width], width)
            if bits.size or tally.size:
                load(image, mask, scale, zero, whole, start, tile, good, width)
                record(tile, raw, bits, tally, offset + start, width)

    # files of its own in numba's cache: kinds can be compiled side by side
    combine_pixels.__qualname__ += f"_{kind}_{order}"
    return combine_pixels


def _scatter(sources: str, presorted: int) -> Callable[..., None]:
    def scatter_of_rows(
        image, mask, in_order, scale, zero, whole, first, last, by_median, empty, columns, sums
    ):
        sources  # noqa: B018
        n = image.shape[0]
        lanes = tile_width(n, empty.itemsize, last - first)
        raw, tile = new_tile(n, lanes, empty), new_tile(n, lanes, empty)
        good, scratch = np.empty(lanes, np.int32), np.empty((2, lanes))
        for start in range(first, last, lanes):
            width = min(lanes, last - start)
            load(image, mask, scale, zero, whole, start, raw, good, width)
            if presorted == 1:
                ranked = in_order[start - first : start - first + width].T
            else:
                ranked = tile
                rank(raw, ranked, width)
            add_scatter(ranked, good, start, columns, by_median, sums, scratch, width)

    scatter_of_rows.__qualname__ += f"_{presorted}"
    return scatter_of_rows


def _sources() -> str:
    """A digest of the sources of the kernels."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _ordering(sources: str) -> Callable[..., None]:
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


@once
def combining_loop(kind: int, order: int) -> Any:
    """The loop of a kind of rejection.

    `order` says how it sorts: IN_TILES; NARROW: the same for 16-bit integers as they are, without
    masks and scales; GIVEN: not at all, it is given the sorted values of each pixel (pixels, n).
    """
    return compile_cached(_combining(_sources(), kind, order))


@once
def scatter_loop(presorted: int) -> Any:
    """The loop that sums the scatter of each row, for averaged sigma clipping."""
    return compile_cached(_scatter(_sources(), presorted))


@once
def ordering_loop() -> Any:
    """The loop that lays the loaded values of each pixel side by side."""
    return compile_cached(_ordering(_sources()))
