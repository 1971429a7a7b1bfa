"""`combine_block`: what a block must be, and how it gets to the compiled loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from daskcal.combination.kernels.compiling import first_call
from daskcal.combination.kernels.median_error import median_factors
from daskcal.combination.kernels.pixels import (
    MINMAX,
    NONE,
    SIGMA,
    combining_loop,
    ordering_loop,
)

# What each type of pixel is computed in, and which types the loop reads without a conversion.
_WORKING = {
    **dict.fromkeys(("uint8", "int8", "uint16", "int16", "float16", "float32"), np.float32),
    **dict.fromkeys(("uint32", "int32", "uint64", "int64", "float64"), np.float64),
}
_READ_AS_IS = ("uint16", "int16", "float32", "float64")
SLAB_BYTES = 1 << 22  # how much of a block is copied at once, where it must be
_KINDS = {"none": NONE, "sigma": SIGMA, "minmax": MINMAX}
# From so many frames on, NumPy's sort of each pixel's values is quicker than a network: by
# measurement (benchmarks), for float32 with AVX-512.
MANY = 2000


@dataclass(frozen=True, slots=True)
class Reject:
    """Which values of a pixel's stack are left out.

    Attributes
    ----------
    kind : {"none", "sigma", "minmax"}
    low, high : float
        Thresholds of sigma clipping in units of the spread; inf turns a side off.
    center : {"median", "mean"}
    spread : {"mad_std", "std"}
        1.4826·MAD about the median, or the standard deviation (ddof 0) about the mean.
    maxiters : int
        Iterations of sigma clipping; -1 until nothing changes.
    n_low, n_high : int
        How many of the lowest and highest values minmax leaves out.
    """

    kind: str = "none"
    low: float = 5.0
    high: float = 5.0
    center: str = "median"
    spread: str = "mad_std"
    maxiters: int = -1
    n_low: int = 0
    n_high: int = 0

    def __post_init__(self) -> None:
        choices = {
            "kind": (self.kind, tuple(_KINDS)),
            "center": (self.center, ("median", "mean")),
            "spread": (self.spread, ("mad_std", "std")),
        }
        for name, (value, valid) in choices.items():
            if value not in valid:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(valid)}")
        if not (self.low >= 0 and self.high >= 0):
            raise ValueError(f"low={self.low} and high={self.high} must be 0 or more")
        if self.maxiters < -1:
            raise ValueError(f"maxiters={self.maxiters} must be 0 or more, or -1 for no limit")
        if self.n_low < 0 or self.n_high < 0:
            raise ValueError(f"n_low={self.n_low} and n_high={self.n_high} must be 0 or more")


class Combined(NamedTuple):
    """A combined block: arrays of shape (rows, columns).

    `image`, `variance` and `shared` are float32, or float64 where the input is computed so;
    `mask` and the counts are uint16. `shared` is None where no shared variance came in.
    """

    image: np.ndarray
    variance: np.ndarray | None
    shared: np.ndarray | None
    mask: np.ndarray
    n_used: np.ndarray
    n_low: np.ndarray
    n_high: np.ndarray


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
    floor: float | str | None = None,
    out: Combined | None = None,
) -> Combined:
    """Combine a stack of frames pixel by pixel: scale, reject, combine.

    The result at a pixel depends on that pixel's values alone, to the last bit, however a stack
    is cut into blocks. It releases the GIL and runs in one thread.

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
    method : {"average", "median", "sum"}
        "sum" is n times the mean of the survivors.
    reject : Reject
    scale, zero : ndarray of float64, shape (n,), optional
        Values become (value - zero)·scale, and variances variance·scale².
    floor : float or "variance", optional
        The smallest σ of sigma clipping, after scaling; "variance": at each pixel the square root
        of the mean variance of its good values.
    out : Combined, optional
        Where to put the results: contiguous arrays (rows, columns) of the types that it would
        make; `variance` None where it is not wanted.

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
    _check(image, mask, variance, shared, method, reject, floor)
    n, rows, columns = image.shape
    working = working_dtype(image.dtype)
    scale_of, zero_of = _affine(n, scale, zero)
    factor = median_factors(n) if method == "median" else np.ones(n + 1)
    size = float(n) if method == "sum" else 1.0
    if reject.kind == "minmax":
        low, high = float(reject.n_low), float(reject.n_high)
    else:
        low, high = float(reject.low), float(reject.high)
    options = (
        reject.center == "median",
        reject.spread == "mad_std",
        low,
        high,
        -1.0 if isinstance(floor, str) else float(floor or 0.0),
        reject.maxiters,
        method == "median",
        size,
        (factor * size) ** 2,
        np.empty(0, working),
    )
    if out is None:
        out = _new(rows, columns, working, shared is not None)
    results = [np.empty((0, 0), working) if plane is None else plane for plane in out]
    wanted = working if image.dtype.name not in _READ_AS_IS else image.dtype.newbyteorder("=")
    inputs = [(image, wanted), (mask, np.dtype(np.uint16)), (variance, working), (shared, working)]
    run = _Run(_KINDS[reject.kind], scale_of, zero_of, image.dtype.kind in "iu", options)
    height = _slab_rows(inputs, rows)
    for top in range(0, rows, height) if columns else ():
        slab = slice(top, top + height)
        run.slab(
            [_flat(array, dtype, slab) for array, dtype in inputs],
            [array[slab].reshape(-1) for array in results],
        )
    return out


