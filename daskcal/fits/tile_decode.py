"""The compiled loops of reading tiles: the Rice decoder, and quantised integers to floats.

The Rice coding is that of the FITS standard 4.0, section 10.4.1 (White, Seaman and Pence). A tile
begins with its first pixel; then each block of pixels has a code of a few bits, one more than the
number of low bits k of its differences, and the differences between successive pixels: as many
zeros as the high bits say, a one, and k low bits. Two codes are special: 0, all differences are
zero, and the largest, differences not coded at all. A difference d is stored as 2d, or -2d-1 where
it is negative.

The decoder is several times as fast as one that goes from byte to byte: it takes four differences
out of one 64-bit word, whose leading zeros the CPU counts in one instruction.
"""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from daskcal.compiled import compile_cached

GOOD, ENDS_EARLY, NO_SUCH_CODE = 0, 1, 2
# What becomes of decoded integers: values as they are, or quantised ones to be scaled.
AS_THEY_ARE, NO_DITHER, DITHER_1, DITHER_2 = 0, 1, 2, 3

_DITHERED_ZERO = -2147483646  # of DITHER_2: exactly zero
_SPREAD = np.float32(500)  # dithering begins at one of the first 500 random numbers

_WORD = np.uint64(64)
_SEEN = np.uint64(57)  # bits that a word holds at least, wherever in a byte it begins


class Window(NamedTuple):
    """The tiles that a window touches (a named tuple is what numba knows).

    Attributes
    ----------
    first : (int, int)
        The first of them: its place down and across among all tiles of the image.
    tile, image : (int, int)
        Shapes, in pixels.
    rows, columns : (int, int)
        The window: first, and one past the last.
    """

    first: tuple[int, int]
    tile: tuple[int, int]
    image: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]


class Meaning(NamedTuple):
    """What decoded integers stand for.

    Attributes
    ----------
    kind : int
        Themselves (`AS_THEY_ARE`), or floats that were quantised in one of the other ways.
    blank : int
        The one of an undefined float.
    seed : int
        Where dithering begins.
    random : array of float32
        The numbers for dithering.
    """

    kind: int
    blank: int
    seed: int
    random: np.ndarray


