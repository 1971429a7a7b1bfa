"""The compiled loop behind a `Program`: a line of a frame goes through all of it while in cache.

Each operation is done in the type of the pixels, in the order of the formula that its name stands
for, without contraction: the bits are those of the same formula in numpy.
"""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from typing import Any

import numba as nb
import numpy as np

from daskcal.compiled import compile_cached

# What an operation does to the image x, its variance v, the shared variance s and the mask m of a
# frame; a and b are planes (rows, columns), f and g numbers of the frame.
SUBTRACT = 0  # x − f·a
SUBTRACT_ROWS = 1  # x − a number of the frame's row
SUBTRACT_COLUMNS = 2  # x − a number of the frame's column
MULTIPLY = 3  # x·f, v·f², s·f²
DIVIDE = 4  # x/a, v/a², s/a²
OWN_NOISE = 5  # v = max(x − f, 0)·g + h
SHARE = 6  # s + f·a
SHARE_TWO = 7  # s + (f·a + g·b), not below 0
SHARE_SQUARE = 8  # s + x²·a
FLAG = 9  # m | bits
FLAG_FROM = 10  # m | bit where x ≥ f
KEEP = 11  # m & bits, and v or s are 0 again
LEAK = 12  # x − f·(raw value at another place of the frame)
LINEARISE = 13  # f + u·(1 + c₁·u + ...) with u = x − f; v and s times its slope squared
LOOK_UP = 14  # the same with a table for u
SHUTTER = 15  # x/(1 + f·a), v and s by its square, s with the noise of a

NONLINEAR = np.uint16(8)
NO_DATA = np.uint16(16)  # the bit of the mask for "no value here"

MIRRORED, FACING = 1, 2  # of a leak: columns run the other way; from the rows at the other end


@nb.njit(error_model="numpy")
def _subtract(x, plane, factor):
    for k in range(x.size):
        x[k] -= factor * plane[k]


@nb.njit(error_model="numpy")
def _subtract_number(x, m, level):
    for k in range(x.size):
        x[k] -= level
    _flag_level(m, level)


@nb.njit(error_model="numpy")
def _load_less(raw, x, m, level):
    for k in range(x.size):
        x[k] = x.dtype.type(raw[k]) - level
    _flag_level(m, level)


@nb.njit(error_model="numpy")
def _flag_level(m, level):
    if level - level != 0:  # not finite
        for k in range(m.size):
            m[k] |= NO_DATA


@nb.njit(error_model="numpy")
def _subtract_line(x, m, levels):
    for k in range(x.size):
        x[k] -= levels[k]
    for k in range(m.size):
        if levels[k] - levels[k] != 0:
            m[k] |= NO_DATA


@nb.njit(error_model="numpy")
def _multiply(values, factor):
    for k in range(values.size):
        values[k] *= factor


@nb.njit(error_model="numpy")
def _divide(x, v, s, plane):
    for k in range(x.size):
        x[k] /= plane[k]
    for k in range(v.size):
        v[k] /= plane[k] * plane[k]
    for k in range(s.size):
        s[k] /= plane[k] * plane[k]


@nb.njit(error_model="numpy")
def _own_noise(x, v, level, poisson, constant):
    zero = level - level
    for k in range(v.size):
        signal = x[k] - level
        signal = zero if signal < zero else signal  # NaN stays NaN
        v[k] = signal * poisson + constant


@nb.njit(error_model="numpy")
def _share(s, plane, factor):
    for k in range(s.size):
        s[k] += factor * plane[k]


@nb.njit(error_model="numpy")
def _share_two(s, first, second, f, g):
    zero = f - f
    for k in range(s.size):
        total = s[k] + (f * first[k] + g * second[k])
        s[k] = zero if total < zero else total


@nb.njit(error_model="numpy")
def _share_square(x, s, plane):
    for k in range(s.size):
        s[k] += x[k] * x[k] * plane[k]


@nb.njit(error_model="numpy")
def _flag(m, bits):
    for k in range(m.size):
        m[k] |= bits[k]


@nb.njit(error_model="numpy")
def _flag_from(x, m, level, bit):
    for k in range(m.size):
        m[k] |= bit if x[k] >= level else np.uint16(0)


@nb.njit(error_model="numpy")
def _leak(x, line, masked, at, step, factor):
    for k in range(x.size):
        source = at + step * k
        if not (masked.size and masked[source] & NO_DATA):
            x[k] -= factor * x.dtype.type(line[source])


@nb.njit(error_model="numpy")
def _flag_above(x, m, level, limit):
    for k in range(m.size):
        m[k] |= NONLINEAR if x[k] - level > limit else np.uint16(0)


