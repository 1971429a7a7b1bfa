"""What the plain variance of a mean is multiplied by: for medians, and after minmax."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from daskcal.combination.kernels.median_error import median_factors
from daskcal.combination.kernels.order_errors import second_moment, winsorised_squares


@lru_cache(maxsize=64)
def variance_gains(
    method: str, n: int, lost: tuple[tuple[int, ...], ...] | None = None, scatter: bool = False
) -> np.ndarray:
    """Variance of what `method` gives over that which the kernels have in hand, for normal noise.

    Parameters
    ----------
    method : {"average", "median", "lower_median", "sum"}
        A sum is n times the mean, which the caller sees to.
    n : int
        Number of frames.
    lost : tuple of two tuples of int, optional
        How many of 0 to `n` good values minmax leaves out at the low and at the high end.
    scatter : bool
        With `lost`: the kernels have the winsorised sum of squares of the good values, else the
        mean variance of the survivors over their number.

    Returns
    -------
    ndarray of float64, shape (n + 1,)
        Indexed by the number of survivors; with `lost` by the number of good values. NaN where
        there is no variance. Where more values are left out at one end than at the other, or the
        lower of two middle values is taken, the square of the mean error is included: the square
        root is the rms distance from the truth.

    Notes
    -----
    The standard error of a trimmed mean is sqrt(SSD_w / (h·(h - 1))) for h survivors with the
    winsorised sum of squared deviations SSD_w (Tukey & McLaughlin 1963, Sankhya A 25, 331; Yuen
    1974, Biometrika 61, 165). It is right for many values; the factor here replaces 1/(h·(h - 1))
    by what is right for any number of normal ones.
    """
    gains = np.full(n + 1, np.nan)
    if lost is None:
        if method == "median":
            gains = median_factors(n) ** 2
        elif method == "lower_median":
            gains[1:] = [_of_ranks(method, u, 1, u) for u in range(1, n + 1)]
        else:
            gains[1:] = 1.0
    else:
        for good in range(1, n + 1):
            first, last = lost[0][good] + 1, good - lost[1][good]
            squares = winsorised_squares(good, first, last) if scatter else 1.0
            if last >= first and squares > 0:
                gains[good] = _of_ranks(method, good, first, last)
                if scatter:
                    gains[good] /= (last - first + 1) * squares
    gains.flags.writeable = False
    return gains


def _of_ranks(method: str, good: int, first: int, last: int) -> float:
    """Survivors · E[T²]: the survivors are ranks `first` to `last` of the good values."""
    survivors = last - first + 1
    middle = first + (survivors - 1) // 2
    if method == "median":
        first, last = middle, first + survivors // 2
    elif method == "lower_median":
        first = last = middle
    return survivors * second_moment(good, first, last)
