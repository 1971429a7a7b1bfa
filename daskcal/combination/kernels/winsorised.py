"""Winsorised sigma clipping: a spread that outliers cannot inflate, because they are pulled in."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import math

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import median_between, median_of_rest, settle, within
from daskcal.combination.kernels.marks import mark

LEAST = 3
CUT = 1.5  # values are pulled in to the median ± CUT·σ
CONSISTENT = 1.134  # from the standard deviation of normal data pulled in so to that of all of it
SETTLED = 0.0005
# σ falls towards 0 by a constant factor where more than half of the values are equal, and no share
# of it is small enough: after so many rounds it is as good as there.
MOST_ROUNDS = 100


@nb.njit(error_model="numpy")
def _deviation(ranked, first, last, k, median, edge):
    """The standard deviation (ddof 1) of the values pulled in to median ± edge.

    Sums about the median lose no more than a factor of two: it lies within one σ of the mean.
    """
    total, square = 0.0, 0.0
    for i in range(first, last):
        d = min(max(np.float64(ranked[i, k]) - median, -edge), edge)
        total += d
        square += d * d
    size = np.float64(last - first)
    return math.sqrt(max(square - total * total / size, 0.0) / (size - 1.0))


@nb.njit(error_model="numpy")
def _winsorised_sigma(ranked, first, last, k, median, floor):
    """σ of the values of these ranks (kept_winsorised has the formula)."""
    sigma = max(_deviation(ranked, first, last, k, median, np.inf), floor)
    narrowest = sigma
    for _ in range(MOST_ROUNDS):
        before = sigma
        deviation = _deviation(ranked, first, last, k, median, CUT * narrowest)
        sigma = max(CONSISTENT * deviation, floor)
        if abs(sigma - before) <= SETTLED * before:
            break
        narrowest = min(narrowest, sigma)
    return sigma


@nb.njit(error_model="numpy")
def _find_losers(ranked, good, low, high, lanes, losing, width):
    """losing (lanes): pixels that may lose a value.

    Be e the σ at which the most distant value would just stay. Where both the plain deviation and
    1.134 times the one pulled in to ± 1.5·e are e or more, so is every σ on the way (pulling in
    further only shrinks it), and nothing goes: one pass instead of all its rounds.
    """
    n = ranked.shape[0]
    centre, edge = lanes[0], lanes[1]
    total, square, pulled, pulled_square = lanes[2], lanes[3], lanes[4], lanes[5]
    a, b = ranked[(n - 1) // 2], ranked[n // 2]
    first, last = ranked[0], ranked[n - 1]
    for k in range(width):
        centre[k] = (np.float64(a[k]) + np.float64(b[k])) * 0.5
        below, above = centre[k] - np.float64(first[k]), np.float64(last[k]) - centre[k]
        # 0 / 0 is NaN, which the comparisons below take for a loser
        edge[k] = max(below / low, above / high)
        total[k], square[k], pulled[k], pulled_square[k] = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        row = ranked[i]
        for k in range(width):
            d = np.float64(row[k]) - centre[k]
            total[k] += d
            square[k] += d * d
            d = min(max(d, -CUT * edge[k]), CUT * edge[k])
            pulled[k] += d
            pulled_square[k] += d * d
    for k in range(width):
        # a little more than needed, so that rounding cannot matter
        needed = edge[k] * edge[k] * (n - 1) * (1.0 + 1e-9)
        plain = square[k] - total[k] * total[k] / n
        clamped = pulled_square[k] - pulled[k] * pulled[k] / n
        safe = (plain >= needed) & (CONSISTENT * CONSISTENT * clamped >= needed)
        losing[k] = (good[k] < n) | (not safe)


@nb.njit(error_model="numpy")
def kept_winsorised(ranked, count, k, low, high, floor, maxiters):
    """Values outside of m - low·σ to m + high·σ go, and again of the rest until nothing changes.

    m is the median of the values still in, σ comes from σ₀ = their standard deviation (ddof 1) by

        σ ← max(1.134 · sd(values pulled in to m ± 1.5·σ'), floor), σ' the smallest σ so far,

    until it changes by no more than 0.05 %. This is the winsorised sigma clipping of PixInsight
    and Siril (after Huber's robust estimate of a spread), which pull in the values that earlier
    rounds have pulled in: hence the smallest σ. Needs 3 values.

    Returns the ranks that stay, first <= rank < last, and their median.
    """
    first, last, done = 0, count, 0
    median = median_between(ranked, first, last, k)
    while last - first >= LEAST and (maxiters < 0 or done < maxiters):
        median = median_between(ranked, first, last, k)
        sigma = _winsorised_sigma(ranked, first, last, k, median, floor)
        before = last - first
        first, last = within(ranked, first, last, k, median - low * sigma, median + high * sigma)
        if last - first == before:
            break
        done += 1
    return first, last, median_of_rest(ranked, first, last, k, median)


@nb.njit(error_model="numpy")
def winsorised_clip_lanes(raw, ranked, good, rules, floor, lanes, losing, n_low, n_high, width):
    """Clip all lanes by kept_winsorised: rejected values of `raw` become +inf, and are counted."""
    _find_losers(ranked, good, rules.low, rules.high, lanes, losing, width)
    lower, upper = lanes[0], lanes[1]
    for k in range(width):
        if losing[k] and good[k]:
            first, last, median = kept_winsorised(
                ranked, good[k], k, rules.low, rules.high, floor[k], rules.maxiters
            )
            losing[k] = settle(ranked, good[k], k, first, last, median, rules.least, lower, upper)
        else:
            lower[k], upper[k], losing[k] = -np.inf, np.inf, False
    mark(raw, losing, lower, upper, n_low, n_high, width)
