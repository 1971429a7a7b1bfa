"""Flag pixels of frames: saturated ones, and those that a mask image says are bad."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.mask_files import as_mask
from daskcal.calibration.masters import fitted
from daskcal.errors import ArgumentError, CalibrationError, GeometryError
from daskcal.frames.amplifiers import Amplifier, amplifier_values, amplifiers, each_amplifier
from daskcal.frames.blocks import assign, describe_input, recover
from daskcal.frames.coordinates import frame_name, known_values
from daskcal.frames.masks import Flag
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.sections import Section
from daskcal.frames.steps import MasterId, StepRecord, keep_each, steps_of, with_step
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

# steps that do
_KEEP_VALUES = ("flag_saturated", "flag_bleed", "flag_bad", "flag_hot", "trim_image")


class _Flagging(Step):
    """A step that only sets bits."""

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")


@dataclass(frozen=True, eq=False, kw_only=True)
class FlagSaturated(_Flagging):
    """saturated where image ≥ level."""

    level: np.ndarray  # (frame, amplifier)
    amplifiers: tuple[Amplifier, ...] = ()
    per_frame: ClassVar[tuple[str, ...]] = ("level",)

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        for k in each_amplifier(program, self.amplifiers):
            program.flag_from(self.level[frames, k], Flag.SATURATED)


@dataclass(frozen=True, eq=False, kw_only=True)
class FlagWhere(_Flagging):
    """A bit where an image is not 0."""

    bit: np.uint16

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        program.flag(np.where(arrays[0] != 0, self.bit, np.uint16(0)))


@dataclass(frozen=True, eq=False, kw_only=True)
class FlagBits(_Flagging):
    """The bits of a plane of them."""

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        program.flag(arrays[0])


@strict_keywords
def flag_saturated(frames: xr.Dataset, level: float | None = None) -> xr.Dataset:
    """Set ``saturated`` where a raw pixel is at or above a level.

    Parameters
    ----------
    frames : xarray.Dataset
        Raw frames, before any other step.
    level : float, optional
        In raw pixel values, of all amplifiers. If not given, that of the instrument which
        `open_frames` was told, or the header's SATURATE (SATURATA, SATLEVEL), for each amplifier
        its own.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``.

    Raises
    ------
    CalibrationError
        Neither a level nor a header says it; or the pixels are not raw any more.

    Examples
    --------
    >>> frames = daskcal.flag_saturated(frames, 60_000)
    """
    stack = recover(frames)
    require_raw(frames, "flag_saturated")
    amps, levels = amplifiers(frames), known_levels(frames, level, "flag_saturated")
    out = assign(frames, stack.then(FlagSaturated(level=levels, amplifiers=amps)))
    held = ("amp_saturation", levels) if amps else ("saturation", levels[:, 0])
    out, known = keep_each(out, *held)
    return with_step(out, StepRecord("flag_saturated", {"level": known}))


def known_levels(frames: xr.Dataset, level: float | None, action: str) -> np.ndarray:
    """`saturation_levels`, or the given level for all; raises where one is not known."""
    levels = saturation_levels(frames)
    if level is not None:
        try:
            return np.full_like(levels, float(level))
        except (TypeError, ValueError):
            raise ArgumentError(
                f"{action}: level={level!r} should be a number in raw pixel values"
            ) from None
    for i, k in np.argwhere(~np.isfinite(levels)):
        amps = amplifiers(frames)
        whose = f"amplifier {amps[k].name} of " if amps else ""
        raise CalibrationError(
            f"{action}: {whose}{frame_name(frames, i)} does not say where it saturates "
            "(SATURATE); give level=, or saturation = ... under [instrument] in the config"
        )
    return levels


def require_raw(frames: xr.Dataset, action: str) -> None:
    """Raise `CalibrationError` where a step has changed the pixels already."""
    changed = [r.step for r in steps_of(frames) or [] if r.step not in _KEEP_VALUES]
    if changed:
        raise CalibrationError(
            f"{action} looks at raw pixels, and {changed[0]} changed them; do it before"
        )


def saturation_levels(frames: xr.Dataset) -> np.ndarray:
    """Levels (frame, amplifier) as the instrument or the headers say; NaN where nothing does.

    One column where there are no amplifiers.
    """
    if amplifiers(frames):
        return amplifier_values(frames, "saturation")
    return _of_frames(frames)[:, None]


def _of_frames(frames: xr.Dataset) -> np.ndarray:
    levels = np.full(frames.sizes["frame"], np.nan)
    if "saturation" in frames.attrs:
        levels[:] = float(frames.attrs["saturation"])
        return levels
    for name in ("hdr_saturate", "hdr_saturata", "hdr_satlevel"):
        if name in frames.coords and frames[name].dtype.kind in "iuf":
            header = known_values(frames, name)
            use = np.isnan(levels) & (header > 0)  # 0 stands for unknown
            levels[use] = header[use]
    return levels


@strict_keywords
def flag_bad(frames: xr.Dataset, bad_pixel_mask: Any) -> xr.Dataset:
    """Set the bits of a bad-pixel mask: its own reasons, or ``bad`` where it gives none.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    bad_pixel_mask : array, xarray.Dataset or path
        (y, x), 0 = good; a path is that of a FITS image or a list of regions (`open_mask`). An
        array without detector coordinates has the shape of the frames as they are.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``.

    Raises
    ------
    GeometryError
        The mask does not cover the frames.

    Examples
    --------
    >>> science = daskcal.flag_bad(science, "bad_pixels.fits")
    """
    stack = recover(frames)
    if isinstance(bad_pixel_mask, xr.DataArray) and {"y", "x"} <= set(bad_pixel_mask.indexes):
        bad_pixel_mask = xr.Dataset({"image": bad_pixel_mask})
    step: Step
    made: list[Any] = []
    if isinstance(bad_pixel_mask, np.ndarray | da.Array | xr.DataArray):
        plane = _bare_mask(bad_pixel_mask, stack.section)
        here = stack.section
        step = FlagWhere(inputs=(describe_input(plane, "yx", here.y0, here.x0),), bit=Flag.BAD)
        identity = MasterId("an array", plane.name)
    else:
        master, plane = as_mask(bad_pixel_mask, "bad-pixel mask", frames)
        here, identity = fitted(master, stack, frames).section, master.identity
        made = [json.loads(record.to_json()) for record in master.steps or ()]
        step = FlagBits(inputs=(describe_input(plane, "yx", here.y0, here.x0),))
    record = StepRecord("flag_bad", {"mask": made} if made else {}, (identity,))
    return with_step(assign(frames, stack.then(step, [plane])), record)


def _bare_mask(mask: Any, window: Section) -> da.Array:
    plane = da.asarray(mask.data if isinstance(mask, xr.DataArray) else mask)
    if plane.shape != window.shape:
        raise GeometryError(
            f"the bad-pixel mask has shape {plane.shape} and the frames {window.shape}"
        )
    return plane
