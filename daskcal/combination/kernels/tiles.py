"""Tiles: a few hundred pixels of a stack, +inf where a value must not be seen; and out again."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

WIDEST, NARROWEST = 256, 32
TILE_BYTES = 1 << 19  # the raw and the sorted tile together: about half of a core's L2 cache
# Rows of a tile lie an odd number of cache lines apart, or a column would fall into few cache sets.
PADDING_BYTES = 64
NO_DATA = 16  # the bit of the mask for "no value here"


@nb.njit(error_model="numpy")
def tile_width(n, itemsize, pixels):
    """How many pixels a tile of n frames takes (no result depends on it)."""
    lanes = TILE_BYTES // (2 * n * itemsize) // NARROWEST * NARROWEST
    return min(max(lanes, NARROWEST), WIDEST, max(pixels, 1))


@nb.njit(error_model="numpy")
def new_tile(n, lanes, empty):
    """A tile (n, at least `lanes`) of the type of `empty`."""
    return np.empty((n, lanes + PADDING_BYTES // empty.itemsize), empty.dtype)


# Loops over lanes run on slices that start at 0: an index that might be negative is a loop that
# LLVM does not turn into SIMD.


@nb.njit(error_model="numpy")
def load(image, mask, scale, zero, whole, start, raw, good, width):
    """Fill `raw` (n, lanes) with (value - zero)·scale and `good` (lanes) with the usable counts.

    Masked, NaN and infinite values become +inf: they sort to the end and are finite nowhere.
    `whole`: the pixels are integers, of which each is usable as long as it is not masked.
    """
    n = image.shape[0]
    for k in range(width):
        good[k] = n
    for i in range(n):
        row, source = raw[i], image[i, start : start + width]
        if scale.size:
            z, s = zero[i], scale[i]
            for k in range(width):
                row[k] = (np.float64(source[k]) - z) * s
        else:
            for k in range(width):
                row[k] = source[k]
        if mask.shape[0]:
            _hide_masked(row, mask[i, start : start + width], width)
        if mask.shape[0] or scale.size or not whole:
            _hide_undefined(row, good, width)


@nb.njit(error_model="numpy")
def _hide_masked(row, bits, width):
    outside = row.dtype.type(np.inf)
    for k in range(width):
        row[k] = outside if bits[k] != 0 else row[k]


@nb.njit(error_model="numpy")
def _hide_undefined(row, good, width):
    outside, nothing = row.dtype.type(np.inf), row.dtype.type(0)
    for k in range(width):
        x = row[k]
        usable = abs(x) < outside  # False for NaN
        # + 0 turns -0.0 into 0.0: min and max may not tell them apart
        row[k] = x + nothing if usable else outside
        good[k] -= np.int32(not usable)


@nb.njit(error_model="numpy")
def write(values, times, out, width):
    """values·times, rounded to the type of `out`."""
    for k in range(width):
        out[k] = values[k] * times


@nb.njit(error_model="numpy")
def write_counts(used, n_low, n_high, out_used, out_low, out_high, width):
    """Counts as uint16."""
    for k in range(width):
        out_used[k] = used[k]
        out_low[k] = n_low[k]
        out_high[k] = n_high[k]


@nb.njit(error_model="numpy")
def write_mask(mask, used, start, out, width):
    """0, but where nothing survived: all the inputs' bits, and no_data."""
    for k in range(width):
        out[k] = 0
    if (used[:width] == 0).any():
        for k in range(width):
            if used[k] == 0:
                bits = NO_DATA
                for i in range(mask.shape[0]):
                    bits |= mask[i, start + k]
                out[k] = bits
