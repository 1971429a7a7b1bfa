"""Statistics that outliers and undefined values do not move."""

from __future__ import annotations

import numpy as np

MAD_TO_SIGMA = 1.482602218505602  # σ of a normal distribution over its median absolute deviation
HALF_STEP = 0.5  # raw units: the rounding of a converter hides what is smaller


def median_of_defined(values: np.ndarray) -> np.ndarray:
    """Median along the last axis of what is finite; NaN, without a warning, where nothing is."""
    finite = np.isfinite(values)
    if finite.all():
        return np.asarray(np.median(values, axis=-1))
    ordered = np.sort(np.where(finite, values, np.nan), axis=-1)  # NaN sorts last
    count = finite.sum(axis=-1)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], -1)[..., 0]
    high = np.take_along_axis(ordered, (count // 2)[..., None], -1)[..., 0]
    return np.where(count > 0, 0.5 * (low + high), np.nan)
