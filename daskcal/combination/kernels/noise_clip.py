"""Clip against known noise: each value against its own σ, from its variance or the CCD's model."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

from daskcal.combination.kernels.columns import first_centre, first_centres
from daskcal.combination.kernels.moments import variance_at_centre

FROM_VARIANCE, FROM_MODEL = 0, 1  # where σ² comes from
LEAST = 2  # one value has nothing to be compared with
SQUARE, READ, SLOPE, OFFSET = range(4)  # the rows of `noise`


def noise_table(
    n: int,
    scale: np.ndarray,
    zero: np.ndarray,
    read: np.ndarray | None,
    slope: np.ndarray | None,
) -> np.ndarray:
    """What the clips know of each frame, in the unit of the scaled values.

    Parameters
    ----------
    n : int
        Number of frames.
    scale, zero : ndarray of float64, shape (n,) or empty
        As the values are scaled.
    read : ndarray of float64, shape (n,), optional
        Read noise, in the unit of the frames.
    slope : ndarray of float64, shape (n,), optional
        Variance per unit of signal, in the unit of the frames: 1 / gain for adu, 1 for electron.

    Returns
    -------
    ndarray of float64, shape (4, n)
        scale², (read·scale)², slope·scale, zero·scale.
    """
    factor = scale if scale.size else np.ones(n)
    table = np.zeros((4, n))
    table[SQUARE] = factor**2
    table[READ] = 0.0 if read is None else (read * factor) ** 2
    table[SLOPE] = 0.0 if slope is None else slope * factor
    table[OFFSET] = zero * factor if zero.size else 0.0
    return table


@nb.njit(error_model="numpy")
def _value_noise(x, centre, own, square, slope):
    """σ² of a value from its own variance, at the centre; infinite where that is not known."""
    v = own * square
    at_centre = variance_at_centre(v, slope, centre, x)
    return at_centre if v > 0 else np.inf


@nb.njit(error_model="numpy")
def _model_noise(centre, read, slope, offset, sensitivity):
    """σ² of a frame's values at the centre by the CCD's noise model; infinite where not known."""
    signal = max(centre + offset, 0.0)
    v = read + slope * signal + (sensitivity * signal) * (sensitivity * signal)
    return v if v > 0 else np.inf


@nb.njit(error_model="numpy")
def _gather(source, count, pixel, variance, noise, frames, terms):
    """terms (3, ranks): what `_sigma_squared` needs of each of a pixel's values."""
    for j in range(count):
        i = frames[j]
        if source == FROM_VARIANCE:
            terms[0, j] = np.float64(variance[i, pixel]) * noise[SQUARE, i]
        else:
            terms[0, j] = noise[READ, i]
        terms[1, j], terms[2, j] = noise[SLOPE, i], noise[OFFSET, i]


@nb.njit(error_model="numpy")
def _sigma_squared(source, x, centre, terms, j, sensitivity):
    if source == FROM_VARIANCE:
        return _value_noise(x, centre, terms[0, j], 1.0, terms[1, j])
    return _model_noise(centre, terms[0, j], terms[1, j], terms[2, j], sensitivity)


@nb.njit(error_model="numpy")
def _find_losers_of_variance(raw, centre, variance, rules, start, excess, width):
    """excess (lanes): above 0 where a value lies out of bounds of the first centre."""
    low, high = rules.low * rules.low, rules.high * rules.high
    for i in range(raw.shape[0]):
        row, own = raw[i], variance[i, start : start + width]
        square, slope = rules.noise[SQUARE, i], rules.noise[SLOPE, i]
        for k in range(width):
            x = np.float64(row[k])
            v = _value_noise(x, centre[k], np.float64(own[k]), square, slope)
            d = x - centre[k]
            is_out = (d * d > (low if d < 0 else high) * v) & (row[k] < np.inf)
            excess[k] += 1.0 if is_out else 0.0


@nb.njit(error_model="numpy")
def _find_losers_of_model(raw, centre, below, above, rules, excess, width):
    """excess (lanes): above 0 where a value lies out of bounds of the first centre.

    `below` and `above` are scratch for the squared limits, which are made anew only where a frame's
    noise is not that of the frame before.
    """
    low, high, noise = rules.low * rules.low, rules.high * rules.high, rules.noise
    for i in range(raw.shape[0]):
        row = raw[i]
        read, slope, offset = noise[READ, i], noise[SLOPE, i], noise[OFFSET, i]
        if i == 0 or (noise[1:, i] != noise[1:, i - 1]).any():
            for k in range(width):
                v = _model_noise(centre[k], read, slope, offset, rules.snoise)
                below[k], above[k] = low * v, high * v
        for k in range(width):
            d, under, over = np.float64(row[k]) - centre[k], below[k], above[k]
            is_out = (d * d > (under if d < 0 else over)) & (row[k] < np.inf)
            excess[k] += 1.0 if is_out else 0.0


@nb.njit(error_model="numpy")
def _is_out(x, centre, v, low, high):
    d = x - centre
    limit = low * low if d < 0 else high * high
    return d * d > limit * v


@nb.njit(error_model="numpy")
def _frames_in_order(raw, ranked, count, k, frames, taken):
    """frames[rank]: which frame the value of that rank is of; of equal ones the earlier first."""
    for j in range(count):
        taken[j] = 0
    for i in range(raw.shape[0]):
        x = raw[i, k]
        if x < np.inf:
            a, b = 0, count - 1
            while a < b:
                middle = (a + b) // 2
                if ranked[middle, k] < x:
                    a = middle + 1
                else:
                    b = middle
            frames[a + taken[a]] = i
            taken[a] += 1


