"""What a few bands of rows tell of each frame of a stack, alone and against the others."""

from __future__ import annotations

from dataclasses import dataclass

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from daskcal.calibration.flags import saturation_levels
from daskcal.calibration.robust import HALF_STEP, MAD_TO_SIGMA
from daskcal.frames.blocks import blocks
from daskcal.frames.masks import Flag

BANDS = 8  # of rows, spread evenly: light leaks, clouds and gradients are larger than their gaps
OF_A_FRAME = 1 << 15  # pixels: a share of 1 % is then known to 0.05 %
OF_A_STACK = 1 << 25  # pixels, however many frames there are
FEW = 5  # of so many frames or fewer each one weighs in the median of all

Pixels = NDArray[np.floating]


def sampled_rows(frames: int, shape: tuple[int, int]) -> list[slice]:
    """The bands of rows of each of `frames` frames of `shape` that are looked at."""
    height, width = shape
    wanted = min(OF_A_FRAME, OF_A_STACK // frames) // (BANDS * max(1, width))
    return spread_rows(height, max(1, wanted))


def spread_rows(height: int, rows: int) -> list[slice]:
    """Bands of `rows` rows, spread evenly; all rows where they are no more."""
    if rows * BANDS >= height:
        return [slice(0, height)]
    starts = [(height - rows) * (2 * k + 1) // (2 * BANDS) for k in range(BANDS)]
    return [slice(start, start + rows) for start in starts]


def _read(frames: xr.Dataset, planes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those planes of the sampled rows (frame, rows, columns), as far as the frames have them."""
    shape = frames.sizes["y"], frames.sizes["x"]
    bands = [blocks(frames.isel(y=y)) for y in sampled_rows(frames.sizes["frame"], shape)]
    names = [name for name in planes if name in frames]
    read = dask.compute([[band[name].data for name in names] for band in bands])[0]
    return {
        name: np.concatenate(parts, 1)
        for name, parts in zip(names, zip(*read, strict=True), strict=True)
    }


@dataclass(frozen=True, slots=True)
class RawNumbers:
    """What raw frames say, each number (frame,).

    Attributes
    ----------
    undefined, saturated : ndarray of float64
        Shares of the pixels. Where no level of saturation is known, it is the largest integer that
        the type of the pixels holds; NaN for floating ones.
    """

    undefined: np.ndarray
    saturated: np.ndarray


def raw_numbers(raw: xr.Dataset) -> RawNumbers:
    """Look at raw frames (frame, y, x)."""
    read = _read(raw, ("image", "mask"))
    image = read["image"]
    lost = ~np.isfinite(image)
    if "mask" in read:
        lost |= (read["mask"] & Flag.NO_DATA) != 0
    levels = saturation_levels(raw).min(axis=1)
    if image.dtype.kind in "iu":
        levels = np.where(np.isfinite(levels), levels, np.iinfo(image.dtype).max)
    full = (image >= levels[:, None, None]).mean(axis=(1, 2))
    return RawNumbers(lost.mean(axis=(1, 2)), np.where(np.isfinite(levels), full, np.nan))


@dataclass(frozen=True, slots=True)
class Sample:
    """Calibrated pixels of the sampled rows, (frame, rows, columns).

    Attributes
    ----------
    image : ndarray of float
    good : ndarray of bool
    variance : ndarray of float or None
        The frames' own noise.
    step : float
        Of the converter, in the unit of the image; 0 where not known.
    """

    image: Pixels
    good: NDArray[np.bool_]
    variance: Pixels | None
    step: float

    def levels(self) -> np.ndarray:
        """The median of the good pixels of each frame; NaN where there are none."""
        return np.array(
            [np.median(image[good]) if good.any() else np.nan
             for image, good in zip(self.image, self.good, strict=True)], np.float64,
        )  # fmt: skip

    def signal_to_noise(self) -> np.ndarray:
        """Level over the median noise of a pixel, of each frame; NaN where that is not known."""
        if self.variance is None:
            return np.full(len(self.image), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            noise = [np.sqrt(np.median(variance[good])) if good.any() else np.nan
                     for variance, good in zip(self.variance, self.good, strict=True)]  # fmt: skip
            return np.asarray(self.levels() / np.array(noise, np.float64))

    def of(self, frames: list[int]) -> Sample:
        """Some of the frames."""
        variance = None if self.variance is None else self.variance[frames]
        return Sample(self.image[frames], self.good[frames], variance, self.step)


def read_sample(calibrated: xr.Dataset) -> Sample:
    """Read the sampled rows of calibrated frames (frame, y, x)."""
    read = _read(calibrated, ("image", "mask", "variance"))
    good = np.isfinite(read["image"])
    if "mask" in read:
        good &= read["mask"] == 0
    step = float(calibrated["image"].attrs.get("quantum", 0.0))
    if "applied_gain" in calibrated.coords:
        step *= float(np.mean(calibrated["applied_gain"].values))
    return Sample(read["image"], good, read.get("variance"), step)


@dataclass(frozen=True, slots=True)
class Compared:
    """Each frame against the others, numbers (frame,).

    Attributes
    ----------
    level, others : ndarray of float64
        Its level, and the median of theirs.
    noise : float
        Of one pixel of one frame, in the unit of the image.
    outliers : ndarray of float64
        Share of its pixels that differ from the median of the others by more than some σ.
    """

    level: np.ndarray
    others: np.ndarray
    noise: float
    outliers: np.ndarray


def compare(sample: Sample, *, scaled: bool, sigmas: float) -> Compared:
    """Hold each of two or more frames against the others.

    A frame's pixels less the median of the others' are divided by the noise that the noise model
    gives (for scaled frames without one, by the root of the signal), and their median is taken
    off: levels are another matter. σ of what remains is that of the differences of neighbouring
    pixels, so that no gradient or leak of light makes itself small by making σ large; and the gain
    and read noise need not be right.

    Parameters
    ----------
    sample : Sample
        Of two frames or more.
    scaled : bool
        Whether frames are divided by their level first, as flats are.
    sigmas : float
        From where on a pixel differs.
    """
    level = sample.levels()
    scale = 1 / level if scaled else np.ones_like(level)
    image = sample.image * scale.astype(sample.image.dtype)[:, None, None]
    good = sample.good.all(axis=0)
    of_all = np.median(image, axis=0) if len(image) > FEW else None
    others, outliers, noises = [], [], []
    for i, pixels in enumerate(image):
        rest = np.delete(level, i)
        others.append(float(np.median(rest)))
        centre = np.median(np.delete(image, i, axis=0), axis=0) if of_all is None else of_all
        expected = _noise_model(sample, i, scale[i], centre, scaled)
        with np.errstate(invalid="ignore", divide="ignore"):
            offset = (pixels - centre) / expected
        known = good & np.isfinite(offset)
        sigma = _sigma(offset, known)
        usual = float(np.median(expected[known])) if known.any() else np.nan
        sigma = max(sigma, HALF_STEP * sample.step * scale[i] / usual)
        noises.append(sigma * usual / scale[i])
        outliers.append(_beyond(offset[known], sigmas * sigma))
    return Compared(level, np.array(others), float(np.median(noises)), np.array(outliers))


def _noise_model(sample: Sample, i: int, scale: float, centre: Pixels, scaled: bool) -> Pixels:
    """The noise of a frame's pixels, right up to a factor."""
    if sample.variance is not None:
        return np.asarray(np.sqrt(sample.variance[i]) * scale)
    if scaled:
        return np.asarray(np.sqrt(np.where(centre > 0, centre, np.nan)))
    return np.ones_like(centre)


def _sigma(offset: Pixels, known: NDArray[np.bool_]) -> float:
    """σ from the differences of neighbours along the rows."""
    both = known[:, 1:] & known[:, :-1]
    steps = np.abs(offset[:, 1:] - offset[:, :-1])[both]
    return MAD_TO_SIGMA * float(np.median(steps)) / np.sqrt(2) if steps.size else np.nan


def _beyond(offset: Pixels, limit: float) -> float:
    """The share of values further than `limit` from their median."""
    if not offset.size or not np.isfinite(limit):
        return np.nan
    return float((np.abs(offset - np.median(offset)) > limit).mean())
