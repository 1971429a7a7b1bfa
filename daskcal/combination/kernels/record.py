"""Which values were rejected: a bit for each value, and counts for each frame.

The bits lie along the frames: frame i is bit i & 7 of byte i >> 3, so that n frames take
ceil(n / 8) planes of bytes. A bit is set for rejected values only, not for masked ones.
"""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb
import numpy as np

REJECTED, GOOD = 0, 1  # the rows of a tally


@nb.njit(error_model="numpy")
def record(loaded, raw, bits, tally, start, width):
    """Set the bits of pixels `start` and on, and add to the tally (2, n); either may be empty.

    `loaded` is the tile as it was before the rejection: what is +inf in `raw` alone was rejected.
    """
    for i in range(raw.shape[0]):
        before, after = loaded[i], raw[i]
        rejected, good = 0, 0
        for k in range(width):
            is_good = before[k] < np.inf
            good += is_good
            rejected += is_good & (after[k] == np.inf)
        if tally.size:
            tally[REJECTED, i] += rejected
            tally[GOOD, i] += good
        if bits.size and rejected:
            plane, bit = bits[i >> 3, start : start + width], np.uint8(1 << (i & 7))
            for k in range(width):
                is_rejected = (before[k] < np.inf) & (after[k] == np.inf)
                plane[k] |= bit if is_rejected else np.uint8(0)


def unpack(bits: np.ndarray, n: int) -> np.ndarray:
    """Bits (ceil(n / 8), ...) as bool (n, ...)."""
    return np.unpackbits(bits, axis=0, count=n, bitorder="little").astype(bool)
