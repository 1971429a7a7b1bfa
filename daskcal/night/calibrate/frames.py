"""A night's raw frames, opened and calibrated lazily as its config says, wherever that is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from daskcal.calibration import calibrate
from daskcal.frames.open import frames_dataset
from daskcal.frames.steps import spelled_out
from daskcal.night.calibrate.recipes import calibration_arguments, noise_unknown
from daskcal.night.plan.plan import instrument_of

if TYPE_CHECKING:
    from daskcal.night.calibrate.masks import PixelMasks
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan


def raw_frames(plan: Plan, chosen: Sequence[int]) -> xr.Dataset:
    """Some of a night's frames, opened lazily."""
    return frames_dataset(
        [plan.frames[i] for i in chosen],
        plan.table.iloc[list(chosen)],
        instrument_of(plan.config),
    )


def calibrate_frames(
    job: Job,
    frames: xr.Dataset,
    opened: Mapping[str, xr.Dataset],
    pixels: PixelMasks,
    norm: float | None,
) -> tuple[xr.Dataset, list[str]]:
    """The raw frames of a job, calibrated with its masters, lazily; and what is to be said.

    Parameters
    ----------
    job : Job
        Of the plan of `pixels`.
    frames : xarray.Dataset
        Its raw frames.
    opened : mapping of str to Dataset
        Masters by name.
    pixels : PixelMasks
        The bad pixels of the night.
    norm : float, optional
        What its flat is divided by, where that is not for the flat alone to say.
    """
    masters = {kind: [opened[name] for name in names] for kind, names in job.masters.items()}
    masters["bad"] = [pixels.bad_of(job, frames, opened)]
    masters["hot"] = pixels.hot_of(job, opened) if job.kind == "science" else []
    config = pixels.plan.config_of(job)
    arguments, messages = calibration_arguments(config, job, frames, masters)
    if norm is not None:
        arguments["flat"]["normalise"] = norm
    done = calibrate(frames, **arguments)
    return done, [*messages, *noise_unknown(pixels.plan.config, frames, done)]


def steps(dataset: xr.Dataset, at: int | None = None) -> list[Any]:
    """What was done to a master or to frames, step by step; of one of them by its place."""
    only = dataset if at is None else dataset.drop_vars(list(dataset.data_vars)).isel(frame=[at])
    return [json.loads(record.to_json()) for record in spelled_out(only)]