@dataclass(frozen=True, slots=True)
class _Run:
    """The loop for one kind of rejection, with all that is the same for every slab of a block."""

    kind: int
    scale: np.ndarray
    zero: np.ndarray
    whole: bool
    options: tuple[Any, ...]

    def slab(self, inputs: list[np.ndarray], results: list[np.ndarray]) -> None:
        """Combine (n, pixels) arrays into arrays of pixels."""
        n, pixels = inputs[0].shape
        *_, take_median, _, _, empty = self.options
        many = n >= MANY and (self.kind != NONE or take_median)
        key = (self.kind, many, inputs[0].dtype, empty.dtype, results[0].dtype)
        combine_pixels = combining_loop(self.kind, int(many))

        def call(in_order: np.ndarray, first: int, last: int) -> None:
            loaded = (self.scale, self.zero, self.whole)
            combine_pixels(*inputs, in_order, *loaded, first, last, *self.options, *results)

        nothing = empty.reshape(0, 0)
        first_call(combine_pixels, key, lambda: call(nothing, 0, 0))
        if not many:
            call(nothing, 0, pixels)
            return
        step = max(1, SLAB_BYTES // (n * empty.itemsize))
        for first in range(0, pixels, step):
            last = min(first + step, pixels)
            call(self._in_order(inputs, first, last, empty.dtype), first, last)

    def _in_order(
        self, inputs: list[np.ndarray], first: int, last: int, dtype: np.dtype
    ) -> np.ndarray:
        """The loaded values of pixels `first` to `last`, each sorted: (pixels, n)."""
        image, mask = inputs[:2]
        found = np.empty((last - first, len(image)), dtype)
        by_pixel = ordering_loop()

        def call(out: np.ndarray) -> None:
            by_pixel(image, mask, self.scale, self.zero, self.whole, first, out)

        first_call(by_pixel, ("order", image.dtype, dtype), lambda: call(found[:0]))
        call(found)
        found.sort(axis=-1)
        return found


def _new(rows: int, columns: int, working: np.dtype, with_shared: bool) -> Combined:
    image, variance = (np.empty((rows, columns), working) for _ in range(2))
    shared = np.empty((rows, columns), working) if with_shared else None
    counts = [np.empty((rows, columns), np.uint16) for _ in range(4)]
    return Combined(image, variance, shared, *counts)


def _check(
    image: np.ndarray,
    mask: np.ndarray | None,
    variance: np.ndarray | None,
    shared: np.ndarray | None,
    method: str,
    reject: Reject,
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
    if method not in ("average", "median", "sum"):
        raise ValueError(f"method={method!r} is not one of average, median, sum")
    if reject.kind == "minmax" and reject.n_low + reject.n_high >= image.shape[0]:
        raise ValueError(
            f"n_low={reject.n_low} and n_high={reject.n_high} leave nothing of"
            f" {image.shape[0]} frames"
        )
    if isinstance(floor, str):
        if floor != "variance":
            raise ValueError(f"floor={floor!r} is not a number, None or 'variance'")
        if variance is None:
            raise ValueError("floor='variance' needs a variance")
    elif floor is not None and not floor >= 0:
        raise ValueError(f"floor={floor} must be 0 or more")


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
    pair = []
    for name, values, neutral in (("scale", scale, 1.0), ("zero", zero, 0.0)):
        array = np.full(n, neutral) if values is None else np.array(values, np.float64)
        if array.shape != (n,):
            raise ValueError(f"{name} has shape {array.shape}, not one number for {n} frames")
        pair.append(array)
    return pair[0], pair[1]


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
