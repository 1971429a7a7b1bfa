"""How far a mean of ranked values lies from the truth, for normal noise: medians, trimmed means.

For n standard normal values in order, x(1) <= ... <= x(n), and T the mean of x(r) ... x(s): given
x(r) = a and x(s) = b, the values between are independent and normal, truncated to (a, b). So the
moments of T, and of the winsorised sum of squares, are integrals over the joint density of a and b
(David & Nagaraja, Order Statistics, 3rd ed., 2.1, 2.2 and 2.5).
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np

EXACT = 100  # with more values, the formulas for many are good to 2e-3 of an error
_OUTSIDE, _FAR = 9.0, 12.0  # no rank of so few values lies beyond, nor so many of its σ off
_ONE, _TWO = np.polynomial.legendre.leggauss(96), np.polynomial.legendre.leggauss(48)
_NORMAL = NormalDist()
_erfc = np.frompyfunc(math.erfc, 1, 1)


def second_moment(n: int, r: int, s: int) -> float:
    """E[T²] of the mean T of ranks `r` to `s` (counted from 1) of `n` standard normal values.

    It includes the square of T's mean, which is not 0 where more ranks are left out on one side.
    """
    if n > EXACT:
        mean, variance = _many(n, r, s)
        return mean * mean + variance
    return _moments(n, r, s)[0]


def winsorised_squares(n: int, r: int, s: int) -> float:
    """E[SSD]: of the squared deviations of `n` values, those outside ranks `r` to `s` set to the
    nearest of these; 0 where one rank is left.
    """
    if n > EXACT:
        h = s - r + 1
        return _many(n, r, s)[1] * h * (h - 1)
    return _moments(n, r, s)[1]


@cache
def _moments(n: int, r: int, s: int) -> tuple[float, float]:
    """E[T²] and E[SSD]."""
    if (r, s) == (1, n):
        return 1 / n, n - 1.0
    if r == s:
        z, weight = _nodes(_ONE, *_span(n, r))
        density = np.exp(_log_of_choice(n, r, r) + (r - 1) * np.log(_above(-z))
                         + (n - r) * np.log(_above(z))) * _phi(z)  # fmt: skip
        return float((weight * density * z * z).sum()), 0.0
    h = s - r - 1  # values between
    (a0, a1), (b0, b1) = _span(n, r), _span(n, s)
    b, weight_b = _nodes(_TWO, b0, b1)
    t, weight_t = _nodes(_TWO, max(0.0, b0 - a1), b1 - a0)
    a, b = b[:, None] - t, b[:, None] + 0 * t
    inside, mean, square = _truncated(a, b)
    logs = (r - 1) * np.log(_above(-a)) + h * np.log(inside) + (n - s) * np.log(_above(b))
    p = weight_b[:, None] * weight_t * np.exp(_log_of_choice(n, r, s) + logs) * _phi(a) * _phi(b)
    variance = square - mean * mean
    total = (h * mean + a + b) ** 2 + h * variance
    ends = r * a + (n - s + 1) * b
    squares = h * square + r * a * a + (n - s + 1) * b * b
    squares -= ((h * mean + ends) ** 2 + h * variance) / n
    return float((p * total).sum()) / (h + 2) ** 2, float((p * squares).sum())


def _many(n: int, r: int, s: int) -> tuple[float, float]:
    """Mean and variance of T for many values (Stigler 1973, Annals of Statistics 1, 472)."""
    low, high = (r - 1) / n, (n - s) / n
    left = 1 - low - high
    a = _NORMAL.inv_cdf(low) if low else -_OUTSIDE
    b = _NORMAL.inv_cdf(1 - high) if high else _OUTSIDE
    phi_a, phi_b = _NORMAL.pdf(a), _NORMAL.pdf(b)
    inner = phi_a - phi_b
    winsorised = low * a + inner + high * b
    square = low * a * a + left + a * phi_a - b * phi_b + high * b * b
    return inner / left, (square - winsorised**2) / (n * left * left)


def _span(n: int, rank: int) -> tuple[float, float]:
    """Where x(rank) lies, as good as surely."""
    share = rank / (n + 1)
    middle = _NORMAL.inv_cdf(share)
    sigma = math.sqrt(share * (1 - share) / (n + 2)) / _NORMAL.pdf(middle)
    return max(middle - _FAR * sigma, -_OUTSIDE), min(middle + _FAR * sigma, _OUTSIDE)


def _nodes(
    rule: tuple[np.ndarray, np.ndarray], low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """A Gauss-Legendre rule on (low, high)."""
    half = (high - low) / 2
    return low + half * (1 + rule[0]), half * rule[1]


def _log_of_choice(n: int, r: int, s: int) -> float:
    """log of n! / ((r-1)! (s-r-1)! (n-s)!); for r = s of n! / ((r-1)! (n-r)!)."""
    logs = math.lgamma(n + 1) - math.lgamma(r) - math.lgamma(n - s + 1)
    return logs - (math.lgamma(s - r) if s > r else 0.0)


def _phi(z: np.ndarray) -> np.ndarray:
    """Density of the standard normal distribution."""
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _above(z: np.ndarray) -> np.ndarray:
    """Probability above z."""
    return np.asarray(0.5 * _erfc(z / math.sqrt(2)), dtype=np.float64)


def _truncated(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability between a and b > a; mean and mean square of normal values between them."""
    close = b - a < 1e-2  # as good as uniform there, where differences lose their digits
    far = np.where(close, a + 1, b)
    left, right = np.where(a < 0, -far, a), np.where(a < 0, -a, far)  # of the tail that is small
    inside = _above(left) - _above(right)
    mean, square = (_phi(a) - _phi(far)) / inside, 1 + (a * _phi(a) - far * _phi(far)) / inside
    middle, gap = (a + b) / 2, b - a
    return (
        np.where(close, _phi(middle) * gap, inside),
        np.where(close, middle, mean),
        np.where(close, middle**2 + gap**2 / 12, square),
    )
