"""Judges frames and masters by numbers as they are made, and leaves out what is beyond limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from daskcal.errors import DaskcalError, FrameError
from daskcal.fits.layout import Written
from daskcal.frames.steps import last_step
from daskcal.night.gates.frames import Group, Numbers, of_raw, of_rejected, of_signal
from daskcal.night.gates.masters import master_numbers
from daskcal.night.gates.number import Number
from daskcal.night.gates.sample import raw_numbers, read_sample
from daskcal.night.gates.sound import found_sound
from daskcal.night.ledger import Gate

if TYPE_CHECKING:
    from daskcal.night.config.gates import Gates
    from daskcal.night.plan.jobs import Job
    from daskcal.night.run.run import Run


# whatever such a master is used for would have none either
_NO_VALUE = (
    "none of its pixels has a value: the overscan or the pixels of its frames have none (NaN), or "
    "its own masters"
)


class RejectedMasterError(DaskcalError):
    """A master that is beyond its limits, and is not to be made."""


@dataclass
class Judge:
    """The gates of a run.

    Attributes
    ----------
    run : Run
        Whose frames and masters are judged, and whose record has the numbers.
    sound : set of int
        Frames whose data were found to be those of their DATASUM.
    """

    run: Run
    sound: set[int] = field(default_factory=set)

    @property
    def limits(self) -> Gates:
        """What the config says."""
        return self.run.plan.config.gates

    def frames(self, job: Job, raw: xr.Dataset, calibrated: xr.Dataset | None = None) -> None:
        """Judge the frames of a job before they are used; `calibrated` are those of a master.

        Raises
        ------
        FrameError
            Some cannot be used; those that are rejected the record knows already.
        """
        if calibrated is not None:
            self.run.record.forget_gates(job.name)
        self._check_data(job.frames)
        found = of_raw(self.limits, raw_numbers(raw), calibration=job.kind != "science")
        if calibrated is not None:
            self._judge_together(found, job, calibrated)
        self._settle(job, found)

    def master(
        self, job: Job, raw: xr.Dataset, master: xr.Dataset, path: str, sink: da.Array
    ) -> Written:
        """Write a combined image, and judge it, and its frames by what they lost.

        Parameters
        ----------
        raw, master : xarray.Dataset
            The job's frames, and what they were combined to as `asked` says.
        path : str
            Its file, not yet under its name, which is removed again where the master or one of its
            frames is rejected.
        sink : dask.array.Array
            What `to_fits` gives to be computed, which writes the file.

        Raises
        ------
        FrameError, RejectedMasterError
            Frames are rejected, of which the record knows; or the master is.
        """
        # arrays, not Datasets: then both come out of one pass over the frames
        said = master["rejected_fraction"].data if "rejected_fraction" in master else np.empty(0)
        try:
            valued = da.isfinite(master["image"].data).any()
            written, fractions, has_value = dask.compute(sink, said, valued)
        except BaseException:
            self.run.place.discard(path)
            raise
        try:
            self._settle(job, of_rejected(self.limits, fractions))
            if not has_value:
                raise RejectedMasterError(_NO_VALUE)
            self._settle_master(job, master_numbers(self.limits, job, raw, path, self.run.pixels))
        except DaskcalError:
            self.run.place.discard(path)
            raise
        return written

    def asked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options of `combine` with what the gates need of it."""
        wanted = self.limits.rejected_fraction.action != "off" and options["reject"] != "none"
        return options | {"rejected": "fraction" if wanted else False}

    def _check_data(self, frames: Sequence[int]) -> None:
        """Raise where the data of a frame are not those of its DATASUM."""
        if not self.limits.datasum:
            return
        new = [(i, self.run.plan.frames[i]) for i in frames if i not in self.sound]
        for i in found_sound(new):
            self.sound.add(i)

    def _judge_together(self, found: Numbers, job: Job, calibrated: xr.Dataset) -> None:
        """Add what calibrated frames say, as far as they are not rejected, to what was `found`."""
        places = _left(found)
        if not places:
            return
        sample = read_sample(calibrated.isel(frame=places))
        if job.kind == "flat":
            _add(found, of_signal(self.limits, sample, places))
            kept = [k for k, at in enumerate(places) if at in _left(found)]
            sample, places = sample.of(kept), [places[k] for k in kept]
        group = Group(
            self.limits,
            job.kind,
            sample,
            calibrated["ccd_temp"].values.astype(np.float64)[places],
            str(calibrated["image"].attrs.get("units", "")),
            has_bias=not any(
                last_step(calibrated, step) for step in ("subtract_bias", "subtract_overscan")
            ),
        )
        _add(found, group.judge(places))

    def _settle(self, job: Job, found: Numbers) -> None:
        """Put numbers of frames on record; raise for one of those that are rejected, if any."""
        record, bad = self.run.record, None
        for at, numbers in found.items():
            i = job.frames[at]
            self._note(job, numbers, record.place(i))
            reasons = [f"gate {n.name}: {n.text}" for n in numbers if n.verdict == "reject"]
            if reasons:
                record.reject(i, "; ".join(reasons))
                bad = i
        if bad is not None:
            source = self.run.plan.frames[bad].source
            raise FrameError(source.path, "rejected", record.failed[bad], source.hdu)

    def _settle_master(self, job: Job, numbers: Sequence[Number]) -> None:
        self._note(job, numbers)
        reasons = [f"gate {n.name}: {n.text}" for n in numbers if n.verdict == "reject"]
        if reasons:
            raise RejectedMasterError("; ".join(reasons))

    def _note(self, job: Job, numbers: Iterable[Number], frame: str = "") -> None:
        gates, warnings = gates_of(numbers, job.name, frame)
        self.run.record.gates += gates
        self.run.note(warnings)


def gates_of(
    numbers: Iterable[Number], product: str, frame: str = ""
) -> tuple[list[Gate], list[str]]:
    """Lines of the ledger for the numbers of a product or of its `frame`, and their warnings."""
    gates = [number.gate(product, frame) for number in numbers]
    warned = (gate for gate in gates if gate.verdict == "warn")
    return gates, [f"{gate.frame or gate.product}: {gate.message}" for gate in warned]


def _left(found: Numbers) -> list[int]:
    """The frames that are not rejected so far, by their place in the job."""
    return [at for at, each in found.items() if all(n.verdict != "reject" for n in each)]


def _add(found: Numbers, more: Numbers) -> None:
    for at, numbers in more.items():
        found[at] += numbers
