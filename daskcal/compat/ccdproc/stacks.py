"""How ccdproc combines a stack, by daskcal's compiled loops: a band of rows of all frames at once.

ccdproc rejects on values as they are and scales afterwards, so that each rejection is a pass of its
own here that says what it loses; the survivors are scaled and combined in another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from daskcal.combination.kernels import Combined, Reject, combine_block, new_planes
from daskcal.combination.kernels.record import unpack
from daskcal.errors import ArgumentError
from daskcal.frames.memory import threads

Statistic = str | Callable[..., np.ndarray]
FLOAT = np.dtype(np.float64)
MAD_TO_SIGMA = 1.482602218505602  # 1 / the 75th percentile of a normal distribution
HANDY = 48 << 20  # bytes of raw pixels in a band: larger ones were not faster
PIXEL = 96  # bytes of a combined pixel while its band is worked on: planes, counts, copies
OWN = frozenset(("numpy", "bottleneck", "bn", "astropy", "ccdproc", "daskcal"))
WORDS = {  # statistics that the loops know, by the names of the functions that mean them
    **dict.fromkeys(("mean", "nanmean", "average"), "mean"),
    **dict.fromkeys(("median", "nanmedian"), "median"),
    **dict.fromkeys(("std", "nanstd"), "std"),
    **dict.fromkeys(("mad_std", "sigma_func"), "mad_std"),
    **dict.fromkeys(("sum", "nansum"), "sum"),
}


def statistic(given: Statistic | None, default: str, valid: tuple[str, ...]) -> Statistic:
    """The word for a statistic, where the loops know it; else the user's own function.

    NumPy's, bottleneck's and astropy's functions are known by name; masked values never count,
    whichever of them is given.
    """
    if given is None:
        return default
    if isinstance(given, str):
        if given not in valid:
            raise ArgumentError(f"{given!r} is not one of {', '.join(valid)}, nor a function")
        return given
    if not callable(given):
        raise ArgumentError(f"{given!r:.60} is neither a function nor one of {', '.join(valid)}")
    word = WORDS.get(getattr(given, "__name__", ""))
    home = str(getattr(given, "__module__", "") or "").split(".")[0]
    return word if word in valid and home in OWN else given


def sigma_func(arr: Any, axis: Any = None, ignore_nan: bool = False) -> Any:
    """The standard deviation as 1.4826 times the median absolute deviation."""
    from astropy.stats import median_absolute_deviation

    found = median_absolute_deviation(arr, axis=axis, ignore_nan=ignore_nan)
    return found * MAD_TO_SIGMA


# --- rejections -----------------------------------------------------------------------------------


class Clip(Protocol):
    """What leaves values out. `lost` says which, (n, rows, columns); some of them may be bad."""

    def lost(self, values: np.ndarray, bad: np.ndarray | None) -> np.ndarray: ...


@dataclass(frozen=True)
class Extrema:
    """The lowest and highest values of each pixel; masked ones count among them, as in ccdproc."""

    n_low: int
    n_high: int

    def lost(self, values: np.ndarray, bad: np.ndarray | None) -> np.ndarray:
        if values.dtype.kind == "f":  # what is undefined is the highest, where sorting puts it
            most = np.finfo(values.dtype).max
            values = np.nan_to_num(values, nan=most, posinf=most, neginf=-most)
        reject = Reject(kind="minmax", n_low=self.n_low, n_high=self.n_high)
        return _rejected(values, None, reject)


@dataclass(frozen=True)
class Limits:
    """Values below or above a level."""

    low: float | None
    high: float | None

    def lost(self, values: np.ndarray, bad: np.ndarray | None) -> np.ndarray:
        out = np.zeros(values.shape, bool)
        if self.low is not None:
            out |= values < self.low
        if self.high is not None:
            out |= values > self.high
        return out


@dataclass(frozen=True)
class SigmaClip:
    """Values far from the centre; a function of the user's own goes through astropy."""

    low: float | None
    high: float | None
    center: Statistic
    spread: Statistic
    maxiters: int | None = 1

    @property
    def compiled(self) -> bool:
        """Whether the loops know it."""
        return isinstance(self.center, str) and isinstance(self.spread, str)

    def reject(self) -> Reject:
        """It for the loops."""
        low, high = (np.inf if side is None else abs(side) for side in (self.low, self.high))
        turns = -1 if self.maxiters is None else self.maxiters
        return Reject(
            kind="sigma", low=low, high=high, center=str(self.center), spread=str(self.spread),
            maxiters=turns,
        )  # fmt: skip

    def lost(self, values: np.ndarray, bad: np.ndarray | None) -> np.ndarray:
        if self.compiled:
            return _rejected(values, bad, self.reject())
        from astropy.stats import sigma_clip

        data = _filled(values, bad, None)
        low, high = (np.inf if side is None else abs(side) for side in (self.low, self.high))
        with warnings.catch_warnings():  # of undefined values, and of pixels that have no others
            warnings.simplefilter("ignore")
            clipped = sigma_clip(
                data, sigma_lower=low, sigma_upper=high, axis=0, maxiters=self.maxiters,
                cenfunc=self.center, stdfunc=self.spread, masked=True,
            )  # fmt: skip
        return np.ma.getmaskarray(clipped)


