"""Percentile clipping: values that differ from the median by more than a share of it."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import median_between, median_of_rest, settle, within
from daskcal.combination.kernels.marks import mark

LEAST = 3  # of two values the median does not say which one is wrong


@nb.njit(error_model="numpy")
def _limits(median, low, high):
    """The bounds; all values are in where the median is 0 (a share of nothing)."""
    if median == 0:
        return -np.inf, np.inf
    return median - low * abs(median), median + high * abs(median)


@nb.njit(error_model="numpy")
def _find_losers(ranked, good, low, high, losing, width):
    """losing (lanes): pixels that percentile clipping changes, or that are not all good."""
    n = ranked.shape[0]
    first, last = ranked[0], ranked[n - 1]
    a, b = ranked[(n - 1) // 2], ranked[n // 2]
    for k in range(width):
        median = (np.float64(a[k]) + np.float64(b[k])) * 0.5
        reach = abs(median)
        outside = (first[k] < median - low * reach) | (last[k] > median + high * reach)
        losing[k] = (good[k] < n) | outside


@nb.njit(error_model="numpy")
def kept_percentile(ranked, count, k, low, high):
    """Values with m - x > low·|m| or x - m > high·|m| go, m being the median: once, no iteration.

    As Siril's and PixInsight's percentile clipping, made for a handful of frames; those use m
    itself, and Siril returns nothing where it is 0. |m| does the same for the positive m that they
    are made for and is symmetric for negative ones; at m = 0 nothing goes. Needs 3 values.

    Returns the ranks that stay, first <= rank < last, and their median.
    """
    median = median_between(ranked, 0, count, k)
    if count < LEAST:
        return 0, count, median
    lower, upper = _limits(median, low, high)
    first, last = within(ranked, 0, count, k, lower, upper)
    return first, last, median_of_rest(ranked, first, last, k, median)


@nb.njit(error_model="numpy")
def percentile_lanes(raw, ranked, good, rules, lanes, losing, n_low, n_high, width):
    """Clip all lanes by kept_percentile: rejected values of `raw` become +inf, and are counted."""
    _find_losers(ranked, good, rules.low, rules.high, losing, width)
    lower, upper = lanes[0], lanes[1]
    for k in range(width):
        if losing[k] and good[k]:
            first, last, median = kept_percentile(ranked, good[k], k, rules.low, rules.high)
            losing[k] = settle(ranked, good[k], k, first, last, median, rules.least, lower, upper)
        else:
            lower[k], upper[k], losing[k] = -np.inf, np.inf, False
    mark(raw, losing, lower, upper, n_low, n_high, width)
