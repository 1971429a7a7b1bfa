"""Minmax rejection: drop the lowest and the highest values of each pixel, however good they are."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from functools import cache

import numba as nb
import numpy as np


@cache
def minmax_counts(n: int, low: float, high: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many of 0 to `n` good values go at the low and at the high end.

    A float is a fraction f of the good values: ⌊count·f + 0.001⌋. A whole number is as many,
    however many are masked; where that would leave nothing, it is the fraction number/n (IRAF).
    """
    lost = []
    for count in range(n + 1):
        both = [_lost_of(count, side) for side in (low, high)]
        if sum(both) >= count:
            both = [_lost_of(count, float(side / n) if side >= 1 else side) for side in (low, high)]
        lost.append(both if sum(both) < count else (0, 0))  # only for n > 1000, by the 0.001
    below, above = zip(*lost, strict=True)
    return below, above


def _lost_of(count: int, side: float) -> int:
    return int(count * side + 0.001) if isinstance(side, float) else side


@nb.njit(error_model="numpy")
def minmax_lanes(raw, ranked, good, lost, lanes, ties, n_low, n_high, width):
    """Drop the lowest and highest values of each lane (they become +inf).

    `lost` (2, n + 1) says how many of so many good values (`minmax_counts`). Where several frames
    have the value at the edge, the earlier frames lose theirs. `n_low` and `n_high` are how many
    were dropped; `lanes` (2, width) and `ties` (2, width) are scratch.
    """
    n, lower, upper = raw.shape[0], lanes[0], lanes[1]
    for k in range(width):
        count = good[k]
        below, above = lost[0, count], lost[1, count]
        n_low[k], n_high[k] = below, above
        lower[k] = ranked[below - 1, k] if below else -np.inf
        upper[k] = ranked[count - above, k] if above else np.inf
        ties[0, k], ties[1, k] = below, above
    for i in range(n):
        row = raw[i]
        for k in range(width):
            ties[0, k] -= np.int32(row[k] < lower[k])
            ties[1, k] -= np.int32((row[k] > upper[k]) & (row[k] < np.inf))
    for i in range(n):
        _drop_row(raw[i], lower, upper, ties[0], ties[1], width)


@nb.njit(error_model="numpy")
def _drop_row(row, lower, upper, ties_low, ties_high, width):
    outside = row.dtype.type(np.inf)
    for k in range(width):
        x = np.float64(row[k])
        first = (x == lower[k]) & (ties_low[k] > 0)
        last = (x == upper[k]) & (ties_high[k] > 0) & (not first) & (x < np.inf)
        ties_low[k] -= np.int32(first)
        ties_high[k] -= np.int32(last)
        drop = (x < lower[k]) | (x > upper[k]) | first | last
        row[k] = outside if drop else row[k]
