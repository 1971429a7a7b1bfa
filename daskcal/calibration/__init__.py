"""Removing the detector's signature from frames: one function a step, and all of them in order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from daskcal.calibration.bias import subtract_bias
from daskcal.calibration.bleed import flag_bleed
from daskcal.calibration.cosmic import cosmicray_lacosmic, cosmicray_median, find_rays
from daskcal.calibration.crosstalk import correct_crosstalk
from daskcal.calibration.dark import subtract_dark
from daskcal.calibration.defects import bad_columns, ccdmask, merge_masks
from daskcal.calibration.facts import noise_is_known
from daskcal.calibration.flags import flag_bad, flag_saturated
from daskcal.calibration.flat import flat_correct, flat_level
from daskcal.calibration.fringe import subtract_fringe
from daskcal.calibration.gain import gain_correct
from daskcal.calibration.gain_ratios import equalise_gains, gain_ratios
from daskcal.calibration.hot import flag_hot, hot_pixels
from daskcal.calibration.illumination import illumination_correct, illumination_frame
from daskcal.calibration.linearity import correct_linearity
from daskcal.calibration.mask_files import open_mask, write_mask
from daskcal.calibration.noise import measure_noise
from daskcal.calibration.overscan import subtract_overscan
from daskcal.calibration.shutter import shutter_correct, shutter_map
from daskcal.calibration.trim import trim_image
from daskcal.calibration.variance import bias_is_gone, create_variance
from daskcal.errors import ArgumentError
from daskcal.frames.blocks import require_frames
from daskcal.frames.steps import last_step
from daskcal.strict import strict_keywords

__all__ = [
    "bad_columns",
    "calibrate",
    "ccdmask",
    "correct_crosstalk",
    "correct_linearity",
    "cosmicray_lacosmic",
    "cosmicray_median",
    "create_variance",
    "equalise_gains",
    "flag_bad",
    "flag_bleed",
    "flag_hot",
    "flag_saturated",
    "flat_correct",
    "flat_level",
    "gain_correct",
    "gain_ratios",
    "hot_pixels",
    "illumination_correct",
    "illumination_frame",
    "measure_noise",
    "merge_masks",
    "noise_is_known",
    "open_mask",
    "shutter_correct",
    "shutter_map",
    "subtract_bias",
    "subtract_dark",
    "subtract_fringe",
    "subtract_overscan",
    "trim_image",
    "write_mask",
]


@strict_keywords
def calibrate(
    frames: xr.Dataset,
    *,
    saturation: Any = None,
    bleed: Any = None,
    crosstalk: Any = None,
    overscan: Any = None,
    linearity: Any = None,
    trim: Any = None,
    gain_ratios: Any = None,
    gain: Any = None,
    variance: Any = "auto",
    bias: Any = None,
    dark: Any = None,
    shutter: Any = None,
    flat: Any = None,
    illumination: Any = None,
    fringe: Any = None,
    bad_pixel_mask: Any = None,
    hot: Any = None,
    cosmic_rays: Any = None,
) -> xr.Dataset:
    """Do the steps of calibration that are given, in the order that is right.

    Saturation flags, bleed and crosstalk (of raw values), overscan, linearity, trim, bad-pixel
    mask, gain ratios, gain, bias, variance, dark, hot flags, shutter, flat, illumination, fringes,
    cosmic rays.
    The shutter does not stop the dark current and acts on flats as well; illumination and fringes
    are seen once the flat is gone, and fringes are no part of the light of a star (the order of
    IRAF's ccdproc). Each is the function of its own name with the first argument given here; a dict
    gives more of its arguments: ``overscan={"overscan": "[:, 2055:]", "model": "legendre",
    "order": 3}``. A step that is None is left out.

    Parameters
    ----------
    frames : xarray.Dataset
        Raw frames, from `open_frames`.
    saturation : float or True, optional
        `flag_saturated`: its level; True takes the header's.
    bleed : int or dict, optional
        `flag_bleed`: its reach, in rows.
    crosstalk : array or mapping, optional
        `correct_crosstalk`: the matrix.
    overscan, trim : str, slices or dict, optional
        `subtract_overscan` and `trim_image`: the section.
    linearity : sequence of float, mapping or dict, optional
        `correct_linearity`: the coefficients; a dict of its arguments has ``coefficients`` or
        ``table`` in it.
    gain_ratios : xarray.Dataset, mapping or sequence, optional
        `equalise_gains`: what `gain_ratios` found.
    gain : float or True, optional
        `gain_correct`: its value; True takes the frames' own.
    variance : bool, dict or "auto"
        `create_variance`. "auto" does it where gain and read noise of all frames are known, and
        the bias level is known or gone from them.
    bias, dark, flat : master, optional
        `subtract_bias`, `subtract_dark`, `flat_correct`: the master, or several darks.
    shutter, illumination, fringe : master, optional
        `shutter_correct`, `illumination_correct`, `subtract_fringe`.
    bad_pixel_mask : array, master or path, optional
        `flag_bad`.
    hot : xarray.Dataset, optional
        `flag_hot`: what `hot_pixels` found in a dark.
    cosmic_rays : {"lacosmic", "median"} or dict, optional
        `cosmicray_lacosmic` or `cosmicray_median`: which; a dict has it as ``method``.

    Returns
    -------
    xarray.Dataset
        The calibrated frames, lazily.

    Raises
    ------
    ArgumentError
        No frame is selected; a step is given what it cannot use.
    DaskcalError
        What the steps raise.

    Examples
    --------
    >>> science = frames.query(frame="imagetyp == 'science' and exptime == 300 and filter == 'V'")
    >>> science = daskcal.calibrate(
    ...     science, overscan="[:, 144:]", trim="[:, 16:144]", bias=bias, dark=dark, flat=flat)
    """
    require_frames(frames)
    frames = _do(flag_saturated, frames, saturation)
    frames = _do(flag_bleed, frames, bleed)
    frames = _do(correct_crosstalk, frames, _as_argument("matrix", crosstalk))
    frames = _do(subtract_overscan, frames, overscan)
    frames = _do(correct_linearity, frames, _as_argument("coefficients", linearity, "table"))
    frames = _do(trim_image, frames, trim)
    frames = _do(flag_bad, frames, bad_pixel_mask)
    frames = _do(equalise_gains, frames, _as_argument("ratios", gain_ratios))
    frames = _do(gain_correct, frames, gain)
    frames = _do(subtract_bias, frames, bias)
    if variance == "auto":
        variance = noise_is_known(frames) and _signal_is_known(frames)
    frames = _do(create_variance, frames, variance or None)
    frames = _do(subtract_dark, frames, dark)
    frames = _do(flag_hot, frames, hot)
    frames = _do(shutter_correct, frames, shutter)
    frames = _do(flat_correct, frames, flat)
    frames = _do(illumination_correct, frames, illumination)
    frames = _do(subtract_fringe, frames, fringe)
    return _do(find_rays, frames, cosmic_rays)


def _as_argument(name: str, given: Any, *others: str) -> Any:
    """An argument that may be a mapping by amplifier, told from a dict of arguments."""
    if isinstance(given, Mapping) and not {name, *others} & set(given):
        return {name: given}
    return given


def _signal_is_known(frames: xr.Dataset) -> bool:
    """Whether the frames show their signal alone, and have no variance yet."""
    only_bias = "imagetyp" in frames.coords and bool((frames["imagetyp"].values == "bias").all())
    late = any(last_step(frames, step) for step in ("subtract_dark", "flat_correct"))
    if late or "variance" in frames:  # too late for it, or there is one
        return False
    return bias_is_gone(frames) or only_bias or "bias_level" in frames.attrs


_PLAIN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _required(step: Callable[..., xr.Dataset]) -> str:
    """The argument, beside the frames, that a step cannot do without; "" where there is none."""
    _, *others = inspect.signature(step).parameters.values()
    return next((one.name for one in others if one.default is one.empty and one.kind in _PLAIN), "")


def _do(step: Callable[..., xr.Dataset], frames: xr.Dataset, argument: Any) -> xr.Dataset:
    if argument is None:
        return frames
    if argument is False:
        raise ArgumentError(f"False is no argument of {step.__name__}; leave it out with None")
    if argument is True:
        lacking = _required(step)
        if lacking:
            raise ArgumentError(f"True is no argument of {step.__name__}; give its {lacking}")
        return step(frames)
    if isinstance(argument, dict):
        return step(frames, **argument)
    return step(frames, argument)
