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
from daskcal.fits.write import Written
from daskcal.frames.detector_names import safe_name
from daskcal.frames.scratch import scratch_removed
from daskcal.frames.steps import spelled_out
from daskcal.masters.groups import Readout
from daskcal.night.jobs import Job
from daskcal.night.ledger import ProductEntry
from daskcal.night.plan import Plan
from daskcal.zarr import to_zarr

if TYPE_CHECKING:
    from daskcal.night.run import Run


def store_jobs(plan: Plan, jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """The science frames of each store, by its name; a detector read in two ways has two."""
    groups: dict[Readout, list[Job]] = {}
    for job in jobs:
        readout = Readout.of_row(plan.table.iloc[job.frames[0]])
        groups.setdefault(readout, []).append(job)
    taken: set[str] = set()
    named = {}
    for readout, together in groups.items():
        stem = safe_name(readout.detector) if readout.detector else "frames"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        named[f"science/{name}.zarr"] = together
    return named


def make_store(run: Run, name: str, jobs: list[Job]) -> None:
    """Calibrate the frames of `jobs`, and write them to one store.

    A frame that cannot be calibrated or read is left out of it, with the reason.
    """
    begin = time.perf_counter()
    run.watch.begin(name)
    ready = []
    for job in jobs:
        trouble = run.trouble(job, job.frames)
        if trouble is not None:
            run.record.unmade.update(dict.fromkeys(job.frames, f"{job.name}: {trouble.reason}"))
        elif _is_fit(run, replace(job, name=name)):
            ready.append(job)
    with scratch_removed():
        entry, ready = _attempt(run, name, ready)
    entry = replace(entry, seconds=round(time.perf_counter() - begin, 3))
    run.record.add(entry, [i for job in ready for i in job.frames])
    run.watch.end(name, f"{entry.status} {entry.reason}".rstrip())


def _is_fit(run: Run, job: Job) -> bool:
    """Whether the frame of a job can be used; the record knows why not."""
    try:
        run.judge.frames(job, run.raw(job.frames))
    except FrameError as error:
        if run.record.blame(error, job.frames) is None:
            raise
        return False
    return True


def _attempt(run: Run, name: str, ready: list[Job]) -> tuple[ProductEntry, list[Job]]:
    """The store's entry, made or not, and the jobs whose frames are in it."""
    while ready:
        try:
            joined = _joined(run, ready)
            written = to_zarr(joined, run.folder / name, overwrite=True)
            return _made(run, name, ready, joined, written), ready
        except FrameError as error:
            bad = run.record.blame(error, [i for job in ready for i in job.frames])
            if bad is None:
                return _not_made(run, name, ready, str(error)), ready
            ready = [job for job in ready if bad not in job.frames]
        except DaskcalError as error:
            return _not_made(run, name, ready, str(error)), ready
    return ProductEntry(name, "science", "missing", reason="none of its frames can be made"), []


def _made(
    run: Run, name: str, jobs: list[Job], joined: xr.Dataset, written: Written
) -> ProductEntry:
    store = _as_one(name, jobs)
    done = list(dict.fromkeys(joined["calibration"].values.tolist()))
    return ProductEntry(
        name, "science", "made", inputs=run.record.inputs(store.frames, store.masters),
        masters=store.master_names, parameters={"steps": [json.loads(text) for text in done]},
        checksum=written.checksum, size=written.size, rules=store.rules,
    )  # fmt: skip


def _not_made(run: Run, name: str, jobs: list[Job], reason: str) -> ProductEntry:
    return run.record.not_made(_as_one(name, jobs), "failed", reason)


def _as_one(name: str, jobs: list[Job]) -> Job:
    """The jobs of a store as one: all their frames, masters and rules."""
    masters: dict[str, tuple[str, ...]] = {}
    for job in jobs:
        for kind, names in job.masters.items():
            masters[kind] = tuple(dict.fromkeys((*masters.get(kind, ()), *names)))
    frames = tuple(i for job in jobs for i in job.frames)
    matches = tuple(dict.fromkeys(match for job in jobs for match in job.matches))
    return Job(name, "science", frames, masters, matches=matches)


def _joined(run: Run, jobs: list[Job]) -> xr.Dataset:
    """The calibrated frames of several jobs as one Dataset; what was done is a coordinate."""
    raw = run.raw([i for job in jobs for i in job.frames])
    parts, at = [], 0
    for job in jobs:
        frames = raw.isel(frame=slice(at, at + len(job.frames)))
        at += len(job.frames)
        done = _calibrated(run, job, frames)
        text = json.dumps([json.loads(record.to_json()) for record in spelled_out(done)])
        column = np.full(len(job.frames), text, dtype=object)
        parts.append(done.assign_coords(calibration=("frame", column)))
    return xr.concat(
        _alike(parts), dim="frame", join="exact", combine_attrs="drop_conflicts",
        data_vars="all", coords="different", compat="equals",
    )  # fmt: skip


def _calibrated(run: Run, job: Job, frames: xr.Dataset) -> xr.Dataset:
    """The frame of a job, calibrated; what cannot be done to it is an error of that frame."""
    try:
        return run.calibrated(job, frames)
    except FrameError:
        raise
    except DaskcalError as error:
        source = run.plan.frames[job.frames[0]].source
        raise FrameError(source.path, "unusable", str(error), source.hdu) from error


def _alike(parts: list[xr.Dataset]) -> list[xr.Dataset]:
    """Parts of the same variables: noise that is not known is NaN, a mask that is not made 0."""
    names = list(dict.fromkeys(name for part in parts for name in part.data_vars))
    filled = []
    for part in parts:
        lacking = {
            name: xr.zeros_like(part["image"], dtype=np.uint16)
            if name == "mask"
            else xr.full_like(part["image"], np.nan)
            for name in names
            if name not in part
        }
        attrs = {name: next(p[name].attrs for p in parts if name in p) for name in lacking}
        whole = part.assign(lacking)
        for name, kept in attrs.items():
            whole[name].attrs = dict(kept)
        filled.append(whole[names])
    return filled
