"""Flag what saturated pixels bleed into: charge that is too much for a pixel runs along columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.flags import known_levels, require_raw
from daskcal.errors import ArgumentError
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.block import Block
from daskcal.frames.blocks import Stack, assign, describe_input, recover
from daskcal.frames.masks import Flag
from daskcal.frames.recipe import with_plane
from daskcal.frames.sections import Section
from daskcal.frames.steps import StepRecord, keep_each, with_step
from daskcal.frames.wrapped import Wrapped, with_source
from daskcal.strict import strict_keywords


@dataclass(frozen=True, eq=False)
class Bleeding(Wrapped):
    """A source that flags pixels within `reach` rows of one that is full.

    It reads the rows about a band for that. The inputs beside those of a source of arrays are where
    such pixels are.
    """

    sections: tuple[Section, ...]
    levels: np.ndarray  # (frame, section): from which value on pixels are full
    reach: int

    @property
    def planes(self) -> tuple[str, ...]:
        return with_plane(self.source.planes, "mask")

    @property
    def copies(self) -> int:
        return 2 * self.source.copies

    def own(self) -> tuple[object, ...]:
        return self.sections, self.levels, self.reach

    def take(self, positions: np.ndarray) -> Self:
        return replace(super().take(positions), levels=self.levels[positions])

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        n = len(self.source.inputs)
        block = self.source.read(frames, section, arrays[:n])
        if n:
            near = arrays[n]
        else:
            near = np.empty(block.image.shape, bool)
            for i, image in enumerate(block.image):
                near[i] = self._near(frames.start + i, image, section)[0]
        if near.any():  # a mask that was given is not written to
            bits = np.where(near, Flag.SATURATED, np.uint16(0))
            block.mask = bits if block.mask is None else block.mask | bits
        return block

    def _near(self, frame: int, image: np.ndarray, section: Section) -> np.ndarray:
        """Where the pixels of a section of one frame, (1, rows, columns), are near to full ones."""
        first = max(section.y0 - self.reach, self.section.y0)
        last = min(section.y1 + self.reach, self.section.y1)
        above = self._full(frame, replace(section, y0=first, y1=section.y0))
        below = self._full(frame, replace(section, y0=section.y1, y1=last))
        here = full_pixels(image[None], section, self.sections, self.levels[frame, None])
        near = grown(np.concatenate([above, here, below], axis=1), reach=self.reach)
        return near[:, above.shape[1] : above.shape[1] + len(image)]

    def _full(self, frame: int, section: Section) -> np.ndarray:
        """Where the pixels of rows that are read for this alone are full."""
        if not section.shape[0]:
            return np.empty((1, *section.shape), bool)
        image = self.source.read(slice(frame, frame + 1), section, ()).image
        return full_pixels(image, section, self.sections, self.levels[frame, None])


def full_pixels(
    image: np.ndarray, section: Section, parts: Sequence[Section], levels: np.ndarray
) -> np.ndarray:
    """Where raw pixels (frames, rows, columns) of a section are full, each part by its level."""
    full = np.zeros(image.shape, bool)
    for part, level in zip(parts, levels.T, strict=True):
        common = part.common(section)
        if min(common.shape) > 0:
            where = (slice(None), *common.within(section))
            full[where] = image[where] >= level[:, None, None]
    return full


def grown(full: np.ndarray, *, reach: int) -> np.ndarray:
    """Pixels (frames, rows, columns) within `reach` rows of one that is set."""
    from scipy.ndimage import maximum_filter1d

    if not full.any():
        return full
    size = 2 * reach + 1
    return np.asarray(maximum_filter1d(full.view(np.uint8), size, axis=1, mode="constant") != 0)


@strict_keywords
def flag_bleed(frames: xr.Dataset, reach: int, *, level: float | None = None) -> xr.Dataset:
    """Set ``saturated`` in what a saturated pixel bleeds into: the pixels near it in its column.

    Parameters
    ----------
    frames : xarray.Dataset
        Raw frames, before any step but flags.
    reach : int
        Rows to either side of a saturated pixel that are flagged with it, 1 or more.
    level : float, optional
        From which raw value on a pixel is saturated; if not given, what `flag_saturated` takes.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``. For each band of rows the rows about it are read too.

    Raises
    ------
    ArgumentError
        A reach that is no positive number of rows.
    CalibrationError
        Neither a level nor a header says where pixels saturate; or the pixels are not raw any more.

    Examples
    --------
    >>> frames = daskcal.flag_bleed(frames, 20)
    """
    stack = recover(frames)
    require_raw(frames, "flag_bleed")
    if not (isinstance(reach, int) and reach >= 1):
        raise ArgumentError(f"reach={reach!r} should be a whole number of rows, 1 or more")
    found = amplifiers(frames)
    levels = known_levels(frames, level, "flag_bleed")
    sections = tuple(amp.section for amp in found) or (stack.recipe.source.section,)
    extra = [_near_in_arrays(stack, sections, levels, reach)] if stack.recipe.source.inputs else []
    here = stack.recipe.source.section
    described = tuple(describe_input(each, "fyx", here.y0, here.x0) for each in extra)
    source = Bleeding(stack.recipe.source, described, sections, levels, reach)
    out = assign(frames, with_source(stack, source, extra))
    held = ("amp_saturation", levels) if found else ("saturation", levels[:, 0])
    out, known = keep_each(out, *held)
    return with_step(out, StepRecord("flag_bleed", {"reach": reach, "level": known}))


def _near_in_arrays(
    stack: Stack, sections: Sequence[Section], levels: np.ndarray, reach: int
) -> da.Array:
    """Where the pixels of arrays are near to full ones, (frame, y, x), lazily."""
    image, here = stack.arrays[0], stack.recipe.source.section
    reach = min(reach, here.shape[0])
    full = da.map_blocks(
        _full_block, image, parts=tuple(sections), levels=levels, origin=(here.y0, here.x0),
        dtype=bool, meta=np.empty((0, 0, 0), bool),
    )  # fmt: skip
    return da.map_overlap(
        grown, full, depth={1: reach}, boundary=False, reach=reach, dtype=bool,
        meta=np.empty((0, 0, 0), bool),
    )  # fmt: skip


def _full_block(
    image: np.ndarray,
    *,
    parts: Sequence[Section],
    levels: np.ndarray,
    origin: tuple[int, int],
    block_info: Any,
) -> np.ndarray:
    (f0, f1), (y0, y1), (x0, x1) = block_info[0]["array-location"]
    section = Section(y0, y1, x0, x1).shifted(*origin)
    return full_pixels(image, section, parts, levels[f0:f1])
