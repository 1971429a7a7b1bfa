"""Science frames of a night as Zarr: one store for each detector, all its frames in it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.errors import DaskcalError, FrameError
from daskcal.masters.groups import Readout, safe_name
from daskcal.night.ledger import ProductEntry
from daskcal.night.plan import Job
from daskcal.zarr import to_zarr

if TYPE_CHECKING:
    from daskcal.night.run import Run


def make_stores(run: Run, jobs: Sequence[Job]) -> None:
    """Calibrate the frames of `jobs`, and write those of each detector to one store."""
    groups: dict[Readout, list[Job]] = {}
    for job in jobs:
        row = run.plan.table.iloc[job.frames[0]]
        groups.setdefault(Readout.of_row(row), []).append(job)
    for readout, name in zip(groups, _names(list(groups)), strict=True):
        _make(run, name, groups[readout])


def _names(readouts: list[Readout]) -> list[str]:
    plain = [safe_name(r.detector) if r.detector else "frames" for r in readouts]
    return [
        f"science/{name}.zarr" if plain.count(name) == 1 else f"science/{name}_{i}.zarr"
        for i, name in enumerate(plain, 1)
    ]


def _make(run: Run, name: str, jobs: list[Job]) -> None:
    begin = time.perf_counter()
    run.watch.begin(name)
    ready = [job for job in jobs if run.can_make(job)]
    store = Job(name, "science", tuple(i for job in jobs for i in job.frames))
    while True:
        try:
            if not ready:
                raise DaskcalError("none of its frames can be calibrated")
            to_zarr(_joined(run, ready), run.folder / name, overwrite=True)
            break
        except FrameError as error:
            bad = run.blame(error, [i for job in ready for i in job.frames])
            if bad is None:
                run.entries.append(run.failure(store, True, str(error)))
                return
            ready = [job for job in ready if bad not in job.frames]
        except DaskcalError as error:
            run.entries.append(run.failure(store, True, str(error)))
            return
    frames = tuple(i for job in ready for i in job.frames)
    for i in frames:
        run.made_of.setdefault(i, name)
    masters = tuple(
        dict.fromkeys(m for job in ready for names in job.masters.values() for m in names)
    )
    entry = ProductEntry(
        name, "science", "made", inputs=run.inputs(frames), masters=masters,
        rules=tuple(dict.fromkeys(rule for job in ready for rule in job.rules)),
        size=sum(f.stat().st_size for f in (run.folder / name).rglob("*") if f.is_file()),
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    run.entries.append(replace(entry, seconds=round(seconds, 3)))
    run.watch.end(name, "made")


def _joined(run: Run, jobs: list[Job]) -> xr.Dataset:
    """The calibrated frames of several jobs as one Dataset; what was done is a coordinate."""
    raw = run.raw([i for job in jobs for i in job.frames])
    parts, at = [], 0
    for job in jobs:
        frames = raw.isel(frame=slice(at, at + len(job.frames)))
        at += len(job.frames)
        done = run.calibrated(job, frames)
        text = json.dumps([json.loads(step) for step in done.attrs["steps"]])
        column = np.full(len(job.frames), text, dtype=object)
        parts.append(done.assign_coords(calibration=("frame", column)))
    common = [v for v in parts[0].data_vars if all(v in part.data_vars for part in parts)]
    return xr.concat(
        [part[common] for part in parts], dim="frame", join="exact", combine_attrs="drop_conflicts",
        data_vars="all", coords="different", compat="equals",
    )  # fmt: skip
