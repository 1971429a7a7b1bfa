"""Averaged sigma clipping: one σ for a row of the detector, scaled with the level."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import math

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import (
    first_centre,
    first_centres,
    mean_between,
    median_between,
    settle,
    within,
)
from daskcal.combination.kernels.marks import mark
from daskcal.combination.kernels.moments import squares

LEAST = 3


@nb.njit(error_model="numpy")
def add_scatter(ranked, good, first_pixel, columns, by_median, sums, lanes, width):
    """Add pixels of LEAST and more good values to the sums of their rows: Σ (x - c)²/max(1, c), M.

    Pixel by pixel in the order of the row, and within a pixel from the lowest value: the sum does
    not depend on how pixels are cut into tiles. `sums` is (rows, 2), `lanes` scratch of (2, lanes).
    """
    centre, square = lanes[0], lanes[1]
    first_centres(ranked, good, by_median, centre, width)
    squares(ranked, centre, square, width)
    for k in range(width):
        square[k] = square[k] / max(centre[k], 1.0) if good[k] >= LEAST else 0.0
    k = 0
    while k < width:
        row = (first_pixel + k) // columns
        stop = min(width, (row + 1) * columns - first_pixel)
        total, count = sums[row, 0], 0
        for place in range(k, stop):
            total += square[place]
            count += good[place] if good[place] >= LEAST else 0
        sums[row, 0] = total
        sums[row, 1] += count
        k = stop


def row_spreads(sums: np.ndarray) -> np.ndarray:
    """s = √(Σ / (M - 1)) of each row, from `add_scatter`'s sums; 0 for a row without values."""
    return np.sqrt(sums[:, 0] / np.maximum(sums[:, 1] - 1, 1))


@nb.njit(error_model="numpy")
def kept_averaged(ranked, count, k, by_median, low, high, maxiters, spread):
    """Values outside of c - low·S to c + high·S go, S = s·√max(1, c); again until nothing changes.

    c is the median or mean of the values still in; the first mean leaves out the lowest and the
    highest of three and more. s is that of the pixel's row of the detector,

        s² = Σ (x - c)² / max(1, c) / (M - 1)

    over all M good values of its pixels that have three at least, about their first centres, and
    is not made again when values have gone. IRAF's avsigclip: noise that grows as the root of the
    signal, measured over many pixels because few frames cannot tell; meant for counts, since
    levels below 1 all have the noise of 1. Needs 3 values.

    Returns the ranks that stay, first <= rank < last, and the last centre.
    """
    first, last, done = 0, count, 0
    centre = first_centre(ranked, count, k, by_median)
    while last - first >= LEAST and (maxiters < 0 or done < maxiters) and spread > 0:
        sigma = spread * math.sqrt(max(centre, 1.0))
        before = last - first
        first, last = within(ranked, first, last, k, centre - low * sigma, centre + high * sigma)
        if last - first == before or last == first:
            break
        if by_median:
            centre = median_between(ranked, first, last, k)
        else:
            centre = mean_between(ranked, first, last, k)
        done += 1
    return first, last, centre


@nb.njit(error_model="numpy")
def _find_losers(ranked, good, rules, spread, centre, losing, width):
    """losing (lanes): pixels that lose a value at once, or that are not all good."""
    n, low, high = ranked.shape[0], rules.low, rules.high
    first_centres(ranked, good, rules.by_median, centre, width)
    first, last = ranked[0], ranked[n - 1]
    for k in range(width):
        sigma = spread[k] * math.sqrt(max(centre[k], 1.0))
        outside = (first[k] < centre[k] - low * sigma) | (last[k] > centre[k] + high * sigma)
        losing[k] = (good[k] < n) | outside


@nb.njit(error_model="numpy")
def averaged_lanes(raw, ranked, good, rules, spread, lanes, losing, n_low, n_high, width):
    """Clip all lanes by kept_averaged: rejected values of `raw` become +inf, and are counted."""
    _find_losers(ranked, good, rules, spread, lanes[0], losing, width)
    lower, upper = lanes[0], lanes[1]
    for k in range(width):
        if losing[k] and good[k]:
            first, last, centre = kept_averaged(
                ranked, good[k], k, rules.by_median, rules.low, rules.high, rules.maxiters,
                spread[k],
            )  # fmt: skip
            losing[k] = settle(ranked, good[k], k, first, last, centre, rules.least, lower, upper)
        else:
            lower[k], upper[k], losing[k] = -np.inf, np.inf, False
    mark(raw, losing, lower, upper, n_low, n_high, width)
