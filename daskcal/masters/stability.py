"""Pixels that are not to be trusted, by how much they vary from frame to frame of a stack."""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.combination import combine
from daskcal.errors import ArgumentError
from daskcal.frames.masks import Flag, mask_dataset
from daskcal.frames.steps import StepRecord
from daskcal.strict import strict_keywords

FEWEST = 5  # frames: the scatter of fewer tells too little
BLOCK = 32  # pixels: the usual scatter is that of a block of so many by so many


@strict_keywords
def unstable_pixels(
    frames: xr.Dataset, *, scale: str | None = None, sigma: float = 6.0
) -> xr.Dataset:
    """Find pixels that vary much more, or much less, than others from frame to frame.

    A pixel that jumps between levels is seen in a stack of biases or darks; one that is stuck or
    sees no light, in a stack of flats. The scatter of each pixel is held against the median of its
    neighbourhood (blocks of 32 × 32 pixels), so that vignetting and glow do no harm. The stack's
    own rejection leaves out the highest value of each pixel, which may be a cosmic ray.

    Parameters
    ----------
    frames : xarray.Dataset
        Five frames or more of one kind and exposure, calibrated alike; many tell better.
    scale : str, optional
        As for `combine`: ``"median"`` for flats.
    sigma : float
        How unlikely a scatter must be: as a value so far from the mean of a normal distribution is.

    Returns
    -------
    xarray.Dataset
        A mask, lazily: ``image (y, x)``, uint16, ``bad`` where a pixel is unstable or dead.

    Raises
    ------
    ArgumentError
        Fewer than five frames, or a `sigma` that is not positive.

    Notes
    -----
    The variance of n values of normal noise, less the highest, over its expectation is close to
    χ² with n − 2 degrees of freedom over its mean; a pixel is bad beyond the quantiles of `sigma`
    on either side. Values that the converter rounded may be all the same by chance: where that is
    not unlikely enough, no pixel is called dead.

    Examples
    --------
    >>> mask = daskcal.unstable_pixels(darks)
    """
    if isinstance(sigma, bool) or not (isinstance(sigma, int | float) and sigma > 0):
        raise ArgumentError(f"sigma={sigma!r} should be a positive number")
    n = frames.sizes["frame"]
    if n < FEWEST:
        raise ArgumentError(f"unstable_pixels needs {FEWEST} frames or more, and found {n}")
    bare = frames.drop_vars([v for v in ("variance", "variance_shared") if v in frames])
    stack = combine(bare, reject="minmax", n_low=0, n_high=1, scale=scale)
    planes = [stack[name].data.rechunk(-1) for name in ("variance", "n_used")]
    found = da.blockwise(
        _find, "yx", planes[0], "yx", planes[1], "yx", n=n, sigma=float(sigma),
        step=0.0 if scale else _step(frames),  # factors of their own keep values apart

        dtype=np.uint16, meta=np.empty((0, 0), np.uint16),
    )  # fmt: skip
    said = {"frames": n, "sigma": float(sigma)} | ({"scale": str(scale)} if scale else {})
    record = StepRecord("unstable_pixels", said)
    coords = {axis: stack[axis] for axis in ("y", "x") if axis in stack.coords}
    return mask_dataset(found, coords, f"scatter of {n} frames", "", [record.to_json()])


def _step(frames: xr.Dataset) -> float:
    """The step of the converter in the unit of the frames; 0 where values are not rounded."""
    raw = float(frames["image"].attrs.get("quantum", 0))
    gains = frames["applied_gain"].values if "applied_gain" in frames.coords else 1.0
    return raw * float(np.mean(gains))


def _find(
    variance: np.ndarray, n_used: np.ndarray, *, n: int, sigma: float, step: float
) -> np.ndarray:
    from scipy.stats import chi2, norm

    tail = float(norm.sf(sigma))
    known = n_used >= n - 1  # of fewer values the scatter tells less than the limits say
    usual = _usual(np.where(known & (variance > 0), variance, np.nan))
    low, middle, high = chi2.ppf([tail, 0.5, 1 - tail], n - 2) / (n - 2)
    with np.errstate(invalid="ignore"):
        bad = variance > high / middle * usual
        dead = (variance < low / middle * usual) | np.isnan(variance)
    dead &= _equal_by_chance(np.sqrt(usual * n), step, n - 1) < tail
    return np.where(known & (bad | dead), Flag.BAD, np.uint16(0))


def _usual(variance: np.ndarray) -> np.ndarray:
    """The median of what is defined in each block of pixels, at each pixel."""
    rows, columns = variance.shape
    height, width = -(-rows // BLOCK), -(-columns // BLOCK)
    padded = np.full((height * BLOCK, width * BLOCK), np.nan, variance.dtype)
    padded[:rows, :columns] = variance
    blocks = padded.reshape(height, BLOCK, width, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK**2)
    medians = np.full(len(blocks), np.nan)
    some = np.isfinite(blocks).any(axis=1)
    medians[some] = np.nanmedian(blocks[some], axis=1)
    whole = np.repeat(np.repeat(medians.reshape(height, width), BLOCK, 0), BLOCK, 1)
    return np.asarray(whole[:rows, :columns])


def _equal_by_chance(sigma: np.ndarray, step: float, n: int) -> Any:
    """The probability that n values of noise `sigma` are rounded to the same number.

    The integral of the normal density to the power n, times step^(n − 1), for a step that is not
    larger than σ; 1 is as good for others.
    """
    if not step:
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = (step / sigma / math.sqrt(2 * math.pi)) ** (n - 1) / math.sqrt(n)
    return np.where(sigma > step, chance, 1.0)
