"""ccdproc's `combine` and `Combiner`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from daskcal.compat.ccdproc.files import READER, Held, Stored, as_list, combined_ccd
from daskcal.compat.ccdproc.stacks import (
    FLOAT,
    Clip,
    Extrema,
    How,
    Limits,
    SigmaClip,
    Statistic,
    combine_stack,
    over_bands,
    statistic,
)
from daskcal.errors import ArgumentError, OutputError, choose
from daskcal.strict import refuse_unknown, strict_keywords

CENTERS, SPREADS = ("mean", "median"), ("std", "mad_std")
VALUE_OF = {"average": "mean", "median": "median", "sum": "sum"}
SPREAD_OF = {"average": "std", "median": "mad_std", "sum": "std"}
KEYWORDS = (
    "img_list", "output_file", "method", "weights", "scale", "mem_limit", "clip_extrema", "nlow",
    "nhigh", "minmax_clip", "minmax_clip_min", "minmax_clip_max", "sigma_clip",
    "sigma_clip_low_thresh", "sigma_clip_high_thresh", "sigma_clip_func", "sigma_clip_dev_func",
    "dtype", "combine_uncertainty_function", "overwrite_output",
)  # fmt: skip
PLANE_BYTES = 17  # of a pixel of the result: value, uncertainty, mask


def combine(
    img_list: Any,
    output_file: str | os.PathLike[str] | None = None,
    method: str = "average",
    weights: np.ndarray | None = None,
    scale: Callable[[np.ndarray], float] | Sequence[float] | None = None,
    mem_limit: float = 16e9,
    clip_extrema: bool = False,
    nlow: int | None = 1,
    nhigh: int | None = 1,
    minmax_clip: bool = False,
    minmax_clip_min: float | None = None,
    minmax_clip_max: float | None = None,
    sigma_clip: bool = False,
    sigma_clip_low_thresh: float | None = 3,
    sigma_clip_high_thresh: float | None = 3,
    sigma_clip_func: Statistic = "mean",
    sigma_clip_dev_func: Statistic = "std",
    dtype: Any = None,
    combine_uncertainty_function: Callable[..., np.ndarray] | None = None,
    overwrite_output: bool = False,
    **ccdkwargs: Any,
) -> CCDData:
    """Combine images into one, as ``ccdproc.combine`` does.

    Files are read in bands of rows that fit `mem_limit` on all threads together, each once, and
    once more where `scale` is a function (ccdproc reads each whole for every tile).

    Parameters
    ----------
    img_list : list, ndarray or str
        CCDData, or names of FITS files; a str holds names with commas between.
    output_file : path, optional
        Where to write the result.
    method : {"average", "median", "sum"}
        A sum is not made up for values that are masked or rejected.
    weights : ndarray, optional
        Of each image, or of each value; for averages and sums.
    scale : function or sequence of float, optional
        By what each image is multiplied, after the rejection. A function gets the whole image as it
        is stored, masked values with it.
    mem_limit : float
        Bytes that may be used.
    clip_extrema, nlow, nhigh : bool, int, int
        Leave out the lowest and highest values of each pixel; masked ones count among them.
    minmax_clip, minmax_clip_min, minmax_clip_max : bool, float, float
        Leave out values below or above a level; None is no level.
    sigma_clip, sigma_clip_low_thresh, sigma_clip_high_thresh : bool, float, float
        Leave out values far from the centre, in units of the spread, once. None turns a side off.
    sigma_clip_func : {"mean", "median"} or function
        The centre. NumPy's functions are known by name; another function must take ``axis`` and
        ignore NaN, and goes through astropy.
    sigma_clip_dev_func : {"std", "mad_std"} or function
        The spread, likewise.
    dtype : {"float64", "float32"}, optional
        Of the result.
    combine_uncertainty_function : function, optional
        The scatter of each pixel's values, in place of the standard deviation (of a median 1.4826
        times the median absolute deviation).
    overwrite_output : bool
        Whether `output_file` may exist.
    **ccdkwargs
        Of `astropy.nddata.fits_ccddata_reader`: ``unit``, ``hdu``, ``hdu_mask``...; and
        ``format="fits"``, the only one.

    Returns
    -------
    CCDData
        float64, with the header and WCS of the first image and ``NCOMBINE``; masked where nothing
        was left. Its uncertainty is the scatter (ddof 0) over √n; those of the images do not count.

    Raises
    ------
    UnknownKeywordError
        A misspelled keyword, which ccdproc swallows.
    ArgumentError, GeometryError, UnitError, FrameError
        Something that cannot be used, or images that differ in shape or unit.
    OutputError
        `output_file` exists: said before anything is read.

    Notes
    -----
    As ccdproc, and unlike `daskcal.combine`, because scripts rely on the numbers: values are
    rejected before they are scaled (which costs good values where levels differ), sigma clipping is
    done once, a sum is short of what was rejected, and the uncertainty is that of the scatter, 0 of
    a single value, without the factor of a median. Unlike ccdproc: statistics of the clipping and
    of the user's functions leave masked values out; weights of masked values do not count; a
    threshold of None is off; infinite values count as undefined; integers as `dtype` are refused.

    Examples
    --------
    >>> bias = combine(files, method="average", sigma_clip=True,
    ...                sigma_clip_func=np.ma.median, sigma_clip_dev_func=mad_std, mem_limit=350e6)
    """
    choose("format", ccdkwargs.pop("format", None) or "fits", ("fits",))
    refuse_unknown("combine()", ccdkwargs, KEYWORDS + READER)
    choose("method", method, VALUE_OF)
    if output_file is not None and os.path.exists(output_file) and not overwrite_output:
        raise OutputError(f"{output_file} exists; overwrite_output=True replaces it")
    images = as_list(img_list)
    frames: Held | Stored
    frames = Held(images) if isinstance(images[0], CCDData) else Stored(images, ccdkwargs)
    clips: list[Clip] = []
    if clip_extrema:
        clips.append(extrema(nlow, nhigh, len(images)))
    if minmax_clip:
        clips.append(Limits(minmax_clip_min, minmax_clip_max))
    if sigma_clip:
        center = statistic(sigma_clip_func, "mean", CENTERS)
        spread = statistic(sigma_clip_dev_func, "std", SPREADS)
        clips.append(SigmaClip(sigma_clip_low_thresh, sigma_clip_high_thresh, center, spread))
    how = How(
        method,
        tuple(clips),
        _scales(scale, frames),
        _weights(weights, frames.shape),
        VALUE_OF[method],
        statistic(combine_uncertainty_function, SPREAD_OF[method], SPREADS),
    )
    made = result_dtype(dtype)
    room = mem_limit - PLANE_BYTES * np.prod(frames.shape[1:])
    planes = combine_stack(frames, how, room, made)
    result = combined_ccd(frames.first(), planes, len(images))
    if output_file is not None:
        result.write(output_file, overwrite=overwrite_output)
    return result


def extrema(nlow: int | None, nhigh: int | None, n: int) -> Extrema:
    """The rejection of so many values of each pixel."""
    low, high = int(nlow or 0), int(nhigh or 0)
    if low < 0 or high < 0 or low + high >= n:
        raise ArgumentError(f"nlow={nlow} and nhigh={nhigh} leave nothing of {n} images")
    return Extrema(low, high)


def result_dtype(dtype: Any) -> np.dtype:
    """The type of a result: float64, or float32 where that is asked for."""
    try:
        made = FLOAT if dtype is None else np.dtype(dtype)
    except TypeError:
        made = np.dtype(object)
    if made not in (FLOAT, np.dtype(np.float32)):
        raise ArgumentError(
            f"dtype={dtype!r} should be 'float64' or 'float32'; integers would be cut off"
        )
    return made


def _scales(scale: Any, frames: Held | Stored) -> np.ndarray | None:
    if scale is None:
        return None
    n = frames.shape[0]
    if callable(scale):
        return np.array([float(scale(frames.image(i))) for i in range(n)])
    return _numbers("scale", scale, n)


def _numbers(name: str, given: Any, n: int) -> np.ndarray:
    try:
        numbers = np.array(given, dtype=FLOAT).reshape(-1)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (n,):
        raise ArgumentError(f"{name} should be a function or {n} numbers, found {given!r:.60}")
    return numbers


def _weights(weights: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if weights is None:
        return None
    if not isinstance(weights, np.ndarray) or weights.shape not in ((shape[0],), shape):
        found = getattr(weights, "shape", type(weights).__name__)
        raise ArgumentError(f"weights should be an array of shape {shape[:1]} or {shape}: {found}")
    return weights.astype(FLOAT)


class Combiner:
    """A stack of images in memory, on which values are rejected step by step.

    Parameters
    ----------
    ccd_iter : iterable of CCDData
        Of one shape and unit.
    dtype : {"float64", "float32"}, optional
        Of the stack and the results.

    Attributes
    ----------
    ccd_list : list of CCDData
    data_arr : numpy.ma.MaskedArray, shape (n, ...)
        The stack; its mask grows as values are rejected.
    unit : Unit

    Raises
    ------
    ArgumentError, GeometryError, UnitError
        Not CCDData, or of several shapes or units.

    Notes
    -----
    The numbers are `combine`'s; its docstring says where they differ from ccdproc's.

    Examples
    --------
    >>> combiner = Combiner(biases)
    >>> combiner.sigma_clipping(low_thresh=5, high_thresh=5, func="median")
    >>> bias = combiner.average_combine()
    """

    @strict_keywords
    def __init__(self, ccd_iter: Iterable[CCDData], dtype: Any = None) -> None:
        if ccd_iter is None or isinstance(ccd_iter, str):
            raise ArgumentError(f"Combiner takes a list of CCDData, found {ccd_iter!r}")
        self.ccd_list = list(ccd_iter)
        self._dtype = result_dtype(dtype)
        if not self.ccd_list:
            raise ArgumentError("Combiner got an empty list of images")
        self.data_arr = Held(self.ccd_list).stack(self._dtype)
        self.unit = self.ccd_list[0].unit
        given = np.ma.getmaskarray(self.data_arr)
        self._given = given.copy() if given.any() else None
        self._weights: np.ndarray | None = None
        self._scaling: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype:
        """Of the stack and the results."""
        return self._dtype

    @property
    def weights(self) -> np.ndarray | None:
        """Of each image, or of each value; an array."""
        return self._weights

    @weights.setter
    def weights(self, value: np.ndarray | None) -> None:
        _weights(value, self.data_arr.shape)
        self._weights = value

    @property
    def scaling(self) -> np.ndarray | None:
        """By what images are multiplied, as it broadcasts over the stack.

        It is set to a sequence, or to a function that gets each image as a masked array.
        """
        return self._scaling

    @scaling.setter
    def scaling(self, value: Any) -> None:
        if value is None:
            self._scaling = None
            return
        n = len(self.data_arr)
        numbers = [value(image) for image in self.data_arr] if callable(value) else value
        self._scaling = _numbers("scaling", numbers, n).reshape(n, *[1] * (self.data_arr.ndim - 1))

    @strict_keywords
    def clip_extrema(self, nlow: int | None = 0, nhigh: int | None = 0) -> None:
        """Mask the lowest and highest values of each pixel; masked ones count among them."""
        self._lose(extrema(nlow, nhigh, len(self.data_arr)))

    @strict_keywords
    def minmax_clipping(self, min_clip: float | None = None, max_clip: float | None = None) -> None:
        """Mask values below `min_clip` or above `max_clip`; None is no limit."""
        self._lose(Limits(min_clip, max_clip))

    def sigma_clipping(
        self,
        low_thresh: float | None = 3,
        high_thresh: float | None = 3,
        func: Statistic = "mean",
        dev_func: Statistic = "std",
        **kwd: Any,
    ) -> None:
        """Mask values far from the centre.

        Parameters
        ----------
        low_thresh, high_thresh : float or None
            In units of the spread; None turns a side off.
        func : {"mean", "median"} or function
            The centre of the values that were not masked in the images.
        dev_func : {"std", "mad_std"} or function
            Their spread.
        **kwd
            ``maxiters``: how often; 1 if not given, as ccdproc does, which has no way to set it;
            None is until nothing changes.
        """
        kwd.pop("use_astropy", None)  # which ccdproc takes, and does not use
        names = ("low_thresh", "high_thresh", "func", "dev_func", "maxiters")
        refuse_unknown("sigma_clipping()", kwd, names)
        turns = kwd.pop("maxiters", 1)
        center, spread = statistic(func, "mean", CENTERS), statistic(dev_func, "std", SPREADS)
        self._lose(SigmaClip(low_thresh, high_thresh, center, spread, turns))

    def _lose(self, clip: Clip) -> None:
        stack = _Blocks(self.data_arr.data, self._given)
        mask = stack.shaped(np.ma.getmaskarray(self.data_arr))  # the mask itself, to be written to

        def work(values: np.ndarray, bad: np.ndarray | None, rows: slice) -> None:
            mask[:, rows] |= clip.lost(values, bad)

        for _ in over_bands(stack, np.inf, 0, work):
            pass

    @strict_keywords
    def average_combine(
        self,
        scale_func: Callable[..., np.ndarray] | None = None,
        scale_to: Any = None,
        uncertainty_func: Statistic = "std",
        sum_func: Callable[..., np.ndarray] = np.nansum,
    ) -> CCDData:
        """The mean of what is not masked, weighted by `weights`.

        Parameters
        ----------
        scale_func : function, optional
            The mean, of a masked array along ``axis=0``.
        scale_to : float or sequence, optional
            In place of `scaling`.
        uncertainty_func : {"std", "mad_std"} or function
            The scatter, which is divided by √n.
        sum_func : function
            The sums of a weighted mean.

        Returns
        -------
        CCDData
        """
        center = statistic(scale_func, "mean", ("mean",))
        return self._combined("average", center, scale_to, uncertainty_func, sum_func)

    @strict_keywords
    def median_combine(
        self,
        median_func: Callable[..., np.ndarray] | None = None,
        scale_to: Any = None,
        uncertainty_func: Statistic = "mad_std",
    ) -> CCDData:
        """The median of what is not masked; weights do not count.

        Parameters
        ----------
        median_func : function, optional
            The median, of a masked array along ``axis=0``.
        scale_to : float or sequence, optional
            In place of `scaling`.
        uncertainty_func : {"mad_std", "std"} or function
            The scatter, which is divided by √n.

        Returns
        -------
        CCDData
        """
        center = statistic(median_func, "median", ("median",))
        return self._combined("median", center, scale_to, uncertainty_func)

    @strict_keywords
    def sum_combine(
        self,
        sum_func: Callable[..., np.ndarray] | None = None,
        scale_to: Any = None,
        uncertainty_func: Statistic = "std",
    ) -> CCDData:
        """The sum of what is not masked, weighted by `weights`; 0 where all is.

        Parameters
        ----------
        sum_func : function, optional
            The sum, of a masked array along ``axis=0``.
        scale_to : float or sequence, optional
            In place of `scaling`.
        uncertainty_func : {"std", "mad_std"} or function
            The scatter, which is multiplied by √n.

        Returns
        -------
        CCDData
        """
        center = statistic(sum_func, "sum", ("sum",))
        total = sum_func if callable(center) else np.nansum
        return self._combined("sum", center, scale_to, uncertainty_func, total)

    def _combined(
        self,
        method: str,
        center: Statistic,
        scale_to: Any,
        spread: Statistic,
        total: Any = np.nansum,
    ) -> CCDData:
        shape = self.data_arr.shape
        scale = self._scaling
        if scale_to is not None:
            scale = np.broadcast_to(np.ravel(np.asarray(scale_to, FLOAT)), shape[0])
        mask = np.ma.getmaskarray(self.data_arr)
        stack = _Blocks(self.data_arr.data, mask if mask.any() else None)
        weights = self._weights
        if weights is not None and weights.ndim > 1:
            weights = stack.shaped(weights)
        how = How(
            method=method,
            scale=None if scale is None else np.ravel(scale),
            weights=None if weights is None else weights.astype(FLOAT),
            center=center,
            spread=statistic(spread, SPREAD_OF[method], SPREADS),
            total=total,
        )
        planes = combine_stack(stack, how, np.inf, self._dtype)
        image, sigma, lost = (plane.reshape(shape[1:]) for plane in planes)
        made = CCDData(image, unit=self.unit, uncertainty=StdDevUncertainty(sigma), mask=lost)
        made.meta["NCOMBINE"] = shape[0]
        return made


class _Blocks:
    """A stack of images of any dimensions, as rows and columns."""

    def __init__(self, data: np.ndarray, mask: np.ndarray | None) -> None:
        self.data = self.shaped(data)
        self.mask = None if mask is None else self.shaped(mask)
        self.itemsize = data.itemsize

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows, columns."""
        n, rows, columns = self.data.shape
        return n, rows, columns

    @staticmethod
    def shaped(array: np.ndarray) -> np.ndarray:
        """A view (n, rows, columns)."""
        return array.reshape(len(array), -1, array.shape[-1] if array.ndim > 1 else 1)

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """A band."""
        return self.data[:, rows], None if self.mask is None else self.mask[:, rows]
