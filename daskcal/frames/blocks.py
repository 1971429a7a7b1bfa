"""Cutting lazy frames into blocks in whatever layout an operation wants, without a rechunk.

Behind each lazy variable that daskcal makes stands a recipe, held by one key of its graph. As long
as nothing but selection has happened to the array since (its graph says whether), the recipe is
found again and cut anew; otherwise the arrays are rechunked as they are.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from daskcal.errors import ArgumentError, GeometryError
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.recipe import PLANES, Arrays, Input, Recipe, Step
from daskcal.frames.sections import Section
from daskcal.strict import strict_keywords

DIMS = ("frame", "y", "x")
BLOCK_BYTES = 64 << 20  # of one plane in a default block: large enough to hide a task's overhead
_RECIPE, _BLOCK, _PLANE = "daskcal-recipe-", "daskcal-block-", "daskcal-plane-"


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
        return len(self.recipe.source.keys)

    def then(self, step: Step, arrays: Iterable[da.Array] = ()) -> Stack:
        """One more step, with the arrays of its inputs."""
        return Stack(
            self.recipe.then(step), self.section, (*self.arrays, *arrays), aligned=self.aligned
        )

    def windowed(self, section: Section) -> Stack:
        """The same frames through another window."""
        return Stack(self.recipe, section, self.arrays, self.aligned)

    def take(self, positions: np.ndarray) -> Stack:
        """Some of the frames, in any order."""
        if np.array_equal(positions, np.arange(self.n_frames)):
            return self
        arrays = [
            a[positions] if i.index.startswith("f") else a
            for i, a in zip(self.recipe.inputs, self.arrays, strict=True)
        ]
        recipe = self.recipe.take(positions)
        return Stack(_renamed(recipe, arrays), self.section, tuple(arrays), self.aligned)


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

    source = recipe.source
    if source.inputs:
        source = dataclasses.replace(source, inputs=next_inputs(len(source.inputs)))
    steps = tuple(
        dataclasses.replace(step, inputs=next_inputs(len(step.inputs))) for step in recipe.steps
    )
    return dataclasses.replace(recipe, source=source, steps=steps)


# --- cutting ------------------------------------------------------------------------------------


def _cut_block(
    recipe: Recipe, where: tuple[slice, ...], *arrays: np.ndarray, origin: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    frames, rows, columns = where
    y0, x0 = origin
    section = Section(y0 + rows.start, y0 + rows.stop, x0 + columns.start, x0 + columns.stop)
    block = recipe.cut(frames, section, arrays)
    return tuple(getattr(block, plane) for plane in recipe.planes)


def pack(stack: Stack, frame: int = -1, rows: int = 64) -> da.Array:
    """Cut a stack into blocks of `frame` frames × `rows` rows (-1: all), x whole.

    Returns
    -------
    dask.array.Array
        Of dtype object, one element a block: the tuple of the block's planes, each an array of
        (frames, rows, columns), in the order of ``stack.recipe.planes``. Its chunks tell the
        sizes of the blocks.
    """
    section, recipe = stack.section, stack.recipe
    chunks = (
        _chunks(stack.n_frames, frame),
        _chunks(section.shape[0], rows),
        (section.shape[1],),
    )
    key = _RECIPE + recipe.token
    shared = Delayed(key, HighLevelGraph.from_collections(key, {key: recipe}, dependencies=[]))
    inputs = []
    for (i, column_window), array in zip(_columns(recipe, section), stack.arrays, strict=True):
        inputs += [_banded(array, i, section, column_window, chunks), i.index]
    names = [array.name for array in stack.arrays]
    return da.blockwise(
        _cut_block,
        "fyx",
        shared,
        None,
        ArraySliceDep(chunks),
        "fyx",
        *inputs,
        name=_BLOCK + tokenize(recipe.token, section, chunks, names),
        origin=(section.y0, section.x0),
        dtype=object,
        meta=np.empty((0, 0, 0), object),
        align_arrays=False,
    )


def _columns(recipe: Recipe, section: Section) -> list[tuple[Input, tuple[int, int]]]:
    """Each input with the columns (detector coordinates) that its step holds."""
    held = recipe.reaches(section)
    pairs = [(i, held[0]) for i in recipe.source.inputs]
    pairs += [(i, h) for step, h in zip(recipe.steps, held[:-1], strict=True) for i in step.inputs]
    return [(i, (h.x0, h.x1)) for i, h in pairs]


def _banded(
    array: da.Array,
    i: Input,
    section: Section,
    columns: tuple[int, int],
    chunks: tuple[tuple[int, ...], ...],
) -> da.Array:
    """The part of an input under `section` and `columns`, chunked as the blocks are."""
    part = {
        "f": slice(None),
        "y": slice(section.y0 - i.y0, section.y1 - i.y0),
        "x": slice(columns[0] - i.x0, columns[1] - i.x0),
    }
    wanted = {"f": chunks[0], "y": chunks[1], "x": (columns[1] - columns[0],)}
    return array[tuple(part[axis] for axis in i.index)].rechunk(
        tuple(wanted[axis] for axis in i.index)
    )


def _chunks(size: int, step: int) -> tuple[int, ...]:
    if step == -1 or step >= size:
        return (size,)
    whole, rest = divmod(size, step)
    return (step,) * whole + ((rest,) if rest else ())


def unpack(packed: da.Array, dtypes: Sequence[np.dtype]) -> list[da.Array]:
    """The arrays in the tuples of `packed`, one for each of `dtypes`."""
    token = packed.name.removeprefix(_BLOCK)
    return [
        da.blockwise(
            itemgetter(i),
            "fyx",
            packed,
            "fyx",
            name=f"{_PLANE}{i}-{token}",
            dtype=dtype,
            meta=np.empty((0, 0, 0), dtype),
        )
        for i, dtype in enumerate(dtypes)
    ]


def default_rows(stack: Stack) -> int:
    """Rows of a block of one frame in the layout that users hold."""
    row = max(1, stack.section.shape[1] * stack.recipe.dtype.itemsize)
    return max(1, min(stack.section.shape[0], BLOCK_BYTES // row))


def assign(frames: xr.Dataset, stack: Stack, frame: int = 1, rows: int | None = None) -> xr.Dataset:
    """`frames` with the pixel variables of `stack`, cut into blocks."""
    recipe = stack.recipe
    packed = pack(stack, frame, default_rows(stack) if rows is None else rows)
    arrays = unpack(packed, [recipe.plane_dtype(plane) for plane in recipe.planes])
    attrs = {plane: dict(frames[plane].attrs) for plane in recipe.planes if plane in frames}
    attrs.setdefault("mask", dict(MASK_ATTRS))
    planes = {
        plane: xr.Variable(DIMS, array, attrs.get(plane))
        for plane, array in zip(recipe.planes, arrays, strict=True)
    }
    return frames.drop_vars([p for p in PLANES if p in frames.data_vars]).assign(planes)


@strict_keywords
def blocks(frames: xr.Dataset, frame: int = -1, rows: int = 64) -> xr.Dataset:
    """Cut the pixels of frames anew: `frame` frames × `rows` rows a block, columns whole.

    Only the layout changes. The pixels of frames that daskcal opened or calibrated are cut where
    they are read; no rechunk moves them, even after a selection. Coordinates stay in memory.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    frame, rows : int
        Frames and rows of one block; -1 is all of them.

    Returns
    -------
    xarray.Dataset
        The same frames.

    Raises
    ------
    ArgumentError
        `frame` or `rows` is neither -1 nor a positive number.

    Notes
    -----
    Arithmetic of your own on the pixels (``frames.image - 100``) stays lazy, but has to be
    rechunked here: each file may then be read once for each block that it is cut into.
    """
    for name, value in (("frame", frame), ("rows", rows)):
        if not isinstance(value, int) or (value < 1 and value != -1):
            raise ArgumentError(f"{name}={value!r} should be a positive number, or -1 for all")
    return assign(frames, recover(frames), frame, rows)


# --- finding the recipe again -------------------------------------------------------------------


def recover(frames: xr.Dataset) -> Stack:
    """The stack behind the pixels of `frames`, narrowed to what has been selected.

    Raises
    ------
    ArgumentError
        `frames` has no ``image`` with dimensions frame, y and x.
    """
    frames = _ordered(frames)
    return _behind(frames) or _as_arrays(frames)


def _ordered(frames: xr.Dataset) -> xr.Dataset:
    if not isinstance(frames, xr.Dataset) or "image" not in frames:
        found = type(frames).__name__
        if isinstance(frames, xr.Dataset):
            found = f"a Dataset with {', '.join(map(str, frames.data_vars)) or 'no variables'}"
        raise ArgumentError(f"expected frames (a Dataset with image (frame, y, x)), found {found}")
    dims = frames["image"].dims
    if set(dims) != set(DIMS):
        hint = "; keep the dimension with frames.isel(frame=[0])" if "frame" not in dims else ""
        raise ArgumentError(f"image should have dimensions {DIMS}, found {dims}{hint}")
    return frames if dims == DIMS else frames.transpose(*DIMS, ...)


def _behind(frames: xr.Dataset) -> Stack | None:
    """The stack whose pixels these are, if nothing but selection happened to them since."""
    planes = tuple(plane for plane in PLANES if plane in frames)
    traced = [_trace(frames[plane].data) for plane in planes]
    if any(t is None for t in traced):
        return None
    graph, recipe, _ = traced[0]  # type: ignore[misc]
    for plane, found in zip(planes, traced, strict=True):
        _, other, index = found  # type: ignore[misc]
        if other.token != recipe.token or other.planes[index] != plane:
            return None
    rows, columns = _range(frames, "y"), _range(frames, "x")
    positions = _positions(frames, recipe)
    if rows is None or columns is None or positions is None:
        return None
    arrays = tuple(_restored(graph, i) for i in recipe.inputs)
    stack = Stack(recipe.only(planes), Section(*rows, *columns), arrays)
    return stack.take(positions)


def _trace(array: object) -> tuple[HighLevelGraph, Recipe, int] | None:
    """Graph, recipe and plane behind an array; None where its graph holds more than selections."""
    graph = getattr(array, "dask", None)
    if not isinstance(array, da.Array) or not isinstance(graph, HighLevelGraph):
        return None
    name = array.name
    while not name.startswith(_PLANE):
        before = graph.dependencies.get(name, set())
        if not name.startswith(_SELECTIONS) or len(before) != 1:
            return None
        (name,) = before
    index = int(name.removeprefix(_PLANE).split("-")[0])
    (block,) = graph.dependencies[name]
    for key in graph.dependencies[block]:
        if key.startswith(_RECIPE):
            recipe = graph.layers[key][key]
            return graph, getattr(recipe, "value", recipe), index
    return None


_SELECTIONS = ("getitem-", "shuffle-take-", "shuffle-taker-")


def _range(frames: xr.Dataset, axis: str) -> tuple[int, int] | None:
    """First and one past the last detector coordinate of an axis, if they are consecutive."""
    labels = frames.indexes.get(axis)
    if labels is None or not len(labels) or labels.dtype.kind not in "iu":
        return None
    first = int(labels[0])
    if not np.array_equal(labels, np.arange(first, first + len(labels))):
        return None
    return first, first + len(labels)


def _positions(frames: xr.Dataset, recipe: Recipe) -> np.ndarray | None:
    """Which frames of the recipe these are, by path and HDU."""
    if not {"path", "hdu"} <= set(frames.coords):
        return None
    keys = recipe.source.keys
    where = {key: i for i, key in enumerate(keys)}
    if len(where) != len(keys):
        return None
    pairs = zip(frames["path"].values.tolist(), frames["hdu"].values.tolist(), strict=True)
    try:
        return np.array([where[pair] for pair in pairs], dtype=np.intp)
    except KeyError:
        return None


def _restored(graph: HighLevelGraph, i: Input) -> da.Array:
    """The array that an input refers to, with only its own part of the graph."""
    wanted, todo = set(), [i.name]
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo.extend(graph.dependencies[name])
    part = HighLevelGraph(
        {name: graph.layers[name] for name in wanted},
        {name: graph.dependencies[name] for name in wanted},
    )
    meta = np.empty((0,) * len(i.chunks), np.dtype(i.dtype))
    return da.Array(part, i.name, i.chunks, meta=meta)


def _as_arrays(frames: xr.Dataset) -> Stack:
    """A stack of the arrays as they are: their own chunks, or numpy arrays, or a user's results."""
    planes = tuple(plane for plane in PLANES if plane in frames)
    rows, columns = _range(frames, "y"), _range(frames, "x")
    ny, nx = frames.sizes["y"], frames.sizes["x"]
    aligned = all(_range(frames, a) or a not in frames.indexes for a in ("y", "x"))
    section = Section(*(rows or (0, ny)), *(columns or (0, nx)))
    arrays = tuple(_chunked(frames[plane]) for plane in planes)
    inputs = tuple(describe_input(a, "fyx", section.y0, section.x0) for a in arrays)
    n = frames.sizes["frame"]
    keys = [("", i) for i in range(n)]
    if {"path", "hdu"} <= set(frames.coords):
        keys = list(
            zip(frames["path"].values.tolist(), frames["hdu"].values.tolist(), strict=True)
        )
    source = Arrays(tuple(keys), section, planes, inputs)
    return Stack(Recipe.of(source), section, arrays, aligned)


def _chunked(variable: xr.DataArray) -> da.Array:
    data = variable.data
    if isinstance(data, da.Array):
        return data
    with warnings.catch_warnings():  # a large numpy array in a graph is the user's own choice here
        warnings.simplefilter("ignore")
        return da.from_array(np.asarray(data), chunks=(1, -1, -1))


def require_cover(outer: Section, inner: Section, what: str) -> None:
    """Raise `GeometryError` naming the rows or columns of `inner` that `outer` lacks."""
    if outer.covers(inner):
        return
    lacks = []
    for axis, (o0, o1), (i0, i1) in (
        ("rows", (outer.y0, outer.y1), (inner.y0, inner.y1)),
        ("columns", (outer.x0, outer.x1), (inner.x0, inner.x1)),
    ):
        if i0 < o0:
            lacks.append(f"{axis} {i0} to {min(o0, i1) - 1}")
        if i1 > o1:
            lacks.append(f"{axis} {max(o1, i0)} to {i1 - 1}")
    raise GeometryError(
        f"{what} covers {outer} of the detector and lacks {', '.join(lacks)} of the frames, "
        f"which cover {inner}; trim both alike"
    )
