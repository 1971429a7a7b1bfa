"""The products of a plan as they lie in the output folder: files, stores, calibrated frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daskcal.frames.detector_names import safe_name
from daskcal.masters.groups import Readout
from daskcal.night.plan.jobs import Job, frame_names
from daskcal.night.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Targets:
    """What a run is to leave.

    Attributes
    ----------
    jobs : tuple of Job
        Masters, then science frames; where these go into stores, a job for each store.
    stores : dict of str to list of Job
        The jobs of the frames of each store, by its name.
    kept : dict of int to str
        Where the calibrated frames of masters go, by position in the plan's table; empty where
        they are not kept.
    """

    jobs: tuple[Job, ...]
    stores: dict[str, list[Job]]
    kept: dict[int, str]

    @classmethod
    def of(cls, plan: Plan) -> Targets:
        """Those of `plan`."""
        masters = [job for job in plan.jobs if job.kind != "science"]
        science = [job for job in plan.jobs if job.kind == "science"]
        stores: dict[str, list[Job]] = {}
        if plan.config.output.format == "zarr":
            stores = _stores(plan, science)
            science = [as_one(name, jobs) for name, jobs in stores.items()]
        kept = _kept_names(plan, masters) if plan.config.output.keep_calibrated else {}
        return cls((*masters, *science), stores, kept)

    @property
    def names(self) -> list[str]:
        """Of all products, below the output folder."""
        return [*(job.name for job in self.jobs), *self.kept.values()]

    @property
    def folders(self) -> list[str]:
        """Below the output folder."""
        return sorted({"masters", "science", "report", *(n.split("/")[0] for n in self.names)})


def _stores(plan: Plan, jobs: Sequence[Job]) -> dict[str, list[Job]]:
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


def as_one(name: str, jobs: Sequence[Job]) -> Job:
    """The jobs of a store as one: all their frames, masters and rules."""
    masters: dict[str, tuple[str, ...]] = {}
    for job in jobs:
        for kind, names in job.masters.items():
            masters[kind] = tuple(dict.fromkeys((*masters.get(kind, ()), *names)))
    frames = tuple(i for job in jobs for i in job.frames)
    matched = tuple(pair for job in jobs for pair in job.matched)
    return Job(name, "science", frames, masters, matched=matched)


def _kept_names(plan: Plan, masters: Sequence[Job]) -> dict[int, str]:
    every = [i for job in masters for i in job.frames]
    stems = frame_names(plan.table.iloc[every])
    return {i: f"calibrated/{stem}.fits" for i, stem in zip(every, stems, strict=True)}
