"""`combine_block`: what a block must be, and how it gets to the compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskcal.combination.kernels.averaged import row_spreads
from daskcal.combination.kernels.minmax import minmax_counts
from daskcal.combination.kernels.pixels import (
    GIVEN,
    IN_TILES,
    LOWER_MEDIAN,
    MEAN,
    MEDIAN,
    NARROW,
    combining_loop,
    ordering_loop,
    scatter_loop,
)
from daskcal.combination.kernels.rules import AVERAGED, KINDS, NONE, Reject, rules
from daskcal.combination.kernels.uncertainty import variance_gains

# What each type of pixel is computed in, and which types the loop reads without a conversion.
_WORKING = {
    **dict.fromkeys(("uint8", "int8", "uint16", "int16", "float16", "float32"), np.float32),
    **dict.fromkeys(("uint32", "int32", "uint64", "int64", "float64"), np.float64),
}
_READ_AS_IS = ("uint16", "int16", "float32", "float64")
SLAB_BYTES = 1 << 22  # how much of a block is copied at once, where it must be
_TAKES = {"average": MEAN, "median": MEDIAN, "sum": MEAN, "lower_median": LOWER_MEDIAN}
# From so many frames on, NumPy's sort of each pixel's values is quicker than a network: by
# measurement (benchmarks), for float32 with AVX-512.
MANY = 2000


class Combined(NamedTuple):
    """A combined block: arrays of shape (rows, columns).

    `image`, `variance` and `shared` are float32, or float64 where the input is computed so;
    `mask` and the counts are uint16. `shared` is None where no shared variance came in.

    On request `rejected`, uint8 (ceil(n / 8), rows, columns): which values were rejected, frame i
    as bit i & 7 of byte i >> 3 (`record.unpack` makes bool of it; masked values are no rejected
    ones); and `tally`, int64 (2, n): how many values of each frame were rejected, and were good.
    """

    image: np.ndarray
    variance: np.ndarray | None
    shared: np.ndarray | None
    mask: np.ndarray
    n_used: np.ndarray
    n_low: np.ndarray
    n_high: np.ndarray
    rejected: np.ndarray | None = None
    tally: np.ndarray | None = None

    def part(self, rows: slice) -> Combined:
        """Some of its rows, with the tally of the whole."""
        names = [name for name in self._fields[:7] if getattr(self, name) is not None]
        bits = None if self.rejected is None else self.rejected[:, rows]
        return self._replace(**{name: getattr(self, name)[rows] for name in names}, rejected=bits)


def combine_block(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    variance: np.ndarray | None = None,
    shared: np.ndarray | None = None,
    *,
    method: str = "average",
    reject: Reject,
    scale: np.ndarray | None = None,
    zero: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    by_variance: bool = False,
    floor: float | str | None = None,
    read: np.ndarray | None = None,
    slope: np.ndarray | None = None,
    rejected: bool = False,
    tally: bool = False,
    out: Combined | None = None,
) -> Combined:
    """Combine a stack of frames pixel by pixel: scale, reject, combine.

    The result at a pixel depends on that pixel's values alone, to the last bit, however a stack
    is cut into blocks; for averaged sigma clipping on those of its row, of which a block must hold
    the whole. It releases the GIL and runs in one thread.

    Parameters
    ----------
    image : ndarray, shape (n, rows, columns)
        The frames, 1 <= n <= 65535. NaN and infinite values count as masked. 8- and 16-bit
        integers and float32 are computed as float32 values, all others as float64 (sums and
        statistics are always float64).
    mask : ndarray of uint16 (bit planes, 0 = good) or bool, shape of `image`, optional
    variance : ndarray, shape of `image`, optional
        Each frame's own noise. Without it the result's variance comes from the scatter of the
        survivors (NaN for one).
    shared : ndarray, shape of `image`, optional
        The noise that the frames share, which does not average down.
    method : {"average", "median", "lower_median", "sum"}
        "sum" is n times the mean of the survivors; of an even number of values "lower_median" is
        the lower one of the middle two.
    reject : Reject
    scale, zero : ndarray of float64, shape (n,), optional
        Values become (value - zero)·scale, and variances variance·scale².
    weights : ndarray of float64, shape (n,), optional
        Of the frames, for "average"; 0 or more. A survivor without a weight is not used.
    by_variance : bool
        Weights are over the variance as well, which is V + slope·(centre - value): a frame's
        variance per unit of its signal takes it to the mean of the survivors.
    floor : float or "variance", optional
        The smallest σ of "sigma", "winsorised", "linear_fit" and "esd", after scaling; "variance":
        at each pixel the square root of the mean variance of its good values.
    read, slope : ndarray of float64, shape (n,), optional
        What "variance", "ccdclip", "crreject" and weights by the variance know of each frame's
        noise, in its unit before scaling: read noise, and variance per unit of signal (1 / gain;
        0 where not known).
    rejected, tally : bool
        Whether to say which values were rejected, and how many of each frame.
    out : Combined, optional
        Where to put the results: contiguous arrays (rows, columns) of the types that it would
        make; `variance`, `rejected` and `tally` None where they are not wanted. Floating planes may
        be float32 or float64: with float64 all is computed so. `tally` is added to.

    Returns
    -------
    Combined
        Where no good value survived: image and variance NaN, `n_used` 0, and in `mask` all the
        inputs' bits and no_data (16). The mask is 0 elsewhere.

    Raises
    ------
    ValueError
        Shapes or options that do not fit together.
    """
    image = np.asanyarray(image)
    _check(image, mask, variance, shared, method, floor)
    _check_weights(len(image), method, weights)
    if by_variance and (weights is None or variance is None or slope is None):
        raise ValueError("by_variance needs weights, a variance and slope")
    n, rows, columns = image.shape
    read_of, slope_of = (_per_frame(name, a, n) for name, a in (("read", read), ("slope", slope)))
    reject.check(n, variance is not None, read is not None or slope is not None)
    working = working_dtype(image.dtype)
    if out is not None:
        working = np.result_type(working, out.image.dtype)
    scale_of, zero_of = _affine(n, scale, zero)
    size = float(n) if method == "sum" else 1.0
    rules_of = rules(reject, n, scale_of, zero_of, read_of, slope_of)
    scatter = variance is None and weights is None
    lost = minmax_counts(n, reject.n_low, reject.n_high) if reject.kind == "minmax" else None
    gains = variance_gains(method, n, lost, scatter=scatter)
    nothing = np.empty(0)
    options = (
        rules_of,
        -1.0 if isinstance(floor, str) else float(floor or 0.0),
        _TAKES[method],
        nothing if weights is None else np.array(weights, np.float64),
        slope_of if by_variance and slope_of is not None else nothing,
        size,
        gains * size**2,
        np.empty(0, working),
    )
    if out is None:
        out = new_planes(
            rows, columns, working, shared is not None, n=n, rejected=rejected, tally=tally
        )
    results = [np.empty((0, 0), working) if plane is None else plane for plane in out[:7]]
    bits = np.zeros((0 if out.rejected is None else (n + 7) // 8, rows * columns), np.uint8)
    counts = np.empty((0, 0), np.int64) if out.tally is None else out.tally
    wanted = working if image.dtype.name not in _READ_AS_IS else image.dtype.newbyteorder("=")
    inputs = [(image, wanted), (mask, np.dtype(np.uint16)), (variance, working), (shared, working)]
    whole = image.dtype.kind in "iu"
    run = _Run(KINDS[reject.kind], columns, scale_of, zero_of, whole, options, (bits, counts))
    height = _slab_rows(inputs, rows)
    for top in range(0, rows, height) if columns else ():
        slab = slice(top, top + height)
        run.slab(
            [_flat(array, dtype, slab) for array, dtype in inputs],
            [array[slab].reshape(-1) for array in results],
            top * columns,
        )
    if out.rejected is not None:
        out.rejected[...] = bits.reshape(out.rejected.shape)
    return out


@dataclass(frozen=True, slots=True)
class _Run:
    """The loop for one kind of rejection, with all that is the same for every slab of a block."""

    kind: int
    columns: int
    scale: np.ndarray
    zero: np.ndarray
    whole: bool
    options: tuple[Any, ...]
    records: tuple[np.ndarray, np.ndarray]

    def slab(self, inputs: list[np.ndarray], results: list[np.ndarray], offset: int) -> None:
        """Combine (n, pixels) arrays into arrays of pixels, which begin at pixel `offset`."""
        n = len(inputs[0])
        _, _, take, *_ = self.options
        many = n >= MANY and (self.kind != NONE or take != MEAN)
        order = GIVEN if many else NARROW if self._narrow(inputs) else IN_TILES
        combine_pixels = combining_loop(self.kind, order)
        spread = self._spread(inputs, many) if self.kind == AVERAGED else np.empty(0)

        def call(in_order: np.ndarray, first: int, last: int) -> None:
            loaded = (self.scale, self.zero, self.whole)
            combine_pixels(*inputs, spread, in_order, *loaded, first, last, *self.options,
                           *results, *self.records, offset)  # fmt: skip

        self._in_parts(call, inputs, many)

    def _narrow(self, inputs: list[np.ndarray]) -> bool:
        """Whether the values are 16-bit integers that are used as they are."""
        image, mask = inputs[:2]
        return image.dtype.kind in "iu" and not mask.size and not self.scale.size

    def _in_parts(
        self, call: Callable[[np.ndarray, int, int], None], inputs: list[np.ndarray], many: bool
    ) -> None:
        """Call with all pixels at once; or with some after the other, of large stacks in order."""
        n, pixels = inputs[0].shape
        empty = self.options[-1]
        if not many:
            call(empty.reshape(0, 0), 0, pixels)
            return
        step = max(1, SLAB_BYTES // (n * empty.itemsize))
        for first in range(0, pixels, step):
            last = min(first + step, pixels)
            call(self._in_order(inputs, first, last, empty.dtype), first, last)

    def _spread(self, inputs: list[np.ndarray], many: bool) -> np.ndarray:
        """σ of averaged sigma clipping at level 1, for each pixel that of its row."""
        image, mask = inputs[:2]
        rules, *_, empty = self.options
        sums = np.zeros((image.shape[1] // self.columns, 2))
        add_scatter = scatter_loop(int(many))

        def call(in_order: np.ndarray, first: int, last: int) -> None:
            add_scatter(image, mask, in_order, self.scale, self.zero, self.whole, first, last,
                        rules.by_median, empty, self.columns, sums)  # fmt: skip

        self._in_parts(call, inputs, many)
        return np.repeat(row_spreads(sums), self.columns)

    def _in_order(
        self, inputs: list[np.ndarray], first: int, last: int, dtype: np.dtype
    ) -> np.ndarray:
        """The loaded values of pixels `first` to `last`, each sorted: (pixels, n)."""
        image, mask = inputs[:2]
        found = np.empty((last - first, len(image)), dtype)
        by_pixel = ordering_loop()
        by_pixel(image, mask, self.scale, self.zero, self.whole, first, found)
        found.sort(axis=-1)
        return found


def new_planes(
    rows: int,
    columns: int,
    working: np.dtype,
    with_shared: bool,
    *,
    n: int = 0,
    rejected: bool = False,
    tally: bool = False,
) -> Combined:
    """Room for the results of a block of `n` frames whose pixels are computed as `working`."""
    image, variance = (np.empty((rows, columns), working) for _ in range(2))
    shared = np.empty((rows, columns), working) if with_shared else None
    mask, *counts = (np.empty((rows, columns), np.uint16) for _ in range(4))
    bits = np.empty(((n + 7) // 8, rows, columns), np.uint8) if rejected else None
    of_frames = np.zeros((2, n), np.int64) if tally else None
    n_used, n_low, n_high = counts
    return Combined(image, variance, shared, mask, n_used, n_low, n_high, bits, of_frames)


def _check(
    image: np.ndarray,
    mask: np.ndarray | None,
    variance: np.ndarray | None,
    shared: np.ndarray | None,
    method: str,
    floor: float | str | None,
) -> None:
    """Raise ValueError for what the loop could not make sense of."""
    if image.ndim != 3 or not 1 <= image.shape[0] <= 65535:
        raise ValueError(f"a block is (1 to 65535 frames, rows, columns), not {image.shape}")
    for name, array in (("mask", mask), ("variance", variance), ("shared", shared)):
        if array is not None and array.shape != image.shape:
            raise ValueError(f"{name} has shape {array.shape}, image {image.shape}")
    if mask is not None and mask.dtype not in (np.dtype(np.uint16), np.dtype(bool)):
        raise ValueError(f"mask is {mask.dtype}, not uint16 bit planes or bool")
    if method not in _TAKES:
        raise ValueError(f"method={method!r} is not one of {', '.join(_TAKES)}")
    if isinstance(floor, str):
        if floor != "variance":
            raise ValueError(f"floor={floor!r} is not a number, None or 'variance'")
        if variance is None:
            raise ValueError("floor='variance' needs a variance")
    elif floor is not None and not floor >= 0:
        raise ValueError(f"floor={floor} must be 0 or more")


def _check_weights(n: int, method: str, weights: np.ndarray | None) -> None:
    """Raise ValueError for weights that the loop could not make sense of."""
    if weights is None:
        return
    if method != "average":
        raise ValueError(f"weights are for method='average', not {method!r}")
    if np.shape(weights) != (n,):
        raise ValueError(f"weights has shape {np.shape(weights)}, not one number for {n} frames")
    if not (np.asarray(weights) >= 0).all():
        raise ValueError("weights must be 0 or more")


def working_dtype(dtype: np.dtype) -> np.dtype:
    """float32 or float64: what pixels of this type are computed in.

    Raises
    ------
    ValueError
        Neither integer nor floating.
    """
    try:
        return np.dtype(_WORKING[dtype.name])
    except KeyError:
        raise ValueError(f"image is {dtype}, not integer or floating") from None


def _affine(
    n: int, scale: np.ndarray | None, zero: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero of each frame, both empty where there is neither."""
    if scale is None and zero is None:
        return np.empty(0), np.empty(0)
    scale_of, zero_of = _per_frame("scale", scale, n), _per_frame("zero", zero, n)
    return (
        np.ones(n) if scale_of is None else scale_of,
        np.zeros(n) if zero_of is None else zero_of,
    )


