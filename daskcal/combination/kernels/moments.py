"""Combine what survived: mean, median and sum, the variance of each, and the mask."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np


@nb.njit(error_model="numpy")
def mean_lanes(raw, used, mean, width):
    """mean (lanes): the float64 mean of the survivors, summed in frame order."""
    for k in range(width):
        mean[k] = 0.0
    for i in range(raw.shape[0]):
        row = raw[i]
        for k in range(width):
            x = np.float64(row[k])
            mean[k] += x if x < np.inf else 0.0
    for k in range(width):
        mean[k] /= used[k]  # 0 / 0 = NaN where nothing survived


@nb.njit(error_model="numpy")
def median_lanes(ranked, used, n_low, median, width):
    """median (lanes) of the survivors: they lie next to each other in the sorted tile."""
    for k in range(width):
        count = used[k]
        if count:
            below = np.float64(ranked[n_low[k] + (count - 1) // 2, k])
            median[k] = (below + np.float64(ranked[n_low[k] + count // 2, k])) * 0.5
        else:
            median[k] = np.nan


@nb.njit(error_model="numpy")
def propagated_lanes(raw, variance, scale, start, used, total, width):
    """total (lanes): Σ variance·scale² / n² of the survivors."""
    for k in range(width):
        total[k] = 0.0
    for i in range(raw.shape[0]):
        row, noise = raw[i], variance[i, start : start + width]
        square = scale[i] * scale[i] if scale.size else 1.0
        for k in range(width):
            v = np.float64(noise[k]) * square
            total[k] += v if row[k] < np.inf else 0.0
    for k in range(width):
        total[k] /= np.float64(used[k]) * used[k]


@nb.njit(error_model="numpy")
def scatter_lanes(raw, used, mean, total, width):
    """total (lanes): the variance of the mean from the survivors' scatter, s²/n; NaN for n < 2."""
    for k in range(width):
        total[k] = 0.0
    for i in range(raw.shape[0]):
        row = raw[i]
        for k in range(width):
            d = np.float64(row[k]) - mean[k]
            total[k] += d * d if row[k] < np.inf else 0.0
    for k in range(width):
        count = np.float64(used[k])
        total[k] = total[k] / (count * (count - 1.0)) if used[k] > 1 else np.nan


@nb.njit(error_model="numpy")
def variance_lanes(raw, variance, scale, start, used, mean, total, width):
    """total (lanes): variance of the mean, propagated where there are variances, else scatter."""
    if variance.shape[0]:
        propagated_lanes(raw, variance, scale, start, used, total, width)
    else:
        scatter_lanes(raw, used, mean, total, width)
