"""Make what a plan says: masters, science frames, ledger and report."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import dask
import xarray as xr

import daskcal
from daskcal.calibration import calibrate, hot_pixels
from daskcal.combination import combine
from daskcal.errors import ArgumentError, DaskcalError, FrameError, OutputError, choose
from daskcal.frames.master import open_master
from daskcal.frames.open import frames_dataset
from daskcal.night.config import NightConfig
from daskcal.night.ledger import FrameEntry, Input, Ledger, ProductEntry, write_ledger
from daskcal.night.plan import Job, Plan, instrument_of, plan_night, used_masters
from daskcal.night.progress import Watch
from daskcal.night.quality import key_figures, noise_message
from daskcal.night.recipes import calibration_arguments, combine_arguments
from daskcal.night.report import write_report
from daskcal.plot import read_image
from daskcal.products import to_fits
from daskcal.strict import strict_keywords

@strict_keywords
def reduce_night(
    raw: str | PathLike[str],
    output: str | PathLike[str],
    config: NightConfig | str | PathLike[str] | None = None,
    *,
    format: str | None = None,
    products: Sequence[str] | None = None,
    compress: str | None = None,
    keep_calibrated: bool | None = None,
    select: str | None = None,
    exclude: Sequence[str] = (),
    memory: str | None = None,
    command: str = "",
    watch: Watch | None = None,
) -> Ledger:
    """Reduce a night: master biases, darks and flats, science frames, ledger and report.

    Parameters
    ----------
    raw : path
        Folder of raw frames.
    output : path
        Folder for what is made; made where it is missing.
    config : NightConfig or path, optional
        A config file, or the name of a shipped camera.
    format, products, compress, keep_calibrated : optional
        In place of the config's ``[output]``.
    select, exclude : optional
        As in `plan_night`.
    memory : str, optional
        What computing may use, such as ``"4GB"``.
    command : str
        What to note in the ledger as the command that was run.
    watch : Watch, optional
        Is told as products are begun and done (`daskcal.night.progress`).

    Returns
    -------
    Ledger
        What was found and made; it is also written to ``output/night.json``.

    Raises
    ------
    DaskcalError
        The night cannot be begun: no frames, no output, a config that cannot be used. What goes
        wrong with one frame or product is in the ledger instead.
    """
    overrides = {
        "format": format,
        "products": None if products is None else tuple(products),
        "compress": compress,
        "keep_calibrated": keep_calibrated,
    }
    if format is not None:
        choose("format", format, ("fits", "zarr"))
    plan = plan_night(raw, config, select=select, exclude=exclude)
    given = {key: value for key, value in overrides.items() if value is not None}
    output_settings = plan.config.output.model_copy(update=given)
    plan = replace(plan, config=plan.config.model_copy(update={"output": output_settings}))
    folder = _prepared(Path(output), plan.folder)
    settings = {} if memory is None else {"daskcal.memory": memory}
    with dask.config.set(settings):
        run = Run(plan, folder, command, watch or Watch())
        return run.all()


def _prepared(folder: Path, raw: Path) -> Path:
    """The output folder, made and found writable before anything is read."""
    if folder.absolute() == raw:
        raise ArgumentError(f"{folder} holds the raw frames; give another folder for the products")
    try:
        for part in ("", "masters", "science"):
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}; give another folder") from error
    for part in ("", "masters", "science"):
        if not os.access(folder / part, os.W_OK | os.X_OK):
            raise OutputError(f"{folder / part} is not writable; give another folder")
    return folder


@dataclass
class Run:
    """One run: the plan, what has been made so far, and what is to be noted."""

    plan: Plan
    folder: Path
    command: str
    watch: Watch
    started: str = field(default_factory=lambda: _now())
    entries: list[ProductEntry] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    made_of: dict[int, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    opened: dict[str, xr.Dataset] = field(default_factory=dict)
    hot: dict[str, xr.Dataset] = field(default_factory=dict)

    def all(self) -> Ledger:
        """Every job, then ledger and report."""
        self.note(self.plan.messages)
        self.watch.start(len(self.plan.jobs))
        taken = used_masters(self.plan.jobs)
        science = [job for job in self.plan.jobs if job.kind == "science"]
        for job in self.plan.jobs:
            if job.kind != "science":
                self._make(job, used=job.name in taken)
        if self.plan.config.output.format == "zarr":
            from daskcal.night.stores import make_stores

            make_stores(self, science)
        else:
            for job in science:
                self._make(job, used=True)
        for missing in self.plan.missing:
            self.entries.append(
                ProductEntry(
                    missing.name, missing.kind, "missing", inputs=self.inputs(missing.frames),
                    reason=missing.reason, rules=missing.rules,
                )
            )  # fmt: skip
        ledger = self._ledger()
        write_ledger(ledger, self.folder / "night.json")
        write_report(self.folder, ledger)
        return ledger

    def _make(self, job: Job, used: bool) -> None:
        """One product; what is wrong with one of its frames costs that frame."""
        begin = time.perf_counter()
        self.watch.begin(job.name)
        left = [i for i in job.frames if i not in self.failed]
        entry = None
        while entry is None:
            try:
                if not left:
                    raise DaskcalError("none of its frames can be read")
                if not self.can_make(job):
                    raise DaskcalError("a master that it needs could not be made")
                entry = self._write(replace(job, frames=tuple(left)), used)
            except FrameError as error:
                bad = self.blame(error, left)
                if bad is None:
                    entry = self.failure(job, used, str(error))
                else:
                    left.remove(bad)
            except DaskcalError as error:
                entry = self.failure(job, used, str(error))
        seconds = time.perf_counter() - begin
        self.entries.append(replace(entry, seconds=round(seconds, 3)))
        self.watch.end(job.name, f"{entry.status} {entry.reason}".rstrip())

    def can_make(self, job: Job) -> bool:
        """Whether the masters that a job needs were made."""
        return all(name in self.opened for name in _names(job))

    def blame(self, error: FrameError, frames: Sequence[int]) -> int | None:
        """The frame that an error is about, noted as failed; None where it is none of `frames`."""
        for i in frames:
            if self.plan.frames[i].source.path == error.path:
                self.failed[i] = error.message
                return i
        return None

    def failure(self, job: Job, used: bool, reason: str) -> ProductEntry:
        """The entry of a product that could not be made."""
        return ProductEntry(
            job.name, job.kind, "failed", used=used, inputs=self.inputs(job.frames),
            masters=_names(job), reason=reason, rules=job.rules,
        )  # fmt: skip

    def raw(self, chosen: Sequence[int]) -> xr.Dataset:
        """Some of the night's frames, opened lazily."""
        return frames_dataset(
            [self.plan.frames[i] for i in chosen],
            self.plan.table.iloc[list(chosen)],
            instrument_of(self.plan.config),
        )

    def calibrated(self, job: Job, frames: xr.Dataset) -> xr.Dataset:
        """The raw frames of a job, calibrated with its masters, lazily."""
        masters = {
            kind: [self.opened[name] for name in names] for kind, names in job.masters.items()
        }
        masters["hot"] = self._hot(job) if job.kind == "science" else []
        arguments, messages = calibration_arguments(self.plan.config, job, frames, masters)
        self.note(messages)
        return calibrate(frames, **arguments)

    def note(self, messages: Sequence[str]) -> None:
        """Keep messages for the ledger, each once."""
        for message in messages:
            if message not in self.messages:
                self.messages.append(message)
                self.watch.note(message)

    def _hot(self, job: Job) -> list[xr.Dataset]:
        """The hot pixels that the longest dark of a job shows, found once for each dark."""
        limit = self.plan.config.dark.hot_threshold
        names = job.masters.get("dark", ())
        if limit is None or not names:
            return []
        longest = max(names, key=lambda name: float(self.opened[name].attrs.get("exptime", 0)))
        if longest not in self.hot:
            threshold = None if limit == "auto" else limit
            self.hot[longest] = hot_pixels(self.opened[longest], threshold=threshold).compute()
        return [self.hot[longest]]

    def _write(self, job: Job, used: bool) -> ProductEntry:
        calibrated = self.calibrated(job, self.raw(job.frames))
        output = self.plan.config.output
        planes = {"planes": output.products, "compress": output.compress, "overwrite": True}
        path = self.folder / job.name
        if job.kind == "science":
            stem = path.name.removesuffix(".fits")
            (written,) = to_fits(calibrated, path.parent, names=[stem], **planes)
        else:
            if output.keep_calibrated:
                self._keep(job, calibrated, planes)
            settings = getattr(self.plan.config.combine, job.kind)
            master = combine(calibrated, **combine_arguments(settings))
            master.attrs["inputs"] = [self.plan.relative(i) for i in job.frames]
            planes |= {"planes": ("image", "uncert", "mask"), "compress": "none"}
            (written,) = to_fits(master, path, **planes)
            self.opened[job.name] = open_master(path).assign_attrs(file=job.name)
            if job.kind == "bias":
                self.note([m for m in [noise_message(calibrated, job.name)] if m])
        for i in job.frames:
            self.made_of.setdefault(i, job.name)
        return ProductEntry(
            job.name, job.kind, "made", used=used, inputs=self.inputs(job.frames, job),
            masters=_names(job), parameters={"steps": _steps(calibrated)},
            checksum=written.checksum, size=written.size, rules=job.rules,
            figures=key_figures(*read_image(path)),
        )  # fmt: skip

    def _keep(self, job: Job, calibrated: xr.Dataset, planes: dict[str, Any]) -> None:
        from daskcal.products import product_names

        folder = self.folder / "calibrated"
        every = [i for j in self.plan.jobs if j.kind != "science" for i in j.frames]
        sources = [self.plan.frames[i].source for i in every]
        names = dict(
            zip(every, product_names([s.path for s in sources], [s.hdu for s in sources]), strict=True)
        )
        folder.mkdir(exist_ok=True)
        to_fits(calibrated, folder, names=[names[i] for i in job.frames], **planes)

    def inputs(self, frames: Sequence[int], job: Job | None = None) -> tuple[Input, ...]:
        """Ledger entries of frames, and of the masters that a job took."""
        found = [
            Input(self.plan.relative(i), s.hdu, self.plan.frames[i].fingerprint)
            for i in frames
            for s in [self.plan.frames[i].source]
        ]
        for kind, names in (job.masters if job else {}).items():
            for name in names:
                checksum = str(self.opened[name].attrs.get("checksum", ""))
                found.append(Input(name, 0, checksum, role=kind))  # type: ignore[arg-type]
        return tuple(found)

    def _ledger(self) -> Ledger:
        return Ledger(
            version=daskcal.__version__,
            command=self.command,
            config=self.plan.config.model_dump_json(indent=1, exclude_defaults=True),
            started=self.started,
            finished=_now(),
            choices=self.plan.choices,
            frames=tuple(self._frame_entries()),
            products=tuple(self.entries),
            messages=tuple(self.messages),
        )

    def _frame_entries(self) -> list[FrameEntry]:
        entries = [
            FrameEntry(self._relative(bad.path), bad.hdu, "failed", reason=bad.message)
            for bad in self.plan.unreadable
        ]
        lacking = {
            i: f"{e.name}: {e.reason}" for e in self.plan.missing for i in e.frames
        }
        unmade = {
            path: f"{e.name} failed: {e.reason}"
            for e in self.entries if e.status == "failed"
            for path in (given.path for given in e.inputs)
        }  # fmt: skip
        for i, frame in enumerate(self.plan.frames):
            path = self.plan.relative(i)
            reasons = (self.plan.skipped.get(i), lacking.get(i), unmade.get(path))
            if i in self.failed:
                status, reason = "failed", self.failed[i]
            elif i in self.made_of:
                status, reason = "used", f"in {self.made_of[i]}"
            else:
                status = "skipped"
                reason = next((r for r in reasons if r), "nothing was made of it")
            row = self.plan.table.iloc[i]
            entries.append(
                FrameEntry(
                    path, frame.source.hdu, status, reason, frame.fingerprint,
                    imagetyp=str(row["imagetyp"]), exptime=float(row["exptime"]),
                    filter=str(row["filter"]), object=str(row["object"]),
                    date_obs="" if row["date_obs"] != row["date_obs"] else str(row["date_obs"]),
                )
            )  # fmt: skip
        return entries

    def _relative(self, path: str) -> str:
        inside = Path(path).is_relative_to(self.plan.folder)
        return str(Path(path).relative_to(self.plan.folder)) if inside else path


def _names(job: Job) -> tuple[str, ...]:
    return tuple(name for names in job.masters.values() for name in names)


def _steps(frames: xr.Dataset) -> list[Any]:
    import json

    return [json.loads(step) for step in frames.attrs.get("steps", [])]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
