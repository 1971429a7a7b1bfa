"""Sources that read more than the pixels of a band: what lies around them, or faces them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import dask.array as da
import numpy as np
from dask.base import tokenize

from daskcal.frames.block import Block
from daskcal.frames.recipe import Input, Recipe, Source
from daskcal.frames.sections import Section
from daskcal.frames.stack import Stack


@dataclass(frozen=True, eq=False)
class Wrapped:
    """A source that adds something to what another one reads.

    `extra` are inputs of its own, beside those of the other.
    """

    source: Source
    extra: tuple[Input, ...]

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
        return self.source.inputs + self.extra

    @property
    def token(self) -> str:
        return str(tokenize(type(self).__qualname__, self.source.token, self.own()))

    @property
    def copies(self) -> int:
        return self.source.copies

    def own(self) -> tuple[object, ...]:
        """What tells it from others of its kind on the same source."""
        raise NotImplementedError

    def take(self, positions: np.ndarray) -> Self:
        return replace(self, source=self.source.take(positions))

    def reading(self, inputs: tuple[Input, ...]) -> Self:
        n = len(self.source.inputs)
        return replace(self, source=self.source.reading(inputs[:n]), extra=inputs[n:])

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        raise NotImplementedError


def with_source(stack: Stack, source: Wrapped, extra: Iterable[da.Array]) -> Stack:
    """A stack whose steps have not changed pixels, on its wrapped source; `extra` are the arrays of
    its inputs.
    """
    recipe, n = stack.recipe, len(stack.recipe.source.inputs)
    planes = recipe.planes + tuple(p for p in source.planes if p not in recipe.planes)
    token = str(tokenize(recipe.token, source.token))
    arrays = (*stack.arrays[:n], *extra, *stack.arrays[n:])
    return replace(stack, recipe=Recipe(source, recipe.steps, planes, token), arrays=arrays)
