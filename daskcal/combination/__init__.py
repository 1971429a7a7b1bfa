"""Frames become one image: rejection of outliers and combination, in one pass over the stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from daskcal.combination.bands import Combination
from daskcal.combination.by_amplifier import NoiseArea
from daskcal.combination.facts import master_attrs
from daskcal.combination.kernels import working_dtype
from daskcal.combination.noise import noise_model, variance_slopes
from daskcal.combination.planes import combined_planes, rejected_frames
from daskcal.combination.reject import rejection
from daskcal.combination.rejections import (
    ESD,
    AveragedSigmaClip,
    CCDClip,
    CRReject,
    LinearFit,
    MinMax,
    NoRejection,
    PercentileClip,
    Rejection,
    SigmaClip,
    VarianceClip,
    Winsorised,
    is_number,
)
from daskcal.combination.scale import (
    ROWS,
    SCALE,
    WEIGHTS,
    ZERO,
    FrameNumbers,
    ScaleLike,
    SectionLike,
    numbers_of_frames,
    per_frame,
    statistics_section,
)
from daskcal.errors import ArgumentError, choose
from daskcal.frames.amplifiers import amplifiers, common_value
from daskcal.frames.blocks import recover
from daskcal.frames.coordinates import frame_names
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.steps import StepRecord
from daskcal.frames.units import require_unit

__all__ = [
    "ESD",
    "AveragedSigmaClip",
    "CCDClip",
    "CRReject",
    "LinearFit",
    "MinMax",
    "NoRejection",
    "PercentileClip",
    "Rejection",
    "SigmaClip",
    "VarianceClip",
    "Winsorised",
    "combine",
    "rejected_frames",
]

METHODS = ("average", "median", "lower_median", "sum")
MOST_FRAMES = 65535  # n_used and its like are uint16
INVERSE_VARIANCE = "inverse_variance"


def combine(
    frames: xr.Dataset,
    *,
    method: str = "average",
    reject: str | Rejection | None = "sigma",
    scale: ScaleLike = None,
    zero: FrameNumbers = None,
    weights: FrameNumbers = None,
    section: SectionLike = None,
    grow: float = 0,
    rejected: bool | str = False,
    dtype: str | np.dtype | type | None = None,
    **options: Any,
) -> xr.Dataset:
    """Combine frames into one image, leaving outliers out.

    Masked and undefined values never count. Values become (value - zero)·scale with the numbers of
    their frame; then outliers are rejected; then the survivors are combined.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``, and ``variance``, ``variance_shared`` and ``mask`` if any.
    method : {"average", "median", "lower_median", "sum"}
        ``lower_median`` is the lower one of the two middle values of an even number. ``sum`` is the
        number of frames times the mean of the survivors.
    reject : str, Rejection or None
        What is left out; `options` are those of it, with their defaults. By name: ``sigma``
        (`SigmaClip`: ``low=5``, ``high=5``, ``center="median"``, ``spread="mad_std"``,
        ``maxiters=None``, ``sigma_floor="auto"``, ``n_keep=0``), ``minmax`` (`MinMax`),
        ``percentile`` (`PercentileClip`), ``winsorised`` (`Winsorised`), ``linear_fit``
        (`LinearFit`), ``esd`` (`ESD`), ``averaged_sigma`` (`AveragedSigmaClip`), ``variance``
        (`VarianceClip`), ``ccdclip`` (`CCDClip`), ``crreject`` (`CRReject`) and ``none``. A
        threshold of 0 leaves out all that lies on that side of the centre; None and infinity turn
        the side off.
    scale, zero, weights : str, sequence of float or None
        For each frame, by what its values are multiplied, what is first subtracted from them, and
        its weight in an average. ``"median"``, ``"mean"`` or ``"mode"`` is that statistic of the
        frame's good pixels in `section`, before anything is scaled; another word is the header
        keyword or coordinate that holds the number, such as ``"exptime"``. What is so named
        *divides* as a scale (1/median), is subtracted as a zero and multiplies as a weight.
        Numbers are meant as they stand: factors, levels, weights. A scale can be a callable, which
        gets the good pixels (1-D, float64) and returns the factor. ``weights="inverse_variance"``
        weights every value by 1/V, with V its variance at the level of the stack: V + (c - x)/gain
        for the mean c of the survivors, since its own photon noise would give the values that
        happen to be low more weight.
    section : str, slice or tuple of slice, optional
        The pixels that statistics are of: ``"[100:200, :]"`` or ``np.s_[100:200, :]`` of the frames
        as they are, ``"fits [1:2048,101:200]"`` as FITS writes it, of the raw frame; all if not
        given.
    grow : float
        Values within so many pixels of a rejected one of the same frame are rejected too (a disc in
        y and x, its edge included), after the rejection; 0 is none. They count as low or high by
        the side of the image on which they lie, as it was before.
    rejected : bool or "fraction"
        Whether to say as well which values were rejected, or only what share of each frame's.
    dtype : {"float32", "float64"}, optional
        Of the result and of what is computed; if not given, float32 for 8- and 16-bit integers and
        float32, float64 for what float32 cannot hold. Sums and statistics are always float64.

    Returns
    -------
    xarray.Dataset
        Of dims (y, x), lazily: ``image``; ``variance`` (propagated from the frames' where they
        have it, else from the scatter of the survivors; NaN for a single one);
        ``variance_shared`` where the frames have it (the mean of theirs: it does not average
        down); ``mask`` (bits only where no good value was left, and those are NaN and
        ``no_data``); ``n_used``; with rejection ``n_low`` and ``n_high``, how many were rejected
        on either side. With `rejected` also ``rejected (input_byte, y, x)``, uint8, of which bit
        i % 8 of byte i // 8 says whether the value of frame i was rejected (`rejected_frames`
        unpacks it), and ``rejected_fraction (input,)``, the share of each frame's good values that
        was; and ``scale``, ``zero`` and ``weights (input,)`` as they were used, where given. The
        coordinate ``input`` is the frames' paths.

    Raises
    ------
    ArgumentError, GeometryError, UnknownKeywordError
        A word, number, section or keyword that cannot be used, before anything is read.
    UnitError
        The unit of the frames is not known.
    CalibrationError
        The rejection needs gain and read noise, which are not known; or, when it is computed, a
        frame gives no scale, zero or weight.

    Notes
    -----
    The variance is that of normal values: for a median the factor over the mean that order
    statistics give for so many values, for minmax the winsorised scatter, calibrated likewise. For
    a lower median and for minmax that leaves out more at one end it holds the square of the mean
    error as well.

    Examples
    --------
    >>> bias = daskcal.combine(biases, reject="sigma", low=5, high=5)
    >>> flat = daskcal.combine(flats, scale="median", weights="median")
    """
    choose("method", method, METHODS)
    stack = recover(frames)
    n = stack.n_frames
    if n > MOST_FRAMES:
        raise ArgumentError(f"combine takes at most {MOST_FRAMES} frames, found {n}")
    _check_types(frames)
    rules = rejection(reject, options, n)
    _check_growth(grow, rejected, rules)
    unit = require_unit(frames, "combine")
    by_variance = isinstance(weights, str) and weights == INVERSE_VARIANCE
    _check_variance(frames, method, weights, rules)
    given = {SCALE: scale, ZERO: zero, WEIGHTS: None if by_variance else weights}
    wanted = [w for name in ROWS if (w := per_frame(name, given[name], frames)) is not None]
    if section is not None and all(w.statistic is None for w in wanted):
        raise ArgumentError(
            f"section={section!r} says where statistics are taken, and none is asked for: "
            'scale="median" is one'
        )
    names = frame_names(frames)
    numbers = numbers_of_frames(stack, wanted, statistics_section(section, frames, stack), names)
    how = Combination(
        method=method,
        reject=rules.kernel(),
        floor=rules.floor(),
        dtype=_result_dtype(dtype, stack.recipe.dtype),
        quantum=_quantum(frames),
        used=tuple(w.argument for w in wanted),
        by_variance=by_variance,
        **_noise(frames, unit, rules, by_variance),
        grow=float(grow),
        rejected=rejected is True,
        tally=bool(rejected),
    )
    planes = combined_planes(stack, how, numbers)
    said = given | {WEIGHTS: weights, "section": section, "grow": float(grow) if grow else None}
    record = StepRecord("combine", _parameters(method, rules, said))
    coords = {name: c for name, c in frames.coords.items() if "frame" not in c.dims}
    if rejected:
        coords["input"] = xr.Variable("input", np.array(names, dtype=object))
    master = xr.Dataset(planes, coords=coords, attrs=master_attrs(frames, record))
    attrs = {**frames["image"].attrs, "units": unit}
    attrs.pop("quantum", None)  # a mean of integers has no step
    master["image"].attrs = attrs
    master["mask"].attrs = dict(MASK_ATTRS)
    return master


def _quantum(frames: xr.Dataset) -> float | None:
    """The step of the converter in the unit of the frames, their mean; None where not known."""
    raw = frames["image"].attrs.get("quantum")
    if raw is None:
        return None
    gains = frames["applied_gain"].values if "applied_gain" in frames.coords else 1.0
    return float(raw * np.mean(gains))


def _result_dtype(dtype: Any, pixels: np.dtype) -> np.dtype:
    if dtype is None:
        return working_dtype(pixels)
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ArgumentError(f"dtype={dtype!r} should be 'float32' or 'float64'")
    return wanted


def _check_types(frames: xr.Dataset) -> None:
    """Raise `ArgumentError` for arrays that the kernels cannot read."""
    try:
        for plane in ("image", "variance", "variance_shared"):
            if plane in frames:
                working_dtype(frames[plane].dtype)
    except ValueError:
        raise ArgumentError(
            f"{plane} is {frames[plane].dtype}; combine takes integer and floating numbers"
        ) from None
    if "mask" in frames and frames["mask"].dtype.kind not in "bui":
        raise ArgumentError(
            f"mask is {frames['mask'].dtype}; combine takes bit planes (integers) or bool, 0 = good"
        )


def _check_variance(frames: xr.Dataset, method: str, weights: Any, rules: Rejection) -> None:
    """Raise `ArgumentError` for weights without an average, and a variance that is not there."""
    if weights is not None and method != "average":
        raise ArgumentError(f"weights are for method='average', and method={method!r} has none")
    for needs, argument in (
        (isinstance(weights, str) and weights == INVERSE_VARIANCE, f"weights={weights!r}"),
        (rules.needs_variance, f"reject={rules.name!r}"),
    ):
        if needs and "variance" not in frames:
            raise ArgumentError(
                f"{argument} needs the variance of the frames, and they have none: "
                "create_variance makes it"
            )


def _check_growth(grow: float, rejected: bool | str, rules: Rejection) -> None:
    """Raise `ArgumentError` for a radius that is none, and for rejections where there are none."""
    if not (is_number(grow) and 0 <= grow < np.inf):
        raise ArgumentError(f"grow={grow!r} should be a radius in pixels, 0 or more")
    if not (isinstance(rejected, bool) or rejected == "fraction"):
        raise ArgumentError(f"rejected={rejected!r} should be True, False or 'fraction'")
    for argument, asked in ((f"grow={grow}", grow > 0), (f"rejected={rejected!r}", rejected)):
        if asked and isinstance(rules, NoRejection):
            raise ArgumentError(f"{argument} needs a rejection, and reject is 'none'")


def _noise(frames: xr.Dataset, unit: str, rules: Rejection, by_variance: bool) -> dict[str, Any]:
    """Read noise and variance per unit of signal of each frame, where it matters.

    Of amplifiers that differ the mean, and of each its own.
    """
    read = None
    if rules.needs_noise:
        read, slope = noise_model(frames, unit, rules.name)
    elif rules.needs_variance or by_variance:
        slope = variance_slopes(frames, unit)
    else:
        return {}
    found: dict[str, Any] = {"slope": common_value(slope)}
    if read is not None:
        found["read"] = common_value(read)
    known = [slope] if read is None else [slope, read]
    alike = all((values == values[:, :1]).all() for values in known)
    if not alike and rules.name != AveragedSigmaClip.name:  # which looks at whole rows
        found["areas"] = tuple(
            NoiseArea(area, None if read is None else read[:, k], slope[:, k])
            for k, amp in enumerate(amplifiers(frames))
            for area in amp.areas
        )
    return found


def _parameters(method: str, rules: Rejection, said: dict[str, Any]) -> dict[str, Any]:
    """What the record of the step says: the numbers that a user gave stand there in full."""
    parameters: dict[str, Any] = {"method": method, "reject": rules.name}
    parameters |= {name: _plain(value) for name, value in rules.options().items()}
    for name, value in said.items():
        if isinstance(value, str | float):
            parameters[name] = value
        elif isinstance(value, slice | tuple) and name == "section":
            parameters[name] = str(value)
        elif callable(value):
            parameters[name] = getattr(value, "__name__", "callable")
        elif value is not None:
            parameters[name] = [float(number) for number in value]
    return parameters


def _plain(value: Any) -> Any:
    """A value as JSON has it; an infinite threshold is one that is off."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value == float("inf") else value
