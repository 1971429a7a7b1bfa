"""A group of science frames with the same masters: one task, wherever it is done.

What travels are headers, byte ranges and the names of masters; pixels are read where they are
worked on, those of masters once for all groups of a process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from daskcal.errors import DaskcalError, FrameError
from daskcal.fits.datasum import check_datasum
from daskcal.fits.frame import read_frame
from daskcal.fits.layout import Written
from daskcal.fits.urls import is_url
from daskcal.frame_files import FrameFiles, given_up, in_order
from daskcal.frames.held import held_bytes, held_dataset, keep
from daskcal.frames.memory import threads
from daskcal.frames.scratch import scratch_removed
from daskcal.night.calibrate.frames import calibrate_frames, raw_frames, steps
from daskcal.night.calibrate.masks import PixelMasks
from daskcal.night.calibrate.opened import OpenedMasters
from daskcal.night.gates.frames import of_raw
from daskcal.night.gates.number import Number
from daskcal.night.gates.sample import raw_numbers
from daskcal.night.plan.jobs import Job
from daskcal.night.plan.plan import Plan
from daskcal.night.report.pixels import Look, look_at
from daskcal.night.run.quality import Figures, Seen, figures_of
from daskcal.products import frame_files, to_fits
from daskcal.provenance import Origin
from daskcal.temporaries import discard_temporaries

BESIDE = 2  # files of a task on a worker: one is computed while the other is flushed
_log = logging.getLogger(__name__)
_over: set[str] = set()  # runs that have come to their end
_alone = threading.Lock()  # Dask's configuration is one for all threads


@dataclass(frozen=True, eq=False)
class Group:
    """Frames that are calibrated alike, and all that it takes to make their products.

    Attributes
    ----------
    run : str
        Names the run; what it has begun is not gone on with once it is over.
    plan : Plan
        Of these frames alone.
    job : Job
        Of all of them, with their masters.
    masters : tuple of (str, str, str)
        Name, file and SHA-256 of each.
    norm : float or None
        What their flat is divided by, where the run says so.
    apart : bool
        Whether each is calibrated by itself.
    folder : str
        Where their products go, without ``/science``; perhaps a URL.
    origins : tuple of Origin
    room, memory : int
        Bytes that masters may take, and all that is computed in a process.
    picture : int
        Longest side of a product's picture for the report; 0 for none.
    """

    run: str
    plan: Plan
    job: Job
    masters: tuple[tuple[str, str, str], ...]
    norm: float | None
    apart: bool
    folder: str
    origins: tuple[Origin, ...]
    room: int
    memory: int
    picture: int


@dataclass(frozen=True, eq=False)
class Made:
    """One product that was made, and what there is to say of it."""

    written: Written
    seen: Seen
    look: Look | None
    steps: list[Any]
    numbers: list[Number]
    messages: list[str]
    seconds: float


def made_on_worker(group: Group) -> list[Made | None]:
    """The products of a group, as one task of a worker makes them; see `make_group`."""
    keep(group.room)
    return list(make_group(group, BESIDE, on_worker=True))


def make_group(group: Group, at_once: int, *, on_worker: bool = False) -> Iterator[Made | None]:
    """Make the products of a group, in order, some frames `at_once`.

    Parameters
    ----------
    group : Group
    at_once : int
        Threads, each with a frame.
    on_worker : bool
        Whether a task of a worker does it, which computes within itself.

    Yields
    ------
    Made or None
        None for a frame that cannot be made so: what is wrong with it shows when it is made alone.
    """
    places = range(len(group.origins))
    if not is_url(group.folder):
        discard_temporaries(*(_path(group, k) for k in places))
    todo: list[Callable[[], Made | None]]
    if group.apart:
        # each holds whole frames, and masters beside those in memory: no more than compute
        at_once = 1 if on_worker else min(at_once, threads())
        todo = [partial(_made_apart, group, k, on_worker) for k in places]
    else:
        ready = _prepared(group, tuple(places), on_worker)
        todo = [partial(_made, group, ready, k) for k in places]
    yield from in_order(todo, at_once)


def release(run: str) -> None:
    """A run is over: begin no more of its frames, and forget the masters kept for them."""
    _over.add(run)
    keep(0)
    _pixels_of.cache_clear()
    _opened.cache_clear()


@dataclass(frozen=True, eq=False)
class _Ready:
    """Frames that can be written: their `places` in the group, and what is known of each."""

    places: tuple[int, ...]
    calibrated: xr.Dataset
    files: FrameFiles | None
    numbers: Mapping[int, list[Number]]
    messages: list[str]


def _made_apart(group: Group, k: int, on_worker: bool) -> Made | None:
    with scratch_removed():
        return _made(group, _prepared(group, (k,), on_worker), k)


def _prepared(group: Group, places: tuple[int, ...], on_worker: bool) -> _Ready | None:
    """Frames as they are calibrated, without those that cannot be read; None where none can."""
    while places:
        try:
            with _within(group.memory) if on_worker else contextlib.nullcontext():
                return _ready(group, places)
        except FrameError as error:
            paths = [group.plan.frames[k].source.path for k in places]
            fine = tuple(k for k, path in zip(places, paths, strict=True) if path != error.path)
            if fine == places:
                return None
            places = fine
        except Exception:  # whatever it is, it is said when they are made alone
            _log.debug("a group cannot be made together", exc_info=True)
            return None
    return None


@contextlib.contextmanager
def _within(memory: int) -> Iterator[None]:
    """Dask computes in this thread, and nothing goes back to the scheduler of a cluster."""
    with _alone, dask.config.set({"scheduler": "sync", "daskcal.memory": memory}):
        yield


def _ready(group: Group, places: tuple[int, ...]) -> _Ready:
    raw = raw_frames(group.plan, places)
    numbers = of_raw(group.plan.config.gates, raw_numbers(raw), calibration=False)
    opened = _opened(group.run, group.masters)
    hot, unstable, of_flats = _pixels_of(
        group.run, group.masters, group.plan.config.model_dump_json()
    )
    calibrated, messages = calibrate_frames(
        replace(group.job, frames=places), raw, opened,
        PixelMasks(group.plan, hot, unstable, of_flats, partial(_read_once, group.room)),
        group.norm,
    )  # fmt: skip
    output, origins = group.plan.config.output, [group.origins[k] for k in places]
    options: Any = {"overwrite": True, "compress": output.compress}
    files = frame_files(calibrated, output.products, origins, group.room, **options)
    return _Ready(places, calibrated, files, numbers, messages)


@lru_cache(maxsize=8)
def _opened(run: str, masters: tuple[tuple[str, str, str], ...]) -> OpenedMasters:
    """The masters, once for the groups of a run: another may have made them anew."""
    opened = OpenedMasters()
    for master in masters:
        opened.add(*master)
    return opened


@lru_cache(maxsize=4)
def _pixels_of(
    run: str, masters: tuple[tuple[str, str, str], ...], config: str
) -> tuple[dict[str, xr.Dataset], ...]:
    """Where the bad pixels that these masters show are kept, once they have been looked for."""
    return {}, {}, {}


def _read_once(room: int, master: xr.Dataset) -> xr.Dataset:
    """A master whose pixels are read once, whatever is looked for in them, where there is room."""
    planes = master[[name for name in ("image", "mask") if name in master]]
    lazy = [plane.data for plane in planes.values() if isinstance(plane.data, da.Array)]
    return held_dataset(planes) if held_bytes(lazy) <= room else planes


# --- one frame ------------------------------------------------------------------------------------


def _made(group: Group, ready: _Ready | None, k: int) -> Made | None:
    """The product of a frame; None where something is wrong, or the run is over."""
    if ready is None or k not in ready.places or group.run in _over:
        return None
    at = ready.places.index(k)
    numbers = ready.numbers[at]
    if any(number.verdict == "reject" for number in numbers):
        return None
    since = time.perf_counter()
    try:
        if group.plan.config.gates.datasum:
            check_datasum(group.plan.frames[k])
        written, seen, look = _written(group, ready, k, at)
    except Exception:  # likewise
        _log.debug("a frame of a group cannot be made", exc_info=True)
        return None
    done = steps(ready.calibrated, at)
    seconds = time.perf_counter() - since
    return Made(written, seen, look, done, numbers, ready.messages, seconds)


@dataclass(eq=False)
class _Sight:
    """What is seen of a product as it is made, and would else be read for."""

    figures: Figures | None  # of rows as they are computed; None where the file has other values
    picture: int
    seen: Seen | None = None
    look: Look | None = None

    def rows(self, rows: slice, pixels: Mapping[str, np.ndarray]) -> None:
        """Some rows of it, by plane."""
        if self.figures is not None:
            self.figures.add(rows, pixels[""], pixels.get("MASK"))

    def file(self, file: Path) -> None:
        """The whole of it, while it lies in this machine's memory."""
        if self.figures is None:
            self.seen = figures_of(str(file))
        else:
            self.seen = self.figures.found(), read_frame(str(file)).fingerprint
        if self.picture:
            # what is wrong with it the report says
            with contextlib.suppress(DaskcalError, OSError, ValueError):
                self.look = look_at(file, self.picture)


def _written(group: Group, ready: _Ready, k: int, at: int) -> tuple[Written, Seen, Look | None]:
    path, output = _path(group, k), group.plan.config.output
    shape = ready.calibrated.sizes["y"], ready.calibrated.sizes["x"]
    sight = _Sight(Figures(shape) if output.compress == "none" else None, group.picture)
    with given_up([path]):
        if ready.files is not None:
            written = ready.files.write(at, path, sight.rows, sight.file)
        else:
            folder, stem = path.removesuffix(".fits").rsplit("/", 1)
            sinks = to_fits(
                ready.calibrated.isel(frame=[at]), folder, names=[stem], planes=output.products,
                compress=output.compress, overwrite=True, origin=group.origins[k], compute=False,
            )  # fmt: skip
            (written,) = dask.compute(*sinks, scheduler="sync")
    return written.hashed(), sight.seen or figures_of(path), sight.look


def _path(group: Group, k: int) -> str:
    return f"{group.folder}/{group.origins[k].name}"