@nb.njit(error_model="numpy")
def _linearise(x, v, s, level, limit, factors, i):
    """u·(1 + c₁·u + c₂·u² + ...), its factor that of the limit beyond it."""
    one, zero = x.dtype.type(1), level - level
    for k in range(x.size if v.size or s.size else 0):
        u = x[k] - level
        within = limit if u > limit else u
        slope = zero
        for c in range(factors.shape[0] - 1, -1, -1):
            rises = one if u > limit else x.dtype.type(c + 2)
            slope = (slope + rises * factors[c, i]) * within
        slope += one
        if v.size:
            v[k] *= slope * slope
        if s.size:
            s[k] *= slope * slope
    for k in range(x.size):
        u = x[k] - level
        within = limit if u > limit else u
        more = zero
        for c in range(factors.shape[0] - 1, -1, -1):
            more = (more + factors[c, i]) * within
        x[k] = u * (one + more) + level


@nb.njit(error_model="numpy")
def _look_up(x, v, s, level, knots):
    """The line between the two knots about u; beyond the first and the last one u + a constant."""
    last = knots.shape[0] - 1
    for k in range(x.size):
        u = x[k] - level
        if u > knots[0, 0] and u < knots[last, 0]:
            low, high = 0, last
            while high - low > 1:
                middle = (low + high) // 2
                if knots[middle, 0] <= u:
                    low = middle
                else:
                    high = middle
            slope = (knots[high, 1] - knots[low, 1]) / (knots[high, 0] - knots[low, 0])
            x[k] = knots[low, 1] + (u - knots[low, 0]) * slope + level
            if v.size:
                v[k] *= slope * slope
            if s.size:
                s[k] *= slope * slope
        else:
            end = last if u >= knots[last, 0] else 0
            x[k] = u + (knots[end, 1] - knots[end, 0]) + level


@nb.njit(error_model="numpy")
def _shutter(x, v, s, plane, noise, factor):
    one = x.dtype.type(1)
    for k in range(s.size):
        ratio = one + factor * plane[k]
        s[k] /= ratio * ratio
        if noise.size:
            error = factor * x[k] / (ratio * ratio)
            s[k] += error * error * noise[k]
    for k in range(v.size):
        ratio = one + factor * plane[k]
        v[k] /= ratio * ratio
    for k in range(x.size):
        x[k] /= one + factor * plane[k]


@nb.njit(error_model="numpy")
def _load(raw, x):
    for k in range(x.size):
        x[k] = raw[k]


@nb.njit(error_model="numpy")
def _undefine(x, bits):
    for k in range(x.size):
        if bits[k] & NO_DATA:
            x[k] = np.nan


@nb.njit(error_model="numpy")
def _acts(area, y, x0, x1):
    """Whether an operation of an area acts on columns from `x0` up to `x1` of row `y`."""
    return area[0] <= y < area[1] and area[2] <= x0 and x1 <= area[3]


@nb.njit(error_model="numpy")
def _begin(given, i, y, left, line):
    """Fill a line of a plane with what was given of it, or with zeros."""
    if given.shape[0]:
        _load(given[i, y, left : left + line.size], line)
    else:
        line[:] = 0


