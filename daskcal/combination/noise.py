"""What the noise of each frame is made of: its read noise, and its variance per unit of signal."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError
from daskcal.frames.coordinates import frame_names, known_values
from daskcal.frames.steps import spelled_out


def variance_slopes(frames: xr.Dataset, unit: str) -> np.ndarray:
    """Variance per unit of signal of each frame (frame,): 1/gain in adu, 1 in electron.

    0 where there is no photon noise (bias frames) or it is not known, so that a variance is taken
    as it stands.
    """
    slopes = np.nan_to_num(1 / _gains(frames, unit), nan=0.0)
    if "imagetyp" in frames.coords:
        slopes[frames["imagetyp"].values == "bias"] = 0.0
    return slopes


def noise_model(frames: xr.Dataset, unit: str, reject: str) -> tuple[np.ndarray, np.ndarray]:
    """Read noise and variance per unit of signal of each frame (frame,), in the frames' unit.

    Raises
    ------
    CalibrationError
        Gain or read noise of a frame is not known.
    """
    gains, noise = _gains(frames, unit), known_values(frames, "rdnoise")
    for what, values, least in (("gain", gains, np.nextafter(0, 1)), ("rdnoise", noise, 0.0)):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= least)))
        if wrong.size:
            raise CalibrationError(
                f"combine: reject={reject!r} needs the gain and the read noise of every frame, and "
                f"the {what} of {frame_names(frames)[wrong[0]]} is {values[wrong[0]]:g}; "
                f"frames.assign_coords({what}=('frame', ...)) gives them, or open_frames with an "
                "instrument"
            )
    return noise / gains, 1 / gains


def _gains(frames: xr.Dataset, unit: str) -> np.ndarray:
    """Electron per unit of the pixels; NaN where not known."""
    n = frames.sizes["frame"]
    if unit == "electron":
        return np.ones(n)
    if unit != "adu":
        return np.full(n, np.nan)
    for record in reversed(spelled_out(frames)):
        if record.step == "create_variance" and "gain" in record.parameters:
            return np.broadcast_to(np.array(record.parameters["gain"], float), n).copy()
    gains = known_values(frames, "gain")
    return np.where(gains > 0, gains, np.nan)
