"""The one compiled loop behind DATASUM: it adds up a file's words as fast as they can be read."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

from typing import Any

import numpy as np

from daskcal.compiled import compile_cached


def _sum_words(data):
    """The sum of the big-endian 32-bit words in an array of bytes; the last three may be left."""
    total = np.uint64(0)
    for i in range(data.size // 4):
        high = np.uint32(data[4 * i]) << 24 | np.uint32(data[4 * i + 1]) << 16
        total += np.uint64(high | np.uint32(data[4 * i + 2]) << 8 | np.uint32(data[4 * i + 3]))
    return total


sum_words: Any = compile_cached(_sum_words)
