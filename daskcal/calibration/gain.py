"""From adu to electron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError, UnitError
from daskcal.frames.amplifiers import (
    DIM,
    Amplifier,
    amplifier_values,
    amplifiers,
    common_value,
    each_amplifier,
    own_values,
    said_place,
)
from daskcal.frames.blocks import assign, recover
from daskcal.frames.coordinates import known_values
from daskcal.frames.recipe import Step
from daskcal.frames.steps import StepRecord, keep_each, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectGain(Step):
    """image · gain, variance · gain²."""

    gain: np.ndarray  # (frame, amplifier)
    amplifiers: tuple[Amplifier, ...] = ()
    per_frame: ClassVar[tuple[str, ...]] = ("gain",)

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        for k in each_amplifier(program, self.amplifiers):
            program.multiply(self.gain[frames, k])


@strict_keywords
def gain_correct(frames: xr.Dataset, gain: float | None = None) -> xr.Dataset:
    """Multiply frames in adu by the gain, so that they are in electron.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` in adu.
    gain : float, optional
        electron/adu, of all amplifiers; if not given, the coordinate ``gain`` of each frame, or
        ``amp_gain`` of each of its amplifiers.

    Returns
    -------
    xarray.Dataset
        In electron. The coordinate ``gain`` is 1 from now on, and ``applied_gain`` what it was
        (``amp_gain`` and ``amp_applied_gain`` likewise).

    Raises
    ------
    UnitError
        The frames are not in adu.
    CalibrationError
        The gain of a frame is not known, or not positive.

    Examples
    --------
    >>> science = daskcal.gain_correct(science)
    >>> science.image.attrs["units"]
    'electron'
    """
    stack = recover(frames)
    unit = require_unit(frames, "gain_correct")
    if unit != "adu":
        raise UnitError(f"gain_correct makes electron of adu, and the frames are in {unit}")
    n = frames.sizes["frame"]
    amps = amplifiers(frames)
    gains = own_values(frames, "gain")
    if gain is not None:
        gains = np.full_like(gains, float(gain))
    for i, k in np.argwhere(~(np.isfinite(gains) & (gains > 0))):
        found = "no known gain" if np.isnan(gains[i, k]) else f"a gain of {gains[i, k]}"
        raise CalibrationError(
            f"gain_correct: {said_place(frames, i, k)} has {found}; give gain= in "
            "electron/adu, or gain = ... under [instrument] in the config"
        )
    out = assign(frames, stack.then(CorrectGain(gain=gains, amplifiers=amps)))
    out["image"].attrs["units"] = "electron"
    common = common_value(gains)
    out = out.assign_coords(gain=("frame", np.ones(n)), applied_gain=("frame", common))
    if not amps:
        out, known = keep_each(out, "applied_gain", common)
        return with_step(out, StepRecord("gain_correct", {"gain": known}))
    each = {"amp_gain": np.ones_like(gains), "amp_applied_gain": gains}
    out = out.assign_coords({name: (("frame", DIM), values) for name, values in each.items()})
    out, known = keep_each(out, "amp_applied_gain", gains)
    return with_step(out, StepRecord("gain_correct", {"gain": known}))


def applied_gain(frames: xr.Dataset) -> np.ndarray:
    """What raw values were multiplied by to get electron, 1 for nothing: (frame, amplifier).

    One column where there are no amplifiers.
    """
    if "amp_applied_gain" in frames.coords:
        return amplifier_values(frames, "applied_gain")
    gains = known_values(frames, "applied_gain")
    return np.where(np.isnan(gains), 1.0, gains)[:, None]
