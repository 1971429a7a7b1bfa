"""combine_block again, from its definitions: float64, one pixel after the other, no tricks."""

from __future__ import annotations

import math

import numpy as np

from daskcal.combination.kernels import Combined, Reject
from daskcal.combination.kernels.uncertainty import variance_gains


def working_type(dtype: np.dtype) -> type:
    return np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def std(values: list[float]) -> float:
    centre = mean(values)
    return math.sqrt(sum((x - centre) * (x - centre) for x in values) / len(values))


def mad_std(values: list[float]) -> float:
    return float(np.median(np.abs(np.array(values) - np.median(values)))) * 1.482602218505602


def sigma_bounds(values: list[float], reject: Reject, floor: float) -> tuple[float, float]:
    """The bounds of the last iteration; each iteration sees what the ones before left."""
    lower, upper, done = -math.inf, math.inf, 0
    left = values
    while left and done != reject.maxiters:
        centre = float(np.median(left)) if reject.center == "median" else mean(left)
        sigma = max(mad_std(left) if reject.spread == "mad_std" else std(left), floor)
        lower = -math.inf if reject.low == math.inf else centre - reject.low * sigma
        upper = math.inf if reject.high == math.inf else centre + reject.high * sigma
        kept = [x for x in left if lower <= x <= upper]
        if kept == left:
            break
        left, done = kept, done + 1
    return lower, upper


def minmax_counts(good: int, n: int, reject: Reject) -> tuple[int, int]:
    sides = reject.n_low, reject.n_high
    counts = [int(good * x + 0.001) if isinstance(x, float) else x for x in sides]
    if sum(counts) >= good:
        shares = [x if isinstance(x, float) else x / n for x in sides]
        counts = [int(good * share + 0.001) for share in shares]
    return counts[0], counts[1]


def winsorised_squares(left: list[float], n_low: int, n_high: int) -> float:
    """Squared deviations from the mean, with lost values set to the nearest survivor."""
    values = np.array([min(left)] * n_low + left + [max(left)] * n_high)
    return float(((values - values.mean()) ** 2).sum())


def survivors(values, floor, n, reject):
    """For each (frame, value) of a pixel: -1 rejected low, 1 rejected high, 0 kept."""
    if reject.kind == "sigma":
        lower, upper = sigma_bounds([x for _, x in values], reject, floor)
        return [-1 if x < lower else int(x > upper) for _, x in values]
    verdict = [0] * len(values)
    if reject.kind == "minmax":
        n_low, n_high = minmax_counts(len(values), n, reject)
        order = sorted(range(len(values)), key=lambda j: values[j][1])
        for j in order[:n_low]:
            verdict[j] = -1
        rest = [j for j in range(len(values)) if not verdict[j]]
        for j in sorted(rest, key=lambda j: -values[j][1])[:n_high]:
            verdict[j] = 1
    return verdict


def combine_reference(
    image, mask=None, variance=None, shared=None, *, method="average", reject, scale=None,
    zero=None, weights=None, slope=None, by_variance=False, floor=None,
) -> Combined:  # fmt: skip
    n, rows, columns = image.shape
    work = working_type(image.dtype)
    scale = np.ones(n) if scale is None else scale
    zero = np.zeros(n) if zero is None else zero
    lost = None
    if reject.kind == "minmax":
        lost = tuple(zip(*(minmax_counts(g, n, reject) for g in range(n + 1)), strict=True))
    gains = variance_gains(method, n, lost, scatter=variance is None and weights is None)
    size = n if method == "sum" else 1
    out = Combined(
        *(np.full((rows, columns), np.nan) for _ in range(3)),
        *(np.zeros((rows, columns), np.uint16) for _ in range(4)),
    )
    for at in np.ndindex(rows, columns):
        column = [image[(i, *at)] for i in range(n)]
        bits = [0 if mask is None else int(mask[(i, *at)]) for i in range(n)]
        scaled = [float(work((float(x) - z) * s)) for x, z, s in zip(column, zero, scale, strict=1)]
        values = [(i, x) for i, x in enumerate(scaled) if not bits[i] and math.isfinite(x)]
        smallest = floor or 0.0
        if floor == "variance":
            noise = [variance[(i, *at)] * float(scale[i]) ** 2 for i, _ in values]
            smallest = math.sqrt(mean(noise)) if noise else 0.0
        verdict = survivors(values, smallest, n, reject)
        kept = [(i, x) for (i, x), v in zip(values, verdict, strict=True) if v == 0]
        out.n_used[at], out.n_low[at] = len(kept), verdict.count(-1)
        out.n_high[at] = verdict.count(1)
        if not kept:
            out.mask[at] = int(np.bitwise_or.reduce(np.array(bits, np.uint16))) | 16
            continue
        left = [x for _, x in kept]

        def scaled_variance(planes, kept=kept, at=at):
            return [float(planes[(i, *at)]) * float(scale[i]) ** 2 for i, _ in kept]

        weight = [1.0] * len(kept) if weights is None else [float(weights[i]) for i, _ in kept]
        if by_variance:
            pairs = zip(kept, scaled_variance(variance), strict=True)
            at_centre = [v + slope[i] * scale[i] * (mean(left) - x) for (i, x), v in pairs]
            own = scaled_variance(variance)
            noise = [max(v, 0.1 * o) for v, o in zip(at_centre, own, strict=True)]
            weight = [w / v if o > 0 else 0.0 for w, v, o in zip(weight, noise, own, strict=True)]
        kept = [one for one, w in zip(kept, weight, strict=True) if w > 0]
        left, weight = [x for _, x in kept], [w for w in weight if w > 0]
        out.n_used[at] = len(kept)
        if not kept:
            out.mask[at] = int(np.bitwise_or.reduce(np.array(bits, np.uint16))) | 16
            continue
        norm = sum(weight)
        middle = {"median": np.median(left), "lower_median": sorted(left)[(len(left) - 1) // 2]}
        weighted = sum(w * x for w, x in zip(weight, left, strict=True)) / norm
        out.image[at] = middle.get(method, weighted) * size
        gain = gains[len(values) if lost else len(kept)] * size**2
        if variance is not None:
            own = scaled_variance(variance, kept)
            squares = sum(w * w * v for w, v in zip(weight, own, strict=True))
            out.variance[at] = squares / norm**2 * gain
        elif lost and weights is None:
            n_low, n_high = lost[0][len(values)], lost[1][len(values)]
            out.variance[at] = winsorised_squares(left, n_low, n_high) * gain
        elif len(kept) > 1:
            squares = sum(w * (x - weighted) ** 2 for w, x in zip(weight, left, strict=True))
            out.variance[at] = squares / ((len(kept) - 1) * norm) * gain
        if shared is not None:
            own = scaled_variance(shared, kept)
            common = sum(w * v for w, v in zip(weight, own, strict=True)) / norm
            out.shared[at] = common * size**2
    return out
