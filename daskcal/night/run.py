"""Make what a plan says: masters, science frames, ledger and report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import dask
import xarray as xr

from daskcal.calibration import calibrate
from daskcal.combination import combine
from daskcal.errors import ArgumentError, DaskcalError, FrameError, choose
from daskcal.fits.write import Written
from daskcal.frames.master import open_master
from daskcal.frames.memory import budget
from daskcal.frames.open import frames_dataset
from daskcal.frames.scratch import scratch_removed
from daskcal.frames.steps import spelled_out
from daskcal.night.config import NightConfig
from daskcal.night.config_keys import Output
from daskcal.night.gates import Judge, RejectedMasterError
from daskcal.night.jobs import Job, frame_names
from daskcal.night.ledger import Ledger, ProductEntry, write_ledger
from daskcal.night.mosaic_flats import MosaicFlats
from daskcal.night.output import check_output, check_targets, make_folders
from daskcal.night.pixels import PixelMasks
from daskcal.night.plan import Plan, instrument_of, plan_night
from daskcal.night.progress import Watch
from daskcal.night.quality import key_figures
from daskcal.night.recipes import calibration_arguments, combine_arguments, noise_unknown
from daskcal.night.record import Record
from daskcal.night.report import write_report
from daskcal.plot import read_image
from daskcal.products import PLANES, to_fits
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
        Folder for what is made; made where it is missing. Products of daskcal in it are replaced;
        other files never.
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
    given = {
        "format": None if format is None else choose("format", format, ("fits", "zarr")),
        "compress": None if compress is None else choose("compress", compress, ("none", "rice")),
        "products": None if products is None else chosen_planes(products),
        "keep_calibrated": keep_calibrated,
    }
    with dask.config.set({} if memory is None else {"daskcal.memory": memory}):
        budget()  # refuses what is no size
        plan = plan_night(raw, config, select=select, exclude=exclude)
        settings = plan.config.output.model_copy(
            update={key: value for key, value in given.items() if value is not None}
        )
        plan = replace(plan, config=plan.config.model_copy(update={"output": settings}))
        return Run(plan, Path(output), watch or Watch()).all(command)


def chosen_planes(words: Sequence[str]) -> tuple[str, ...]:
    """The planes of products that `words` name: each once, and always the image.

    Raises
    ------
    ArgumentError
        A word is none.
    """
    if isinstance(words, str):
        raise ArgumentError(f"products={words!r} should be a sequence of {', '.join(PLANES)}")
    named = {choose("products", word, PLANES) for word in words} | {"image"}
    return tuple(plane for plane in PLANES if plane in named)


@dataclass
class Run:
    """One run: where it writes, and the masters that it has made."""

    plan: Plan
    folder: Path
    watch: Watch
    record: Record = field(init=False)
    opened: dict[str, xr.Dataset] = field(default_factory=dict)
    pixels: PixelMasks = field(init=False)
    flats: MosaicFlats = field(init=False)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self.record = Record(self.plan)
        self.pixels = PixelMasks(self.plan)
        self.flats = MosaicFlats(self.plan)
        self.judge = Judge(self)

    @property
    def settings(self) -> Output:
        """What is written, and how."""
        return self.plan.config.output

    def all(self, command: str) -> Ledger:
        """Every job, then ledger and report."""
        masters = [job for job in self.plan.jobs if job.kind != "science"]
        science = [job for job in self.plan.jobs if job.kind == "science"]
        stores: dict[str, list[Job]] = {}
        if self.settings.format == "zarr":
            from daskcal.night.stores import store_jobs

            stores, science = store_jobs(self.plan, science), []
        kept = self._kept_names(masters) if self.settings.keep_calibrated else {}
        self._prepare([job.name for job in (*masters, *science)], [*stores, *kept.values()])
        self.note(self.plan.messages)
        self.watch.start(len(masters) + len(science) + len(stores))
        for job in (*masters, *science):
            self._make(job, kept)
        for name, jobs in stores.items():
            from daskcal.night.stores import make_store

            make_store(self, name, jobs)
        for missing in self.plan.missing:
            self.record.add_missing(missing)
        ledger = self.record.ledger(command)
        write_ledger(ledger, self.folder / "night.json")
        write_report(self.folder, ledger)
        return ledger

    def _prepare(self, *names: Sequence[str]) -> None:
        """Find everything fit to be written before anything is, and make the folders."""
        check_output(self.folder, self.plan.folder)
        products = [name for some in names for name in some]
        check_targets(self.folder, products, (f.source.path for f in self.plan.frames))
        parts = {"masters", "science", *(name.split("/")[0] for name in products)}
        make_folders(self.folder, sorted(parts))

    def _make(self, job: Job, kept: dict[int, str]) -> None:
        """One product; what is wrong with one of its frames costs that frame."""
        begin = time.perf_counter()
        self.watch.begin(job.name)
        with scratch_removed():
            entries = self._attempt(job, kept)
        seconds = round(time.perf_counter() - begin, 3)
        self.record.add(replace(entries[0], seconds=seconds), job.frames)
        self.record.products += entries[1:]
        self.watch.end(job.name, f"{entries[0].status} {entries[0].reason}".rstrip())

    def _attempt(self, job: Job, kept: dict[int, str]) -> list[ProductEntry]:
        """The product's entry, made or not, and those of the frames that were kept beside it."""
        while True:
            left = tuple(i for i in job.frames if i not in self.record.failed)
            trouble = self.trouble(job, left)
            if trouble is not None:
                return [trouble]
            try:
                return self._write(replace(job, frames=left), kept)
            except FrameError as error:
                if self.record.blame(error, left) is None:
                    return [self.record.not_made(job, "failed", str(error))]
            except RejectedMasterError as error:
                return [self.record.not_made(job, "missing", str(error))]
            except DaskcalError as error:
                return [self.record.not_made(job, "failed", str(error))]

    def trouble(self, job: Job, left: Sequence[int]) -> ProductEntry | None:
        """Why a job cannot be begun: no frame is `left`, or a master was not made."""
        if not left:
            return self.record.not_made(job, "missing", "none of its frames can be used")
        if job.kind != "science":
            fewest = getattr(self.plan.config.combine, job.kind).min_frames
            if len(left) < fewest:
                reason = f"has {len(left)} frames left, and min_frames = {fewest}"
                return self.record.not_made(job, "missing", reason)
        lacking = next((name for name in job.master_names if name not in self.opened), None)
        if lacking is None:
            return None
        missing = self.record.status_of(lacking) == "missing"
        reason = f"{lacking}, which it needs, was not made"
        return self.record.not_made(job, "missing" if missing else "failed", reason)

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
        masters["bad"] = [self.pixels.bad_of(job, frames, self.opened)]
        masters["hot"] = self.pixels.hot_of(job, self.opened) if job.kind == "science" else []
        config = self.plan.config_of(job)
        arguments, messages = calibration_arguments(config, job, frames, masters)
        if "flat" in arguments and self.flats.wanted:
            arguments["flat"]["normalise"] = self.flats.norm(job.masters["flat"][0], self.opened)
        done = calibrate(frames, **arguments)
        self.note([*messages, *noise_unknown(self.plan.config, frames, done)])
        return done

    def note(self, messages: Iterable[str]) -> None:
        """Show messages and keep them for the ledger, each once."""
        for message in messages:
            if self.record.note(message):
                self.watch.note(message)

    def _write(self, job: Job, kept: dict[int, str]) -> list[ProductEntry]:
        raw = self.raw(job.frames)
        calibrated = self.calibrated(job, raw)
        self.judge.frames(job, raw, None if job.kind == "science" else calibrated)
        if job.kind == "science":
            (written,) = self._frames(calibrated, [job.name])
            return [self._made(job, job.name, written, steps(calibrated))]
        options = combine_arguments(getattr(self.plan.config.combine, job.kind))
        options = self.judge.asked(self.flats.scaled(job, calibrated, options))
        master = combine(calibrated, **options)
        master.attrs["inputs"] = [self.plan.relative(i) for i in job.frames]
        path = self.folder / job.name
        (sink,) = to_fits(master, path, overwrite=True, compute=False)
        written = self.judge.master(job, raw, master, path, sink)
        entry = self._made(job, job.name, written, steps(master))
        if job.kind == "dark" and (message := self.pixels.see_dark(job, calibrated)):
            self.note([message])
        self.opened[job.name] = open_master(path).assign_attrs(file=job.name)
        return [entry, *(self._keep(job, calibrated, kept) if kept else [])]

    def _frames(self, calibrated: xr.Dataset, names: Sequence[str]) -> list[Written]:
        """Write frames under their product names, all in one folder."""
        folder = (self.folder / names[0]).parent
        stems = [name.split("/", 1)[1].removesuffix(".fits") for name in names]
        planes, compress = self.settings.products, self.settings.compress
        return to_fits(
            calibrated, folder, names=stems, planes=planes, compress=compress, overwrite=True
        )

    def _keep(self, job: Job, calibrated: xr.Dataset, kept: dict[int, str]) -> list[ProductEntry]:
        """Write the calibrated frames of a master as well."""
        written = self._frames(calibrated, [kept[i] for i in job.frames])
        entries = []
        for at, (i, file) in enumerate(zip(job.frames, written, strict=True)):
            done = steps(calibrated.isel(frame=[at]))
            entry = self._made(replace(job, frames=(i,)), kept[i], file, done)
            entries.append(replace(entry, kind="calibrated"))
        return entries

    def _kept_names(self, masters: Sequence[Job]) -> dict[int, str]:
        """Where the calibrated frames of masters go."""
        every = [i for job in masters for i in job.frames]
        stems = frame_names(self.plan.table.iloc[every])
        return {i: f"calibrated/{stem}.fits" for i, stem in zip(every, stems, strict=True)}

    def _made(self, job: Job, name: str, written: Written, done: list[Any]) -> ProductEntry:
        return ProductEntry(
            name, job.kind, "made", inputs=self.record.inputs(job.frames, job.masters),
            masters=job.master_names, parameters={"steps": done}, checksum=written.checksum,
            size=written.size, rules=job.rules, figures=key_figures(*read_image(written.path)),
        )  # fmt: skip


def steps(dataset: xr.Dataset) -> list[Any]:
    """What was done to frames or a master, step by step."""
    return [json.loads(record.to_json()) for record in spelled_out(dataset)]
