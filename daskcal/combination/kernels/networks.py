"""Sorting networks: order every pixel's stack at once, lane by lane."""

# Numba infers the types of the loops.
# mypy: disallow-untyped-defs=False

import numba as nb

# min and max of lanes become SIMD instructions only where NaN and the sign of zero may be ignored
# (the loader lets neither in). Never "contract" or "reassoc": other CPUs would give other bits.
FAST = {"nnan", "nsz"}


@nb.njit(fastmath=FAST, error_model="numpy")
def _exchange(tile, low, high, width):
    """Compare-exchange of two rows: the smaller of each lane to row `low`."""
    a, b = tile[low], tile[high]
    for k in range(width):
        x, y = a[k], b[k]
        a[k] = min(x, y)
        b[k] = max(x, y)


@nb.njit(error_model="numpy")
def _sort_lanes(tile, width):
    """Sort each of the first `width` lanes (columns) of `tile` along its rows, in place.

    Batcher's merge exchange (Knuth, TAOCP vol. 3, 5.2.2, algorithm M): about n·log2(n)²/4
    comparators for any n, the same ones whatever the data.
    """
    n = tile.shape[0]
    top = 1
    while 2 * top < n:
        top *= 2
    p = top if n > 1 else 0
    while p > 0:
        q, r, d = top, 0, p
        while True:
            for i in range(n - d):
                if i & p == r:
                    _exchange(tile, i, i + d, width)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


@nb.njit(error_model="numpy")
def rank_narrow(image, start, narrow, ranked, width):
    """Fill `ranked` with the lanes of an image of 16-bit integers, each sorted.

    They are sorted as they are, in the tile `narrow`: twice as many lanes to a SIMD instruction.
    """
    n = image.shape[0]
    for i in range(n):
        source, row = image[i, start : start + width], narrow[i]
        for k in range(width):
            row[k] = source[k]
    _sort_lanes(narrow, width)
    for i in range(n):
        source, row = narrow[i], ranked[i]
        for k in range(width):
            row[k] = source[k]


@nb.njit(error_model="numpy")
def rank(raw, ranked, width):
    """Fill `ranked` with the lanes of `raw`, each sorted."""
    for i in range(raw.shape[0]):
        source, row = raw[i], ranked[i]
        for k in range(width):
            row[k] = source[k]
    _sort_lanes(ranked, width)
