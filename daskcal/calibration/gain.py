"""From adu to electron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError, UnitError
from daskcal.frames.blocks import assign, recover
from daskcal.frames.coordinates import frame_name, known_values
from daskcal.frames.recipe import Step
from daskcal.frames.steps import StepRecord, keep_each, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectGain(Step):
    """image · gain, variance · gain²."""

    gain: np.ndarray
    per_frame: ClassVar[tuple[str, ...]] = ("gain",)

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        program.multiply(self.gain[frames])


@strict_keywords
def gain_correct(frames: xr.Dataset, gain: float | None = None) -> xr.Dataset:
    """Multiply frames in adu by the gain, so that they are in electron.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` in adu.
    gain : float, optional
        electron/adu; the coordinate ``gain`` of each frame if not given.

    Returns
    -------
    xarray.Dataset
        In electron. The coordinate ``gain`` is 1 from now on, and ``applied_gain`` what it was.

    Raises
    ------
    UnitError
        The frames are not in adu.
    CalibrationError
        The gain of a frame is not known, or not positive.
    """
    stack = recover(frames)
    unit = require_unit(frames, "gain_correct")
    if unit != "adu":
        raise UnitError(f"gain_correct makes electron of adu, and the frames are in {unit}")
    n = frames.sizes["frame"]
    gains = known_values(frames, "gain") if gain is None else np.full(n, float(gain))
    wrong = np.flatnonzero(~(np.isfinite(gains) & (gains > 0)))
    if wrong.size:
        found = "no known gain" if np.isnan(gains[wrong[0]]) else f"a gain of {gains[wrong[0]]}"
        raise CalibrationError(
            f"gain_correct: {frame_name(frames, wrong[0])} has {found}; give gain= in "
            "electron/adu, or gain = ... under [instrument] in the config"
        )
    out = assign(frames, stack.then(CorrectGain(gain=gains)))
    out["image"].attrs["units"] = "electron"
    out = out.assign_coords(gain=("frame", np.ones(n)), applied_gain=("frame", gains))
    out, known = keep_each(out, "applied_gain", gains)
    return with_step(out, StepRecord("gain_correct", {"gain": known}))


def applied_gain(frames: xr.Dataset) -> np.ndarray:
    """What the raw values of each frame were multiplied by to get electron, 1 for nothing."""
    gains = known_values(frames, "applied_gain")
    return np.where(np.isnan(gains), 1.0, gains)
