"""Frames one by one, through masters that are in memory: no graph, no task for each band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dask
import dask.array as da
import numpy as np

from daskcal.frames.block import Block
from daskcal.frames.held import held_bytes, in_memory
from daskcal.frames.recipe import Input
from daskcal.frames.sections import Section
from daskcal.frames.stack import Layout, Stack, windows

_READ = 1 << 20  # pixels that are read at once: of a few, asking costs more than reading


@dataclass(frozen=True, eq=False)
class OneByOne:
    """The frames of a stack, and its masters in memory.

    Attributes
    ----------
    stack : Stack
    shared : mapping of int to ndarray
        What of the inputs frames share, by position.
    """

    stack: Stack
    shared: dict[int, np.ndarray]

    @classmethod
    def of(cls, stack: Stack, room: float) -> OneByOne | None:
        """None where masters take more bytes than `room`, or pixels are not read from files."""
        inputs = stack.recipe.inputs
        if any(i.index == "fyx" for i in inputs) or not all(_is_known(a) for a in stack.arrays):
            return None
        places = [at for at, i in enumerate(inputs) if not i.index.startswith("f")]
        arrays = [stack.arrays[at] for at in places]
        if held_bytes(arrays) > room:
            return None
        return cls(stack, dict(zip(places, in_memory(arrays), strict=True)))

    def walk(self, frame: int) -> Iterator[tuple[slice, Block]]:
        """Rows of a frame with their calibrated pixels, which are gone when the next are asked for.

        First rows first, as many as wait in a core's cache.
        """
        stack = self.stack
        ny, nx = stack.section.shape
        layout = Layout(stack.recipe, stack.section, ((stack.n_frames,), (ny,), (nx,)))
        needed = list(zip(windows(stack.recipe, stack.section), self._arrays(frame), strict=True))
        height = max(1, _READ // max(1, nx))
        for first in range(0, ny, height):
            rows = slice(first, min(first + height, ny))
            here = stack.section.y0 + rows.start, stack.section.y0 + rows.stop
            bands = [_band(array, i, held, here) for (i, held), array in needed]
            band = layout.read((slice(frame, frame + 1), rows, slice(0, nx)), bands)
            for block in band.walk():
                start = block.section.y0 - stack.section.y0
                yield slice(start, start + block.section.shape[0]), block

    def _arrays(self, frame: int) -> list[np.ndarray]:
        """The inputs, those of the frame computed."""
        own = {
            at: array[frame : frame + 1]
            for at, array in enumerate(self.stack.arrays)
            if at not in self.shared
        }
        computed = dask.compute(list(own.values()), scheduler="sync")[0] if own else []
        found = self.shared | dict(zip(own, computed, strict=True))
        return [found[at] for at in range(len(found))]


def _is_known(array: da.Array) -> bool:
    """Whether its size is known, and with it what it takes in memory."""
    return not any(np.isnan(size) for size in array.shape)


def _band(array: np.ndarray, i: Input, held: Section, rows: tuple[int, int]) -> np.ndarray:
    """The part of an input under some rows of the frames, no copy of it."""
    part = {
        "f": slice(None),
        "y": slice(rows[0] - i.y0, rows[1] - i.y0),
        "x": slice(held.x0 - i.x0, held.x1 - i.x0),
    }
    return array[tuple(part[axis] for axis in i.index)]
