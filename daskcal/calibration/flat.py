"""Divide by a master flat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.masters import Master, as_master, fitted
from daskcal.errors import ArgumentError, CalibrationError, choose
from daskcal.frames.block import promoted
from daskcal.frames.blocks import Stack, assign, describe_input, recover
from daskcal.frames.masks import Flag
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

DARKEST = 1e-6  # of the mean: dividing by less overflows float32, and no detector is so uneven


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectFlat(Step):
    """image / f with f = flat / norm; V / f² + S²·V_f / f⁴, the second shared by the frames.

    The inputs are f, the bits of the mask, and with `noisy` frames V_f / f².
    """

    noisy: bool

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask", *(("variance_shared",) if self.noisy else ()))

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        f, bits, *noise = arrays
        program.divide(f)
        program.flag(bits)
        if self.noisy:
            program.share_square(noise[0])


@strict_keywords
def flat_correct(
    frames: xr.Dataset,
    flat: Any,
    *,
    min_value: float | None = None,
    normalise: str | float = "mean",
) -> xr.Dataset:
    """Divide frames by a master flat.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    flat : xarray.Dataset, CCDData or path
        Master flat (y, x), of any level.
    min_value : float, optional
        Flat values below it, after normalising, are ``low_flat`` as those ≤ 0 (in truth, ≤ one
        millionth) and those that are not finite always are.
    normalise : {"mean", "median"} or float
        What of the flat's good pixels (unmasked, finite, > 0) is 1 in the normalised flat; a
        number is taken as it is.

    Returns
    -------
    xarray.Dataset
        The frames, lazily. ``low_flat`` pixels are NaN; the flat's own noise enters
        ``variance_shared``.

    Raises
    ------
    ArgumentError
        A word or number that cannot be used.
    GeometryError
        The flat does not cover the frames.
    CalibrationError
        No pixel of the flat is good: raised when the frames are computed.

    Examples
    --------
    >>> science = daskcal.flat_correct(science, "reduced/masters/flat_V.fits", min_value=0.1)
    """
    return divide(
        frames, flat, "flat_correct", "master flat", min_value=min_value, normalise=normalise
    )


def divide(
    frames: xr.Dataset,
    flat: Any,
    action: str,
    what: str,
    *,
    min_value: float | None,
    normalise: str | float,
) -> xr.Dataset:
    """`flat_correct` and what is like it: `action` is the step's name, `what` the master's."""
    stack = recover(frames)
    require_unit(frames, action)
    if min_value is not None and not 0 <= min_value < 1:
        raise ArgumentError(
            f"min_value={min_value} should be in 0 to 1: it is compared with the normalised flat"
        )
    master = as_master(flat, what)
    master = fitted(master, stack, frames)
    none = f"{action}: no pixel of the {what} ({master.identity.file})"
    prepared = _prepared(master, _norm(master, normalise, none), min_value or 0.0, stack)
    origin = master.section.y0, master.section.x0
    step = CorrectFlat(
        inputs=tuple(describe_input(plane, "yx", *origin) for plane in prepared),
        noisy="variance" in master.planes,
    )
    parameters = {"min_value": min_value, "normalise": normalise}
    record = StepRecord(action, parameters, (master.identity,))
    return with_step(assign(frames, stack.then(step, prepared)), record)


@strict_keywords
def flat_level(flat: Any, *, normalise: str = "mean") -> float:
    """What of a master flat becomes 1 when `flat_correct` divides by it. Its pixels are read.

    One number for the flats of a mosaic, such as the mean of their levels, given to `flat_correct`
    as `normalise`, takes out what the detectors differ in throughput too.

    Parameters
    ----------
    flat : xarray.Dataset, CCDData or path
        Master flat (y, x).
    normalise : {"mean", "median"}
        Statistic of its good pixels (unmasked, finite, > 0).

    Returns
    -------
    float
        In the unit of the flat.

    Raises
    ------
    ArgumentError
        Another word.
    CalibrationError
        No pixel of the flat is good.

    Examples
    --------
    >>> level = np.mean([daskcal.flat_level(one) for one in (flat, other_flat)])
    >>> done = daskcal.flat_correct(science, flat, normalise=level)
    """
    choose("normalise", normalise, ("mean", "median"))
    master = as_master(flat, "master flat")
    none = f"flat_level: no pixel of the master flat ({master.identity.file})"
    return float(_norm(master, normalise, none).compute())


def _prepared(master: Master, norm: da.Array, min_value: float, stack: Stack) -> list[da.Array]:
    """What `CorrectFlat` takes, lazily: once for all frames that are computed together."""
    planes = {name: master.planes[name] for name in master.names}
    chunks = planes["image"].chunks
    args = [each for plane in planes.values() for each in (plane.rechunk(chunks), "yx")]
    value = promoted(stack.recipe.dtype)
    packed = da.blockwise(
        _prepare, "yx", norm, "", *args, names=master.names, min_value=min_value, value=value,
        dtype=object, meta=np.empty((0, 0), object),
    )  # fmt: skip
    types = [value, np.dtype(np.uint16), *([value] if "variance" in planes else [])]
    return [
        da.blockwise(itemgetter(i), "yx", packed, "yx", dtype=kind, meta=np.empty((0, 0), kind))
        for i, kind in enumerate(types)
    ]


def _prepare(
    norm: np.ndarray,
    *planes: np.ndarray,
    names: tuple[str, ...],
    min_value: float,
    value: np.dtype,
) -> tuple[np.ndarray, ...]:
    """The normalised flat, NaN where it cannot divide, its bits, and its variance over f²."""
    flat = dict(zip(names, planes, strict=True))
    f = (flat["image"] / float(norm)).astype(value, copy=False)
    good = (f > DARKEST) & (f < np.inf)
    if min_value > 0:
        good &= f >= min_value
    f[~good] = np.nan
    bits = np.where(good, np.uint16(0), Flag.LOW_FLAT)
    if "mask" in flat:
        bits |= flat["mask"]
    if "variance" not in flat:
        return f, bits
    noise = flat["variance"] + flat.get("variance_shared", 0)
    return f, bits, (noise / float(norm) ** 2).astype(value, copy=False) / (f * f)


def _norm(master: Master, normalise: str | float, none: str) -> da.Array:
    """The value of the flat that becomes 1, as a lazy scalar of float64."""
    if not isinstance(normalise, str):
        if not (np.isfinite(normalise) and normalise > 0):
            raise ArgumentError(f"normalise={normalise} should be a positive number")
        return da.from_array(np.array(float(normalise)), name=False)
    choose("normalise", normalise, ("mean", "median"))
    scalar = {"none": none, "dtype": np.float64, "meta": np.zeros(())}
    image = master.planes["image"]
    image = image.rechunk((image.chunks[0], -1))
    args = [image, "yx"]
    if "mask" in master.planes:
        args += [master.planes["mask"].rechunk(image.chunks), "yx"]
    if normalise == "median":
        return da.blockwise(_good_median, "", *args, concatenate=True, **scalar)
    rows = da.blockwise(
        _row_sums,
        "ys",
        *args,
        new_axes={"s": 2},
        concatenate=True,
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    return da.blockwise(_mean_of_rows, "", rows, "ys", concatenate=True, **scalar)


def _good(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    good = np.isfinite(image) & (image > 0)
    return good if mask is None else good & (mask == 0)


def _row_sums(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Sum and number of good pixels in each row: rows are whole, so the chunks do not matter."""
    from daskcal.calibration.loops import sum_rows

    value = np.result_type(image.dtype, np.float32)
    bits = np.zeros((0, 0), bool) if mask is None else np.require(mask != 0, requirements="C")
    sums = np.empty((len(image), 2))
    sum_rows(np.require(image, value, "C"), bits, sums)
    return sums


def _mean_of_rows(rows: np.ndarray, *, none: str) -> np.ndarray:
    total, count = np.add.reduce(rows[:, 0]), rows[:, 1].sum()
    _require_good(count, none)
    return np.array(total / count)


def _good_median(image: np.ndarray, mask: np.ndarray | None = None, *, none: str) -> np.ndarray:
    good = image[_good(image, mask)]
    _require_good(good.size, none)
    return np.array(np.median(good.astype(np.float64)))


def _require_good(count: float, none: str) -> None:
    if not count:
        raise CalibrationError(f"{none} is good: all are masked, undefined or not above 0")
