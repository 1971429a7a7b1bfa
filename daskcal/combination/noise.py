"""What the noise of each frame is made of: its read noise, and its variance per unit of signal."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.errors import CalibrationError
from daskcal.frames.amplifiers import amplifiers, own_values
from daskcal.frames.coordinates import frame_names
from daskcal.frames.steps import spelled_out


def variance_slopes(frames: xr.Dataset, unit: str) -> np.ndarray:
    """Variance per unit of signal, (frame, amplifier): 1/gain in adu, 1 in electron.

    0 where there is no photon noise (bias frames) or it is not known, so that a variance is taken
    as it stands.
    """
    slopes = np.nan_to_num(1 / _gains(frames, unit), nan=0.0)
    if "imagetyp" in frames.coords:
        slopes[frames["imagetyp"].values == "bias"] = 0.0
    return slopes


def noise_model(frames: xr.Dataset, unit: str, reject: str) -> tuple[np.ndarray, np.ndarray]:
    """Read noise and variance per unit of signal, (frame, amplifier), in the frames' unit.

    Raises
    ------
    CalibrationError
        Gain or read noise of a frame is not known.
    """
    gains, noise = _gains(frames, unit), own_values(frames, "rdnoise")
    for what, values, least in (("gain", gains, np.nextafter(0, 1)), ("rdnoise", noise, 0.0)):
        for i, k in np.argwhere(~(np.isfinite(values) & (values >= least))):
            raise CalibrationError(
                f"combine: reject={reject!r} needs the gain and the read noise of every frame, and "
                f"the {what} of {frame_names(frames)[i]} is {values[i, k]:g}; "
                f"frames.assign_coords({what}=('frame', ...)) gives them, or open_frames with an "
                "instrument"
            )
    return noise / gains, 1 / gains


def _gains(frames: xr.Dataset, unit: str) -> np.ndarray:
    """Electron per unit of the pixels, (frame, amplifier); NaN where not known."""
    gains = own_values(frames, "gain")
    if unit == "electron":
        return np.ones_like(gains)
    if unit != "adu":
        return np.full_like(gains, np.nan)
    for record in reversed(spelled_out(frames)):
        if record.step == "create_variance" and "gain" in record.parameters:
            used = np.array(record.parameters["gain"], float)
            if used.ndim == 1 and not amplifiers(frames):
                used = used[:, None]
            return np.broadcast_to(used, gains.shape).copy()
    return np.where(gains > 0, gains, np.nan)
