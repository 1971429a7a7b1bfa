"""combine_block again, from its definitions: float64, one pixel after the other, no tricks."""

from __future__ import annotations

import math

import numpy as np

from daskcal.combination.kernels import Combined, Reject
from daskcal.combination.kernels.median_error import median_factors


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
    if good > reject.n_low + reject.n_high:
        return reject.n_low, reject.n_high
    return int(good * reject.n_low / n + 0.001), int(good * reject.n_high / n + 0.001)


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
    zero=None, floor=None,
) -> Combined:  # fmt: skip
    n, rows, columns = image.shape
    work = working_type(image.dtype)
    scale = np.ones(n) if scale is None else scale
    zero = np.zeros(n) if zero is None else zero
    factors = median_factors(n) if method == "median" else np.ones(n + 1)
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
        out.image[at] = float(np.median(left)) if method == "median" else mean(left) * size
        gain = (factors[len(kept)] * size) ** 2

        def scaled_variance(planes, kept=kept, at=at):
            return [float(planes[(i, *at)]) * float(scale[i]) ** 2 for i, _ in kept]

        if variance is not None:
            out.variance[at] = sum(scaled_variance(variance)) / len(kept) ** 2 * gain
        elif len(kept) > 1:
            out.variance[at] = std(left) ** 2 / (len(kept) - 1) * gain
        if shared is not None:
            out.shared[at] = mean(scaled_variance(shared)) * size**2
    return out
