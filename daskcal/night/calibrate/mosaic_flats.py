"""One norm for the flats of all detectors of a mosaic: their relative throughput is kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from daskcal.calibration import flat_level
from daskcal.combination.scale import STATISTICS, frame_scales
from daskcal.frames.steps import last_step
from daskcal.night.plan.jobs import Job
from daskcal.night.plan.plan import Plan

# What the flats of a mosaic's detectors share that are taken in one filter in one way.
_OF_A_MOSAIC = ["instrument", "filter", "flat_kind", "binning", "readout_mode"]


@dataclass
class MosaicFlats:
    """The levels of a night's flats, as their masters say them.

    Flats are divided by their own level before they are combined, which takes the throughput of a
    detector out of its master. It comes back from the levels of the exposures that detectors share.

    Attributes
    ----------
    plan : Plan
        The night's.
    levels : dict of str to float
        `flat_level` of the masters.
    """

    plan: Plan
    levels: dict[str, float] = field(default_factory=dict)

    def scaled(self, job: Job, frames: xr.Dataset, options: dict[str, Any]) -> dict[str, Any]:
        """Options of `combine` for a master flat with the numbers that its frames are scaled by."""
        if job.kind != "flat" or not self.wanted or options["scale"] not in STATISTICS:
            return options
        scale = frame_scales(frames, options["scale"], options["section"])
        others = options["zero"], options["weights"]
        section = options["section"] if any(word in STATISTICS for word in others) else None
        return options | {"scale": scale, "section": section}

    @property
    def wanted(self) -> bool:
        """Whether the config asks for one norm."""
        return self.plan.config.flat.normalise_over == "mosaic"

    def masters_of(self, job: Job) -> dict[str, tuple[str, ...]]:
        """A job's masters by kind, and the flats of other detectors that give its flat a norm."""
        flats = job.masters.get("flat", ())
        if not (self.wanted and flats):
            return job.masters
        return job.masters | {"flat": tuple(self.together(flats[0]))}

    def norm(self, name: str, opened: Mapping[str, xr.Dataset]) -> float:
        """What a master flat is divided by, among those `opened` of its mosaic."""
        together = [flat for flat in self.together(name) if flat in opened]
        for flat in together:
            if flat not in self.levels:
                statistic = self.plan.config.flat.normalise
                self.levels[flat] = flat_level(opened[flat], normalise=statistic)
        throughput = relative_levels({flat: exposed_levels(opened[flat]) for flat in together})
        common = np.mean([self.levels[flat] * throughput[flat] for flat in together])
        return float(common / throughput[name])

    def together(self, name: str) -> list[str]:
        """The flats of all detectors, taken as the one called `name` was."""
        if self.plan.library is not None and name in self.plan.library.masters:
            return self.plan.library.of_mosaic(name)
        return self._together[name]

    @functools.cached_property
    def _together(self) -> dict[str, list[str]]:
        flats = {job.name: job.frames[0] for job in self.plan.jobs if job.kind == "flat"}
        rows = self.plan.table[_OF_A_MOSAIC]
        taken = {name: tuple(rows.iloc[i]) for name, i in flats.items()}
        return {name: [n for n, way in taken.items() if way == taken[name]] for name in flats}


def exposed_levels(flat: xr.Dataset) -> dict[str, float]:
    """What the frames of a master flat were divided by, by file; none where it was one word."""
    combined = last_step(flat, "combine")
    scales = combined.parameters.get("scale") if combined else None
    if not isinstance(scales, list) or len(scales) != len(flat.attrs.get("inputs", ())):
        return {}
    return {path: 1 / scale for path, scale in zip(flat.attrs["inputs"], scales, strict=True)}


def relative_levels(exposed: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How bright the same light is in each detector: geometric mean 1.

    Levels are the product of a detector's throughput and an exposure's light; least squares of
    their logarithms tell the two apart, where a detector lacks an exposure too.

    Parameters
    ----------
    exposed : mapping of str to mapping of str to float
        Levels by detector and exposure; 1 is given for a detector without any.
    """
    exposures = list(dict.fromkeys(e for levels in exposed.values() for e in levels))
    pairs = [(d, exposures.index(e), m) for d, of in enumerate(exposed.values())
             for e, m in of.items()]  # fmt: skip
    design = np.zeros((len(pairs) + 1, len(exposed) + len(exposures)))
    design[-1, : len(exposed)] = 1
    for row, (detector, exposure, _) in zip(design, pairs, strict=False):
        row[detector] = row[len(exposed) + exposure] = 1
    measured = np.array([*(np.log(level) for _, _, level in pairs), 0.0])
    found = np.linalg.lstsq(design, measured, rcond=None)[0][: len(exposed)]
    return dict(zip(exposed, np.exp(found).tolist(), strict=True))
