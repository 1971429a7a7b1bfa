"""A recipe with the arrays that it needs, cut into blocks in whatever layout is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from daskcal.errors import GeometryError
from daskcal.frames.band import Band
from daskcal.frames.recipe import Arrays, Input, Recipe, Step
from daskcal.frames.sections import Section

LAYOUT, BAND, BLOCK, PLANE = (f"daskcal-{kind}-" for kind in ("layout", "band", "block", "plane"))


@dataclass(frozen=True, eq=False)
class Stack:
    """A recipe, the window of the detector that is wanted, and the arrays the recipe refers to.

    `aligned` is false where rows or columns have no consecutive detector coordinates, so that no
    master can be laid over them.
    """

    recipe: Recipe
    section: Section
    arrays: tuple[da.Array, ...]
    aligned: bool = True

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.recipe.source.n_frames

    def then(self, step: Step, arrays: Iterable[da.Array] = ()) -> Stack:
        """One more step, with the arrays of its inputs.

        Raises
        ------
        GeometryError
            The step needs pixels that an input of an earlier step does not have.
        """
        recipe, arrays = self.recipe.then(step), (*self.arrays, *arrays)
        for i, held in windows(recipe, self.section):
            if not i.covers(held):
                raise GeometryError(
                    f"{type(step).__name__} needs the pixels {held}, and what was done before was "
                    "done with an image that lacks some of them; do it first"
                )
        return dataclasses.replace(self, recipe=recipe, arrays=arrays)

    def windowed(self, section: Section) -> Stack:
        """The same frames through another window."""
        return dataclasses.replace(self, section=section)

    def only(self, planes: tuple[str, ...]) -> Stack:
        """The same with fewer planes."""
        return dataclasses.replace(self, recipe=self.recipe.only(planes))

    def take(self, positions: np.ndarray) -> Stack:
        """Some of the frames, in any order."""
        if np.array_equal(positions, np.arange(self.n_frames)):
            return self
        arrays = tuple(
            a[positions] if i.index.startswith("f") else a
            for i, a in zip(self.recipe.inputs, self.arrays, strict=True)
        )
        recipe = _renamed(self.recipe.take(positions), arrays)
        return dataclasses.replace(self, recipe=recipe, arrays=arrays)


def describe_input(array: da.Array, index: str, y0: int = 0, x0: int = 0) -> Input:
    """How a recipe refers to an array of the graph."""
    return Input(array.name, array.chunks, array.dtype.str, index, y0, x0)


def _renamed(recipe: Recipe, arrays: Sequence[da.Array]) -> Recipe:
    """`recipe` with its inputs described anew, after its arrays were indexed."""
    fresh = [
        describe_input(array, i.index, i.y0, i.x0)
        for i, array in zip(recipe.inputs, arrays, strict=True)
    ]

    def next_inputs(n: int) -> tuple[Input, ...]:
        taken, fresh[:n] = tuple(fresh[:n]), []
        return taken

    source = recipe.source.reading(next_inputs(len(recipe.source.inputs)))
    steps = tuple(
        dataclasses.replace(step, inputs=next_inputs(len(step.inputs))) for step in recipe.steps
    )
    return dataclasses.replace(recipe, source=source, steps=steps)


# --- layouts ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layout:
    """A recipe cut into blocks: what a graph holds of it, in one key.

    `section` is the window that is handed out, `chunks` the sizes of the blocks along frames, rows
    and columns.
    """

    recipe: Recipe
    section: Section
    chunks: tuple[tuple[int, ...], ...]

    def read(self, where: Sequence[slice], arrays: Sequence[np.ndarray] = ()) -> Band:
        """Read the pixels of a box of frames, rows and columns, counted from 0.

        `arrays` are the bands of the recipe's inputs, in order.
        """
        frames, rows, columns = where
        y0, x0 = self.section.y0, self.section.x0
        section = Section(y0 + rows.start, y0 + rows.stop, x0 + columns.start, x0 + columns.stop)
        seen, of_source = self.recipe.reaches(section)[0], len(self.recipe.source.inputs)
        raw = self.recipe.source.read(frames, seen, arrays[:of_source])
        return Band(self.recipe, frames, section, raw, tuple(arrays[of_source:]))


class SinglePlane:
    """The image of a layout without masks and masters, indexed like an array.

    Dask hands the slices that a user takes of such a thing down to it, so that only those pixels
    are read. Recipes of several planes cannot have that, and one read for all planes as well.
    """

    ndim = 3

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.shape = tuple(sum(sizes) for sizes in layout.chunks)
        self.dtype = layout.recipe.dtype

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        index = (*index, *[slice(None)] * (3 - len(index)))
        box, rest = zip(*map(_hull, index, self.shape), strict=True)
        return np.asarray(self.layout.read(box).planes()[0][rest])


def _hull(part: Any, size: int) -> tuple[slice, Any]:
    """The contiguous range that holds what an index takes of an axis, and the index within it."""
    if isinstance(part, int | np.integer):
        at = int(part) % size
        return slice(at, at + 1), 0
    if isinstance(part, slice) and part.step in (None, 1):
        start, stop, _ = part.indices(size)
        return slice(start, max(start, stop)), slice(None)
    return slice(0, size), part


def pack(stack: Stack, frame: int = -1, rows: int = 64) -> da.Array:
    """Cut a stack into bands of `frame` frames × `rows` rows (-1: all), x whole.

    Returns
    -------
    dask.array.Array
        Of dtype object, one element a block: a `Band`. Its chunks tell the sizes of the blocks.
    """
    return _blocks(stack, _layout(stack, frame, rows), BAND, _read_band)


def _blocks(stack: Stack, layout: Layout, name: str, read: Callable[..., Any]) -> da.Array:
    """One object a block: what `read` makes of the layout, the block's slices and the inputs."""
    token = _token(stack, layout)
    key = LAYOUT + token
    shared = Delayed(key, HighLevelGraph.from_collections(key, {key: layout}, dependencies=[]))
    inputs = []
    held_by = windows(stack.recipe, stack.section)
    for (i, held), array in zip(held_by, stack.arrays, strict=True):
        inputs += [_banded(array, i, held, layout.chunks), i.index]
    return da.blockwise(
        read,
        "fyx",
        shared,
        None,
        ArraySliceDep(layout.chunks),
        "fyx",
        *inputs,
        name=name + token,
        dtype=object,
        meta=np.empty((0, 0, 0), object),
        align_arrays=False,
    )


