"""Linear-fit clipping: values off the straight line through the sorted stack."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import median_between, median_of_rest, settle
from daskcal.combination.kernels.marks import mark

LEAST = 4  # a line through three sorted values leaves nothing to judge them by
ROUNDING = 1e-12  # of the values: what lies so near to the line lies on it


@nb.njit(error_model="numpy")
def _fit(ranked, first, last, k):
    """Mean and slope of the least-squares line through (rank, value); ranks from the middle one."""
    size = last - first
    middle = 0.5 * (size - 1)
    total, tilt = 0.0, 0.0
    for j in range(size):
        x = np.float64(ranked[first + j, k])
        total += x
        tilt += (j - middle) * x
    s = np.float64(size)
    return total / s, tilt * 12.0 / (s * (s * s - 1.0))


@nb.njit(error_model="numpy")
def _scatter(ranked, first, last, k, level, slope):
    """The mean distance of the values from the line."""
    size = last - first
    middle, total = 0.5 * (size - 1), 0.0
    for j in range(size):
        total += abs(np.float64(ranked[first + j, k]) - level - slope * (j - middle))
    return total / size


@nb.njit(error_model="numpy")
def _cut(ranked, first, last, k, level, slope, median, below, above):
    """The ranks left of first..last where values more than `below` or `above` off the line go."""
    middle = 0.5 * (last - 1 - first)
    bottom, top = first, last
    j = first
    while ranked[j, k] < median:
        if np.float64(ranked[j, k]) - level - slope * (j - first - middle) < -below:
            bottom = j + 1
        j += 1
    while bottom > first and ranked[bottom, k] == ranked[bottom - 1, k]:
        bottom += 1
    j = last - 1
    while ranked[j, k] > median:
        if np.float64(ranked[j, k]) - level - slope * (j - first - middle) > above:
            top = j
        j -= 1
    while top < last and ranked[top - 1, k] == ranked[top, k]:
        top -= 1
    return bottom, top


@nb.njit(error_model="numpy")
def kept_linear_fit(ranked, count, k, low, high, floor, maxiters):
    """Values off the line through the sorted stack by more than low·σ or high·σ go; then again.

    To the sorted values x₀ <= x₁ <= ... still in, a line a·i + b is fitted by least squares;
    rᵢ = xᵢ - a·i - b and σ = max(mean |rᵢ|, floor). A value below their median goes where its
    r < -low·σ, one above it where r > high·σ, and with it those further out and those equal to it.
    Until nothing changes, fewer than 4 are left, or all lie on the line. PixInsight's and Siril's
    linear-fit clipping; there, values of either half can go on either side, so that with low
    thresholds an outlier, which tilts the line, takes good neighbours along.

    Returns the ranks that stay, first <= rank < last, and their median.
    """
    first, last, done = 0, count, 0
    median = median_between(ranked, first, last, k)
    while last - first >= LEAST and (maxiters < 0 or done < maxiters):
        median = median_between(ranked, first, last, k)
        level, slope = _fit(ranked, first, last, k)
        sigma = max(_scatter(ranked, first, last, k, level, slope), floor)
        if sigma <= ROUNDING * (abs(level) + abs(slope) * (last - first)):
            break
        bottom, top = _cut(ranked, first, last, k, level, slope, median, low * sigma, high * sigma)
        if bottom == first and top == last:
            break
        first, last = bottom, top
        done += 1
    return first, last, median_of_rest(ranked, first, last, k, median)


@nb.njit(error_model="numpy")
def _find_losers(ranked, good, low, high, floor, lanes, losing, width):
    """losing (lanes): pixels that lose a value to the first line, or that are not all good."""
    n = ranked.shape[0]
    level, slope, lowest, highest = lanes[0], lanes[1], lanes[2], lanes[3]
    scatter, middle, s = lanes[4], 0.5 * (n - 1), np.float64(n)
    for k in range(width):
        level[k], slope[k], scatter[k] = 0.0, 0.0, 0.0
        lowest[k], highest[k] = 0.0, 0.0
    for j in range(n):
        row, at = ranked[j], j - middle
        for k in range(width):
            level[k] += np.float64(row[k])
            slope[k] += at * np.float64(row[k])
    for k in range(width):
        level[k] /= s
        slope[k] *= 12.0 / (s * (s * s - 1.0))
    for j in range(n):
        row, at = ranked[j], j - middle
        for k in range(width):
            off = np.float64(row[k]) - level[k] - slope[k] * at
            scatter[k] += abs(off)
            lowest[k] = min(lowest[k], off)
            highest[k] = max(highest[k], off)
    for k in range(width):
        # a little less than the σ of the loop per pixel, so that rounding cannot matter
        sigma = max(scatter[k] / n, floor[k]) * (1.0 - 1e-9)
        inside = (lowest[k] >= -low * sigma) & (highest[k] <= high * sigma)
        losing[k] = (good[k] < n) | (not inside)


@nb.njit(error_model="numpy")
def linear_fit_lanes(raw, ranked, good, rules, floor, lanes, losing, n_low, n_high, width):
    """Clip all lanes by kept_linear_fit: rejected values of `raw` become +inf, and are counted."""
    _find_losers(ranked, good, rules.low, rules.high, floor, lanes, losing, width)
    lower, upper = lanes[0], lanes[1]
    for k in range(width):
        if losing[k] and good[k]:
            first, last, median = kept_linear_fit(
                ranked, good[k], k, rules.low, rules.high, floor[k], rules.maxiters
            )
            losing[k] = settle(ranked, good[k], k, first, last, median, rules.least, lower, upper)
        else:
            lower[k], upper[k], losing[k] = -np.inf, np.inf, False
    mark(raw, losing, lower, upper, n_low, n_high, width)