def _rejected(values: np.ndarray, bad: np.ndarray | None, reject: Reject) -> np.ndarray:
    n, rows, columns = values.shape
    room = new_planes(rows, columns, FLOAT, False, n=n, rejected=True)
    found = combine_block(values, bad, reject=reject, floor=0.0, out=room)
    assert found.rejected is not None
    return unpack(found.rejected, n)


# --- combination ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class How:
    """How to combine.

    Attributes
    ----------
    method : {"average", "median", "sum"}
    clips : tuple of Clip
        Each sees the values as they are.
    scale : ndarray of float64, shape (n,), optional
    weights : ndarray, shape (n,) or that of the stack, optional
        Of an average or a sum.
    center, spread : str or function
        Statistics: ``mean``, ``median`` or ``sum`` for the value (a function gets a masked array
        and ``axis=0``), ``std`` or ``mad_std`` for the uncertainty.
    total : function
        The sum of weighted values, NaN where masked, along ``axis=0``.
    """

    method: str
    clips: tuple[Clip, ...] = ()
    scale: np.ndarray | None = None
    weights: np.ndarray | None = None
    center: Statistic = "mean"
    spread: Statistic = "std"
    total: Callable[..., np.ndarray] = np.nansum

    @property
    def in_one_pass(self) -> bool:
        """Whether one call of the loops does it all."""
        clip = self.clips[0] if len(self.clips) == 1 else None
        one = isinstance(clip, SigmaClip) and clip.compiled and self.scale is None
        plain = self.weights is None and self.center in ("mean", "sum") and self.spread == "std"
        return one and plain

    @property
    def value_bytes(self) -> int:
        """Bytes that it takes for each value, beside the value itself."""
        floats = self.spread != "std" or self.weights is not None
        floats |= not isinstance(self.center, str)
        floats |= any(isinstance(clip, SigmaClip) and not clip.compiled for clip in self.clips)
        return 4 + (32 if floats else 0)


class Planes(NamedTuple):
    """A combined band (rows, columns): values, their uncertainty, and where there is none."""

    image: np.ndarray
    sigma: np.ndarray
    mask: np.ndarray


def combined(
    values: np.ndarray, bad: np.ndarray | None, how: How, rows: slice | None = None
) -> Planes:
    """Combine a band of a stack, (n, rows, columns).

    `bad` is bool or bit planes of uint16; `rows` says which rows of the stack these are, where
    there are weights for each value.
    """
    if how.in_one_pass:
        clip = how.clips[0]
        assert isinstance(clip, SigmaClip)
        return _of_mean(_reduced(values, bad, clip.reject(), None), how)
    lost = [clip.lost(values, bad) for clip in how.clips]
    if lost:
        gone = np.logical_or.reduce(lost) if len(lost) > 1 else lost[0]
        bad = gone if bad is None else gone | (bad != 0)
    means = _reduced(values, bad, Reject(), how.scale)
    of_mean = _of_mean(means, how)
    image = _image(values, bad, how, rows, of_mean)
    if how.spread == "std":
        return of_mean._replace(image=image)
    n = means.n_used.astype(FLOAT)
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing left: NaN
        sigma = _spread(values, bad, how) / np.sqrt(n) * (n if how.method == "sum" else 1)
    return Planes(image, sigma, of_mean.mask)


def _reduced(
    values: np.ndarray,
    bad: np.ndarray | None,
    reject: Reject,
    scale: np.ndarray | None,
    method: str = "average",
) -> Combined:
    rows, columns = values.shape[1:]
    room = new_planes(rows, columns, FLOAT, False)
    return combine_block(
        values, bad, method=method, reject=reject, scale=scale, floor=0.0, out=room
    )


