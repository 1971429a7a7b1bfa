"""What every rejection does with a pixel's sorted values: centres, and keeping some at least.

A rejection that judges values alone keeps a run of the sorted column, the ranks first <= i < last:
`first` of `count` good values were too low, `count - last` too high. Equal values share their fate.
"""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np


@nb.njit(error_model="numpy")
def median_between(ranked, first, last, k):
    """The median of ranked[first:last, k]."""
    size = last - first
    below = np.float64(ranked[first + (size - 1) // 2, k])
    return (below + np.float64(ranked[first + size // 2, k])) * 0.5


@nb.njit(error_model="numpy")
def median_of_rest(ranked, first, last, k, otherwise):
    """The median of ranked[first:last, k]; `otherwise` where nothing is left."""
    return median_between(ranked, first, last, k) if last > first else otherwise


@nb.njit(error_model="numpy")
def mean_between(ranked, first, last, k):
    """The mean of ranked[first:last, k], summed from the lowest value."""
    total = 0.0
    for i in range(first, last):
        total += np.float64(ranked[i, k])
    return total / (last - first)


@nb.njit(error_model="numpy")
def first_centre(ranked, count, k, by_median):
    """The centre before anything is rejected: the median, or the mean of all but the extremes.

    IRAF's imcombine too leaves the lowest and the highest of three and more values out of its first
    mean, or a single cosmic ray would pull the good values out of bounds.
    """
    if by_median:
        return median_between(ranked, 0, count, k)
    trim = 1 if count > 2 else 0
    return mean_between(ranked, trim, count - trim, k)


@nb.njit(error_model="numpy")
def first_centres(ranked, good, by_median, centre, width):
    """centre (lanes): the first_centre of each lane; 0 where there is no value."""
    n = ranked.shape[0]
    if by_median:
        a, b = ranked[(n - 1) // 2], ranked[n // 2]
        for k in range(width):
            centre[k] = (np.float64(a[k]) + np.float64(b[k])) * 0.5
    else:
        trim = 1 if n > 2 else 0
        for k in range(width):
            centre[k] = 0.0
        for i in range(trim, n - trim):
            row = ranked[i]
            for k in range(width):
                centre[k] += np.float64(row[k])
        for k in range(width):
            centre[k] /= n - 2 * trim
    for k in range(width):
        if good[k] < n:
            centre[k] = first_centre(ranked, good[k], k, by_median) if good[k] else 0.0


@nb.njit(error_model="numpy")
def within(ranked, first, last, k, lower, upper):
    """The ranks of ranked[first:last, k] that lie in [lower, upper]."""
    while first < last and ranked[first, k] < lower:
        first += 1
    while first < last and ranked[last - 1, k] > upper:
        last -= 1
    return first, last


@nb.njit(error_model="numpy")
def keep_nearest(ranked, count, k, first, last, centre, least):
    """Widen first..last to at least `least` values: those nearest to `centre` come back.

    Values that lie equally far come back together (IRAF's nkeep).
    """
    least = min(least, count)
    while last - first < least:
        below, above = np.inf, np.inf
        if first > 0:
            below = centre - np.float64(ranked[first - 1, k])
        if last < count:
            above = np.float64(ranked[last, k]) - centre
        reach = min(below, above)
        while first > 0 and centre - np.float64(ranked[first - 1, k]) <= reach:
            first -= 1
        while last < count and np.float64(ranked[last, k]) - centre <= reach:
            last += 1
    return first, last


@nb.njit(error_model="numpy")
def settle(ranked, count, k, first, last, centre, least, lower, upper):
    """Set the bounds of lane k to the values of ranks first..last, widened to `least` of them.

    Returns whether values of the lane lie outside.
    """
    first, last = keep_nearest(ranked, count, k, first, last, centre, least)
    lower[k], upper[k] = ranked[first, k], ranked[last - 1, k]
    return ranked[0, k] < lower[k] or ranked[count - 1, k] > upper[k]
