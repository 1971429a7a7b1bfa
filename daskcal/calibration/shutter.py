"""Correct short exposures for a shutter that takes its time to open and close."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.masters import Master, as_master, defined, fitted
from daskcal.errors import ArgumentError, CalibrationError, GeometryError
from daskcal.frames.blocks import assign, recover
from daskcal.frames.coordinates import frame_name, known_values
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectShutter(Step):
    """image · t/(t + map), variances by its square; the noise of the map enters what is shared."""

    names: tuple[str, ...]
    per_second: np.ndarray
    per_frame: ClassVar[tuple[str, ...]] = ("per_second",)

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        noisy = "variance" in self.names
        return with_plane(before, "mask", *(("variance_shared",) if noisy else ()))

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        planes = dict(zip(self.names, arrays, strict=True))
        delay, bits = defined(planes)
        noise = planes.get("variance")
        if noise is not None and "variance_shared" in planes:
            noise = noise + planes["variance_shared"]
        program.shutter(delay, noise, self.per_second[frames])
        program.flag(bits)


@strict_keywords
def shutter_correct(frames: xr.Dataset, shutter: Any) -> xr.Dataset:
    """Scale each pixel to the exposure time that the header says.

    A pixel that the shutter uncovers for t + m seconds, where the header says t, is multiplied by
    t/(t + m). Do it after the dark, whose current the shutter does not stop, and before the flat;
    to flats of short exposure as well.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` and the coordinate ``exptime`` (s).
    shutter : xarray.Dataset, CCDData or path
        m (y, x) in s, from `shutter_map`.

    Returns
    -------
    xarray.Dataset
        The frames, lazily; masks are merged, variances scaled by the square, and the map's own
        variance enters ``variance_shared``.

    Raises
    ------
    CalibrationError
        The exposure of a frame is not known or 0; it was done already, or after the flat.
    GeometryError
        The map does not cover the frames.

    Examples
    --------
    >>> flats = daskcal.shutter_correct(flats, "shutter.fits")
    """
    stack = recover(frames)
    require_unit(frames, "shutter_correct")
    require_order(frames, "shutter_correct", "shutter_correct", "flat_correct")
    times = known_values(frames, "exptime")
    wrong = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if wrong.size:
        raise CalibrationError(
            f"shutter_correct: the exposure of {frame_name(frames, int(wrong[0]))} is "
            f"{times[wrong[0]]:g} s (EXPTIME), and should be known and not 0"
        )
    master = fitted(as_master(shutter, "shutter map"), stack, frames)
    inputs, arrays = master.inputs(master.names)
    step = CorrectShutter(inputs=tuple(inputs), names=master.names, per_second=1 / times)
    record = StepRecord("shutter_correct", {}, (master.identity,))
    return with_step(assign(frames, stack.then(step, arrays)), record)


@strict_keywords
def shutter_map(short: Any, long: Any, *, times: tuple[float, float] | None = None) -> xr.Dataset:
    """The shutter's delay from two flats of the same light and different exposure.

    With F₁ = light·(t₁ + m) and F₂ = light·(t₂ + m), m = (F₁·t₂ − F₂·t₁)/(F₂ − F₁).

    Parameters
    ----------
    short, long : xarray.Dataset, CCDData or path
        Masters (y, x) without bias and dark, not scaled, of a lamp that did not change. The shorter
        one should be short, and both made of many frames: m is a small difference of them.
    times : tuple of float, optional
        Their exposures in s; if not given, what the masters say (``exptime``).

    Returns
    -------
    xarray.Dataset
        ``image (y, x)`` in s, lazily; with ``variance`` where both flats have it, and ``mask``. It
        may be smoothed with `illumination_frame`.

    Raises
    ------
    ArgumentError, GeometryError
        Exposures that are not known or not in order; flats that cover different pixels.

    Examples
    --------
    >>> shutter = daskcal.shutter_map(short_flat, long_flat)
    """
    flats = [as_master(short, "short flat"), as_master(long, "long flat")]
    one, two = flats
    if one.section != two.section:
        raise GeometryError(
            f"shutter_map: the flats cover different pixels, {one.section} and {two.section}"
        )
    t1, t2 = times or (one.number("exptime"), two.number("exptime"))
    if not 0 < t1 < t2:
        raise ArgumentError(
            f"shutter_map: the short flat has {t1:g} s and the long one {t2:g} s; give times= in "
            "s, the shorter first"
        )
    planes = {"image": _of_both(_delay, flats, ("image",), t1, t2)}
    if all("variance" in flat.names for flat in flats):
        both = ("image", "variance")
        planes["variance"] = _of_both(_delay_variance, flats, both, t1, t2)
    masks = [f.planes["mask"].rechunk(planes["image"].chunks) for f in flats if "mask" in f.names]
    if masks:
        planes["mask"] = masks[0] if len(masks) == 1 else masks[0] | masks[1]
    out = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()}, one.coords)
    out["image"].attrs["units"] = "s"
    return out.assign_attrs(file=f"shutter map of {one.identity.file} and {two.identity.file}")


def _of_both(
    compute: Callable[..., np.ndarray],
    flats: Sequence[Master],
    names: tuple[str, ...],
    t1: float,
    t2: float,
) -> da.Array:
    """What `compute` makes of some planes of both flats, in the blocks of the first."""
    chunks = flats[0].planes["image"].chunks
    arrays = [flat.planes[name].rechunk(chunks) for name in names for flat in flats]
    return da.map_blocks(compute, *arrays, t1=t1, t2=t2, dtype=np.float64, meta=np.empty((0, 0)))


def _delay(short: np.ndarray, long: np.ndarray, *, t1: float, t2: float) -> np.ndarray:
    first, second = short.astype(np.float64), long.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((first * t2 - second * t1) / (second - first))


def _delay_variance(
    short: np.ndarray, long: np.ndarray, v1: np.ndarray, v2: np.ndarray, *, t1: float, t2: float
) -> np.ndarray:
    first, second = short.astype(np.float64), long.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (t2 - t1) / (second - first) ** 2  # of the delay, times the other flat
        return np.asarray((second * slope) ** 2 * v1 + (first * slope) ** 2 * v2)
