"""Make a product again from what its header says, and see whether the bits are the same."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from daskcal.errors import CalibrationError, UnfitOutputError
from daskcal.fits import Frame
from daskcal.fits.checksum import file_checksum
from daskcal.fits.content import spool_folder
from daskcal.fits.urls import folder_of, is_url
from daskcal.fits.whole import at_hand
from daskcal.frames.scratch import scratch_removed
from daskcal.night.config.read import NightConfig
from daskcal.night.near import Near, find_frames, is_store, read_origins
from daskcal.night.output.place import place_of
from daskcal.night.plan.frames import night_table
from daskcal.night.plan.jobs import BareJob, Job
from daskcal.night.plan.plan import Plan, instrument_of
from daskcal.night.reuse.origins import named_files, origin_of
from daskcal.night.run.progress import Watch
from daskcal.night.run.run import Run
from daskcal.night.run.stores import joined
from daskcal.products import to_fits
from daskcal.provenance import Origin, UsedMaster, software
from daskcal.strict import strict_keywords
from daskcal.zarr import open_zarr, store_checksum, to_zarr

_NAMED = 5  # frames in a message


@dataclass(frozen=True, slots=True)
class Remade:
    """A product that was made again.

    Attributes
    ----------
    product : str
        The file that was to be made again.
    equal : bool
        Whether every bit is the same.
    path : str
        The new file; "" where none was asked for.
    checksums : tuple of str
        SHA-256 of the product and of the new file.
    remade : tuple of str
        Masters that were not there and were made again first.
    differences : tuple of str
        What differs, a line for each HDU.
    """

    product: str
    equal: bool
    path: str
    checksums: tuple[str, str]
    remade: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        first = [f"{name}: was not there, and was made again" for name in self.remade]
        if self.equal:
            said = f"the same bits as were made again (SHA-256 {self.checksums[0]})"
        else:
            said = "NOT the same bits as were made again: " + "; ".join(self.differences)
        new = [f"{self.path}: written"] if self.path else []
        return "\n".join([*first, f"{self.product}: {said}", *new])


@strict_keywords
def rerun(
    product: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    raw: str | PathLike[str] | None = None,
    library: str | PathLike[str] | None = None,
) -> Remade:
    """Make a product again from its header, and compare the bits.

    Its frames are found by name and content, its masters by checksum; a master that is not there is
    made again first, where the night's ledger is.

    Parameters
    ----------
    product : path
        A product of a night: a master, a science frame, a calibrated frame, or a Zarr store.
    output : path, optional
        Where to write the new file; it is compared and forgotten if not given.
    raw : path, optional
        Folder of the raw frames; that of the night's ledger if not given.
    library : path, optional
        The library that masters came from; that of the night's ledger if not given.

    Returns
    -------
    Remade
        Whether the bits are the same; ``print`` says it.

    Raises
    ------
    FrameError
        There is no such product, or it does not say what it was made of.
    CalibrationError
        Frames or masters are missing or changed, each of them named, or the software is another.
    OutputError
        `output` exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import daskcal
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = daskcal.simulate_night(f"{folder}/raw", size=(32, 40))
    ...     ledger = daskcal.reduce_night(night.folder, f"{folder}/out", night.config)
    ...     daskcal.rerun(f"{folder}/out/masters/bias.fits").equal
    True
    """
    path = os.fspath(product)
    origins, store = read_origins(path), is_store(path)
    for origin in origins:
        _require_same_software(path, origin)
    near = Near.of(path, origins[0], raw, library)
    checksum = store_checksum if store else file_checksum
    target = None if output is None else _target(Path(output))
    with _room(target) as folder:
        maker = _Maker(near, folder)
        new = maker.make(origins, store=store)
        checksums = checksum(path), checksum(new)
        equal = checksums[0] == checksums[1]
        differences = () if equal else _differences(path, new, store)
        if target is not None:
            os.replace(new, target)
    made = "" if target is None else str(target)
    return Remade(path, equal, made, checksums, tuple(maker.remade), differences)


def _require_same_software(path: str, origin: Origin) -> None:
    here = software(origin.config)
    other = {
        name: f"{name} {was} (here {here.get(name, 'not known')})"
        for name, was in origin.software.items()
        if here.get(name) != was
    }
    if other:
        raise CalibrationError(
            f"{path} cannot be made bit for bit here: it was made with {', '.join(other.values())};"
            " install those versions"
        )


def _target(output: Path) -> Path:
    if os.path.lexists(output):
        raise UnfitOutputError(f"{output} exists; give another name, or remove it")
    if not output.absolute().parent.is_dir():
        raise UnfitOutputError(f"{output} cannot be written: there is no folder {output.parent}")
    return output.absolute()


@contextlib.contextmanager
def _room(target: Path | None) -> Iterator[Path]:
    """A folder for what is made, on the disk where it is to stay."""
    where = spool_folder() if target is None else target.parent
    with tempfile.TemporaryDirectory(prefix=".daskcal-rerun-", dir=where) as folder:
        yield Path(folder)


# --- making --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Plan(Plan):
    """The plan of one product; frames are called as they were when it was made."""

    called: tuple[str, ...]

    def relative(self, i: int) -> str:
        return self.called[i]


@dataclass
class _Run(Run):
    """A run of that plan: what other products decided is known."""

    norms: Mapping[int, float | None] = field(default_factory=dict)  # by a job's first frame

    def norm_of(self, job: Job) -> float | None:
        return self.norms[job.frames[0]]


@dataclass
class _Maker:
    """Makes products from their origins, masters first."""

    near: Near
    folder: Path
    remade: list[str] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)

    def make(self, origins: Sequence[Origin], store: bool = False) -> Path:
        """A product made again: a file of one origin, or a store of one for each frame."""
        for origin in origins:
            self._require_masters(origin)
        used = {one.name: one for origin in origins for one in origin.masters}
        masters = {name: self._master(one) for name, one in used.items()}
        run = self._run(origins)
        run.keys |= {name: one.key for name, one in used.items()}
        run.keys |= {origin.name: origin.key for origin in origins}
        for name, path in masters.items():
            run.opened.add(name, path, used[name].checksum)
        target = self.folder / f"{len(self.found)}.{'zarr' if store else 'fits'}"
        with scratch_removed():
            if store:
                to_zarr(joined(run, origins[0].name, run.plan.jobs), target)
            else:
                _write(run, run.plan.jobs[0], origins[0], target)
        return target

    def _run(self, origins: Sequence[Origin]) -> _Run:
        """A run with a job for each origin; those of a store have one config."""
        config = self._config(origins[0])
        frames = [self._frames(origin, config) for origin in origins]
        plan = _plan(origins, config, [frame for some in frames for frame in some])
        norms = {job.frames[0]: origin.norm for job, origin in zip(plan.jobs, origins, strict=True)}
        return _Run(plan, place_of(self.folder), Watch(), norms=norms)

    def _require_masters(self, origin: Origin) -> None:
        """Refuse where a master is neither there nor known by the ledger; all are named."""
        lacking = [
            f"{used.name} (SHA-256 {used.checksum}): {trouble}"
            for used in origin.masters
            if used.checksum not in self.found
            for path, trouble in [self.near.master(used)]
            if path is None and self.near.recipe(used) is None
        ]
        if lacking:
            raise CalibrationError(
                f"{origin.name} cannot be made again: {'; '.join(lacking)}; put the masters beside "
                "the product, or night.json, which says how to make them"
            )

    def _master(self, used: UsedMaster) -> str:
        """A master with the right checksum: as it is found, or made again."""
        if used.checksum not in self.found:
            path, trouble = self.near.master(used)
            recipe = None if path else self.near.recipe(used)
            if recipe is not None:
                path = self._remade(used, recipe, trouble)
            assert path is not None  # or `_require_masters` would have said so
            self.found[used.checksum] = path
        return self.found[used.checksum]

    def _remade(self, used: UsedMaster, recipe: Origin, trouble: str) -> str:
        path = self.make([recipe])
        if file_checksum(path) != used.checksum:
            raise CalibrationError(
                f"{used.name}: {trouble}; it was made again, and is not what it was: its SHA-256 "
                f"is not {used.checksum}"
            )
        self.remade.append(used.name)
        return str(path.rename(self.folder / f"{used.checksum}.fits"))

    def _config(self, origin: Origin) -> NightConfig:
        """The config of a product, its files found by their content."""
        values: dict[str, Any] = _copied(origin.config)
        for table, key, dotted in named_files(values):
            table[key] = self.near.file(dotted, table[key], origin.files.get(dotted, ""))
        return NightConfig.model_validate(values)

    def _frames(self, origin: Origin, config: NightConfig) -> list[Frame]:
        located = find_frames(origin.frames, self.near.raw, instrument_of(config))
        bad = [one for one in located if one.frame is None]
        if bad and self.near.raw is None:
            raise CalibrationError(
                f"{self.near.product}: no folder of raw frames is known; give it with --raw (raw=)"
            )
        if bad:
            said = "; ".join(f"{one.used.path}: {one.trouble}" for one in bad[:_NAMED])
            more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            raise CalibrationError(f"{origin.name} cannot be made again: {said}{more}")
        return [one.frame for one in located if one.frame is not None]


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, dict) else value


def _plan(origins: Sequence[Origin], config: NightConfig, frames: Sequence[Frame]) -> _Plan:
    """The plan of products with these origins, whose frames follow one another."""
    where = folder_of(frames[0].source.path)
    table = night_table(frames, config, where)
    of = [origin for origin in origins for _ in origin.frames]
    table["imagetyp"] = [origin.treated_as for origin in of]
    for name in ("filter", "flat_kind"):  # which rules for names may have said, or the config
        table[name] = [str(origin.facts.get(name, "")) for origin in of]
    table["detector"] = [origin.detector for origin in of]
    jobs: list[Job] = []
    at = 0
    for origin in origins:
        jobs.append(_job(origin, range(at, at + len(origin.frames))))
        at += len(origin.frames)
    return _Plan(
        folder=where if is_url(where) else Path(where), config=config, frames=tuple(frames),
        table=table, unreadable=(), choices=(), skipped={}, jobs=tuple(jobs), missing=(),
        messages=(), called=tuple(used.path for origin in origins for used in origin.frames),
    )  # fmt: skip


def _job(origin: Origin, frames: range) -> BareJob:
    kinds: dict[str, tuple[str, ...]] = {}
    for used in origin.masters:
        kinds[used.kind] = (*kinds.get(used.kind, ()), used.name)
    of: Any = origin.treated_as
    return BareJob(
        origin.name, of, tuple(frames), kinds, origin.scale_dark, waived=origin.waives_exposure
    )


def _write(run: Run, job: Job, origin: Origin, target: Path) -> None:
    calibrated = run.calibrated(job, run.raw(job.frames))
    if origin.kind in ("science", "calibrated"):
        made_of = origin_of(run, job, name=origin.name, kind=origin.kind)
        settings = run.settings
        to_fits(
            calibrated, target.parent, names=[target.stem], planes=settings.products,
            compress=settings.compress, origin=made_of,
        )  # fmt: skip
    else:
        to_fits(run.combined(job, calibrated), target, origin=origin_of(run, job))


# --- comparing -----------------------------------------------------------------------------------


def _differences(one: str, other: Path, stores: bool) -> tuple[str, ...]:
    """What differs between two products, HDU by HDU or variable by variable."""
    if stores:
        return _differing_variables(open_zarr(one), open_zarr(other))
    from astropy.io import fits

    lines = []
    with at_hand(one) as here, fits.open(here) as mine, fits.open(other) as theirs:
        names = [hdu.name for hdu in mine], [hdu.name for hdu in theirs]
        if names[0] != names[1]:
            return (
                f"it has the HDUs {', '.join(names[0])}, and the new one {', '.join(names[1])}",
            )
        for a, b in zip(mine, theirs, strict=True):
            if a.header.get("DATASUM") != b.header.get("DATASUM"):
                lines.append(f"the pixels of {a.name}")
            elif cards := {c.image for c in a.header.cards} ^ {c.image for c in b.header.cards}:
                keys = sorted({card[:8].rstrip() for card in cards} - {"CHECKSUM"})
                lines.append(f"the header of {a.name} ({', '.join(keys)})")
    return tuple(lines) or ("bytes that no header tells of: the file was damaged",)


def _differing_variables(mine: xr.Dataset, theirs: xr.Dataset) -> tuple[str, ...]:
    names = list(dict.fromkeys([*mine.variables, *theirs.variables]))
    other = [
        f"the variable {name}"
        for name in names
        if name not in mine or name not in theirs or not mine[name].identical(theirs[name])
    ]
    return tuple(other) or ("its metadata",)
