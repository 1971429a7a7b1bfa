"""Hot pixels: found in a master dark, flagged in frames."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.flags import FlagWhere
from daskcal.calibration.masters import Master, as_master, fitted
from daskcal.calibration.robust import HALF_STEP, MAD_TO_SIGMA
from daskcal.errors import ArgumentError, CalibrationError
from daskcal.frames.blocks import assign, recover
from daskcal.frames.masks import Flag
from daskcal.frames.steps import StepRecord, with_step
from daskcal.strict import strict_keywords

SIGMAS = 8.0  # far beyond what a normal distribution gives in any detector
REACH = 2  # pixels: the neighbourhood is 5 × 5, so that a cluster of hot pixels is not its median
_AT_ONCE = 1 << 18  # candidates whose neighbourhoods are gathered together


@strict_keywords
def hot_pixels(dark: Any, *, threshold: float | None = None) -> xr.Dataset:
    """Find the pixels of a master dark whose dark current is far above the usual.

    Parameters
    ----------
    dark : xarray.Dataset, CCDData or path
        Master dark (y, x); the longest tells best.
    threshold : float, optional
        Excess over the dark's median in electron/s (the dark's gain and exposure must be known).
        If not given, a pixel is hot that exceeds both the dark's median and the median of its
        own 5 × 5 neighbourhood by 8σ, so that the glow of an amplifier is not hot; σ is 1.4826
        times the median absolute deviation, of the dark and of the neighbourhood alike (0.5 where
        that of the dark is 0).

    Returns
    -------
    xarray.Dataset
        ``image (y, x)``, bool, lazily; for `flag_hot`.

    Raises
    ------
    ArgumentError, CalibrationError
        A threshold that is not positive, or one while gain or exposure of the dark are not known.

    Examples
    --------
    >>> hot = daskcal.hot_pixels(dark, threshold=2.0)  # electron/s
    """
    master = as_master(dark, "master dark")
    excess = None if threshold is None else _excess(master, threshold)
    args = [master.planes["image"].rechunk(-1), "yx"]
    if "mask" in master.planes:
        args += [master.planes["mask"].rechunk(-1), "yx"]
    found = da.blockwise(_find, "yx", *args, excess=excess, dtype=bool, meta=np.empty((0, 0), bool))
    attrs = {"file": master.identity.file, "checksum": master.identity.checksum, "reason": "hot"}
    return xr.Dataset({"image": (("y", "x"), found)}, coords=master.coords, attrs=attrs)


@strict_keywords
def flag_hot(frames: xr.Dataset, hot: xr.Dataset) -> xr.Dataset:
    """Set ``hot`` where `hot_pixels` found hot pixels.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    hot : xarray.Dataset
        From `hot_pixels`.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``.

    Raises
    ------
    ArgumentError
        `hot` is a dark, or something else that is not true or false.
    GeometryError
        `hot` does not cover the frames.

    Examples
    --------
    >>> science = daskcal.flag_hot(science, daskcal.hot_pixels(dark))
    """
    stack, found = recover(frames), as_master(hot, "map of hot pixels")
    plane = found.planes["image"]
    if plane.dtype != bool:
        raise ArgumentError("flag_hot takes what hot_pixels(dark) gives, not the dark itself")
    found = fitted(found, stack, frames)
    inputs, arrays = found.inputs(("image",))
    step = FlagWhere(inputs=tuple(inputs), bit=Flag.HOT)
    return with_step(
        assign(frames, stack.then(step, arrays)), StepRecord("flag_hot", {}, (found.identity,))
    )


def _excess(master: Master, threshold: float) -> float:
    """A threshold in electron/s as pixel values of the dark."""
    if not threshold > 0:
        raise ArgumentError(f"threshold={threshold} should be positive, in electron/s")
    gain = 1.0 if master.unit == "electron" else master.number("gain")
    exposure = master.number("darktime")
    exposure = exposure if np.isfinite(exposure) else master.number("exptime")
    if not (np.isfinite(gain) and exposure > 0):
        raise CalibrationError(
            "hot_pixels: a threshold in electron/s needs the gain and exposure of the dark "
            f"(found {gain} electron/adu, {exposure} s); leave it out for {SIGMAS:g}σ"
        )
    return threshold * exposure / gain


def _find(image: np.ndarray, mask: np.ndarray | None = None, *, excess: float | None) -> np.ndarray:
    good = np.isfinite(image)
    if mask is not None:
        good &= mask == 0
    values = image[good]
    if not values.size:
        return np.zeros(image.shape, bool)
    centre = np.median(values)
    if excess is not None:
        return np.asarray(good & (image > centre + excess))
    # the MAD of integers is 0 where more than half of them are equal
    sigma = MAD_TO_SIGMA * np.median(np.abs(values - centre)) or HALF_STEP
    hot = good & (image > centre + SIGMAS * sigma)
    rows, columns = np.nonzero(hot)
    padded = np.pad(np.where(good, image, np.nan), REACH, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1,) * 2)
    for at in range(0, rows.size, _AT_ONCE):
        r, c = rows[at : at + _AT_ONCE], columns[at : at + _AT_ONCE]
        around = windows[r, c].reshape(r.size, -1)
        local = np.nanmedian(around, axis=1)
        spread = MAD_TO_SIGMA * np.nanmedian(np.abs(around - local[:, None]), axis=1)
        hot[r, c] = image[r, c] - local > SIGMAS * np.maximum(spread, sigma)
    return np.asarray(hot)
