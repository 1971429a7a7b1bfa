"""The rejections again, from their formulas: float64 numpy, one pixel's values at a time.

Two ways of rounding decide differently where a value lies on a bound, so each answer comes with its
margin: how near the closest decision was, as a share of what was compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from daskcal.combination.kernels import Reject


class Judge:
    """Compares, and remembers how close it was."""

    def __init__(self) -> None:
        self.margin = math.inf

    def exceeds(self, a: float, b: float) -> bool:
        if math.isfinite(a) and math.isfinite(b) and (a or b):
            self.margin = min(self.margin, abs(a - b) / max(abs(a), abs(b)))
        return a > b


def first_centre(x: np.ndarray, center: str) -> float:
    if center == "median":
        return float(np.median(x))
    return float(np.mean(np.sort(x)[1:-1] if len(x) > 2 else x))


def centre_of(x: np.ndarray, center: str) -> float:
    return float(np.median(x) if center == "median" else np.mean(x))


def sides(x: np.ndarray, centre: float, low: np.ndarray, high: np.ndarray, judge: Judge):
    """-1, 0, 1 for each value: below centre - low, between, above centre + high."""
    pairs = zip(x, np.broadcast_to(low, x.shape), np.broadcast_to(high, x.shape), strict=True)
    return np.array(
        [
            -1 if v < centre and judge.exceeds(centre - v, below)
            else int(v > centre and judge.exceeds(v - centre, above))
            for v, below, above in pairs
        ],
        int,
    )  # fmt: skip


def times(factor: float, sigma):
    """factor·σ, infinite for a side that is off."""
    return np.full_like(np.asarray(sigma, float), np.inf) if factor == math.inf else factor * sigma


def iterate(x, reject: Reject, least: int, sigma_and_centre, judge: Judge):
    """Verdicts of a clip that repeats on what is left. Also its last centre."""
    verdict = np.zeros(len(x), int)
    done, centre = 0, first_centre(x, reject.center)
    while (verdict == 0).sum() >= least and done != reject.maxiters:
        left = np.flatnonzero(verdict == 0)
        centre, sigma = sigma_and_centre(x[left], left, done)
        low, high = times(reject.low, sigma), times(reject.high, sigma)
        found = sides(x[left], centre, low, high, judge)
        if not found.any():
            break
        verdict[left] = found
        done += 1
    rest = x[verdict == 0]
    return verdict, centre_of(rest, reject.center) if len(rest) else centre


def percentile(x, reject, judge):
    median = float(np.median(x))
    if len(x) < 3 or median == 0:
        return np.zeros(len(x), int), median
    found = sides(x, median, times(reject.low, abs(median)), times(reject.high, abs(median)), judge)
    return found, median


def winsorised(x, reject, floor, judge):
    median = float(np.median(x))

    def estimate(left, _, __):
        nonlocal median
        median = float(np.median(left))
        pulled, sigma = left.copy(), max(float(np.std(left, ddof=1)), floor)
        for _ in range(100):
            before = sigma
            pulled = np.clip(pulled, median - 1.5 * sigma, median + 1.5 * sigma)
            sigma = max(1.134 * float(np.std(pulled, ddof=1)), floor)
            if not judge.exceeds(abs(sigma - before), 0.0005 * before):
                break
        return median, sigma

    verdict, _ = iterate(x, reject, 3, estimate, judge)
    return verdict, median


def linear_fit(x, reject, floor, judge):
    verdict, done, median = np.zeros(len(x), int), 0, float(np.median(x))
    while (verdict == 0).sum() >= 4 and done != reject.maxiters:
        left = np.flatnonzero(verdict == 0)
        left = left[np.argsort(x[left], kind="stable")]
        values, ranks = x[left], np.arange(len(left))
        slope, start = np.linalg.lstsq(np.stack([ranks, np.ones(len(left))], 1), values)[0]
        off = values - slope * ranks - start
        sigma, median = max(float(np.mean(np.abs(off))), floor), float(np.median(values))
        if sigma <= 1e-12 * (abs(values.mean()) + abs(slope) * len(values)):
            break  # all lie on the line
        for side, factor in ((-1, reject.low), (1, reject.high)):
            limit = float(times(factor, sigma))
            wrong = [
                v
                for v, r in zip(values, off, strict=True)
                if (v - median) * side > 0 and judge.exceeds(side * r, limit)
            ]
            if wrong:
                # the innermost one takes all that are as far out or further
                inner = max(wrong) if side < 0 else min(wrong)
                verdict[(verdict == 0) & ((x - inner) * side >= 0)] = side
        if len(left) == (verdict == 0).sum():
            break
        done += 1
    return verdict, median


def esd(x, reject, floor, judge):
    """The text of the NIST handbook, 1.3.5.17.3, with its critical values."""
    n, order = len(x), []
    outliers = 0
    for i in range(1, min(math.floor(reject.fraction * n + 0.001), n - 2) + 1):
        left = [j for j in range(n) if j not in order]
        mean, s = np.mean(x[left]), max(float(np.std(x[left], ddof=1)), floor)
        distance = {j: abs(x[j] - mean) for j in left}
        furthest = max(distance.values())
        # rounding must not choose between two that are equally far on different sides
        near = [x[j] for j in left if distance[j] >= furthest * (1 - 1e-12)]
        order.append(max((j for j in left if x[j] == max(near)), key=lambda j: distance[j]))
        p = 1 - reject.significance / (2 * (n - i + 1))
        t = stats.t.ppf(p, n - i - 1)
        critical = (n - i) * t / math.sqrt((n - i - 1 + t * t) * (n - i + 1))
        if judge.exceeds(furthest, critical * s):
            outliers = i
    verdict = np.zeros(n, int)
    gone, kept = set(order[:outliers]), [j for j in range(n) if j not in order[:outliers]]
    for j in gone:
        if x[j] not in x[kept]:
            verdict[j] = -1 if x[j] < min(x[kept]) else 1
    return verdict, float(np.median(x[kept]))


def row_spread(stacks: list[np.ndarray], center: str) -> float:
    """s of averaged sigma clipping from the good values of each pixel of a row."""
    total, count = 0.0, 0
    for x in stacks:
        if len(x) >= 3:
            centre = first_centre(x, center)
            total += float(np.sum((x - centre) ** 2)) / max(centre, 1)
            count += len(x)
    return math.sqrt(total / (count - 1)) if count > 1 else 0.0


def averaged(x, reject, spread, judge):
    def estimate(left, _, done):
        centre = (first_centre if done == 0 else centre_of)(left, reject.center)
        return centre, spread * math.sqrt(max(centre, 1))

    if spread == 0:
        return np.zeros(len(x), int), first_centre(x, reject.center)
    return iterate(x, reject, 3, estimate, judge)


def by_noise(x, reject, sigma_squared: Callable[[int, float], float], judge):
    """`sigma_squared(j, centre)`: of value j, NaN where not known."""

    def sigmas(indices, centre):
        found = np.sqrt([sigma_squared(j, centre) for j in indices])
        return np.where(found > 0, found, np.inf)

    def estimate(left, indices, done):
        centre = (first_centre if done == 0 else centre_of)(left, reject.center)
        return centre, sigmas(indices, centre)

    if reject.kind == "crreject":
        reject = Reject(reject.kind, math.inf, *(getattr(reject, name) for name in (
            "high", "center", "spread", "maxiters")))  # fmt: skip
    verdict, centre = iterate(x, reject, 2, estimate, judge)
    return verdict, centre, sigmas(range(len(x)), centre)


def keep_some(verdict, distance, least: int, away=None) -> bool:
    """The nearest rejected values come back, equally near ones together.

    `away` are the distances before they were divided by anything. Returns whether it was clear
    which are equally near: with different σ, or about a mean, that is up to rounding.
    """
    clear = True
    while (verdict == 0).sum() < min(least, len(verdict)):
        left = np.where(verdict == 0, np.inf, distance)
        about = left <= left.min() * (1 + 1e-9)
        clear &= away is None or np.ptp(away[about]) == 0
        verdict[left <= left.min()] = 0
    return clear


def verdicts(
    x: np.ndarray, reject: Reject, *, floor: float = 0.0, spread: float = 0.0, sigma_squared=None
) -> tuple[np.ndarray, float]:
    """-1, 0 or 1 for each of a pixel's good values (too low, stays, too high), and the margin."""
    judge = Judge()
    if reject.kind in ("variance", "ccdclip", "crreject"):
        verdict, centre, sigma = by_noise(x, reject, sigma_squared, judge)
        distance = np.abs(x - centre) / sigma
    else:
        verdict, centre = {
            "percentile": lambda: percentile(x, reject, judge),
            "winsorised": lambda: winsorised(x, reject, floor, judge),
            "linear_fit": lambda: linear_fit(x, reject, floor, judge),
            "esd": lambda: esd(x, reject, floor, judge),
            "averaged_sigma": lambda: averaged(x, reject, spread, judge),
        }[reject.kind]()
        if reject.kind != "averaged_sigma" and (verdict == 0).any():
            centre = float(np.median(x[verdict == 0]))
        distance = np.abs(x - centre)
    away = np.abs(x - centre) if reject.center == "median" else x
    clear = keep_some(verdict, distance, max(reject.n_keep, 1), away)
    return verdict, judge.margin if clear else 0.0
