"""Raw pixels with those that are read out at the same time at the other end of the detector.

Amplifiers at the bottom and at the top read towards the middle, so that row y of the one and row
``mirror − y`` of the other pass the electronics together, and what one does to the other shows
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskcal.frames.block import Block
from daskcal.frames.sections import Section
from daskcal.frames.stack import Stack, describe_input
from daskcal.frames.wrapped import Wrapped, with_source


@dataclass(frozen=True, eq=False)
class Facing(Wrapped):
    """A source that reads with each row y the row ``mirror − y`` as well.

    The inputs beside those of the source are the same again with their rows turned over.
    """

    mirror: int

    @property
    def copies(self) -> int:
        return 2 * self.source.copies

    def own(self) -> tuple[object, ...]:
        return (self.mirror,)

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        n = len(self.source.inputs)
        block = self.source.read(frames, section, arrays[:n])
        if n:  # arrays that are turned over lie under the rows that they face
            block.facing = self.source.read(frames, section, arrays[n:])
            return block
        rows = self.mirror - section.y1 + 1, self.mirror - section.y0 + 1
        other = self.source.read(frames, Section(*rows, section.x0, section.x1), ())
        block.facing = Block(section, _turned(other.image), mask=_turned(other.mask))
        return block


def _turned(plane: Any) -> Any:
    """Rows the other way round, in one piece, as the loop is compiled for."""
    return None if plane is None else np.ascontiguousarray(plane[:, ::-1])


def with_facing(stack: Stack, mirror: int) -> Stack:
    """A stack without steps that change pixels, whose source reads facing rows too."""
    inputs = stack.recipe.source.inputs
    turned = [array[:, ::-1] for array in stack.arrays[: len(inputs)]]
    described = tuple(
        describe_input(array, i.index, mirror - (i.y0 + array.shape[1]) + 1, i.x0)
        for i, array in zip(inputs, turned, strict=True)
    )
    return with_source(stack, Facing(stack.recipe.source, described, mirror), turned)
