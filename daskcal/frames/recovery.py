"""Finding the recipe behind the pixels of a Dataset again, narrowed to what was selected of it.

The graph of an array decides: as long as it holds nothing but selections after the layer that
daskcal made, the recipe stands, and the selections say which frames, rows and columns are left.
Anything else (arithmetic, item assignment, persisted results) makes the arrays themselves the
source of a new recipe.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from daskcal.errors import ArgumentError
from daskcal.frames.block import PLANES
from daskcal.frames.recipe import Arrays, Input, Recipe
from daskcal.frames.sections import Section
from daskcal.frames.stack import PLANE, Layout, Stack, describe_input

DIMS = ("frame", "y", "x")
_SELECTIONS = ("getitem-", "shuffle-take-")  # how Dask names the layers of an index


def recover(frames: xr.Dataset) -> Stack:
    """The stack behind the pixels of `frames`, narrowed to what has been selected.

    Raises
    ------
    ArgumentError
        `frames` has no ``image`` with dimensions frame, y and x, or no frame is selected.
    """
    require_frames(frames)
    if frames["image"].dims != DIMS:
        frames = frames.transpose(*DIMS, ...)
    return _behind(frames) or _as_arrays(frames)


def require_frames(frames: xr.Dataset) -> None:
    """Raise `ArgumentError` for what are no frames, and where a selection has left none."""
    if not isinstance(frames, xr.Dataset) or "image" not in frames:
        found = type(frames).__name__
        if isinstance(frames, xr.Dataset):
            found = f"a Dataset with {', '.join(map(str, frames.data_vars)) or 'no variables'}"
        raise ArgumentError(f"expected frames (a Dataset with image (frame, y, x)), found {found}")
    for plane in PLANES:
        dims = frames[plane].dims if plane in frames else DIMS
        if set(dims) != set(DIMS):
            hint = "; keep the dimension with frames.isel(frame=[0])" if "frame" not in dims else ""
            raise ArgumentError(f"{plane} should have dimensions {DIMS}, found {dims}{hint}")
    if not frames.sizes["frame"]:
        raise ArgumentError(
            "no frame is selected: the query or index that these frames are of fits none; the "
            "coordinates of all frames, such as frames.imagetyp.values, show what there is"
        )


# --- the recipe -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Traced:
    """What the graph of an array says: it is plane `index` of a layout, at these positions."""

    graph: HighLevelGraph
    layout: Layout
    index: int
    frames: np.ndarray
    rows: slice
    columns: slice

    def agrees(self, other: _Traced) -> bool:
        """Whether both are pixels of the same frames, rows and columns of one recipe."""
        same = self.layout.recipe.token == other.layout.recipe.token
        window = (self.layout.section, self.rows, self.columns)
        same = same and window == (other.layout.section, other.rows, other.columns)
        return same and np.array_equal(self.frames, other.frames)


def _behind(frames: xr.Dataset) -> Stack | None:
    """The stack whose pixels these are, if nothing but selection happened to them since."""
    planes = tuple(plane for plane in PLANES if plane in frames)
    traced = [_trace(frames[plane].data) for plane in planes]
    first = traced[0]
    if first is None:
        return None
    recipe, whole = first.layout.recipe, first.layout.section
    for plane, found in zip(planes, traced, strict=True):
        if found is None or not found.agrees(first) or recipe.planes[found.index] != plane:
            return None
    window = Section(
        first.rows.start, first.rows.stop, first.columns.start, first.columns.stop
    ).shifted(whole.y0, whole.x0)
    if _labels(frames) != window:  # the user gave the rows or columns other coordinates
        return None
    arrays = tuple(_restored(first.graph, i) for i in recipe.inputs)
    return Stack(recipe, window, arrays).take(first.frames).only(planes)


def _trace(array: object) -> _Traced | None:
    """Where an array comes from; None where its graph holds more than selections."""
    graph = getattr(array, "dask", None)
    if not isinstance(array, da.Array) or not isinstance(graph, HighLevelGraph):
        return None
    name = array.name
    while not name.startswith(PLANE):
        before = graph.dependencies.get(name, set())
        if not name.startswith(_SELECTIONS) or len(before) != 1:
            return None
        (name,) = before
    layout = _layout(graph, name)
    if layout is None:
        return None
    index = int(name.removeprefix(PLANE).split("-")[0])
    if name == array.name:  # nothing was selected
        n, rows, columns = array.shape
        return _Traced(graph, layout, index, np.arange(n), slice(0, rows), slice(0, columns))
    first = _traced_block(graph, layout, (array.name, 0, 0, 0))
    last = _traced_block(graph, layout, (array.name, 0, *(n - 1 for n in array.numblocks[1:])))
    if first is None or last is None:
        return None
    spans = []
    for axis in (1, 2):
        start = first[axis]
        if last[axis] != start + sum(array.chunks[axis][:-1]):
            return None
        spans.append(slice(start, start + array.shape[axis]))
    blocks = [
        _traced_block(graph, layout, (array.name, i, 0, 0)) for i in range(array.numblocks[0])
    ]
    positions = [block[0] for block in blocks if block is not None]
    if len(positions) != len(blocks):
        return None
    return _Traced(graph, layout, index, np.concatenate(positions), *spans)


def _layout(graph: HighLevelGraph, plane: str) -> Layout | None:
    """The layout that a layer of daskcal's own cuts; None where only its results are left."""
    waiting = list(graph.dependencies.get(plane, ()))
    for _ in range(2):  # a plane, perhaps its block of all planes, the layout
        for name in waiting:
            layer = graph.layers[name]
            if isinstance(layer, Blockwise):  # not the layout, and long to spell out
                continue
            value = layer.get(name)
            value = getattr(value, "value", value)  # Dask wraps data of a graph
            value = getattr(value, "layout", value)
            if isinstance(value, Layout):
                return value
        waiting = [name for above in waiting for name in graph.dependencies[above]]
    return None