def _read_band(layout: Layout, where: tuple[slice, ...], *arrays: np.ndarray) -> Band:
    return layout.read(where, arrays)


def _read_planes(
    layout: Layout, where: tuple[slice, ...], *arrays: np.ndarray
) -> tuple[np.ndarray, ...]:
    return layout.read(where, arrays).planes()


def cut_planes(stack: Stack, frame: int, rows: int) -> dict[str, da.Array]:
    """The planes of a stack as arrays of their own, in blocks of `frame` frames × `rows` rows."""
    recipe = stack.recipe
    if isinstance(recipe.source, Arrays) and not recipe.steps:  # only the layout changes
        chunks = _layout(stack, frame, rows).chunks
        whole = zip(recipe.planes, stack.arrays, strict=True)
        return {plane: array.rechunk(chunks) for plane, array in whole}
    if recipe.planes == ("image",) and not recipe.inputs:
        layout = _layout(stack, frame, rows)
        image = da.from_array(
            SinglePlane(layout),
            chunks=layout.chunks,
            name=f"{PLANE}0-{_token(stack, layout)}",
            meta=np.empty((0, 0, 0), recipe.dtype),
        )
        return {"image": image}
    layout = _layout(stack, frame, rows)
    packed = _blocks(stack, layout, BLOCK, _read_planes)
    token = packed.name.removeprefix(BLOCK)
    return {
        plane: da.blockwise(
            itemgetter(i),
            "fyx",
            packed,
            "fyx",
            name=f"{PLANE}{i}-{token}",
            dtype=recipe.plane_dtype(plane),
            meta=np.empty((0, 0, 0), recipe.plane_dtype(plane)),
        )
        for i, plane in enumerate(recipe.planes)
    }


def _layout(stack: Stack, frame: int, rows: int) -> Layout:
    ny, nx = stack.section.shape
    chunks = (_chunks(stack.n_frames, frame), _chunks(ny, rows), (nx,))
    return Layout(stack.recipe, stack.section, chunks)


def _token(stack: Stack, layout: Layout) -> str:
    names = [array.name for array in stack.arrays]
    return str(tokenize(stack.recipe.token, layout.section, layout.chunks, names))


def windows(recipe: Recipe, section: Section) -> list[tuple[Input, Section]]:
    """Each input with the pixels that its step holds when `section` is wanted."""
    held = recipe.reaches(section)
    pairs = [(i, held[0]) for i in recipe.source.inputs]
    return pairs + [
        (i, h) for step, h in zip(recipe.steps, held[:-1], strict=True) for i in step.inputs
    ]


def _banded(
    array: da.Array, i: Input, held: Section, chunks: tuple[tuple[int, ...], ...]
) -> da.Array:
    """The part of an input under `held`, chunked as the blocks are."""
    part = {
        "f": slice(None),
        "y": slice(held.y0 - i.y0, held.y1 - i.y0),
        "x": slice(held.x0 - i.x0, held.x1 - i.x0),
    }
    wanted = {"f": chunks[0], "y": chunks[1], "x": (held.x1 - held.x0,)}
    window = array[tuple(part[axis] for axis in i.index)]
    if len(i.index) == 2 and i.index[0] == "f":  # a number a line: small, and so gathered first,
        window = window.rechunk(-1)  # which saves a task for each frame and band
    return window.rechunk(tuple(wanted[axis] for axis in i.index))


def _chunks(size: int, step: int) -> tuple[int, ...]:
    if step == -1 or step >= size:
        return (size,)
    whole, rest = divmod(size, step)
    return (step,) * whole + ((rest,) if rest else ())
