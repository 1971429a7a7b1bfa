"""The frames' own noise, from their signal, gain and read noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from daskcal.calibration.gain import frame_name, known_values
from daskcal.errors import CalibrationError
from daskcal.frames.blocks import assign, recover
from daskcal.frames.recipe import Block, Step, with_plane
from daskcal.frames.steps import StepRecord, last_step, one_or_all, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords


@dataclass(frozen=True, eq=False, kw_only=True)
class CreateVariance(Step):
    """variance = poisson · max(image − bias_level, 0) + constant, in units of the image squared."""

    poisson: np.ndarray
    constant: np.ndarray
    bias_level: float
    per_frame = ("poisson", "constant")

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "variance")

    def apply(self, block: Block, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        image = block.promote()
        signal = image - image.dtype.type(self.bias_level)
        np.maximum(signal, 0, out=signal)
        signal *= self.poisson[frames, None, None].astype(image.dtype)
        signal += self.constant[frames, None, None].astype(image.dtype)
        block.variance = signal


@strict_keywords
def create_variance(
    frames: xr.Dataset,
    *,
    gain: float | None = None,
    rdnoise: float | None = None,
    bias_level: float | None = None,
) -> xr.Dataset:
    """Give each pixel the variance of its own noise: photon, read-out and quantisation noise.

    For a bias-free signal S in electron the variance is max(S, 0) + rdnoise² + q²/12, with q the
    step of the converter in electron, plus the noise of the overscan level where one was
    subtracted (rdnoise²/n for a mean of n pixels, π/2 of that for a median); in adu it is that
    over gain². Bias frames have no photon noise. Do it after overscan or bias and before dark and
    flat, since dark current has photon noise too (ccdproc's `create_deviation` is the same
    formula).

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` from which the bias level is gone.
    gain : float, optional
        electron/adu; the coordinate ``gain`` if not given. 1 for frames in electron.
    rdnoise : float, optional
        electron; the coordinate ``rdnoise`` if not given.
    bias_level : float, optional
        What to take for the bias, in the unit of the frames, where it is still in them (because
        it leaves only with an unscaled dark).

    Returns
    -------
    xarray.Dataset
        With ``variance (frame, y, x)``.

    Raises
    ------
    CalibrationError
        Gain or read noise of a frame is not known; or the bias is still in the frames.
    """
    unit = require_unit(frames, "create_variance")
    n = frames.sizes["frame"]
    gains = known_values(frames, "gain") if gain is None else np.full(n, float(gain))
    if unit == "electron":
        gains = np.ones(n)
    noise = known_values(frames, "rdnoise") if rdnoise is None else np.full(n, float(rdnoise))
    for what, values, valid in (("gain", gains, gains > 0), ("rdnoise", noise, noise >= 0)):
        if not valid.all():
            wrong = int(np.flatnonzero(~valid)[0])
            raise CalibrationError(
                f"create_variance: the {what} of {frame_name(frames, wrong)} is {values[wrong]}; "
                f"give {what}=, or {what} = ... under [instrument] in the config"
            )
    types = frames["imagetyp"].values if "imagetyp" in frames.coords else np.full(n, "")
    overscan = last_step(frames, "subtract_overscan")
    bias_free = bool(overscan or last_step(frames, "subtract_bias"))
    if bias_level is None and not bias_free and not (types == "bias").all():
        raise CalibrationError(
            "create_variance needs the signal without the bias: subtract the overscan or the bias "
            "first, or give bias_level="
        )
    quantum = float(frames["image"].attrs.get("quantum", 0.0))  # in the unit of the image
    readout = noise**2 / gains**2
    constant = readout + quantum**2 / 12
    if overscan:
        loss = np.pi / 2 if overscan.parameters["method"] == "median" else 1.0
        constant = constant + readout * loss / overscan.parameters["pixels"]
    step = CreateVariance(
        poisson=np.where(types == "bias", 0.0, 1.0) / gains,
        constant=constant,
        bias_level=0.0 if bias_free else bias_level or 0.0,
    )
    out = assign(frames, recover(frames).then(step))
    out["variance"].attrs.setdefault("long_name", "variance of the frame's own noise")
    record = {"gain": one_or_all(gains), "rdnoise": one_or_all(noise)}
    if bias_level is not None:
        record["bias_level"] = bias_level
    return with_step(out, StepRecord("create_variance", record))
