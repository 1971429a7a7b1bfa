"""Statistics that outliers and undefined values do not move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAD_TO_SIGMA = 1.482602218505602  # σ of a normal distribution over its median absolute deviation
HALF_STEP = 0.5  # raw units: the rounding of a converter hides what is smaller
_PIECE = 1 << 16  # values whose products are there at once
_ROUNDS = 50  # of clipping; it settles in a few


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


@dataclass(frozen=True, slots=True)
class Fit:
    """A least-squares fit to values without those beyond some σ.

    Attributes
    ----------
    terms : ndarray of float64, shape (terms,)
        The factor of each term; NaN where the values do not determine them all.
    kept : ndarray of bool, shape (values,)
        Which values count.
    freedom : int
        How many of them there are beyond the terms.
    variance : float
        Of all values about the fit, were they normal.
    """

    terms: np.ndarray
    kept: np.ndarray
    freedom: int
    variance: float


def clipped_fit(values: np.ndarray, terms: np.ndarray, clip: float) -> Fit:
    """Fit Σ factor·term to values, without those further than `clip` σ from the fit.

    The variance of normal values within ±k·σ is smaller by 1 − 2k·φ(k)/(2Φ(k) − 1), and is
    corrected for that.

    Parameters
    ----------
    values : ndarray of float64, shape (values,)
        NaN for those that do not count.
    terms : ndarray of float64, shape (terms, values)
        About as large as 1, the first of them 1.
    """
    finite, unknown = np.isfinite(values), np.full(len(terms), np.nan)
    if not finite.any():
        return Fit(unknown, finite, 0, np.nan)
    kept, filled, loss = finite, np.where(finite, values, 0.0), _variance_within(clip)
    offset = filled - np.median(values[finite])
    sigma = MAD_TO_SIGMA * np.median(np.abs(offset[finite]))
    sigma = sigma or float(offset[finite].std())  # integers of which half are equal
    for _ in range(_ROUNDS):
        inside = finite & (np.abs(offset) <= clip * sigma)
        normal, right = _normal_equations(terms, filled, inside)
        fit, _, rank, _ = np.linalg.lstsq(normal, right, rcond=1e-10)
        freedom = int(inside.sum() - rank)
        if freedom < 1:
            return Fit(unknown, inside, 0, np.nan)
        offset = filled - np.einsum("i,ip->p", fit, terms)
        sigma = float(np.sqrt((offset[inside] ** 2).sum() / freedom / loss))
        if np.array_equal(inside, kept):
            break
        kept = inside
    return Fit(fit if rank == len(terms) else unknown, kept, freedom, sigma**2)


def _normal_equations(
    terms: np.ndarray, values: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of products of the terms, and of them with the values: piece by piece, to stay small."""
    normal, right = np.zeros((len(terms), len(terms))), np.zeros(len(terms))
    for start in range(0, values.size, _PIECE):
        piece = slice(start, start + _PIECE)
        used = terms[:, piece] * inside[piece]
        # einsum adds in one order, which a threaded library may not
        normal += np.einsum("ip,jp->ij", used, terms[:, piece])
        right += np.einsum("ip,p->i", used, values[piece])
    return normal, right


def _variance_within(clip: float) -> float:
    """Variance of a standard normal distribution cut off at ±`clip`."""
    from scipy.special import erf

    density = np.exp(-(clip**2) / 2) / np.sqrt(2 * np.pi)
    return float(1 - 2 * clip * density / erf(clip / np.sqrt(2)))
