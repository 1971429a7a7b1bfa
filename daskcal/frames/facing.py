"""Raw pixels with those that are read out at the same time at the other end of the detector.

Amplifiers at the bottom and at the top read towards the middle, so that row y of the one and row
``mirror − y`` of the other pass the electronics together, and what one does to the other shows
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dask.array as da
import numpy as np
from dask.base import tokenize

from daskcal.frames.block import Block
from daskcal.frames.recipe import Input, Recipe, Source
from daskcal.frames.sections import Section
from daskcal.frames.stack import Stack, describe_input


@dataclass(frozen=True, eq=False)
class Facing:
    """A source that reads with each row y the row ``mirror − y`` as well.

    `inputs` are those of the source, and the same again with their rows turned over.
    """

    source: Source
    mirror: int
    turned: tuple[Input, ...]

    @property
    def n_frames(self) -> int:
        return self.source.n_frames

    @property
    def section(self) -> Section:
        return self.source.section

    @property
    def dtype(self) -> np.dtype:
        return self.source.dtype

    @property
    def planes(self) -> tuple[str, ...]:
        return self.source.planes

    @property
    def inputs(self) -> tuple[Input, ...]:
        return self.source.inputs + self.turned

    @property
    def token(self) -> str:
        return str(tokenize(self.source.token, "facing", self.mirror))

    @property
    def copies(self) -> int:
        return 2 * self.source.copies

    def take(self, positions: np.ndarray) -> Facing:
        return replace(self, source=self.source.take(positions))

    def reading(self, inputs: tuple[Input, ...]) -> Facing:
        n = len(self.source.inputs)
        return replace(self, source=self.source.reading(inputs[:n]), turned=inputs[n:])

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        n = len(self.source.inputs)
        block = self.source.read(frames, section, arrays[:n])
        if n:  # arrays that are turned over lie under the rows that they face
            block.facing = self.source.read(frames, section, arrays[n:])
            return block
        rows = self.mirror - section.y1 + 1, self.mirror - section.y0 + 1
        other = self.source.read(frames, Section(*rows, section.x0, section.x1), ())
        mask = None if other.mask is None else other.mask[:, ::-1]
        block.facing = Block(section, other.image[:, ::-1], mask=mask)
        return block


def with_facing(stack: Stack, mirror: int) -> Stack:
    """A stack without steps that change pixels, whose source reads facing rows too."""
    recipe, n = stack.recipe, len(stack.recipe.source.inputs)
    turned = [array[:, ::-1] for array in stack.arrays[:n]]
    described = []
    for i, array in zip(recipe.source.inputs, turned, strict=True):
        first = mirror - (i.y0 + array.shape[1]) + 1
        described.append(describe_input(array, i.index, first, i.x0))
    source = Facing(recipe.source, mirror, tuple(described))
    token = str(tokenize(recipe.token, source.token))
    arrays: tuple[da.Array, ...] = (*stack.arrays[:n], *turned, *stack.arrays[n:])
    return replace(stack, recipe=Recipe(source, recipe.steps, recipe.planes, token), arrays=arrays)
