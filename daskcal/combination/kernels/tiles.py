"""Load a tile: scaled values of a few hundred pixels, with +inf where a value must not be seen."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np


@nb.njit(error_model="numpy")
def load(image, mask, scale, zero, start, raw, good, width):
    """Fill `raw` (n, lanes) with (value - zero)·scale and `good` (lanes) with the usable counts.

    Masked, NaN and infinite values become +inf: they sort to the end and are finite nowhere.
    """
    outside = raw.dtype.type(np.inf)
    nothing = raw.dtype.type(0)
    for k in range(width):
        good[k] = 0
    for i in range(image.shape[0]):
        row = raw[i]
        if scale.size:
            for k in range(width):
                row[k] = (np.float64(image[i, start + k]) - zero[i]) * scale[i]
        else:
            for k in range(width):
                row[k] = image[i, start + k]
        if mask.shape[0]:
            for k in range(width):
                if mask[i, start + k] != 0:
                    row[k] = outside
        for k in range(width):
            x = row[k]
            usable = abs(x) < outside  # False for NaN
            # + 0 turns -0.0 into 0.0: min and max may not tell them apart
            row[k] = x + nothing if usable else outside
            good[k] += np.int32(usable)
