"""What steps ask of frames before they work: numbers, names, and what was done so far."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError
from daskcal.frames.steps import last_step


def known_values(frames: xr.Dataset, name: str) -> np.ndarray:
    """A numeric coordinate of the frames; NaN where it is missing."""
    if name not in frames.coords:
        return np.full(frames.sizes["frame"], np.nan)
    return np.broadcast_to(
        np.asarray(frames[name].values, dtype=np.float64), frames.sizes["frame"]
    ).copy()


def noise_is_known(frames: xr.Dataset) -> bool:
    """Whether gain and read noise of all frames are known."""
    return all(np.isfinite(known_values(frames, name)).all() for name in ("gain", "rdnoise"))


def frame_name(frames: xr.Dataset, i: int) -> str:
    """What to call frame `i` in a message."""
    path = str(frames["path"].values[i]) if "path" in frames.coords else ""
    return path or f"frame {i}"


def require_order(frames: xr.Dataset, step: str, *later: str) -> None:
    """Raise `CalibrationError` where a step that belongs after `step` was done already."""
    for done in later:
        if last_step(frames, done):
            again = "once only" if done == step else f"before {done}"
            raise CalibrationError(f"{step}: {done} was done already; do {step} {again}")
