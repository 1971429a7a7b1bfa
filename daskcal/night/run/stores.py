"""Science frames of a night as Zarr: one store for each detector, all its frames in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.errors import DaskcalError, FrameError
from daskcal.fits.layout import Written
from daskcal.frames.scratch import scratch_removed
from daskcal.frames.steps import spelled_out
from daskcal.night.ledger import ProductEntry
from daskcal.night.plan.jobs import Job
from daskcal.night.reuse.origins import origin_of
from daskcal.night.reuse.targets import as_one
from daskcal.products import needed_planes
from daskcal.zarr import store_fingerprint, to_zarr

if TYPE_CHECKING:
    from daskcal.night.run.run import Run


def make_stores(run: Run, jobs: Sequence[Job], stores: Mapping[str, Sequence[Job]]) -> None:
    """Make the stores that are to be made, and take over the others."""
    for job in jobs:
        if job.name in run.outlook.kept:
            run.take_over(job, {})
        else:
            make_store(run, job, stores[job.name])


def make_store(run: Run, job: Job, parts: Sequence[Job]) -> None:
    """Calibrate the frames of a store, those of `parts`, and write it.

    A frame that cannot be calibrated or read is left out of it, with the reason.
    """
    run.begin(job.name)
    ready = [part for part in ready_parts(run, parts) if _is_fit(run, replace(part, name=job.name))]
    with scratch_removed():
        entry, ready = _attempt(run, job.name, ready)
    run.done(job, [entry], [i for part in ready for i in part.frames])


def ready_parts(run: Run, parts: Sequence[Job]) -> list[Job]:
    """Those that can be begun; why the frames of others cannot be used is noted."""
    ready = []
    for part in parts:
        trouble = run.trouble(part, run.record.left(part.frames))
        if trouble is None:
            ready.append(part)
        else:
            run.record.unmade.update(dict.fromkeys(part.frames, f"{part.name}: {trouble.reason}"))
    return ready


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
            with run.naming_killers([i for job in ready for i in job.frames]):
                frames = joined(run, name, ready)
                written = to_zarr(frames, run.place.at(name), overwrite=True)
            return _made(run, name, ready, frames, written), ready
        except FrameError as error:
            bad = run.record.blame(error, [i for job in ready for i in job.frames])
            if bad is None:
                return _not_made(run, name, ready, str(error)), ready
            ready = [job for job in ready if bad not in job.frames]
        except DaskcalError as error:
            return _not_made(run, name, ready, str(error)), ready
    return ProductEntry(name, "science", "missing", reason="none of its frames can be made"), []


def _made(
    run: Run, name: str, jobs: list[Job], frames: xr.Dataset, written: Written
) -> ProductEntry:
    store = as_one(name, jobs)
    done = list(dict.fromkeys(frames["calibration"].values.tolist()))
    return ProductEntry(
        name, "science", "made", inputs=run.record.inputs(store.frames, store.masters),
        masters=store.master_names, parameters={"steps": [json.loads(text) for text in done]},
        checksum=written.checksum, size=written.size, rules=store.rules,
        fingerprint=store_fingerprint(written.path),
    )  # fmt: skip


def _not_made(run: Run, name: str, jobs: list[Job], reason: str) -> ProductEntry:
    return run.record.not_made(as_one(name, jobs), "failed", reason)


def joined(run: Run, name: str, jobs: Sequence[Job]) -> xr.Dataset:
    """The calibrated frames of several jobs as one Dataset, with what was done as coordinates.

    Paths are those below the night's folder: products do not know where they were made.
    """
    every = [i for job in jobs for i in job.frames]
    raw = run.raw(every)
    parts, at = [], 0
    for job in jobs:
        frames = raw.isel(frame=slice(at, at + len(job.frames)))
        at += len(job.frames)
        done = _calibrated(run, job, frames)
        text = json.dumps([json.loads(record.to_json()) for record in spelled_out(done)])
        origin = origin_of(run, job, name=name).text()
        parts.append(
            done.assign_coords(calibration=_each(job, text), provenance=_each(job, origin))
        )
    wanted = _alike([needed_planes(part, run.plan.config.output.products) for part in parts])
    together = xr.concat(
        wanted, dim="frame", join="exact", combine_attrs="drop_conflicts",
        data_vars="all", coords="different", compat="equals",
    )  # fmt: skip
    below = np.array([run.plan.relative(i) for i in every], dtype=object)
    return together.assign_coords(path=("frame", below))


def _each(job: Job, text: str) -> tuple[str, np.ndarray]:
    """A text for each frame of a job."""
    return "frame", np.full(len(job.frames), text, dtype=object)


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
