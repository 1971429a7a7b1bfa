"""Make what a plan says and is not there yet: masters, science frames, ledger and report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import dask
import xarray as xr

from daskcal.combination import combine
from daskcal.errors import ArgumentError, DaskcalError, FrameError, choose
from daskcal.fits.layout import Written
from daskcal.fits.write import hashed
from daskcal.frames.memory import budget
from daskcal.frames.scratch import scratch_removed
from daskcal.masters.library import Library
from daskcal.night.calibrate.frames import calibrate_frames, raw_frames, steps
from daskcal.night.calibrate.masks import PixelMasks
from daskcal.night.calibrate.mosaic_flats import MosaicFlats
from daskcal.night.calibrate.opened import OpenedMasters
from daskcal.night.calibrate.recipes import combine_arguments
from daskcal.night.config.keys import Output
from daskcal.night.config.read import NightConfig
from daskcal.night.gates.judge import Judge, RejectedMasterError
from daskcal.night.ledger import Ledger, ProductEntry, says_the_same, write_ledger
from daskcal.night.library import shelve
from daskcal.night.output.fit import check_targets
from daskcal.night.output.place import Place, called, place_of
from daskcal.night.output.seen import require_seen
from daskcal.night.plan.effort import bytes_in
from daskcal.night.plan.jobs import Job, used_masters
from daskcal.night.plan.plan import Plan, plan_night
from daskcal.night.report import write_report
from daskcal.night.report.pixels import Look
from daskcal.night.reuse.journal import Before, Journal, read_before
from daskcal.night.reuse.keys import calibrated_key
from daskcal.night.reuse.origins import origin_of
from daskcal.night.reuse.reuse import Outlook, Reuse, lacking_master, outlook_text, too_few
from daskcal.night.reuse.targets import Targets
from daskcal.night.run.killers import killers_named
from daskcal.night.run.progress import Watch
from daskcal.night.run.quality import Seen, figures_of
from daskcal.night.run.record import Record
from daskcal.night.run.waves import make_science
from daskcal.products import PLANES, to_fits
from daskcal.provenance import Origin
from daskcal.strict import strict_keywords

Options = dict[str, Any]


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
    library: str | PathLike[str] | None = None,
    command: str = "",
    watch: Watch | None = None,
) -> Ledger:
    """Reduce a night: master biases, darks and flats, science frames, ledger and report.

    What an earlier run has made from the same is left as it is, whether that run came to its end
    or not. ``docs/howto/nights.md`` says what decides that.

    Parameters
    ----------
    raw : path
        Folder of raw frames.
    output : path
        Folder for what is made, or its URL (``s3://bucket/reduced``); made where it is missing.
        Products of daskcal in it are replaced
        where something has changed that they depend on; other files never.
    config : NightConfig or path, optional
        A config file, or the name of a shipped camera.
    format, products, compress, keep_calibrated : optional
        In place of the config's ``[output]``.
    select, exclude : optional
        As in `plan_night`.
    memory : str, optional
        What computing may use, such as ``"4GB"``.
    library : path, optional
        Folder of masters of many nights, made where it is missing: they serve frames that none of
        the night's own masters serves, and the night's good masters are added to it.
    command : str
        What to note in the ledger as the command that was run.
    watch : Watch, optional
        Is told as products are begun and done (`daskcal.night.run.progress`).

    Returns
    -------
    Ledger
        What was found and made; it is also written to ``output/night.json``.

    Raises
    ------
    DaskcalError
        The night cannot be begun: no frames, no output, a config that cannot be used. What goes
        wrong with one frame or product is in the ledger instead. `OutputError`, where another run
        is at work on the same output.

    Examples
    --------
    >>> ledger = daskcal.reduce_night("raw", "out", exclude=["n0421*"])
    >>> print(ledger.counts())
    Counts(found=26, used=25, skipped=1, failed=0)
    """
    given = {
        "format": None if format is None else choose("format", format, ("fits", "zarr")),
        "compress": None if compress is None else choose("compress", compress, ("none", "rice")),
        "products": None if products is None else chosen_planes(products),
        "keep_calibrated": keep_calibrated,
    }
    with dask.config.set({} if memory is None else {"daskcal.memory": memory}):
        budget()  # refuses what is no size
        place = place_of(output)
        place.probe()
        found = None if library is None else Library(library)
        plan = _plan(raw, config, select, exclude, output, found)
        settings = plan.config.output.model_copy(
            update={key: value for key, value in given.items() if value is not None}
        )
        plan = replace(plan, config=plan.config.model_copy(update={"output": settings}))
        return Run(plan, place, watch or Watch()).all(command)


def _plan(
    raw: str | PathLike[str],
    config: NightConfig | str | PathLike[str] | None,
    select: str | None,
    exclude: Sequence[str],
    output: str | PathLike[str],
    library: Library | None,
) -> Plan:
    """The plan, without masters of the library whose content is not what it was."""
    while True:
        plan = plan_night(
            raw, config, select=select, exclude=exclude, output=output, library=library
        )
        if plan.library is None or library is None:
            return plan
        together = plan.config.flat.normalise_over == "mosaic"
        if not library.check(plan.library.taken(used_masters(plan.jobs), together)):
            return replace(plan, messages=(*plan.messages, *library.damaged.values()))


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
    """One run: where it writes, and the masters that there are."""

    plan: Plan
    place: Place
    watch: Watch
    record: Record = field(init=False)
    opened: OpenedMasters = field(default_factory=OpenedMasters)
    pixels: PixelMasks = field(init=False)
    flats: MosaicFlats = field(init=False)
    keys: dict[str, str] = field(default_factory=dict)
    judge: Judge = field(init=False)
    journal: Journal = field(init=False)
    reuse: Reuse = field(init=False)
    outlook: Outlook = field(default_factory=Outlook)
    looks: dict[str, Look] = field(default_factory=dict)  # at products, by those who made them
    said: list[str] = field(default_factory=list)  # of the product at work
    _begun: tuple[float, int] = (0.0, 0)  # the product at work: since when, and gates before it

    def __post_init__(self) -> None:
        self.record = Record(self.plan)
        self.pixels = PixelMasks(self.plan)
        self.flats = MosaicFlats(self.plan)
        self.judge = Judge(self)
        self.journal = Journal(self.place)

    @property
    def settings(self) -> Output:
        """What is written, and how."""
        return self.plan.config.output

    def all(self, command: str) -> Ledger:
        """Every job that is to be done, then ledger and report."""
        targets = Targets.of(self.plan)
        self.place.check(self.plan.folder)
        self.place.make(())
        with self.place.held(self.watch.note):
            self.place.sweep(targets.folders)
            before = read_before(self.place)
            raw = (frame.source.path for frame in self.plan.frames)
            check_targets(self.place, targets.names, raw, before.products)
            self.place.make(targets.folders)
            self._look_ahead(targets, before)
            if self.outlook.remakes:
                require_seen(self.plan.frames[self.plan.jobs[0].frames[0]].source, self.place)
            self._jobs(targets)
            return self._finish(before, command)

    def _look_ahead(self, targets: Targets, before: Before) -> None:
        """Find out what is to be made, and say so."""
        self.note(self.plan.messages)
        self._borrow()
        self.reuse = Reuse(self.plan, self.place, before, targets.stores, targets.kept)
        self.keys = self.reuse.keys
        self.outlook = self.reuse.outlook(targets.jobs)
        for message in (*before.messages, *outlook_text(self.outlook, before)):
            self.watch.note(message)
        sizes = {job.name: bytes_in(self.plan, job) for job in targets.jobs}
        self.watch.start({name: sizes[name] for name in self.outlook.remakes})
        for i, lost in self.outlook.lost.items():
            self.record.lose(i, lost)

    def _jobs(self, targets: Targets) -> None:
        for job in targets.jobs:
            if job.name in self.outlook.kept and job.kind != "science":
                self.take_over(job, targets.kept)
            elif job.kind != "science":
                self.make(job, targets.kept)
        science = [job for job in targets.jobs if job.kind == "science"]
        if targets.stores:
            from daskcal.night.run.stores import make_stores

            make_stores(self, science, targets.stores)
        else:
            make_science(self, science)
        for missing in self.plan.missing:
            self.record.add_missing(missing)

    def _finish(self, before: Before, command: str) -> Ledger:
        """Ledger and report, in place of the journal."""
        if self.plan.library is not None:
            self.note(shelve(self, self.plan.library.folder))
        self.note([self.journal.trouble] if self.journal.trouble else [])
        ledger = self.record.ledger(command)
        self.place.require()
        write_ledger(ledger, self.place.at("night.json"))
        told = self.place.sizes(["report/index.html"]) and says_the_same(ledger, before.ledger)
        if before.interrupted or not told:
            write_report(str(self.place), ledger, self.looks)
        self.place.require()
        self.journal.close()
        return ledger

    def take_over(self, job: Job, kept: dict[int, str]) -> None:
        """A product that is as it should be, with all that there is to say of it."""
        entry = self.reuse.before.products[job.name]
        frames = self.record.left(job.frames)
        made = entry.status == "made"
        beside = [self.reuse.before.products[kept[i]] for i in frames if made and i in kept]
        entries = [replace(one, reused=True, rules=job.rules) for one in (entry, *beside)]
        if job.name in self.reuse.stores:
            from daskcal.night.run.stores import ready_parts

            ready = ready_parts(self, self.reuse.stores[job.name])
            frames = tuple(i for part in ready for i in part.frames)
        self.record.add(entries[0], frames)
        self.record.add_beside(entries[1:])
        for one in entries:
            self.record.gates += self.reuse.before.gates.get(one.name, [])
        for message in entry.messages:
            self.record.note(message)
        if job.kind != "science" and made:
            self.opened.add(job.name, self.place.at(job.name), entry.checksum)

    def make(self, job: Job, kept: dict[int, str]) -> None:
        """One product; what is wrong with one of its frames costs that frame."""
        self.begin(job.name)
        with scratch_removed():
            entries = self._attempt(job, kept)
        self.done(job, entries, job.frames)

    def begin(self, name: str) -> None:
        """A product is begun."""
        self.said, self._begun = [], (time.perf_counter(), len(self.record.gates))
        self.watch.begin(name)

    def done(self, job: Job, entries: Sequence[ProductEntry], frames: Sequence[int]) -> None:
        """A product of `frames` is done, well or not, with those beside it: note it for good."""
        since, gates = self._begun
        entry = replace(
            entries[0],
            seconds=round(time.perf_counter() - since, 3),
            key=self.reuse.keys[job.name],
            lost=self.record.lost(job.frames),
            messages=tuple(dict.fromkeys(self.said)),
        )
        self.record.add(entry, frames)
        self.record.add_beside(entries[1:])
        self.journal.add([entry, *entries[1:]], self.record.gates[gates:])
        self.watch.end(job.name, f"{entry.status} {entry.reason}".rstrip())

    def _attempt(self, job: Job, kept: dict[int, str]) -> list[ProductEntry]:
        """The product's entry, made or not, and those of the frames that were kept beside it."""
        while True:
            left = self.record.left(job.frames)
            trouble = self.trouble(job, left)
            if trouble is not None:
                return [trouble]
            try:
                with self.naming_killers(left):
                    return self._write(replace(job, frames=left), kept)
            except FrameError as error:
                if self.record.blame(error, left) is None:
                    return [self.record.not_made(job, "failed", str(error))]
            except RejectedMasterError as error:
                return [self.record.not_made(job, "missing", str(error))]
            except DaskcalError as error:
                return [self.record.not_made(job, "failed", str(error))]

    def naming_killers(self, frames: Sequence[int]) -> AbstractContextManager[None]:
        """A frame that kills workers is at fault, and not the product."""
        return killers_named([(i, self.plan.frames[i]) for i in frames], lambda i: self.raw([i]))

    def trouble(self, job: Job, left: Sequence[int]) -> ProductEntry | None:
        """Why a job cannot be begun: too few frames are `left`, or a master was not made."""
        if reason := too_few(self.plan, job, left):
            return self.record.not_made(job, "missing", reason)
        lacking = lacking_master(job, self.opened)
        if not lacking:
            return None
        missing = self.record.status_of(lacking) == "missing"
        reason = f"{lacking}, which it needs, was not made"
        return self.record.not_made(job, "missing" if missing else "failed", reason)

    def _borrow(self) -> None:
        """Have at hand what jobs take from the library."""
        if (library := self.plan.library) is None:
            return
        for master in library.taken(used_masters(self.plan.jobs), self.flats.wanted):
            checksum = library.checksums.get(master.name) or master.check()
            self.opened.add(master.name, master.path, checksum)
            self.record.lent[master.name] = checksum

    def raw(self, chosen: Sequence[int]) -> xr.Dataset:
        """Some of the night's frames, opened lazily."""
        return raw_frames(self.plan, chosen)

    def calibrated(self, job: Job, frames: xr.Dataset) -> xr.Dataset:
        """The raw frames of a job, calibrated with its masters, lazily."""
        norm = self.norm_of(job)
        done, messages = calibrate_frames(job, frames, self.opened, self.pixels, norm)
        self.note(messages)
        return done

    def norm_of(self, job: Job) -> float | None:
        """What the flat of a job is divided by, where the detectors of a mosaic share one norm."""
        flats = job.masters.get("flat", ())
        return self.flats.norm(flats[0], self.opened) if flats and self.flats.wanted else None

    def note(self, messages: Iterable[str]) -> None:
        """Show messages and keep them for the ledger, each once."""
        for message in messages:
            self.said.append(message)
            if self.record.note(message):
                self.watch.note(message)

    def _write(self, job: Job, kept: dict[int, str]) -> list[ProductEntry]:
        raw = self.raw(job.frames)
        calibrated = self.calibrated(job, raw)
        self.judge.frames(job, raw, None if job.kind == "science" else calibrated)
        if job.kind == "science":
            (written,) = self._frames(calibrated, [origin_of(self, job)])
            return [self.entry(job, job.name, written, steps(calibrated))]
        master = self.combined(job, calibrated, self.judge.asked)
        path, origin = self.place.at(job.name), origin_of(self, job)
        unjudged = self.place.draft(job.name)  # the master there is not given up for a bad one
        with called(unjudged, path):
            (sink,) = to_fits(master, unjudged, compute=False, origin=origin)
            written = self.judge.master(job, raw, master, unjudged, hashed(sink))
        written = replace(written, path=path)
        self.place.settle(unjudged, job.name)
        entry = self.entry(job, job.name, written, steps(master))
        entry = replace(entry, origin=json.loads(origin.text()))
        self.opened.add(job.name, path, written.checksum)
        return [entry, *(self._keep(job, calibrated, kept) if kept else [])]

    def combined(
        self, job: Job, calibrated: xr.Dataset, asked: Callable[[Options], Options] = dict
    ) -> xr.Dataset:
        """The master of calibrated frames, lazily; `asked` may ask `combine` for more."""
        options = combine_arguments(getattr(self.plan.config.combine, job.kind))
        options = asked(self.flats.scaled(job, calibrated, options))
        master = combine(calibrated, **options)
        master.attrs["inputs"] = [self.plan.relative(i) for i in job.frames]
        master, message = self.pixels.with_unstable(job, calibrated, master)
        self.note([message] if message else [])
        return master

    def _frames(self, calibrated: xr.Dataset, origins: Sequence[Origin]) -> list[Written]:
        """Write frames under their product names, all in one folder."""
        folder = self.place.at(origins[0].name.partition("/")[0])
        stems = [origin.name.split("/", 1)[1].removesuffix(".fits") for origin in origins]
        planes, compress = self.settings.products, self.settings.compress
        return to_fits(
            calibrated, folder, names=stems, planes=planes, compress=compress, overwrite=True,
            origin=origins,
        )  # fmt: skip

    def _keep(self, job: Job, calibrated: xr.Dataset, kept: dict[int, str]) -> list[ProductEntry]:
        """Write the calibrated frames of a master as well."""
        key = calibrated_key(self.plan, self.reuse.keys[job.name])
        origins = [
            replace(origin_of(self, job, name=kept[i], kind="calibrated", frames=(i,)), key=key)
            for i in job.frames
        ]
        written = self._frames(calibrated, origins)
        entries = []
        for at, (i, file) in enumerate(zip(job.frames, written, strict=True)):
            entry = self.entry(replace(job, frames=(i,)), kept[i], file, steps(calibrated, at))
            entries.append(replace(entry, kind="calibrated", key=key))
        return entries

    def entry(
        self, job: Job, name: str, written: Written, done: list[Any], seen: Seen | None = None
    ) -> ProductEntry:
        """The entry of a product that is made; `seen` is what a look at its file would tell."""
        figures, fingerprint = figures_of(written.path) if seen is None else seen
        return ProductEntry(
            name, job.kind, "made",
            inputs=self.record.inputs(job.frames, self.flats.masters_of(job)),
            masters=job.master_names, parameters={"steps": done}, checksum=written.checksum,
            size=written.size, rules=job.rules, figures=figures, fingerprint=fingerprint,
        )  # fmt: skip
