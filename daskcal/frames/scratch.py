"""Steps that must see a frame as a whole: done frame by frame, and kept on disk for what follows.

No band of rows holds what such a step needs, and all frames as a whole do not fit into memory. So
each frame is calibrated up to the step, goes through it, and its planes go to a file in the scratch
folder (``DASKCAL_SCRATCH``); that is where blocks of any layout are read from afterwards. Nothing
is rechunked, and a combination holds its bands only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

import dask.array as da
import numpy as np
from dask.base import tokenize

from daskcal.errors import OutputError
from daskcal.fits.content import spool_folder
from daskcal.fits.source import ImageSource, read_stored
from daskcal.frames.band import Band
from daskcal.frames.block import Block, promoted
from daskcal.frames.recipe import Input, Recipe
from daskcal.frames.room import Room
from daskcal.frames.sections import Section
from daskcal.frames.stack import Stack, describe_input, pack
from daskcal.temporaries import discard_abandoned, forget, new_temporary, remove


@dataclass(frozen=True, eq=False, kw_only=True)
class WholeFrameStep:
    """A step that needs all rows of a frame at once; subclasses are frozen and picklable.

    Fields with a value for each frame are arrays (frame,).
    """

    working_bytes: ClassVar[int]  # of memory for each pixel, beside the planes of the frame

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        """The planes that a frame has after the step."""
        return before

    def apply(self, block: Block, i: int) -> Block:
        """What the step makes of the frame `i`, a block of one frame that is not written to."""
        raise NotImplementedError


def through_scratch(stack: Stack, step: WholeFrameStep) -> Stack:
    """The frames after a step that sees them as a whole.

    The window of `stack` is what the step sees: what lies outside of it is gone afterwards.
    """
    recipe, section = stack.recipe, stack.section
    planes, dtype = step.planes(recipe.planes), promoted(recipe.dtype)
    kept = tuple(
        (p, (dtype if p == "image" else recipe.plane_dtype(p)).newbyteorder("=").str)
        for p in planes
    )
    stored = da.blockwise(
        _store,
        "fyx",
        pack(stack, frame=1, rows=-1),
        "fyx",
        adjust_chunks={"y": 1, "x": 1},
        step=step,
        folder=ScratchFolder.new(),
        kept=kept,
        room=Room.of_frame(stack, step.working_bytes),
        dtype=object,
        meta=np.empty((0, 0, 0), object),
        token="whole-frame",
    )
    files = stored[:, 0, 0]  # also keeps Dask from doing the step anew for each block that is read
    source = Scratch(stack.n_frames, section, kept, inputs=(describe_input(files, "f"),))
    return Stack(Recipe.of(source), section, (files,), stack.aligned)


@dataclass(frozen=True, eq=False)
class Scratch:
    """Calibrated planes in scratch files, whose names come from the tasks that write them."""

    n_frames: int
    section: Section
    kept: tuple[tuple[str, str], ...]  # planes and their types, in the order of a file
    inputs: tuple[Input, ...]
    copies: ClassVar[int] = 1

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(dict(self.kept)["image"])

    @property
    def planes(self) -> tuple[str, ...]:
        return tuple(plane for plane, _ in self.kept)

    @property
    def token(self) -> str:
        return str(tokenize(self.inputs, self.section, self.kept))

    def take(self, positions: np.ndarray) -> Scratch:
        return dataclasses.replace(self, n_frames=len(positions))

    def reading(self, inputs: tuple[Input, ...]) -> Scratch:
        return dataclasses.replace(self, inputs=inputs)

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        files = arrays[0]
        rows, columns = ((s.start, s.stop) for s in section.within(self.section))
        found = {plane: np.empty((len(files), *section.shape), t) for plane, t in self.kept}
        for i, path in enumerate(files):
            offset, status = 0, _status(path)
            for plane, dtype in self.kept:
                source = _source(path, status, offset, self.section.shape, dtype)
                read_stored(source, rows, columns, found[plane][i])
                offset += self.section.shape[0] * self.section.shape[1] * np.dtype(dtype).itemsize
        return Block.of(section, found)


def _source(
    path: str, status: os.stat_result, offset: int, shape: tuple[int, int], dtype: str
) -> ImageSource:
    """A plane of a scratch file, whose numbers are as this machine has them."""
    size, kind = status.st_size, np.dtype(dtype)
    bits = (-8 if kind.kind == "f" else 8) * kind.itemsize
    when = status.st_mtime_ns
    return ImageSource(path, 0, "", "", offset, shape, bits, 1.0, 0.0, None, size, when, size)


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise OutputError(
            f"the scratch file {path} is not there ({error.strerror}); set DASKCAL_SCRATCH to a "
            "folder that all workers share, and leave it alone while they compute"
        ) from error


def _store(
    band: Band,
    *,
    step: WholeFrameStep,
    folder: ScratchFolder,
    kept: tuple[tuple[str, str], ...],
    room: Room,
) -> np.ndarray:
    """Take one frame through the step and write its planes; the name of the file, (1, 1, 1)."""
    name = np.empty((1, 1, 1), object)
    with room.taken():
        name[0, 0, 0] = _stored(band, step, folder, kept)  # alone: its arrays are gone by the end
    return name


def _stored(
    band: Band, step: WholeFrameStep, folder: ScratchFolder, kept: tuple[tuple[str, str], ...]
) -> str:
    i = band.frames.start
    after = step.apply(Block.of(band.section, band.by_name()), i)
    return folder.write(i, [np.asarray(getattr(after, p), np.dtype(t)) for p, t in kept])


# --- the folder -----------------------------------------------------------------------------------

_NAME = "frames"
_made: ContextVar[list[ScratchFolder] | None] = ContextVar("daskcal-scratch", default=None)


class ScratchFolder:
    """A folder of frames' files, removed when nobody can read them any more.

    That is together with the graph that they belong to; where copies of the graph went to other
    processes, at the end of `scratch_removed`, or of this process at the latest.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._with_the_graph: weakref.finalize | None = None

    @classmethod
    def new(cls) -> ScratchFolder:
        """A new one. It is not there before something is written to it."""
        base = spool_folder() / _NAME
        discard_abandoned(base)
        folder = cls(new_temporary(base))
        folder._with_the_graph = weakref.finalize(folder, _forgotten, folder.path)
        made = _made.get()
        if made is not None:
            made.append(folder)
        return folder

    def __reduce__(self) -> tuple[type[ScratchFolder], tuple[str]]:
        if self._with_the_graph is not None:  # whoever gets the copy may outlive this one
            self._with_the_graph.detach()
        return ScratchFolder, (self.path,)

    def __dask_tokenize__(self) -> str:
        return self.path

    def write(self, i: int, planes: Sequence[np.ndarray]) -> str:
        """Write the planes of frame `i`, one after the other, and say where."""
        path = os.path.join(self.path, f"{i}.planes")
        part = f"{path}-{threading.get_ident()}"
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            with open(part, "wb") as file:
                for plane in planes:
                    file.write(np.ascontiguousarray(plane).data)
            os.replace(part, path)
        except OSError as error:
            remove(part)
            needed = sum(plane.nbytes for plane in planes)
            raise OutputError(
                f"a frame of {needed} bytes cannot be kept in {self.path} ({error.strerror}); set "
                "DASKCAL_SCRATCH to a folder on a larger local disk"
            ) from error
        return path


def _forgotten(path: str) -> None:
    remove(path)
    forget(os.path.join(os.path.dirname(path), _NAME), path)


@contextlib.contextmanager
def scratch_removed() -> Iterator[None]:
    """Remove what is kept in scratch by frames made meanwhile, at the end.

    It must be computed by then.
    """
    token = _made.set([])
    try:
        yield
    finally:
        for folder in _made.get() or []:
            _forgotten(folder.path)
        _made.reset(token)