@intrinsic
def _leading_zeros(_, word):
    """How many of the 64 bits are zero before the first that is not; 64 for 0."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), generate


@nb.njit(inline="always")
def _word(data, position):
    """The bits from `position` on, the first one highest; zeros after the last of 8 bytes."""
    at = position >> np.uint64(3)
    word = np.uint64(0)
    for k in range(8):
        word = word << np.uint64(8) | np.uint64(data[at + np.uint64(k)])
    return word << (position & np.uint64(7))


@nb.njit(inline="always")
def _signed(code):
    return np.int64(code >> np.uint64(1)) ^ -np.int64(code & np.uint64(1))


@nb.njit(error_model="numpy")
def _one_coded(data, position, end, low_bits):
    """One difference, however long, and the position after it, beyond `end` if it is not whole."""
    high = np.uint64(0)
    word = _word(data, position)
    zeros = _leading_zeros(word)
    while zeros >= _SEEN:
        high += _SEEN
        position += _SEEN
        if position > end:
            return np.int64(0), position
        word = _word(data, position)
        zeros = _leading_zeros(word)
    high += zeros
    position += zeros + np.uint64(1)
    if position > end:
        return np.int64(0), position
    low = _word(data, position) >> np.uint64(1) >> (np.uint64(63) - low_bits)
    return _signed(high << low_bits | low), position + low_bits


@nb.njit(error_model="numpy")
def _coded(data, position, end, last, low_bits, pixels, first, stop):
    """A block of coded differences; the position after it (beyond `end`: too short), last value."""
    tail = low_bits + np.uint64(1)
    mask = (np.uint64(1) << low_bits) - np.uint64(1)
    shift = np.uint64(63)  # keeps the shifts below 64 where the word is given up anyway
    i = first
    while i < stop:
        if position > end:
            return position, last
        if i + 4 <= stop:
            word0 = _word(data, position)
            zeros0 = _leading_zeros(word0)
            length0 = zeros0 + tail
            word1 = word0 << (length0 & shift)
            zeros1 = _leading_zeros(word1)
            length1 = zeros1 + tail
            word2 = word1 << (length1 & shift)
            zeros2 = _leading_zeros(word2)
            length2 = zeros2 + tail
            word3 = word2 << (length2 & shift)
            zeros3 = _leading_zeros(word3)
            length3 = zeros3 + tail
            pair, length = length0 + length1, length0 + length1 + length2 + length3
            if pair <= _SEEN:
                last += _signed(zeros0 << low_bits | word0 >> (_WORD - length0) & mask)
                pixels[i] = last
                last += _signed(zeros1 << low_bits | word1 >> (_WORD - length1) & mask)
                pixels[i + 1] = last
                if length > _SEEN:
                    position += pair
                    i += 2
                    continue
                last += _signed(zeros2 << low_bits | word2 >> (_WORD - length2) & mask)
                pixels[i + 2] = last
                last += _signed(zeros3 << low_bits | word3 >> (_WORD - length3) & mask)
                pixels[i + 3] = last
                position += length
                i += 4
                continue
        difference, position = _one_coded(data, position, end, low_bits)
        last += difference
        pixels[i] = last
        i += 1
    return position, last


@nb.njit(error_model="numpy")
def _plain(data, position, end, last, bits, pixels, first, stop):
    """As `_coded`, for differences of `bits` bits each."""
    if position + bits * np.uint64(stop - first) > end:
        return end + np.uint64(1), last
    for i in range(first, stop):
        last += _signed(_word(data, position) >> (_WORD - bits))
        pixels[i] = last
        position += bits
    return position, last


@nb.njit(error_model="numpy")
def _decode(data, start, stop, block, pixels, size):
    """Decode the first `size` pixels of the tile in the bytes from `start` to `stop`.

    Arithmetic wraps at the width of `pixels`, as the coder's does.
    """
    bits = np.uint64(8 * pixels.itemsize)
    code_bits = np.uint64(3 if bits == 8 else 4 if bits == 16 else 5)
    uncoded = 6 if bits == 8 else 14 if bits == 16 else 25
    position, end = np.uint64(start) * np.uint64(8), np.uint64(stop) * np.uint64(8)
    if position + bits > end:
        return ENDS_EARLY
    last = np.int64(_word(data, position) >> (_WORD - bits))
    position += bits
    for first in range(0, size, block):
        if position + code_bits > end:
            return ENDS_EARLY
        code = np.int64(_word(data, position) >> (_WORD - code_bits)) - 1
        position += code_bits
        after = min(first + block, size)
        if code < 0:
            for i in range(first, after):
                pixels[i] = last
        elif code < uncoded:
            position, last = _coded(
                data, position, end, last, np.uint64(code), pixels, first, after
            )
        elif code == uncoded:
            position, last = _plain(data, position, end, last, bits, pixels, first, after)
        else:
            return NO_SUCH_CODE
        if position > end:
            return ENDS_EARLY
    return GOOD


@nb.njit(error_model="numpy")
def _dither_at(random, seed, pixel):
    """Where in `random` the number of a pixel of a tile is, and the seed of its stretch.

    The numbers are used to the last, then anew from where the next seed says (FITS standard 4.0,
    section 10.2.1).
    """
    at = int(random[seed] * _SPREAD)
    while pixel >= random.size - at:
        pixel -= random.size - at
        seed = (seed + 1) % random.size
        at = int(random[seed] * _SPREAD)
    return at + pixel, seed


@nb.njit(error_model="numpy")
def _put_scaled(codes, pixel, line, meaning, seed, scale, zero):
    """Make floats of quantised integers; `pixel` is the place of the first in its tile."""
    if meaning.kind == NO_DITHER:
        for k in range(line.size):
            line[k] = codes[k] * scale + zero if codes[k] != meaning.blank else np.nan
        return
    exact = _DITHERED_ZERO if meaning.kind == DITHER_2 else meaning.blank
    random = meaning.random
    at, seed = _dither_at(random, seed, pixel)
    done = 0
    while done < line.size:
        dithers = random[at : at + line.size - done]
        some, floats = codes[done : done + dithers.size], line[done : done + dithers.size]
        for k in range(dithers.size):
            value = (some[k] - np.float64(dithers[k]) + 0.5) * scale + zero
            value = value if some[k] != exact else 0.0
            floats[k] = value if some[k] != meaning.blank else np.nan
        done += dithers.size
        seed = (seed + 1) % random.size
        at = int(random[seed] * _SPREAD)


def _put_tile(pixels, down, across, window, meaning, scale, zero, out):
    """Put what a window wants of one decoded tile into `out`.

    Parameters
    ----------
    pixels : array of integers
        Of the tile, one row after the other, as far as the window goes at least.
    down, across : int
        Which tile of the window it is.
    window : Window
    meaning : Meaning
    scale, zero : float
        Of quantised floats, which are code * scale + zero.
    out : array of shape (rows, columns)
    """
    down, across = window.first[0] + down, window.first[1] + across
    top, left = down * window.tile[0], across * window.tile[1]
    width = min(window.tile[1], window.image[1] - left)
    begin, end = max(left, window.columns[0]), min(left + width, window.columns[1])
    row = down * -(-window.image[1] // window.tile[1]) + across
    seed = (meaning.seed + row - 1) % meaning.random.size
    for y in range(max(top, window.rows[0]), min(top + window.tile[0], window.rows[1])):
        first = (y - top) * width + begin - left
        line = out[y - window.rows[0], begin - window.columns[0] : end - window.columns[0]]
        codes = pixels[first : first + line.size]
        if meaning.kind == AS_THEY_ARE:
            for k in range(line.size):
                line[k] = codes[k]
        else:
            _put_scaled(codes, first, line, meaning, seed, scale, zero)


put_tile: Any = compile_cached(_put_tile)


def _decode_tiles(data, starts, sizes, block, pixels, window, meaning, scales, zeros, out):
    """Decode Rice-coded tiles, and put what a window wants of them into `out`.

    Parameters
    ----------
    data : array of uint8
        The bytes of the tiles, and 8 more, which the decoder may look at.
    starts, sizes : arrays of int64, (tiles down, tiles across)
        Where in `data` each tile lies; one without bytes is left out.
    block : int
        Pixels with one code.
    pixels : array
        Room for one tile, of the type that was coded: uint8, int16 or int32.
    window : Window
    meaning : Meaning
    scales, zeros : arrays of float64, (tiles down, tiles across)
    out : array of shape (rows, columns)

    Returns
    -------
    down, across, fault : int
        The first tile that could not be decoded and why; `fault` is `GOOD` if all could.
    """
    for down in range(starts.shape[0]):
        top = (window.first[0] + down) * window.tile[0]
        height = min(window.tile[0], window.rows[1] - top)
        for across in range(starts.shape[1]):
            start = starts[down, across]
            stop = start + sizes[down, across]
            if start == stop:
                continue
            left = (window.first[1] + across) * window.tile[1]
            width = min(window.tile[1], window.image[1] - left)
            fault = _decode(data, start, stop, block, pixels, height * width)
            if fault != GOOD:
                return down, across, fault
            scale, zero = scales[down, across], zeros[down, across]
            put_tile(pixels, down, across, window, meaning, scale, zero, out)
    return 0, 0, GOOD


decode_tiles: Any = compile_cached(_decode_tiles)
