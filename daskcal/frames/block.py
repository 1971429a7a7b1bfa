"""Pixels of some frames, plane by plane, while one task works on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from daskcal.frames.sections import Section

PLANES = ("image", "variance", "variance_shared", "mask")


@dataclass(slots=True)
class Block:
    """Some frames × rows × columns: `section` is the rectangle of detector coordinates.

    A mask that is None stands for zeros; pixels that are not finite have a bit. `facing` holds,
    row by row, the raw pixels that are read out at the same time at the other end of the detector,
    where a step asks for them.
    """

    section: Section
    image: np.ndarray
    variance: np.ndarray | None = None
    variance_shared: np.ndarray | None = None
    mask: np.ndarray | None = None
    facing: Block | None = None

    @classmethod
    def of(cls, section: Section, planes: Mapping[str, np.ndarray]) -> Block:
        """A block of planes by name."""
        variance, shared, mask = (planes.get(plane) for plane in PLANES[1:])
        return cls(section, planes["image"], variance, shared, mask)


def promoted(dtype: np.dtype) -> np.dtype:
    """The floating type that arithmetic uses: float32, or float64 for what float32 cannot hold."""
    small = dtype.kind in "iu" and dtype.itemsize <= 2
    small = small or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.dtype(np.float32 if small else np.float64)