def _traced_block(
    graph: HighLevelGraph, layout: Layout, key: tuple[Any, ...]
) -> tuple[np.ndarray, int, int] | None:
    """Positions of a block's frames in the layout, its first row and its first column there."""
    layer: Mapping[Any, Any] = graph.layers[key[0]]
    chain = []
    while not key[0].startswith(PLANE):
        if key not in layer:
            layer = graph.layers[key[0]]
        task = layer[key]
        if (target := getattr(task, "target", None)) is not None:  # the block as it is
            key = target
            continue
        index = _index(task, layer)
        if index is None:
            return None
        chain.append(index)
        key = task.args[0].key
    starts = [sum(layout.chunks[axis][: key[1 + axis]]) for axis in range(3)]
    frames = np.arange(starts[0], starts[0] + layout.chunks[0][key[1]])
    for of_frames, rows, columns in reversed(chain):
        frames = frames[of_frames]
        starts[1] += rows
        starts[2] += columns
    return frames, starts[1], starts[2]


def _index(task: Any, layer: Mapping[Any, Any]) -> tuple[Any, int, int] | None:
    """What a task takes of a block: an index of frames, first row and column of a plain range."""
    if getattr(task.func, "__name__", "") not in ("getitem", "_getitem") or len(task.args) != 2:
        return None
    index = task.args[1]
    if not isinstance(index, tuple):  # kept apart, for the blocks that share it
        index = layer[index.key].value[1]
    if len(index) != 3 or isinstance(index[0], int | np.integer):
        return None
    for part in index[1:]:
        if not isinstance(part, slice) or part.step not in (None, 1) or (part.start or 0) < 0:
            return None
    return index[0], index[1].start or 0, index[2].start or 0


def _restored(graph: HighLevelGraph, i: Input) -> da.Array:
    """The array that an input refers to, with only its own part of the graph."""
    wanted = set(_below(graph, i.name))
    part = HighLevelGraph(
        {name: graph.layers[name] for name in wanted},
        {name: graph.dependencies[name] for name in wanted},
    )
    meta = np.empty((0,) * len(i.chunks), np.dtype(i.dtype))
    return da.Array(part, i.name, i.chunks, meta=meta)


def _below(graph: HighLevelGraph, name: str) -> Iterator[str]:
    seen, todo = set(), [name]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(graph.dependencies[name])
            yield name


# --- coordinates ----------------------------------------------------------------------------------


def _labels(frames: xr.Dataset) -> Section | None:
    """The window that the detector coordinates say, if they are consecutive."""
    rows, columns = _range(frames, "y"), _range(frames, "x")
    return None if rows is None or columns is None else Section(*rows, *columns)


def _range(frames: xr.Dataset, axis: str) -> tuple[int, int] | None:
    """First and one past the last detector coordinate of an axis, if they are consecutive."""
    labels = frames.indexes.get(axis)
    if labels is None or not len(labels) or labels.dtype.kind not in "iu":
        return None
    first = int(labels[0])
    if not np.array_equal(labels, np.arange(first, first + len(labels))):
        return None
    return first, first + len(labels)


# --- arrays ---------------------------------------------------------------------------------------


def _as_arrays(frames: xr.Dataset) -> Stack:
    """A stack of the arrays as they are: their own chunks, or numpy arrays, or a user's results."""
    planes = tuple(plane for plane in PLANES if plane in frames)
    rows, columns = _range(frames, "y"), _range(frames, "x")
    ny, nx = frames.sizes["y"], frames.sizes["x"]
    aligned = all(_range(frames, a) or a not in frames.indexes for a in ("y", "x"))
    section = Section(*(rows or (0, ny)), *(columns or (0, nx)))
    arrays = tuple(_chunked(frames[plane]) for plane in planes)
    inputs = tuple(describe_input(a, "fyx", section.y0, section.x0) for a in arrays)
    source = Arrays(frames.sizes["frame"], section, planes, inputs)
    return Stack(Recipe.of(source), section, arrays, aligned)


def _chunked(variable: xr.DataArray) -> da.Array:
    data = variable.data
    if isinstance(data, da.Array):
        return data
    with warnings.catch_warnings():  # a large numpy array in a graph is the user's own choice here
        warnings.simplefilter("ignore")
        return da.from_array(np.asarray(data), chunks=(1, -1, -1))