def _run(
    raw, raw_variance, raw_shared, raw_mask, facing, facing_mask, top, left, operations, areas,
    cuts, numbers, knots, planes, bits, of_rows, of_columns, alike, rows, into, image, variance,
    shared, mask,
):  # fmt: skip
    """Take `rows` rows from `top` on of all frames through the operations.

    Parameters
    ----------
    raw, raw_variance, raw_shared, raw_mask : arrays of (frames, rows, columns)
        What the frames are at first. An array of no frames stands for zeros.
    facing, facing_mask : arrays of (frames, rows, columns)
        The raw rows that are read out at the same time at the other end; no frames for none.
    top, left : int
        The first row and column of them that is wanted.
    operations : array of int64, (operations, 4)
        Kind, first and second plane (or table of bits, rows, columns), and first of its numbers;
        -1 for none. An operation whose first number is NaN leaves the frame alone.
    areas : array of int64, (operations, 4)
        Where an operation acts: first and one past the last row, of those of `raw`, first and one
        past the last column, of those of the results.
    cuts : array of int64
        Columns of the results, the first and one past the last among them, between which no area
        begins or ends.
    numbers : array of (numbers, frames)
    knots : array of (knots, 2)
        Of all tables, one after the other.
    planes, bits : tuples of arrays (rows, columns)
        The loop is compiled for each length that they come in.
    of_rows : array of (tables, frames, rows)
        Rows as those of `raw`.
    of_columns : array of (tables, frames, columns)
    alike : int
        After so many operations the shared variance is still the same for all frames.
    into : int
        Where among the rows of the results the first one goes.
    image, variance, shared, mask : arrays of (frames, rows, columns)
        The results; arrays of no frames are not wanted, but for the image.

    Returns
    -------
    uint16
        All bits that are set anywhere in `mask`.
    """
    found = np.uint16(0)
    nothing, no_bits = np.empty(0, image.dtype), np.empty(0, np.uint16)
    base, count = np.empty(image.shape[2], image.dtype), operations.shape[0]
    alone, bare = raw.shape[0] == 1, not raw_mask.shape[0]
    one = image.dtype.type(1)
    for row, i, piece in np.ndindex(rows, raw.shape[0], cuts.size - 1):
        y, x0, x1 = top + row, cuts[piece], cuts[piece + 1]
        x = image[i, into + row, x0:x1]
        v = variance[i, into + row, x0:x1] if variance.shape[0] else nothing
        s = shared[i, into + row, x0:x1] if shared.shape[0] else nothing
        m = mask[i, into + row, x0:x1] if mask.shape[0] else no_bits
        _begin(raw_variance, i, y, left + x0, v)
        _begin(raw_mask, i, y, left + x0, m)
        if i == 0 or not alike:
            _begin(raw_shared, i, y, left + x0, s)
        pixels = raw[i, y, left + x0 : left + x1]
        levelled = -1
        for o in range(count):
            if _acts(areas[o], y, x0, x1):
                levelled = o if bare and operations[o, 0] == SUBTRACT_ROWS else -1
                break
        if levelled >= 0:  # the pass that loads can do that as well
            _load_less(pixels, x, m, of_rows[operations[levelled, 1], i, y])
        else:
            _load(pixels, x)
        if not bare:
            _undefine(x, raw_mask[i, y, left + x0 : left + x1])
        for o in range(count + 1):
            if o == alike and s.size and not alone:
                _load(s, base[x0:x1]) if i == 0 else _load(base[x0:x1], s)
            if o in (count, levelled) or not _acts(areas[o], y, x0, x1):
                continue
            kind, a, b, first = operations[o]
            t = nothing if i and o < alike else s
            f = numbers[first, i] if first >= 0 else one
            if f != f:
                continue
            if kind == SUBTRACT:
                _subtract(x, planes[a][row, x0:x1], f)
            elif kind == SUBTRACT_ROWS:
                _subtract_number(x, m, of_rows[a, i, y])
            elif kind == SUBTRACT_COLUMNS:
                _subtract_line(x, m, of_columns[a, i, x0:x1])
            elif kind == MULTIPLY:
                _multiply(x, f)
                _multiply(v, f * f)
                _multiply(t, f * f)
            elif kind == DIVIDE:
                _divide(x, v, t, planes[a][row, x0:x1])
            elif kind == OWN_NOISE:
                _own_noise(x, v, f, numbers[first + 1, i], numbers[first + 2, i])
            elif kind == SHARE:
                _share(t, planes[a][row, x0:x1], f)
            elif kind == SHARE_TWO:
                second = planes[b][row, x0:x1]
                _share_two(t, planes[a][row, x0:x1], second, f, numbers[first + 1, i])
            elif kind == SHARE_SQUARE:
                _share_square(x, t, planes[a][row, x0:x1])
            elif kind == FLAG:
                _flag(m, bits[a][row, x0:x1])
            elif kind == FLAG_FROM:
                _flag_from(x, m, f, np.uint16(b))
            elif kind == LEAK:
                other, bits_there = raw[i, y], raw_mask[i, y] if not bare else no_bits
                if a & FACING:
                    other = facing[i, y]
                    bits_there = facing_mask[i, y] if facing_mask.shape[0] else no_bits
                step = -1 if a & MIRRORED else 1
                _leak(x, other, bits_there, b + step * (left + x0), step, f)
            elif kind in (LINEARISE, LOOK_UP):
                _flag_above(x, m, f, numbers[first + 1, i])
                if kind == LINEARISE:
                    _linearise(
                        x, v, t, f, numbers[first + 1, i], numbers[first + 2 : first + 2 + a], i
                    )
                else:
                    _look_up(x, v, t, f, knots[a:b])
            elif kind == SHUTTER:
                noise = planes[b][row, x0:x1] if b >= 0 else nothing
                _shutter(x, v, t, planes[a][row, x0:x1], noise, f)
            elif kind == KEEP:
                for k in range(m.size):
                    m[k] &= np.uint16(b)
                if a & 1:
                    v[:] = 0
                if a & 2:
                    t[:] = 0
        for k in range(m.size):
            found |= m[k]
    return found


run: Any = compile_cached(_run)
