"""Combining pixels whose noise depends on the amplifier that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskcal.combination.kernels import Combined, combine_block, new_planes
from daskcal.frames.sections import Section

_Plane = np.ndarray | None
Planes = tuple[np.ndarray, _Plane, _Plane, _Plane]  # image, mask, variance, shared variance


@dataclass(frozen=True, slots=True)
class NoiseArea:
    """Pixels of one amplifier, and the noise of each frame there.

    Attributes
    ----------
    section : Section
        Detector coordinates.
    read : ndarray of float64, shape (frame,), or None
        Read noise.
    slope : ndarray of float64, shape (frame,)
        Variance per unit of signal.
    """

    section: Section
    read: np.ndarray | None
    slope: np.ndarray


def combine_areas(
    areas: Sequence[NoiseArea],
    section: Section,
    planes: Planes,
    arguments: dict[str, Any],
    out: Combined,
) -> Combined:
    """`combine_block` of planes (frames, rows, columns) of a section, each area with its noise.

    All at once, as `arguments` say, where there are no areas.
    """
    if not areas:
        return combine_block(*planes, out=out, **arguments)
    image, *others = planes
    parts = [(area, area.section.common(section)) for area in areas]
    if sum(np.prod(part.shape) for _, part in parts) < np.prod(section.shape):
        combine_block(*planes, out=out._replace(tally=None), **arguments)  # pixels of no amplifier
    for area, part in parts:
        if 0 in part.shape:
            continue
        where = part.within(section)
        room = new_planes(
            *part.shape, out.image.dtype, out.shared is not None, n=len(image),
            rejected=out.rejected is not None, tally=out.tally is not None,
        )  # fmt: skip
        mask, variance, shared = (
            None if plane is None else plane[:, where[0], where[1]] for plane in others
        )
        some = image[:, where[0], where[1]], mask, variance, shared
        own = arguments | {"read": area.read, "slope": area.slope}
        _put(combine_block(*some, out=room, **own), out, where)
    return out


def _put(found: Combined, out: Combined, where: tuple[slice, slice]) -> None:
    """Results of some pixels to their place; those of frames are added."""
    for mine, theirs in zip(found[:7], out[:7], strict=True):
        if mine is not None and theirs is not None:
            theirs[where] = mine
    if found.rejected is not None and out.rejected is not None:
        out.rejected[:, where[0], where[1]] = found.rejected
    if found.tally is not None and out.tally is not None:
        out.tally[...] += found.tally