def _per_frame(name: str, values: np.ndarray | None, n: int) -> np.ndarray | None:
    """A float64 number for each frame."""
    if values is None:
        return None
    array = np.array(values, np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, not one number for {n} frames")
    return array


def _slab_rows(inputs: list[tuple[np.ndarray | None, np.dtype]], rows: int) -> int:
    """All rows where the loop reads the arrays as they are, else as many as it is fine to copy."""
    given = [(array, dtype) for array, dtype in inputs if array is not None]
    if rows == 0 or all(_is_flat(array) and array.dtype == dtype for array, dtype in given):
        return max(rows, 1)
    # rows of (n, rows, columns) do not lie together: a slab is a copy of every input
    row_bytes = sum(a.shape[0] * a.shape[2] * dtype.itemsize for a, dtype in given)
    return min(max(SLAB_BYTES // max(row_bytes, 1), 1), rows)


def _is_flat(array: np.ndarray) -> bool:
    """Whether it can be read as (n, pixels) without a copy."""
    return array.flags.c_contiguous and array.flags.aligned


def _flat(array: np.ndarray | None, dtype: np.dtype, rows: slice) -> np.ndarray:
    """Rows of an input as read-only (n, pixels) of one type; (0, 0) for None.

    Always read-only, contiguous, aligned and native: the loop is compiled once for each type.
    """
    if array is None:
        flat = np.empty((0, 0), dtype)
    else:
        part = np.asarray(array)[:, rows]
        flat = np.require(part, dtype, ["C", "A"]).reshape(part.shape[0], -1).view()
    flat.flags.writeable = False
    return flat
