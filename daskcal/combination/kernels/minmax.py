"""Minmax rejection: drop the lowest and the highest values of each pixel, however good they are."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np


@nb.njit(error_model="numpy")
def _fraction(count, rejected, n):
    """IRAF's count for a pixel with few good values: int(count·rejected/n + 0.001)."""
    return int(count * rejected / n + 0.001)


@nb.njit(error_model="numpy")
def minmax_lanes(raw, ranked, good, low, high, lanes, ties, n_low, n_high, width):
    """Drop the `low` lowest and `high` highest values of each lane (they become +inf).

    Where several frames have the value at the edge, the earlier frames lose theirs. `n_low` and
    `n_high` are how many were dropped; `lanes` (2, width) and `ties` (2, width) are scratch.
    """
    n, lower, upper = raw.shape[0], lanes[0], lanes[1]
    for k in range(width):
        count, below, above = good[k], low, high
        if count <= low + high:
            below, above = _fraction(count, low, n), _fraction(count, high, n)
            if below + above >= count:  # only for n > 1000, by the 0.001
                below, above = 0, 0
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
