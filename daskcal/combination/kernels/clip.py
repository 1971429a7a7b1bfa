"""Sigma clipping: lanes find the pixels that would lose a value, a loop per pixel then clips those.

Everything after the sort is float64 and in the order in which astropy.stats.sigma_clip computes,
so that the same values survive, also those that lie exactly on a bound.
"""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import math

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import keep_nearest, median_between, within
from daskcal.combination.kernels.marks import mark
from daskcal.combination.kernels.networks import rank

MAD_TO_SIGMA = 1.482602218505602  # 1 / Φ⁻¹(3/4): the MAD of normal data to its standard deviation


@nb.njit(error_model="numpy")
def noise_floor(raw, variance, scale, start, count, floor, width):
    """floor (lanes): sqrt(mean scaled variance of the good values), NaN variances left out."""
    for k in range(width):
        floor[k] = 0.0
        count[k] = 0
    for i in range(raw.shape[0]):
        row, noise = raw[i], variance[i, start : start + width]
        square = scale[i] * scale[i] if scale.size else 1.0
        for k in range(width):
            v = np.float64(noise[k]) * square
            counts = (row[k] < np.inf) & (v >= 0)
            floor[k] += v if counts else 0.0
            count[k] += np.int32(counts)
    for k in range(width):
        floor[k] = math.sqrt(floor[k] / count[k]) if count[k] else 0.0


@nb.njit(error_model="numpy")
def _bound(centre, sigma, factor):
    """centre + factor·sigma, where an infinite factor is a side that is off."""
    return centre + factor * sigma if abs(factor) < np.inf else factor


@nb.njit(error_model="numpy")
def _half_cleaner(ranked, centre, inner, outer, width):
    """The two middle deviations from `centre` of sorted full lanes: MAD = (inner + outer) / 2.

    Deviations of sorted values fall and rise again (a bitonic sequence), so the smaller of each
    pair (i, i + half) are together the smallest half (Batcher's half cleaner). An odd stack gets
    an infinite last deviation, which pairs with the median's own of 0.
    """
    n = ranked.shape[0]
    half, step = n // 2, (n + 1) // 2
    for k in range(width):
        inner[k] = 0.0
        outer[k] = np.inf
    for i in range(half):
        a, b = ranked[i], ranked[i + step]
        for k in range(width):
            x = abs(np.float64(a[k]) - centre[k])
            y = abs(np.float64(b[k]) - centre[k])
            inner[k] = max(inner[k], min(x, y))
            outer[k] = min(outer[k], max(x, y))


