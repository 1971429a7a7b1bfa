"""The frames' own noise, from their signal, gain and read noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.gain import applied_gain
from daskcal.errors import ArgumentError, CalibrationError, UnitError
from daskcal.frames.amplifiers import Amplifier, amplifiers, each_amplifier, own_values, said_place
from daskcal.frames.blocks import assign, recover
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.steps import StepRecord, keep_each, last_step, with_step
from daskcal.frames.units import counted, require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program


@dataclass(frozen=True, eq=False, kw_only=True)
class CreateVariance(Step):
    """variance = poisson · max(image − bias_level, 0) + constant, in units of the image squared."""

    poisson: np.ndarray  # (frame, amplifier), as the other two
    constant: np.ndarray
    bias_level: np.ndarray
    amplifiers: tuple[Amplifier, ...] = ()
    per_frame: ClassVar[tuple[str, ...]] = ("poisson", "constant", "bias_level")

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "variance")

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        numbers = self.bias_level, self.poisson, self.constant
        for k in each_amplifier(program, self.amplifiers):
            program.own_noise(*(each[frames, k] for each in numbers))


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
        electron/adu, for frames in adu; if not given, the coordinate ``gain``, or ``amp_gain`` of
        each amplifier.
    rdnoise : float, optional
        electron; if not given, the coordinate ``rdnoise``, or ``amp_rdnoise`` of each amplifier.
    bias_level : float, optional
        The bias in raw pixel values, for frames that still have it (because it leaves only with an
        unscaled dark); if not given, that of the instrument which `open_frames` was told. Not used
        where overscan or bias were subtracted.

    Returns
    -------
    xarray.Dataset
        With ``variance (frame, y, x)``.

    Raises
    ------
    CalibrationError
        Gain or read noise of a frame is not known; the bias is still in the frames; or dark or
        flat were applied already.
    UnitError
        The unit of the frames is not known, or neither adu nor electron.

    Examples
    --------
    >>> frames = daskcal.subtract_overscan(frames, fits_section="BIASSEC")
    >>> frames = daskcal.create_variance(frames, gain=1.4, rdnoise=8.0)
    """
    stack = recover(frames)
    unit = _unit(frames)
    require_order(frames, "create_variance", "subtract_dark", "flat_correct")
    gains, noise = _gain_and_noise(frames, unit, gain, rdnoise)
    is_bias = np.zeros(stack.n_frames, bool)
    if "imagetyp" in frames.coords:
        is_bias |= frames["imagetyp"].values == "bias"
    levels = _bias_levels(frames, bias_level, is_bias)
    quantum = _quantum(frames)
    readout = noise**2 / gains**2
    constant = readout + quantum**2 / 12
    overscan = last_step(frames, "subtract_overscan")
    if overscan:
        loss = np.pi / 2 if overscan.parameters["method"] == "median" else 1.0
        constant = constant + readout * loss / overscan.parameters["pixels"]
    step = CreateVariance(
        poisson=np.where(is_bias, 0.0, 1.0)[:, None] / gains,
        constant=constant,
        bias_level=np.broadcast_to(levels, gains.shape),
        amplifiers=amplifiers(frames),
    )
    out = assign(frames, stack.then(step))
    out["variance"].attrs.setdefault("long_name", "variance of the frame's own noise")
    record: dict[str, float | str] = {}
    several = bool(amplifiers(frames))
    for name, values in (("noise_gain", gains), ("rdnoise", noise)):
        key = name.removeprefix("noise_")
        held = (f"amp_{name}", values) if several else (name, values[:, 0])
        out, record[key] = keep_each(out, *held)
    if levels.any():
        levels = levels if levels.shape[1] > 1 else levels[:, 0]
        out, record["bias_level"] = keep_each(out, "bias_level", levels)
    return with_step(out, StepRecord("create_variance", record))


def _unit(frames: xr.Dataset) -> str:
    found = require_unit(frames, "create_variance")
    if unit := counted(found):
        return unit
    raise UnitError(
        f"create_variance: the frames are in {found}, and the noise follows from gain and read "
        "noise for counts alone, in adu or electron; where the pixels are counts and BUNIT is "
        "wrong, frames.image.attrs['units'] = 'adu' says so"
    )


def _gain_and_noise(
    frames: xr.Dataset, unit: str, gain: float | None, rdnoise: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Gain (1 for electron) and read noise of each frame and amplifier."""
    if unit == "electron":
        if gain not in (None, 1):
            raise ArgumentError(f"create_variance: gain={gain}, and the frames are in electron")
        gain = 1.0
    gains, noise = own_values(frames, "gain"), own_values(frames, "rdnoise")
    gains = gains if gain is None else np.full_like(gains, float(gain))
    noise = noise if rdnoise is None else np.full_like(noise, float(rdnoise))
    valid = {"gain": np.isfinite(gains) & (gains > 0), "rdnoise": np.isfinite(noise) & (noise >= 0)}
    for what, values in (("gain", gains), ("rdnoise", noise)):
        if not valid[what].all():
            i, k = np.argwhere(~valid[what])[0]
            raise CalibrationError(
                f"create_variance: the {what} of {said_place(frames, i, k)} is {values[i, k]}; "
                f"give {what}=, or {what} = ... under [instrument] in the config"
            )
    return gains, noise


def _quantum(frames: xr.Dataset) -> np.ndarray:
    """The step of the converter in the unit of each frame and amplifier; 0 for none."""
    return float(frames["image"].attrs.get("quantum", 0.0)) * applied_gain(frames)


def bias_is_gone(frames: xr.Dataset) -> bool:
    """Whether the signal of the frames, as they are, is counted from the bias."""
    return any(last_step(frames, step) for step in ("subtract_overscan", "subtract_bias"))


def _bias_levels(frames: xr.Dataset, given: float | None, is_bias: np.ndarray) -> np.ndarray:
    """What of the values is bias, in the unit that they have now: (frame, amplifier or 1)."""
    if bias_is_gone(frames) or is_bias.all():
        return np.zeros((is_bias.size, 1))
    level = frames.attrs.get("bias_level") if given is None else given
    if level is None:
        raise CalibrationError(
            "create_variance needs the signal without the bias: subtract the overscan or the bias "
            "first, or give bias_level= in raw pixel values"
        )
    return float(level) * applied_gain(frames)
