"""What steps ask of frames before they work: is the noise known, and what was done so far."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError
from daskcal.frames.amplifiers import own_values
from daskcal.frames.steps import last_step


def noise_is_known(frames: xr.Dataset) -> bool:
    """Whether gain and read noise of all frames, and all their amplifiers, are known."""
    return all(np.isfinite(own_values(frames, name)).all() for name in ("gain", "rdnoise"))


def require_order(frames: xr.Dataset, step: str, *later: str) -> None:
    """Raise `CalibrationError` where a step that belongs after `step` was done already."""
    for done in later:
        if last_step(frames, done):
            again = "once only" if done == step else f"before {done}"
            raise CalibrationError(f"{step}: {done} was done already; do {step} {again}")
