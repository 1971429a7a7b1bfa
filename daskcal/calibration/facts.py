"""What steps ask of frames before they work: is the noise known, and what was done so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, CalibrationError, nearest
from daskcal.frames.amplifiers import amplifiers, own_values
from daskcal.frames.sections import Section
from daskcal.frames.steps import last_step
from daskcal.frames.units import counted


def noise_is_known(frames: xr.Dataset) -> bool:
    """Whether gain and read noise of all frames, and all their amplifiers, are known.

    Nothing is known of pixels in a unit that does not count: neither adu nor electron.
    """
    unit = str(frames["image"].attrs.get("units", ""))
    if unit and not counted(unit):
        return False
    return all(np.isfinite(own_values(frames, name)).all() for name in ("gain", "rdnoise"))


def require_order(frames: xr.Dataset, step: str, *later: str) -> None:
    """Raise `CalibrationError` where a step that belongs after `step` was done already."""
    for done in later:
        if last_step(frames, done):
            again = "once only" if done == step else f"before {done}"
            raise CalibrationError(f"{step}: {done} was done already; do {step} {again}")


def for_amplifiers(frames: xr.Dataset, name: str, given: Any) -> list[tuple[Section | None, Any]]:
    """What each amplifier gets of an argument, with the section that it acts on.

    A mapping has a value for each amplifier by its name; anything else is for all of them. A
    detector of one amplifier has the section None: all pixels.

    Raises
    ------
    ArgumentError
        A mapping for frames without amplifiers, or with names that are not theirs.
    """
    found = amplifiers(frames)
    if not isinstance(given, Mapping):
        return [(amp.section, given) for amp in found] or [(None, given)]
    names = [amp.name for amp in found]
    if not names:
        raise ArgumentError(f"{name} names amplifiers, and the frames are of a detector with one")
    wrong = next((str(key) for key in given if str(key) not in names), None)
    if wrong is not None:
        raise ArgumentError(f"{name}: there is no amplifier {wrong!r}; {nearest(wrong, names)}")
    values = {str(key): value for key, value in given.items()}
    lacking = [one for one in names if one not in values]
    if lacking:
        raise ArgumentError(f"{name} says nothing of amplifier {', '.join(lacking)}")
    return [(amp.section, values[amp.name]) for amp in found]
