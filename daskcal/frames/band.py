"""A band of rows of a recipe's frames: raw pixels, calibrated as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daskcal.frames.block import Block
from daskcal.frames.recipe import Recipe
from daskcal.frames.sections import Section

if TYPE_CHECKING:
    from daskcal.frames.program import Prepared

SLAB = 1 << 22  # bytes of calibrated pixels that wait in the cache for what comes next


@dataclass(frozen=True, eq=False)
class Band:
    """Frames × rows of a recipe, whose columns are whole: raw pixels, and the masters over them.

    `section` is what is handed out; `raw` holds what the steps must see, `arrays` what they take
    from masters (the bands of their inputs).
    """

    recipe: Recipe
    frames: slice
    section: Section
    raw: Block
    arrays: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns of what is handed out."""
        return (len(self.raw.image), *self.section.shape)

    def walk(self) -> Iterator[Block]:
        """Calibrated blocks of all frames × a few rows, first rows first.

        They are not to be written to, and each is gone when the next one is asked for, so that
        the calibrated band is never there as a whole.
        """
        if not self.recipe.steps:
            yield self.raw
            return
        prepared, types = self._prepared()
        n, rows, columns = self.shape
        height = min(rows, _slab_rows(self.recipe, n, columns))
        room = {plane: np.empty(n * height * columns, dtype) for plane, dtype in types.items()}
        for some in _parts(rows, height):
            shape = n, some.stop - some.start, columns
            size = math.prod(shape)
            planes = {plane: whole[:size].reshape(shape) for plane, whole in room.items()}
            yield self._block(some, planes, prepared.run(some, planes))

    def planes(self) -> tuple[np.ndarray, ...]:
        """The planes of all rows, whole, in the order of ``recipe.planes``."""
        block = self.raw
        if self.recipe.steps:
            prepared, types = self._prepared()
            planes = {plane: np.empty(self.shape, dtype) for plane, dtype in types.items()}
            height = _slab_rows(self.recipe, *self.shape[::2])
            bits = 0
            for rows in _parts(self.shape[1], height):
                bits |= prepared.run(rows, planes, rows.start)
            block = self._block(slice(0, self.shape[1]), planes, bits)
        if block.mask is None and "mask" in self.recipe.planes:
            block.mask = np.zeros(self.shape, np.uint16)
        return tuple(getattr(block, plane) for plane in self.recipe.planes)

    def by_name(self) -> dict[str, np.ndarray]:
        """The same by their names."""
        return dict(zip(self.recipe.planes, self.planes(), strict=True))

    def defined(self) -> np.ndarray:
        """The image of all rows as float64 of its own, NaN where it is masked."""
        planes = self.by_name()
        image = planes["image"].astype(np.float64)
        if "mask" in planes:
            image[planes["mask"] != 0] = np.nan
        return image

    def _prepared(self) -> tuple[Prepared, dict[str, np.dtype]]:
        """What calibrates the band, and the planes with their types that it has to fill."""
        recipe, section = self.recipe, self.section
        program = recipe.program(self.raw, section, self.frames, self.arrays)
        types = {plane: recipe.plane_dtype(plane) for plane in recipe.planes}
        if not program.flags:
            types.pop("mask", None)
        return program.over(section.x0, section.x1), types

    def _block(self, rows: slice, planes: dict[str, np.ndarray], bits: int) -> Block:
        """Calibrated planes of some rows as a block; `bits` are all that are in the mask."""
        here = self.section
        section = Section(here.y0 + rows.start, here.y0 + rows.stop, here.x0, here.x1)
        block = Block.of(section, planes)
        if not bits:
            block.mask = None
        return block


def pixel_bytes(recipe: Recipe) -> int:
    """Bytes of all planes of a calibrated pixel."""
    return sum(recipe.plane_dtype(plane).itemsize for plane in recipe.planes)


def _slab_rows(recipe: Recipe, n: int, columns: int) -> int:
    """Rows of the blocks that a band of `n` frames is walked in."""
    return max(1, SLAB // max(1, n * columns * pixel_bytes(recipe)))


def _parts(size: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, size)) for first in range(0, size, step))
