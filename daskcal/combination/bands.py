"""What a task does: one band of rows of all frames becomes rows of a combined image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from daskcal.combination.by_amplifier import NoiseArea, combine_areas
from daskcal.combination.grow import grow_rejections
from daskcal.combination.kernels import Combined, Reject, new_planes
from daskcal.combination.scale import ROWS, SCALE, WEIGHTS, ZERO
from daskcal.frames.blocks import Band
from daskcal.frames.sections import Section

HALF_STEP = 0.5  # of the converter: its rounding hides what is smaller


@dataclass(frozen=True, slots=True)
class Combination:
    """How to combine: the same for every band.

    Attributes
    ----------
    method : str
    reject : Reject
    floor : float, "auto" or None
        The smallest σ.
    dtype : numpy.dtype
        Of the image and the variances that come out.
    quantum : float or None
        The step of the converter in the unit of the frames; None where not known.
    used : tuple of str
        Which rows of the frames' numbers are there to be used.
    by_variance : bool
        Whether values are weighted by their inverse variance.
    read, slope : ndarray of float64, shape (frame,), optional
        Read noise, and variance per unit of signal, where the noise of the frames matters.
    areas : tuple of NoiseArea
        The same for each amplifier, where they differ.
    grow : float
        Radius in pixels about rejected values.
    rejected, tally : bool
        Whether to say which values were rejected, and how many of each frame.
    """

    method: str
    reject: Reject
    floor: float | str | None
    dtype: np.dtype
    quantum: float | None
    used: tuple[str, ...] = ()
    by_variance: bool = False
    read: np.ndarray | None = None
    slope: np.ndarray | None = None
    areas: tuple[NoiseArea, ...] = ()
    grow: float = 0.0
    rejected: bool = False
    tally: bool = False


def combine_band(
    band: Band,
    numbers: np.ndarray | None = None,
    *,
    how: Combination,
    above: int = 0,
    rows: int = 0,
) -> Combined:
    """Combine a band; where rejections grow, only the `rows` rows after the first `above` ones, as
    the others are there to grow from.

    `numbers` are scale, zero and weight of each frame (3, frame).
    """
    given = {name: numbers[ROWS.index(name)] for name in how.used} if numbers is not None else {}
    arguments = _arguments(band, how, given)
    if how.grow:
        combined = _grown(band, how, arguments, slice(above, above + rows))
    else:
        combined = _walked(band, how, arguments)
    if "variance" not in band.recipe.planes and combined.variance is not None:
        times = band.shape[0] if how.method == "sum" else 1
        quantum = np.nan if how.quantum is None else how.quantum
        step = quantum * times * _mean_scale(given)
        _not_certain(combined.variance, combined.n_used, step**2 / 12)
    return combined


def _arguments(band: Band, how: Combination, given: dict[str, np.ndarray]) -> dict[str, Any]:
    """What `combine_block` is called with beside the planes."""
    floor = how.floor
    if floor == "auto":
        half_step = HALF_STEP * (1.0 if how.quantum is None else how.quantum)
        floor = "variance" if "variance" in band.recipe.planes else half_step * _mean_scale(given)
    return {
        "method": how.method,
        "reject": how.reject,
        "scale": given.get(SCALE),
        "zero": given.get(ZERO),
        "weights": np.ones(band.shape[0]) if how.by_variance else given.get(WEIGHTS),
        "by_variance": how.by_variance,
        "read": how.read,
        "slope": how.slope,
        "floor": floor,
    }


def _mean_scale(given: dict[str, np.ndarray]) -> float:
    return float(np.mean(given[SCALE])) if SCALE in given else 1.0


def _room(band: Band, how: Combination, rows: int) -> Combined:
    n, _, columns = band.shape
    shared = "variance_shared" in band.recipe.planes
    return new_planes(rows, columns, how.dtype, shared, n=n, rejected=how.rejected, tally=how.tally)


def _walked(band: Band, how: Combination, arguments: dict[str, Any]) -> Combined:
    combined = _room(band, how, band.shape[1])
    for block in band.walk():
        first = block.section.y0 - band.section.y0
        planes = block.image, block.mask, block.variance, block.variance_shared
        out = combined.part(slice(first, first + block.section.shape[0]))
        combine_areas(how.areas, block.section, planes, arguments, out)
    return combined


def _grown(band: Band, how: Combination, arguments: dict[str, Any], kept: slice) -> Combined:
    """Reject in all rows, grow, and combine the rows that are kept."""
    held = band.by_name()
    image, mask = held["image"], held.get("mask")
    variance, shared = held.get("variance"), held.get("variance_shared")
    n, rows, columns = band.shape
    room = new_planes(rows, columns, how.dtype, shared is not None, n=n, rejected=True)
    planes = image, mask, variance, shared
    before = combine_areas(how.areas, band.section, planes, arguments, room)
    found = grow_rejections(image, mask, before, how.grow, kept, arguments)
    own, common = (None if plane is None else plane[:, kept] for plane in (variance, shared))
    rest = arguments | {"reject": Reject(kind="none"), "floor": None}
    combined = _room(band, how, found.mask.shape[1])
    here = band.section
    section = Section(here.y0 + kept.start, here.y0 + kept.stop, here.x0, here.x1)
    kept_planes = image[:, kept], found.mask, own, common
    combine_areas(how.areas, section, kept_planes, rest, combined)
    combined.n_low[...], combined.n_high[...] = found.n_low, found.n_high
    if combined.tally is not None:
        combined.tally[...] = found.tally
    if combined.rejected is not None:
        combined.rejected[...] = found.rejected
    return combined


def _not_certain(variance: np.ndarray, n_used: np.ndarray, rounding: float) -> None:
    """Values that rounding made equal have its variance over n; with an unknown step, NaN."""
    equal = variance == 0
    variance[equal] = rounding / n_used[equal]
