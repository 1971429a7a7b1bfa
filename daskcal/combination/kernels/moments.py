"""Combine what survived: mean, weighted mean and median, and the variance of each."""

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
def median_lanes(ranked, used, n_low, lower, median, width):
    """median (lanes) of the survivors: they lie next to each other in the sorted tile.

    `lower`: of an even number not the mean of the middle two but the lower one.
    """
    for k in range(width):
        count = used[k]
        if count:
            below = np.float64(ranked[n_low[k] + (count - 1) // 2, k])
            above = below if lower else np.float64(ranked[n_low[k] + count // 2, k])
            median[k] = (below + above) * 0.5
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
def squares(raw, centre, total, width):
    """total (lanes): Σ (x - centre)² of the survivors, summed in frame order."""
    for k in range(width):
        total[k] = 0.0
    for i in range(raw.shape[0]):
        row = raw[i]
        for k in range(width):
            d = np.float64(row[k]) - centre[k]
            total[k] += d * d if row[k] < np.inf else 0.0


@nb.njit(error_model="numpy")
def scatter_lanes(raw, used, mean, total, width):
    """total (lanes): the variance of the mean from the survivors' scatter, s²/n; NaN for n < 2."""
    squares(raw, mean, total, width)
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


@nb.njit(error_model="numpy")
def winsorised_lanes(raw, n_low, n_high, used, lanes, total, width):
    """total (lanes): the winsorised sum of squared deviations of the good values.

    Of the values that were left out the n_low lowest count as the lowest survivor, the n_high
    highest as the highest. `lanes` is scratch of (3, width).
    """
    lowest, highest, mean = lanes[0], lanes[1], lanes[2]
    for k in range(width):
        lowest[k], highest[k], mean[k] = np.inf, -np.inf, 0.0
    for i in range(raw.shape[0]):
        row = raw[i]
        for k in range(width):
            x = np.float64(row[k])
            survives = x < np.inf
            lowest[k] = min(lowest[k], x)
            highest[k] = max(highest[k], x if survives else -np.inf)
            mean[k] += x if survives else 0.0
    for k in range(width):
        ends = n_low[k] * lowest[k] + n_high[k] * highest[k]
        mean[k] = (mean[k] + ends) / (used[k] + n_low[k] + n_high[k])
    squares(raw, mean, total, width)
    for k in range(width):
        below, above = lowest[k] - mean[k], highest[k] - mean[k]
        total[k] += n_low[k] * below * below + n_high[k] * above * above


# The variance at the stack's centre is never taken smaller than this share of the value's own:
# only a variance that does not hold the photon noise which its slope speaks of comes below.
LEAST_SHARE = 0.1


@nb.njit(error_model="numpy")
def variance_at_centre(v, slope, centre, x):
    """The variance `v` of a value x with the photon noise of the centre in place of its own."""
    return max(v + slope * (centre - x), LEAST_SHARE * v)


@nb.njit(error_model="numpy")
def _weigh(row, noise, square, slope, weight_of_frame, centre, weight, width):
    """weight (lanes) of a frame's values: 0 for those that do not survive.

    `noise` is empty for plain weights; else each value has weight_of_frame over its variance, taken
    at `centre`: V + slope·(centre - x) has the photon noise of the stack's signal in place of
    the value's own, which would give values that happen to be low more weight.
    """
    if noise.size:
        for k in range(width):
            x, v = np.float64(row[k]), np.float64(noise[k]) * square
            at_centre = variance_at_centre(v, slope, centre[k], x)
            weight[k] = weight_of_frame / at_centre if (x < np.inf) & (v > 0) else 0.0
    else:
        for k in range(width):
            weight[k] = weight_of_frame if row[k] < np.inf else 0.0


@nb.njit(error_model="numpy")
def weighted_lanes(raw, variance, shared, scale, start, weights, slopes, used,
                   value, total, common, lanes, width):  # fmt: skip
    """The weighted mean of the survivors, its variance, and the mean of their shared variance.

    `value` is their plain mean on entry. With `slopes` (else empty) weights are over the variance.
    The variance is Σw²V / (Σw)², or from the scatter Σw(x - mean)² / ((n - 1)·Σw) for weights
    that are inverse variances up to a factor. Survivors without a weight are not counted in `used`.
    `lanes` is scratch of (3, width).
    """
    weight, norm, sums = lanes[0], lanes[1], lanes[2]
    for k in range(width):
        norm[k], sums[k], total[k], common[k], used[k] = 0.0, 0.0, 0.0, 0.0, 0
    for i in range(raw.shape[0]):
        row, s = raw[i], scale[i] if scale.size else 1.0
        by_variance = variance[i, start : start + width] if slopes.size else variance[0, :0]
        slope = slopes[i] * s if slopes.size else 0.0
        _weigh(row, by_variance, s * s, slope, weights[i], value, weight, width)
        for k in range(width):
            counts = weight[k] > 0
            norm[k] += weight[k]
            sums[k] += weight[k] * np.float64(row[k]) if counts else 0.0
            used[k] += np.int32(counts)
        if variance.shape[0]:
            noise = variance[i, start : start + width]
            for k in range(width):
                v = np.float64(noise[k]) * (s * s)
                total[k] += weight[k] * weight[k] * v if weight[k] > 0 else 0.0
        if shared.shape[0]:
            noise = shared[i, start : start + width]
            for k in range(width):
                v = np.float64(noise[k]) * (s * s)
                common[k] += weight[k] * v if weight[k] > 0 else 0.0
    for k in range(width):
        value[k] = sums[k] / norm[k]
        total[k] /= norm[k] * norm[k]
        common[k] /= norm[k]
    if not variance.shape[0]:
        _weighted_scatter(raw, weights, used, value, norm, total, width)


@nb.njit(error_model="numpy")
def _weighted_scatter(raw, weights, used, mean, norm, total, width):
    for k in range(width):
        total[k] = 0.0
    for i in range(raw.shape[0]):
        row = raw[i]
        for k in range(width):
            d = np.float64(row[k]) - mean[k]
            total[k] += weights[i] * d * d if row[k] < np.inf else 0.0
    for k in range(width):
        total[k] = total[k] / ((used[k] - 1.0) * norm[k]) if used[k] > 1 else np.nan
