"""Generalised ESD: how many outliers there are, by Rosner's test, and which."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from functools import cache

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import median_between, settle
from daskcal.combination.kernels.marks import mark

LEAST = 3  # the test's t has (values - 2) degrees of freedom


@nb.njit(error_model="numpy")
def most_outliers(count, fraction):
    """How many outliers are looked for among `count` values; 0.001 so that 0.29 of 100 is 29."""
    return max(min(int(fraction * count + 0.001), count - LEAST + 1), 0)


@cache
def critical_values(n: int, significance: float) -> np.ndarray:
    """Rosner's λ for the largest of `m` standardised deviations, m = 0 to n; infinite below 3.

    λᵢ of a stack of N is the λ of the m = N - i + 1 values that are left at step i, so one table
    serves stacks of any number of good values:

        λ(m) = (m - 1)·t / √((m - 2 + t²)·m),  t = Student's t of m - 2 degrees of freedom at
        probability 1 - significance / (2·m).

    Returns
    -------
    ndarray of float64, shape (n + 1,), read-only
    """
    from scipy.special import stdtrit

    table = np.full(n + 1, np.inf)
    m = np.arange(LEAST, n + 1, dtype=np.float64)
    # by symmetry, since 1 - p would round
    t = -stdtrit(m - 2, significance / (2 * m))
    table[LEAST:] = (m - 1) * t / np.sqrt((m - 2 + t * t) * m)
    table.flags.writeable = False
    return table


@nb.njit(error_model="numpy")
def _sum_outward(ranked, start, place, step, count, median, most, total, square, sums):
    """sums[0, i], sums[1, i]: Σd and Σd² of `count` ranks from `place` on, less the last i <= most.

    Deviations d from the median, in each lane; `step` is 1 or -1. Adding outward keeps the digits
    of the small ones, however large the outliers.
    """
    width = median.size
    for k in range(width):
        total[k], square[k] = 0.0, 0.0
        sums[0, most, k], sums[1, most, k] = 0.0, 0.0
    for left in range(count - 1, -1, -1):
        row = ranked[place, start : start + width]
        for k in range(width):
            d = np.float64(row[k]) - median[k]
            total[k] += d
            square[k] += d * d
        if left <= most:
            sums[0, left, :width] = total[:width]
            sums[1, left, :width] = square[:width]
        place += step


@nb.njit(error_model="numpy")
def _take_outermost(
    ranked, start, count, median, most, floor, critical, sums, taken, gone_low, gone_high
):
    """How many of the lowest and highest values of each lane are outliers.

    A step of all lanes before the next step, so that the divisions of many lanes overlap.
    """
    width = median.size
    for k in range(width):
        taken[0, k], taken[1, k], gone_low[k], gone_high[k] = 0, 0, 0, 0
    for step in range(most):
        left = count - step
        limit = critical[left] * critical[left]
        for k in range(width):
            a, b = taken[0, k], taken[1, k]
            total = sums[0, a, k] + sums[2, b, k]
            mean = total / left
            square = sums[1, a, k] + sums[3, b, k] - total * mean
            variance = max(square / (left - 1), floor[k] * floor[k])
            below = mean - (np.float64(ranked[a, start + k]) - median[k])
            above = np.float64(ranked[count - 1 - b, start + k]) - median[k] - mean
            is_high = above >= below
            taken[0, k] += np.int32(not is_high)
            taken[1, k] += np.int32(is_high)
            furthest = max(above, below)
            if furthest * furthest > limit * variance:
                gone_low[k], gone_high[k] = taken[0, k], taken[1, k]


@nb.njit(error_model="numpy")
def _find_outliers(
    ranked, start, count, rules, floor, median, lanes, sums, taken, gone_low, gone_high
):
    """How many of the lowest and highest values of each lane go; lane `start` and on.

    As many as Rosner's generalised ESD test finds outliers, ⌊fraction·N⌋ at most. For i = 1, 2,
    ...: Rᵢ = max |x - mean| / max(s, floor) of the values still in, s their standard deviation
    (ddof 1); the value with that distance leaves (of two equally far, the higher). The number of
    outliers is the largest i with Rᵢ > λᵢ (`critical_values`): an Rᵢ below its λᵢ ends nothing,
    since outliers can mask each other. B. Rosner, Technometrics 25 (1983) 165; NIST/SEMATECH
    e-Handbook 1.3.5.17.3. Needs 3 values; a constant stack loses nothing. fraction <= 0.5.
    """
    width, half = median.size, count // 2
    a, b = ranked[(count - 1) // 2], ranked[half]
    for k in range(width):
        median[k] = (np.float64(a[start + k]) + np.float64(b[start + k])) * 0.5
    most = most_outliers(count, rules.fraction)
    total, square = lanes[3], lanes[4]
    _sum_outward(ranked, start, half - 1, -1, half, median, most, total, square, sums[:2])
    _sum_outward(ranked, start, half, 1, count - half, median, most, total, square, sums[2:])
    _take_outermost(ranked, start, count, median, most, floor, rules.critical, sums, taken,
                    gone_low, gone_high)  # fmt: skip


@nb.njit(error_model="numpy")
def _keep_equal(ranked, count, k, first, last):
    """The ranks first..last with those that equal one of them."""
    while first > 0 and ranked[first - 1, k] == ranked[first, k]:
        first -= 1
    while last < count and ranked[last, k] == ranked[last - 1, k]:
        last += 1
    return first, last


@nb.njit(error_model="numpy")
def esd_lanes(raw, ranked, good, rules, floor, sums, counters, lanes, losing, n_low, n_high, width):
    """Drop what _find_outliers finds, but for values that equal one that stays.

    Rejected values of `raw` become +inf, and are counted. `sums` (4, most + 1, lanes) and
    `counters` (2, lanes) are scratch, `most` of all values the number of outliers at most.
    """
    n = raw.shape[0]
    lower, upper, median = lanes[0], lanes[1], lanes[2]
    _find_outliers(ranked, 0, n, rules, floor[:width], median[:width], lanes, sums,
                   counters, n_low, n_high)  # fmt: skip
    for k in range(width):
        count = good[k]
        lower[k], upper[k], losing[k] = -np.inf, np.inf, False
        if 0 < count < n:
            one = slice(k, k + 1)
            _find_outliers(ranked, k, count, rules, floor[one], median[one], lanes, sums,
                           counters, n_low[one], n_high[one])  # fmt: skip
        if count and n_low[k] + n_high[k]:
            first, last = _keep_equal(ranked, count, k, n_low[k], count - n_high[k])
            centre = median_between(ranked, first, last, k)
            losing[k] = settle(ranked, count, k, first, last, centre, rules.least, lower, upper)
    mark(raw, losing, lower, upper, n_low, n_high, width)
