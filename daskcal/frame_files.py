"""Many frames, each to a FITS file of its own: masters are prepared once, files overlap."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import dask.threaded
import numpy as np
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.local import get_sync
from numpy.typing import NDArray

from daskcal.fits.layout import Plane, Written, refuse_early
from daskcal.fits.upload import refuse_existing, uploaded
from daskcal.fits.urls import is_url
from daskcal.fits.write import write_bands
from daskcal.frames.block import Block
from daskcal.frames.memory import SLACK, budget, threads
from daskcal.frames.one_by_one import OneByOne
from daskcal.frames.stack import Stack
from daskcal.temporaries import discard_temporaries, give_up

Heads = Callable[[int], list[Plane]]
T = TypeVar("T")
WAITING = 2  # files that are flushed and read again while others are computed
_EACH = 32 << 20  # bytes that a file takes in the making; more where steps see whole frames


def threads_compute() -> bool:
    """Whether Dask's active scheduler is threads of this process, and nobody looks at its tasks."""
    return get_scheduler() in (None, dask.threaded.get, get_sync) and not Callback.active


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """Frames that can be written one by one.

    Attributes
    ----------
    frames : OneByOne
    heads : callable
        The planes of a frame by its position; their data say types and shape only.
    overwrite : bool
    compress : {"none", "rice"}
    """

    frames: OneByOne
    heads: Heads
    overwrite: bool
    compress: str

    @classmethod
    def of(
        cls, stack: Stack, heads: Heads, room: float, *, overwrite: bool, compress: str
    ) -> FrameFiles | None:
        """None where these frames need a graph: masters beyond `room`, pixels of the user's own."""
        frames = OneByOne.of(stack, room)
        return None if frames is None else cls(frames, heads, overwrite, compress)

    def write(
        self,
        frame: int,
        path: Path | str,
        seen: Callable[[slice, Mapping[str, NDArray[Any]]], None] | None = None,
        made: Callable[[Path], None] | None = None,
    ) -> Written:
        """Write one, here or to a URL.

        `seen` is shown rows and their pixels by plane, `made` the whole file before it is sent.
        """
        planes = self.heads(frame)

        def bands() -> Iterator[tuple[slice, list[NDArray[Any]]]]:
            for rows, block in self.frames.walk(frame):
                pixels = {plane.name: _pixels(plane.name, block) for plane in planes}
                if seen is not None:
                    seen(rows, pixels)
                yield rows, list(pixels.values())

        def write(file: Path) -> Written:
            options: Any = {"overwrite": self.overwrite, "compress": self.compress}
            written = write_bands(file, planes, bands(), **options)
            if made is not None:
                made(file)
            return written

        if not is_url(path):
            return write(Path(path))
        return uploaded(str(path), write, overwrite=self.overwrite)

    def write_all(self, paths: Sequence[Path | str], at_once: int) -> list[Written]:
        """Write all, some `at_once`; the first failure ends it, none if one of them must not be."""
        for path in paths:
            if is_url(path):
                refuse_existing(str(path), self.overwrite)
            else:
                refuse_early(Path(path), 0, self.overwrite)
        discard_temporaries(*(path for path in paths if not is_url(path)))
        todo = [partial(self.write, i, path) for i, path in enumerate(paths)]
        with given_up(paths):
            return list(in_order(todo, at_once))


def room(at_once: int, alone: bool = True) -> int:
    """Bytes that masters may take where some files are in the making at once.

    Of a thread's share of the budget, where others do the same at the same time: not `alone`.
    """
    shared = 1 if alone else threads()
    return int(SLACK * budget() / shared) - at_once * _EACH


def in_order(todo: Sequence[Callable[[], T]], at_once: int) -> Iterator[T]:
    """What calls return, in their order, as many `at_once` in threads, few of them ahead."""
    with ThreadPoolExecutor(at_once) as pool, contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        running: deque[Future[T]] = deque()
        for call in todo:
            if len(running) == 2 * at_once:
                yield running.popleft().result()
            running.append(pool.submit(call))
        while running:
            yield running.popleft().result()


@contextlib.contextmanager
def given_up(paths: Sequence[Path | str]) -> Iterator[None]:
    """Nothing of unfinished files is left where writing fails."""
    try:
        yield
    except BaseException:
        give_up(*paths)
        raise


def deviation(*variances: NDArray[Any]) -> NDArray[np.float32]:
    """Standard deviation of the sum of independent parts."""
    total = variances[0] if len(variances) == 1 else np.add(*variances)
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        return np.sqrt(total).astype(np.float32, copy=False)


def _pixels(plane: str, block: Block) -> NDArray[Any]:
    """A plane of a product, of a block of one frame."""
    if plane == "MASK":
        return np.zeros(block.section.shape, np.uint16) if block.mask is None else block.mask[0]
    if plane == "UNCERT":
        parts = (part for part in (block.variance, block.variance_shared) if part is not None)
        return deviation(*(part[0] for part in parts))
    return block.image[0].astype(np.float32, copy=False)