@nb.njit(error_model="numpy")
def find_losers_median(ranked, good, low, high, floor, lanes, losing, width):
    """losing (lanes): pixels that median/MAD clipping changes, or that are not all good."""
    n = ranked.shape[0]
    centre, inner, outer = lanes[0], lanes[1], lanes[2]
    a, b = ranked[(n - 1) // 2], ranked[n // 2]
    for k in range(width):
        centre[k] = (np.float64(a[k]) + np.float64(b[k])) * 0.5
    _half_cleaner(ranked, centre, inner, outer, width)
    first, last = ranked[0], ranked[n - 1]
    for k in range(width):
        mad = inner[k] if n & 1 else (inner[k] + outer[k]) * 0.5
        sigma = max(mad * MAD_TO_SIGMA, floor[k])
        losing[k] = (
            (good[k] < n)
            | (first[k] < _bound(centre[k], sigma, -low))
            | (last[k] > _bound(centre[k], sigma, high))
        )


@nb.njit(error_model="numpy")
def find_losers_mean(raw, good, low, high, floor, lanes, losing, width):
    """losing (lanes): pixels that mean/standard deviation clipping changes."""
    n = raw.shape[0]
    centre, lower, upper = lanes[0], lanes[1], lanes[2]
    for k in range(width):
        centre[k] = 0.0
        upper[k] = 0.0
        losing[k] = False
    for i in range(n):
        row = raw[i]
        for k in range(width):
            x = np.float64(row[k])
            centre[k] += x if x < np.inf else 0.0
    for k in range(width):
        centre[k] /= good[k]
    for i in range(n):
        row = raw[i]
        for k in range(width):
            d = np.float64(row[k]) - centre[k]
            upper[k] += d * d if row[k] < np.inf else 0.0
    for k in range(width):
        sigma = max(math.sqrt(upper[k] / good[k]), floor[k])
        lower[k] = _bound(centre[k], sigma, -low)
        upper[k] = _bound(centre[k], sigma, high)
    for i in range(n):
        row = raw[i]
        for k in range(width):
            x = np.float64(row[k])
            losing[k] |= (x < np.inf) & ((x < lower[k]) | (x > upper[k]))


@nb.njit(error_model="numpy")
def _mad_sorted(ranked, first, last, k, median):
    """The median of |x - median| over the sorted ranked[first:last, k], in O(log n).

    The m smallest deviations lie in a window of m neighbours, which a bisection finds.
    """
    size = last - first
    m = (size + 1) // 2
    a, b = first, last - m
    while a < b:
        middle = (a + b) // 2
        left = median - np.float64(ranked[middle, k])
        if left > np.float64(ranked[middle + m, k]) - median:
            a = middle + 1
        else:
            b = middle
    inner = max(median - np.float64(ranked[a, k]), np.float64(ranked[a + m - 1, k]) - median)
    if size & 1:
        return inner
    outer = np.inf
    if a > first:
        outer = median - np.float64(ranked[a - 1, k])
    if a + m < last:
        outer = min(outer, np.float64(ranked[a + m, k]) - median)
    return (inner + outer) * 0.5


@nb.njit(error_model="numpy")
def _mean_std(raw, k, lower, upper):
    """Mean and standard deviation (ddof 0) of the values of lane k in [lower, upper]."""
    total, count = 0.0, 0
    for i in range(raw.shape[0]):
        x = np.float64(raw[i, k])
        if x >= lower and x <= upper:
            total += x
            count += 1
    mean = total / count
    total = 0.0
    for i in range(raw.shape[0]):
        x = np.float64(raw[i, k])
        if x >= lower and x <= upper:
            total += (x - mean) * (x - mean)
    return mean, math.sqrt(total / count)


@nb.njit(error_model="numpy")
def _clip_bounds(raw, ranked, count, k, by_median, by_mad, low, high, floor, maxiters):
    """Bounds and centre of lane k after all its iterations; survivors lie within the bounds.

    The values that the next iteration sees are those ranked first <= rank < last.
    """
    first, last, done = 0, count, 0
    lower, upper, centre = -np.inf, np.inf, 0.0
    while maxiters < 0 or done < maxiters:
        median, mean, spread = 0.0, 0.0, 0.0
        if by_median or by_mad:
            median = median_between(ranked, first, last, k)
        if not (by_median and by_mad):
            mean, spread = _mean_std(raw, k, ranked[first, k], ranked[last - 1, k])
        if by_mad:
            spread = _mad_sorted(ranked, first, last, k, median) * MAD_TO_SIGMA
        centre, sigma = median if by_median else mean, max(spread, floor)
        lower, upper = _bound(centre, sigma, -low), _bound(centre, sigma, high)
        before = last - first
        first, last = within(ranked, first, last, k, lower, upper)
        if last - first == before or first == last:
            break
        done += 1
    return lower, upper, centre


@nb.njit(error_model="numpy")
def _widen(ranked, count, k, lower, upper, centre, least):
    """Bounds with `least` values within."""
    first, last = within(ranked, 0, count, k, lower, upper)
    if last - first < least:
        first, last = keep_nearest(ranked, count, k, first, last, centre, least)
        lower, upper = np.float64(ranked[first, k]), np.float64(ranked[last - 1, k])
    return lower, upper


@nb.njit(error_model="numpy")
def clip_lanes(raw, ranked, good, rules, floor, losing, lower, upper, width):
    """Bounds (lanes) of the survivors, for lanes that may lose values (`losing` on entry).

    On exit `losing` is true where values do lie outside.
    """
    for k in range(width):
        lower[k], upper[k] = -np.inf, np.inf
        if losing[k] and good[k]:
            lower[k], upper[k], centre = _clip_bounds(
                raw, ranked, good[k], k, rules.by_median, rules.by_mad, rules.low, rules.high,
                floor[k], rules.maxiters,
            )  # fmt: skip
            if rules.least and rules.maxiters:
                lower[k], upper[k] = _widen(
                    ranked, good[k], k, lower[k], upper[k], centre, rules.least
                )
            losing[k] = ranked[0, k] < lower[k] or ranked[good[k] - 1, k] > upper[k]
        else:
            losing[k] = False


@nb.njit(error_model="numpy")
def sigma_lanes(raw, ranked, is_ranked, good, rules, floor, lanes, losing, n_low, n_high, width):
    """Sigma clip all lanes: rejected values of `raw` become +inf, and are counted.

    `ranked` is raw sorted where `is_ranked`, else it is filled when it is needed. `lanes` is
    scratch of (3, width).
    """
    low, high = rules.low, rules.high
    if rules.by_median and rules.by_mad:
        find_losers_median(ranked, good, low, high, floor, lanes, losing, width)
    elif rules.by_median or rules.by_mad:
        losing[:width] = True
    else:
        find_losers_mean(raw, good, low, high, floor, lanes, losing, width)
        if not is_ranked and losing[:width].any():
            rank(raw, ranked, width)
    lower, upper = lanes[0], lanes[1]
    clip_lanes(raw, ranked, good, rules, floor, losing, lower, upper, width)
    mark(raw, losing, lower, upper, n_low, n_high, width)
