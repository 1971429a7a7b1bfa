"""Bad-pixel masks: from a flat or a ratio of flats, whole columns, and several masks as one.

A mask is a Dataset with ``image (y, x)``: bit planes like those of frames, so that each bad pixel
keeps its reason. `flag_bad` puts them into frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.loops import fill_gaps
from daskcal.calibration.mask_files import as_mask
from daskcal.calibration.masters import Master, as_master
from daskcal.errors import ArgumentError, GeometryError
from daskcal.frames.masks import Flag, mask_dataset
from daskcal.frames.steps import StepRecord
from daskcal.strict import strict_keywords

PERCENTS = (30.9, 69.1)  # of a normal distribution, one σ apart from each other: −σ/2 and σ/2


@strict_keywords
def ccdmask(
    ratio: Any,
    *,
    findbadcolumns: bool = False,
    byblocks: bool = False,
    ncmed: int = 7,
    nlmed: int = 7,
    ncsig: int = 15,
    nlsig: int = 15,
    lsigma: float = 9,
    hsigma: float = 9,
    ngood: int = 5,
) -> xr.Dataset:
    """Find bad pixels in the ratio of two flats of different level, or in a flat.

    A pixel is bad that lies further from the median of the box around it than so many times the
    scatter around there; so is one that has no value.

    Parameters
    ----------
    ratio : xarray.Dataset, CCDData or path
        An image (y, x). A ratio of flats shows pixels that flat-fielding does not mend; a single
        flat shows those whose sensitivity is unlike their neighbours'.
    findbadcolumns : bool
        Mark good pixels between bad ones of a column too, where there are not more than `ngood`.
    byblocks : bool
        Estimate the scatter once for each block, not around each pixel: quicker, and coarser.
    ncmed, nlmed : int
        Columns and rows of the box of the median; more than twice the widest bad region.
    ncsig, nlsig : int
        Columns and rows of the box of the scatter, half the distance of the percentiles 30.9 and
        69.1; 100 pixels or more.
    lsigma, hsigma : float
        Limits below and above the median.
    ngood : int
        Longest gap that is filled with `findbadcolumns`.

    Returns
    -------
    xarray.Dataset
        A mask, lazily: ``image (y, x)``, uint16, ``bad`` where it is set.

    Raises
    ------
    ArgumentError
        A number that cannot be used, or something that is not an image (y, x).

    Notes
    -----
    The method is that of IRAF's ccdmask; the result is that of ``ccdproc.ccdmask`` with the same
    arguments, where all pixels have a value.

    Examples
    --------
    >>> mask = daskcal.ccdmask(bright.image / faint.image)
    """
    sizes = {"ncmed": ncmed, "nlmed": nlmed, "ncsig": ncsig, "nlsig": nlsig, "ngood": ngood}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ArgumentError(f"{name}={size!r} should be a number of pixels, 1 or more")
    for name, limit in (("lsigma", lsigma), ("hsigma", hsigma)):
        if isinstance(limit, bool) or not (isinstance(limit, int | float) and limit > 0):
            raise ArgumentError(f"{name}={limit!r} should be positive, in σ")
    if isinstance(ratio, xr.DataArray):
        ratio = ratio.to_dataset(name="image")
    master = as_master(ratio, "ratio of flats")
    found = _whole(
        _ccdmask,
        master.planes["image"],
        median=(nlmed, ncmed),
        scatter=(nlsig, ncsig),
        limits=(lsigma, hsigma),
        byblocks=bool(byblocks),
        gap=int(ngood) if findbadcolumns else 0,
    )
    options = {**sizes, "lsigma": lsigma, "hsigma": hsigma}
    options |= {"byblocks": byblocks, "findbadcolumns": findbadcolumns}
    return _made(found, [master], f"ccdmask of {master.identity.file}", "ccdmask", **options)


@strict_keywords
def bad_columns(mask: Any, *, share: float = 0.3) -> xr.Dataset:
    """Make columns bad as a whole that have many bad pixels.

    Charge passes a bad pixel on the way to the amplifier, and what lies behind is not to be
    trusted. The rule: a column of which more than `share` of its pixels are masked, for whatever
    reason, is ``bad`` from end to end.

    Parameters
    ----------
    mask : xarray.Dataset or path
        A mask (y, x), of one detector; y is the direction of its columns.
    share : float
        Between 0 and 1.

    Returns
    -------
    xarray.Dataset
        The mask with those columns, lazily. Bits that were set stay.

    Raises
    ------
    ArgumentError
        `share` is none.

    Examples
    --------
    >>> mask = daskcal.bad_columns(daskcal.ccdmask(ratio), share=0.2)
    """
    if isinstance(share, bool) or not (isinstance(share, int | float) and 0 <= share < 1):
        raise ArgumentError(f"share={share!r} should be a number from 0 up to 1")
    master, bits = as_mask(mask, "bad-pixel mask")
    found = _whole(_with_columns, bits, share=float(share))
    name = f"bad columns of {master.identity.file}"
    return _made(found, [master], name, "bad_columns", share=float(share))


def merge_masks(*masks: Any) -> xr.Dataset:
    """Several masks of one detector as one: a pixel keeps every reason.

    Parameters
    ----------
    *masks : xarray.Dataset or path
        Masks (y, x) of the same pixels: from `ccdmask`, `unstable_pixels`, `open_mask` (their own
        bits), `hot_pixels` (``hot``), or images that are not 0 at bad pixels (``bad``).

    Returns
    -------
    xarray.Dataset
        ``image (y, x)``, uint16, lazily.

    Raises
    ------
    GeometryError
        They cover different parts of the detector.

    Examples
    --------
    >>> mask = daskcal.merge_masks(daskcal.ccdmask(ratio), daskcal.hot_pixels(dark))
    """
    if not masks:
        raise ArgumentError("merge_masks needs a mask at least")
    opened = [as_mask(mask, f"mask {i + 1}") for i, mask in enumerate(masks)]
    first, merged = opened[0]
    for other, bits in opened[1:]:
        if other.section != first.section:
            raise GeometryError(
                f"{other.what} ({other.identity.file}) covers {other.section} of the detector, and "
                f"{first.what} ({first.identity.file}) {first.section}; merge masks of one window"
            )
        merged = merged | bits.rechunk(merged.chunks)
    masters = [master for master, _ in opened]
    names = dict.fromkeys(master.identity.file for master in masters)
    return _made(merged, masters, ", ".join(names), "merge_masks")


def _made(bits: da.Array, of: list[Master], file: str, step: str, **parameters: Any) -> xr.Dataset:
    """A mask that was made of masters, with the record of how."""
    record = StepRecord(step, parameters, tuple(master.identity for master in of)).to_json()
    steps = [r.to_json() for master in of if _is_mask(master) for r in master.steps or ()]
    checksum = hashlib.sha256(record.encode()).hexdigest()
    return mask_dataset(bits, of[0].coords, file, checksum, [*steps, record])


def _is_mask(master: Master) -> bool:
    """Whether its steps tell of a mask, and not of the frames behind a master."""
    return master.planes["image"].dtype == np.uint16


def _whole(work: Any, image: da.Array, **options: Any) -> da.Array:
    """What `work` makes of a whole image: masks are made once, and looked at with neighbours."""
    return da.blockwise(
        work, "yx", image.rechunk(-1), "yx", **options,
        dtype=np.uint16, meta=np.empty((0, 0), np.uint16),
    )  # fmt: skip


# --- the methods ----------------------------------------------------------------------------------


def _ccdmask(
    image: np.ndarray,
    *,
    median: tuple[int, int],
    scatter: tuple[int, int],
    limits: tuple[float, float],
    byblocks: bool,
    gap: int,
) -> np.ndarray:
    from scipy import ndimage

    bad = ~np.isfinite(image)
    if bad.any():  # filters take numbers only
        image = np.where(bad, np.median(image[~bad]) if not bad.all() else 0, image)
    residual = image - ndimage.median_filter(image, size=median)
    if byblocks:
        for block in _blocks(image.shape, scatter):
            bad[block] |= _bad_of_block(residual[block], limits, columns=gap > 0)
    else:
        low, high = (ndimage.percentile_filter(residual, p, size=scatter) for p in PERCENTS)
        bad |= _beyond(residual, (high - low) / 2, limits)
    if gap:
        fill_gaps(bad, gap)
    return np.where(bad, Flag.BAD, np.uint16(0))


def _beyond(residual: np.ndarray, sigma: Any, limits: tuple[float, float]) -> np.ndarray:
    return (residual < -limits[0] * sigma) | (residual > limits[1] * sigma)


def _blocks(shape: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for y in range(0, shape[0], size[0]):
        for x in range(0, shape[1], size[1]):
            yield slice(y, y + size[0]), slice(x, x + size[1])


def _bad_of_block(residual: np.ndarray, limits: tuple[float, float], columns: bool) -> np.ndarray:
    low, high = np.percentile(residual, PERCENTS)
    bad = _beyond(residual, (high - low) / 2, limits)
    if columns:  # the sum of a column's good pixels, against ccdproc's estimate of its scatter
        total = np.maximum(np.where(bad, 0, residual).sum(axis=0), 0)
        bad |= total > limits[1] * np.sqrt(np.maximum(residual.shape[1] - total, 0))
    return bad


def _with_columns(bits: np.ndarray, *, share: float) -> np.ndarray:
    bad = np.count_nonzero(bits, axis=0) > share * bits.shape[0]
    return np.where(bad, bits | Flag.BAD, bits)