def _of_mean(planes: Combined, how: How) -> Planes:
    """Mean or sum with ccdproc's uncertainty: std (ddof 0) / √n, or std·√n of a sum."""
    n = planes.n_used.astype(FLOAT)
    empty = n == 0
    assert planes.variance is not None
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing left: NaN
        sigma = np.sqrt(planes.variance * (n - 1) / n)
    sigma[n == 1] = 0
    image = planes.image
    if how.method == "sum":
        image, sigma = np.where(empty, 0, image * n), sigma * n
    return Planes(image, sigma, empty)


def _image(
    values: np.ndarray, bad: np.ndarray | None, how: How, rows: slice | None, of_mean: Planes
) -> np.ndarray:
    """The combined values."""
    if how.weights is not None and how.method != "median":
        return _weighted(values, bad, how, how.weights, rows)
    if how.center == "median":
        return _reduced(values, bad, Reject(), how.scale, "median").image
    if callable(how.center):
        data = np.ma.masked_invalid(_filled(values, bad, how.scale))
        return np.asarray(how.center(data, axis=0), FLOAT)
    return of_mean.image


def _weighted(
    values: np.ndarray,
    bad: np.ndarray | None,
    how: How,
    weights: np.ndarray,
    rows: slice | None,
) -> np.ndarray:
    """Σwx/Σw, or Σwx of a sum, over the values that are there."""
    if weights.ndim == 1:
        weights = weights[:, None, None]
    elif rows is not None:
        weights = weights[:, rows]
    data = _filled(values, bad, how.scale)
    found = how.total(data * weights, axis=0)
    if how.method == "average":
        there = np.where(np.isnan(data), np.nan, weights)
        with np.errstate(divide="ignore", invalid="ignore"):  # no weight at all: NaN
            found = found / how.total(there, axis=0)
    return np.asarray(found, FLOAT)


def _spread(values: np.ndarray, bad: np.ndarray | None, how: How) -> np.ndarray:
    """The scatter of each pixel's values."""
    data = _filled(values, bad, how.scale)
    if callable(how.spread):
        if callable(how.center):
            return np.array(how.spread(np.ma.masked_invalid(data), axis=0), FLOAT)
        return np.array(how.spread(data, axis=0), FLOAT)
    median = _reduced(data, None, Reject(), None, "median").image
    np.abs(np.subtract(data, median, out=data), out=data)
    return _reduced(data, None, Reject(), None, "median").image * MAD_TO_SIGMA


def _filled(values: np.ndarray, bad: np.ndarray | None, scale: np.ndarray | None) -> np.ndarray:
    """The scaled values as float64 of their own, NaN where they are bad."""
    data = values.astype(FLOAT)
    if scale is not None:
        data *= scale[:, None, None]
    if bad is not None:
        data[bad != 0] = np.nan
    return data


# --- bands ----------------------------------------------------------------------------------------


class Frames(Protocol):
    """A stack that is read band by band."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows, columns."""
        ...

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        ...

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Values (n, rows, columns), and where they are bad."""
        ...


def bands(frames: Frames, memory: float, value_bytes: int) -> list[slice]:
    """Rows of bands of which so many fit the memory as are worked on at once."""
    n, rows, columns = frames.shape
    line = columns * (n * (frames.itemsize + value_bytes) + PIXEL)
    fitting = memory / threads() / max(1, line)
    handy = HANDY / max(1, n * columns * frames.itemsize)
    spread = -(-rows // (4 * threads()))
    height = int(max(1, min(fitting, max(32, min(handy, spread)))))
    return [slice(first, min(first + height, rows)) for first in range(0, rows, height)]


def over_bands(
    frames: Frames,
    memory: float,
    value_bytes: int,
    work: Callable[[np.ndarray, np.ndarray | None, slice], Any],
) -> Iterator[tuple[slice, Any]]:
    """What `work` makes of each band, on as many threads as Dask would use."""

    def one(rows: slice) -> tuple[slice, Any]:
        values, bad = frames.read(rows)
        return rows, work(values, bad, rows)

    with ThreadPoolExecutor(threads()) as pool:
        yield from pool.map(one, bands(frames, memory, value_bytes))


def combine_stack(frames: Frames, how: How, memory: float, dtype: np.dtype) -> Planes:
    """Combine a whole stack; values and uncertainties are of `dtype`."""
    shape = frames.shape[1:]
    out = Planes(np.empty(shape, dtype), np.empty(shape, dtype), np.empty(shape, bool))

    def work(values: np.ndarray, bad: np.ndarray | None, rows: slice) -> None:
        for whole, part in zip(out, combined(values, bad, how, rows), strict=True):
            whole[rows] = part

    for _ in over_bands(frames, memory, how.value_bytes, work):
        pass
    return out
