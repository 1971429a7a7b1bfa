"""Reject what lies outside of bounds: values become +inf, and are counted on their side."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

FEW = 8  # of so many lanes one loses values: then a loop for each costs less than one over all


@nb.njit(error_model="numpy")
def mark(raw, losing, lower, upper, n_low, n_high, width):
    """Turn values of `raw` outside of the bounds of their lane into +inf, and count those.

    Lanes that are not losing have no bounds.
    """
    losers = 0
    for k in range(width):
        n_low[k], n_high[k] = 0, 0
        losers += losing[k]
    if losers * FEW > width:
        for i in range(raw.shape[0]):
            _mark_row(raw[i], lower, upper, n_low, n_high, width)
    elif losers:
        for k in range(width):
            if losing[k]:
                _mark_lane(raw, k, lower[k], upper[k], n_low, n_high)


@nb.njit(error_model="numpy")
def _mark_row(row, lower, upper, n_low, n_high, width):
    outside = row.dtype.type(np.inf)
    for k in range(width):
        x = np.float64(row[k])
        below, above = x < lower[k], (x > upper[k]) & (x < np.inf)
        n_low[k] += np.int32(below)
        n_high[k] += np.int32(above)
        row[k] = outside if below | above else row[k]


@nb.njit(error_model="numpy")
def _mark_lane(raw, k, lower, upper, n_low, n_high):
    for i in range(raw.shape[0]):
        x = np.float64(raw[i, k])
        if x < lower:
            raw[i, k] = np.inf
            n_low[k] += 1
        elif x > upper and x < np.inf:
            raw[i, k] = np.inf
            n_high[k] += 1
