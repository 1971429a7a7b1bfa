"""The bad pixels of a night: from its masters and from a file, as its config asks for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xarray as xr

from daskcal.calibration import (
    bad_columns,
    ccdmask,
    hot_pixels,
    merge_masks,
)
from daskcal.calibration.mask_files import unreported_mask
from daskcal.frames.masks import mask_dataset
from daskcal.frames.master import UNSTABLE
from daskcal.masters.stability import FEWEST, unstable_pixels

if TYPE_CHECKING:
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan


_one_thread = threading.RLock()  # looks for pixels: others then find what it has found


def _as_it_is(master: xr.Dataset) -> xr.Dataset:
    return master


@dataclass
class PixelMasks:
    """What masters show of the detector's pixels: found once for each, and kept.

    `read` is given a master before pixels are looked for in it.
    """

    plan: Plan
    hot: dict[str, xr.Dataset] = field(default_factory=dict)
    unstable: dict[str, xr.Dataset] = field(default_factory=dict)
    of_flats: dict[str, xr.Dataset] = field(default_factory=dict)
    read: Callable[[xr.Dataset], xr.Dataset] = _as_it_is

    def with_unstable(
        self, job: Job, calibrated: xr.Dataset, dark: xr.Dataset
    ) -> tuple[xr.Dataset, str]:
        """A master dark with the unstable pixels of its frames; a message where that cannot be."""
        if job.kind != "dark" or not self.plan.config_of(job).mask.from_darks:
            return dark, ""
        n = calibrated.sizes["frame"]
        if n < FEWEST:
            return dark, (
                f"{job.name} has {n} frames, and mask.from_darks needs {FEWEST}: unstable pixels "
                "are not masked where it is used"
            )
        found = unstable_pixels(calibrated)
        plane = found["image"].assign_attrs(steps=found.attrs["steps"])
        return dark.assign({UNSTABLE: plane}), ""

    def hot_of(self, job: Job, opened: Mapping[str, xr.Dataset]) -> list[xr.Dataset]:
        """The hot pixels that the longest dark of a job shows."""
        longest = _longest(job, opened)
        found = None if longest is None else self.hot_in(job, opened[longest], longest)
        return [] if found is None else [found]

    def hot_in(self, job: Job, dark: xr.Dataset, name: str) -> xr.Dataset | None:
        """The hot pixels of the master dark called `name`; None where the config wants none."""
        limit = self.plan.config_of(job).dark.hot_threshold
        with _one_thread:
            if limit is not None and name not in self.hot:
                threshold = None if limit == "auto" else limit
                self.hot[name] = hot_pixels(self.read(dark), threshold=threshold).compute()
        return self.hot.get(name)

    def bad_of(self, job: Job, frames: xr.Dataset, opened: Mapping[str, xr.Dataset]) -> Any:
        """The mask of a job's raw frames: the config's file and what masters show, or None."""
        wanted = self.plan.config_of(job).mask
        found = list(self._of_masters(job, opened))
        if wanted.bad_pixels is not None:
            found.append(unreported_mask(wanted.bad_pixels, found[0] if found else frames))
        if not found:
            return None
        merged = merge_masks(*xr.align(*found, join="inner")) if found[1:] else found[0]
        if wanted.bad_columns is not None:
            merged = bad_columns(merged, share=wanted.bad_columns)
        return merged

    def _of_masters(self, job: Job, opened: Mapping[str, xr.Dataset]) -> Iterable[xr.Dataset]:
        longest = _longest(job, opened)
        if self.plan.config_of(job).mask.from_darks and longest and UNSTABLE in opened[longest]:
            with _one_thread:
                if longest not in self.unstable:
                    self.unstable[longest] = _unstable(longest, opened[longest]).compute()
            yield self.unstable[longest]
        flats = job.masters.get("flat", ())
        if self.plan.config_of(job).mask.from_flats and flats:
            with _one_thread:
                if flats[0] not in self.of_flats:
                    self.of_flats[flats[0]] = ccdmask(self.read(opened[flats[0]])).compute()
            yield self.of_flats[flats[0]]


def _unstable(name: str, dark: xr.Dataset) -> xr.Dataset:
    """The unstable pixels that a master dark holds, as a mask."""
    plane = dark[UNSTABLE]
    steps, file = plane.attrs["steps"], f"unstable pixels of {name}"
    return mask_dataset(plane.data, plane.coords, file, dark.attrs["checksum"], steps)


def _longest(job: Job, opened: Mapping[str, xr.Dataset]) -> str | None:
    """The longest dark of a job."""
    names = job.masters.get("dark", ())
    if not names:
        return None
    return max(names, key=lambda name: float(opened[name].attrs.get("exptime", 0)))
