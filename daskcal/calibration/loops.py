"""The compiled loops of steps that look at pixels: levels of an overscan, the mean of a flat."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from typing import Any

import numba as nb
import numpy as np

from daskcal.compiled import compile_cached


@nb.njit(error_model="numpy")
def _select(values, first, last, k):
    """Put the k-th smallest of values[first:last] at k, smaller ones before, larger ones after."""
    last -= 1
    while first < last:
        pivot = values[(first + last) // 2]
        i, j = first, last
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            last = j
        elif k >= i:
            first = i
        else:
            break


@nb.njit(error_model="numpy")
def _median(values, n):
    """The median of the first n > 0 values, which it reorders."""
    middle = n // 2
    _select(values, 0, n, middle)
    high = values[middle]
    if n % 2:
        return high
    low = values[0]
    for i in range(1, middle):
        low = max(low, values[i])
    return 0.5 * (low + high)


def _line_levels(lines, by_median, clip, floor, to_sigma, levels):
    """The median or mean of the finite values of each line, NaN where there is none.

    With a finite `clip` without those further than it times σ from their median: σ is `to_sigma`
    times their median absolute deviation, and not below `floor`.
    """
    values, offsets = np.empty(lines.shape[1]), np.empty(lines.shape[1])
    for line in range(lines.shape[0]):
        n = 0
        for x in range(lines.shape[1]):
            if np.isfinite(lines[line, x]):
                values[n] = lines[line, x]
                n += 1
        if n and clip < np.inf:
            centre = _median(values, n)
            for i in range(n):
                offsets[i] = abs(values[i] - centre)
            reach = clip * max(to_sigma * _median(offsets, n), floor)
            kept = 0
            for i in range(n):
                if not abs(values[i] - centre) > reach:
                    values[kept] = values[i]
                    kept += 1
            n = kept
        if not n:
            levels[line] = np.nan
        elif by_median:
            levels[line] = _median(values, n)
        else:
            total = 0.0
            for i in range(n):
                total += values[i]
            levels[line] = total / n


def _sum_rows(image, masked, sums):
    """Sum and number of the finite positive pixels of each row, in order, that are not masked."""
    for y in range(image.shape[0]):
        total, count = 0.0, 0
        for x in range(image.shape[1]):
            value = image[y, x]
            if value > 0 and value < np.inf and not (masked.shape[0] and masked[y, x]):
                total += value
                count += 1
        sums[y, 0], sums[y, 1] = total, count


def _fill_gaps(bad, longest):
    """Make good pixels bad too that lie between bad ones of their column, `longest` at most.

    A gap that begins within so many rows of the last is left alone, as in ccdproc.
    """
    rows = bad.shape[0]
    for x in range(bad.shape[1]):
        for y in range(rows - longest - 1):
            if bad[y, x]:
                for end in range(y + 2, y + longest + 2):
                    if bad[end, x]:
                        bad[y:end, x] = True


sum_rows: Any = compile_cached(_sum_rows)
fill_gaps: Any = compile_cached(_fill_gaps)
line_levels: Any = compile_cached(_line_levels)
