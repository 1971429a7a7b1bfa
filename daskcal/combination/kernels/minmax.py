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
def minmax_lane(raw, ranked, count, k, low, high):
    """Drop values of lane k (they become +inf). Returns how many were low and high.

    Where several frames have the value at the edge, the earlier frames lose theirs.
    """
    n = raw.shape[0]
    if count <= low + high:
        low, high = _fraction(count, low, n), _fraction(count, high, n)
        if low + high >= count:  # only for n > 1000, by the 0.001
            low, high = 0, 0
    lower = ranked[low - 1, k] if low else -np.inf
    upper = ranked[count - high, k] if high else np.inf
    ties_low, ties_high = low, high
    for i in range(n):
        x = raw[i, k]
        ties_low -= x < lower
        ties_high -= (x > upper) and (x < np.inf)
    for i in range(n):
        x = raw[i, k]
        if x < lower or (x > upper and x < np.inf):
            raw[i, k] = np.inf
        elif x == lower and ties_low > 0:
            raw[i, k] = np.inf
            ties_low -= 1
        elif x == upper and ties_high > 0:
            raw[i, k] = np.inf
            ties_high -= 1
    return low, high