@nb.njit(error_model="numpy")
def _centre_of_rest(ranked, count, k, verdict, left, by_median):
    """Median or mean of the `left` values without a verdict."""
    seen, total = 0, 0.0
    for j in range(count):
        if verdict[j] == 0:
            x = np.float64(ranked[j, k])
            if not by_median:
                total += x
            elif seen == (left - 1) // 2:
                total = x
            if by_median and seen == left // 2:
                return (total + x) * 0.5
            seen += 1
    return total / left


@nb.njit(error_model="numpy")
def _judge(source, ranked, count, k, rules, terms, verdict):
    """verdict[rank] of a pixel's values: -1 too low, 1 too high, 0 stays."""
    low, high, sensitivity = rules.low, rules.high, rules.snoise
    for j in range(count):
        verdict[j] = 0
    left, done = count, 0
    centre = first_centre(ranked, count, k, rules.by_median)
    while left >= LEAST and (rules.maxiters < 0 or done < rules.maxiters):
        before = left
        for j in range(count):
            if verdict[j] == 0:
                x = np.float64(ranked[j, k])
                v = _sigma_squared(source, x, centre, terms, j, sensitivity)
                if _is_out(x, centre, v, low, high):
                    verdict[j] = -1 if x < centre else 1
                    left -= 1
        if left == before or left == 0:
            break
        centre = _centre_of_rest(ranked, count, k, verdict, left, rules.by_median)
        done += 1
    _bring_back(source, ranked, count, k, terms, verdict, sensitivity, rules.least, centre, left)


@nb.njit(error_model="numpy")
def _bring_back(source, ranked, count, k, terms, verdict, sensitivity, least, centre, left):
    """Of the rejected values those nearest to the centre in σ stay, until enough do."""
    while left < min(least, count):
        nearest = np.inf
        for j in range(count):
            if verdict[j] != 0:
                x = np.float64(ranked[j, k])
                v = _sigma_squared(source, x, centre, terms, j, sensitivity)
                nearest = min(nearest, (x - centre) * (x - centre) / v)
        for j in range(count):
            if verdict[j] != 0:
                x = np.float64(ranked[j, k])
                v = _sigma_squared(source, x, centre, terms, j, sensitivity)
                if (x - centre) * (x - centre) / v <= nearest:
                    verdict[j] = 0
                    left += 1


@nb.njit(error_model="numpy")
def _carry_out(raw, ranked, count, k, frames, verdict):
    """Rejected values of `raw` become +inf. Returns how many were low and high.

    The survivors move together in `ranked`, to where those of a rejection of tails would lie.
    """
    n_low, n_high, left = 0, 0, 0
    for j in range(count):
        if verdict[j] == 0:
            ranked[left, k] = ranked[j, k]
            left += 1
        else:
            raw[frames[j], k] = np.inf
            n_low += verdict[j] < 0
            n_high += verdict[j] > 0
    if n_low:
        for j in range(left - 1, -1, -1):
            ranked[n_low + j, k] = ranked[j, k]
    return n_low, n_high


@nb.njit(error_model="numpy")
def noise_lanes(source, raw, ranked, good, start, variance, rules,
                counters, terms, lanes, n_low, n_high, width):  # fmt: skip
    """Values outside of c - low·σᵢ to c + high·σᵢ go, σᵢ each value's own; then again of the rest.

    c is the median or mean of the values still in (the first mean leaves out the lowest and the
    highest of three and more), until nothing changes. From `source`:

    VARIANCE (DRAGONS' varclip): σᵢ² = Vᵢ + slopeᵢ·(c - xᵢ), 0.1·Vᵢ at least, V the frame's
    variance at the pixel. The second term takes V to the stack's centre, or a value's own photon
    noise would save high outliers; the least share saves none of them, since a value that is all
    photon noise is out from 0.1·threshold² electrons on. With slope 0 it is DRAGONS' clip.

    MODEL (IRAF's ccdclip; crreject is its high side alone): σᵢ² = readᵢ² + slopeᵢ·max(c, 0) +
    (sensitivity·max(c, 0))², where c includes the zero that was taken off the frame.

    `read`, `slope` and the zero are of the frame, and scaled as its values are; slope is 1/gain.
    A value whose σᵢ is not known (V that is not positive, a model of zeros) stays. From 2 values
    on; a pixel never loses all, since the values nearest to c in units of σᵢ, equal ones together,
    come back until there are `least`. `counters` is scratch of (3, n) integers, `terms` of (3, n).
    """
    centre, excess = lanes[0], lanes[1]
    for k in range(width):
        n_low[k], n_high[k], excess[k] = 0, 0, 0.0
    first_centres(ranked, good, rules.by_median, centre, width)
    if source == FROM_VARIANCE:
        _find_losers_of_variance(raw, centre, variance, rules, start, excess, width)
    else:
        _find_losers_of_model(raw, centre, lanes[2], lanes[3], rules, excess, width)
    for k in range(width):
        if excess[k] > 0 and good[k] >= LEAST and rules.maxiters != 0:
            frames, verdict = counters[0], counters[1]
            _frames_in_order(raw, ranked, good[k], k, frames, counters[2])
            _gather(source, good[k], start + k, variance, rules.noise, frames, terms)
            _judge(source, ranked, good[k], k, rules, terms, verdict)
            n_low[k], n_high[k] = _carry_out(raw, ranked, good[k], k, frames, verdict)
