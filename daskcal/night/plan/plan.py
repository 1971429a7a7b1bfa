"""What a night will make, from what, and why: known from headers alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import FrameError, UnitError
from daskcal.fits import Frame, Unreadable, is_product, scan
from daskcal.fits.urls import absolute, is_url, local
from daskcal.frames.assembled import assembled
from daskcal.frames.card_problems import lacks_card
from daskcal.frames.raw_only import said_products
from daskcal.frames.units import unit_word
from daskcal.masters.library import Library
from daskcal.night.config.read import NightConfig, load_config
from daskcal.night.ledger import Choice
from daskcal.night.library import Lender, lender
from daskcal.night.marks import marked_frames
from daskcal.night.plan.choices import (
    choose_frames,
    duplicates,
    others,
    with_bad_masters,
    without_effect,
)
from daskcal.night.plan.frames import card_notes, instrument_of, night_table
from daskcal.night.plan.idle import idle_keys
from daskcal.night.plan.jobs import Job, Missing, plan_jobs
from daskcal.night.plan.mosaics import lacking_detectors, require_one_detector, unknown_detectors
from daskcal.night.plan.sections import section_notes
from daskcal.printable import one_line
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_NAMED = 5  # of files none of which can be read

__all__ = ["Job", "Missing", "Plan", "instrument_of", "night_table", "plan_night"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A night's frames, what each is for, and what will be made, masters first.

    Attributes
    ----------
    folder : Path or str
        The night's folder; a str where it is a URL.
    frames, table : tuple of Frame, pandas.DataFrame
        Every raw frame, and a row of normalised values for each.
    unreadable : tuple of Unreadable
        Files, and extensions of files, that give no frame.
    choices : tuple of Choice
        What the user chose to leave out.
    skipped : mapping of int to str
        Frames that nothing is made of, with the reason.
    jobs, missing : tuple
        What will be made, in an order that can be followed; what cannot be.
    messages : tuple of str
        What the user should know before it is made.
    library : Lender or None
        What it may take from a library of masters.
    """

    folder: Path | str
    config: NightConfig
    frames: tuple[Frame, ...]
    table: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    choices: tuple[Choice, ...]
    skipped: dict[int, str]
    jobs: tuple[Job, ...]
    missing: tuple[Missing, ...]
    messages: tuple[str, ...]
    library: Lender | None = None

    def relative(self, i: int) -> str:
        """The path of frame `i` below the night's folder, for people."""
        return relative(self.frames[i].source.path, self.folder)

    def config_of(self, job: Job) -> NightConfig:
        """The config that holds for the detector of a job."""
        if not self.config.detectors:
            return self.config
        return self.config.of_detector(self.table["detector"].iloc[job.frames[0]])

    def label(self, i: int) -> str:
        """The same, with the detector where its file holds several."""
        return self._labels[i]

    @cached_property
    def _labels(self) -> list[str]:
        return labels(self.frames, self.table, self.folder)

    @strict_keywords
    def matches(self, select: str | None = None) -> pd.DataFrame:
        """Every rule that was asked of every candidate for a frame's masters.

        Parameters
        ----------
        select : str, optional
            Condition for the frames, such as ``"filter == 'V'"``: of all frames of a long night the
            table is long too.

        Returns
        -------
        pandas.DataFrame
            A row for each frame, candidate and rule: ``frame``, the ``product`` that is made of it,
            ``kind`` of master, ``candidate``, ``rule``, ``passed``, ``found`` and ``wanted`` as
            texts, ``margin`` (what is left of the tolerance, in its unit; NaN for rules of the yes
            or no kind), ``chosen`` and ``pinned`` (the candidate is the frame's master; by a pin).

        Raises
        ------
        ConfigError
            The condition cannot be read, or names what no frame has.

        Examples
        --------
        >>> table = daskcal.plan_night("raw").matches("object == 'NGC 2420'")
        >>> failed = table[~table["passed"] & (table["kind"] == "dark")]
        """
        from daskcal.night.plan.matches import matches_table

        return matches_table(self, select)

    @strict_keywords
    def to_xarray(self, select: str | None = None) -> xr.Dataset:
        """The same as arrays over frame, candidate and rule.

        Returns
        -------
        xarray.Dataset
            ``passed`` (1, 0, or -1 where a rule is not asked), ``margin`` and, over frame and
            candidate alone, ``chosen``; coordinates ``product`` and ``kind``.

        Raises
        ------
        ConfigError
            As of `matches`.
        """
        from daskcal.night.plan.matches import matches_dataset

        return matches_dataset(self, select)

    def to_json(self) -> str:
        """The plan for machines: products with inputs, masters and rules; what is missing; effort.

        What `daskcal plan --json` prints.
        """
        from daskcal.night.plan.matches import plan_json

        return plan_json(self)

    def __str__(self) -> str:
        from daskcal.night.plan.text import plan_text

        return plan_text(self)


def relative(path: str, folder: Path | str) -> str:
    """A path as seen from a night's folder; as it is where it lies elsewhere."""
    inside = os.path.join(folder, "")
    if path.startswith(inside):  # of nearly every frame of a night, and a `Path` takes its time
        return path[len(inside) :]
    return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path


def labels(frames: Sequence[Frame], table: pd.DataFrame, folder: Path | str) -> list[str]:
    """What people call frames: the path below the night's folder, and the detector of mosaics."""
    return [
        one_line(relative(frame.source.path, folder) + (f" [{detector}]" if frame.of > 1 else ""))
        for frame, detector in zip(frames, table["detector"], strict=True)
    ]


@strict_keywords
def plan_night(
    raw: str | PathLike[str],
    config: NightConfig | str | PathLike[str] | None = None,
    *,
    select: str | None = None,
    exclude: Sequence[str] = (),
    library: Library | str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
) -> Plan:
    """Find out from headers what a folder of raw frames will make. No pixel is read.

    Parameters
    ----------
    raw : path
        The night's folder, or its URL, searched with all that is below it.
    config : NightConfig or path, optional
        A config file, or the name of a shipped camera; headers and defaults decide without one.
    select : str, optional
        Condition for the frames to use, such as ``"filter == 'V'"``, beside the config's.
    exclude : sequence of str
        Globs of frames to leave out, beside the config's.
    library : Library or path, optional
        Masters of other nights, for frames that none of the night's own serves.
    output : path, optional
        The folder for the products, where marks of bad frames may be, beside those in the folders
        of the frames (`mark_bad`).

    Returns
    -------
    Plan
        ``print(plan)`` explains it.

    Raises
    ------
    FrameError
        The folder is missing, or holds no FITS frame.
    ConfigError, ArgumentError
        The config or a condition cannot be used, or leaves no frame.
    UnitError
        Frames have no unit, and the config gives none.

    Examples
    --------
    >>> plan = daskcal.plan_night("raw")
    >>> [job.name for job in plan.jobs][:2]
    ['masters/bias.fits', 'masters/dark_60s.fits']
    """
    folder = absolute(raw) if is_url(raw) else Path(local(fspath(raw))).absolute()
    if isinstance(folder, Path) and not folder.is_dir():
        raise FrameError(str(raw), "missing", "is not a folder; give the folder of raw frames")
    settings = config if isinstance(config, NightConfig) else load_config(config)
    camera = instrument_of(settings)
    found = assembled(scan(folder, hdu=camera.hdu, detectors=True), camera)
    frames = tuple(frame for frame in found.frames if not is_product(frame.header))
    products = [frame for frame in found.frames if is_product(frame.header)]
    ours = said_products(products, str(folder))
    if not frames:
        raise FrameError(str(raw), "no-image", _nothing(found.unreadable, ours))
    require_one_detector(settings, frames)
    table = night_table(frames, settings, folder, select)
    names = labels(frames, table, folder)
    globs = [exclude] if isinstance(exclude, str) else list(exclude)
    choices, skipped = choose_frames(table, settings, select, globs, folder, names)
    marks, bad = marked_frames(frames, names, output)
    choices, skipped = (*choices, *marks), bad | skipped
    skipped |= duplicates(frames, skipped, names)
    skipped |= others(table, skipped)
    _require_units(table, frames, skipped, settings)
    used = np.array([i not in skipped for i in range(len(frames))])
    lent = None
    if library is not None:
        marked = {name for choice in choices if choice.kind == "bad" for name in choice.frames}
        not_of = {f.fingerprint for f, name in zip(frames, names, strict=True) if name in marked}
        lent = lender(library, settings, present=set(table["imagetyp"][used]), bad=not_of)
    jobs = plan_jobs(settings, table, used, lent)
    unfit = lent.unfit if lent else {}
    choices = with_bad_masters(choices, settings, [*(m.name for m in jobs.missing), *unfit])
    choices += jobs.pins.choices(names, used)
    notes = [f"left alone, as no raw frames: {ours}"] if ours else []
    notes += [*unknown_detectors(settings, table), *lacking_detectors(table, folder)]
    notes += [without_effect(choice) for choice in choices if not choice.frames]
    notes += section_notes(settings, table[used])
    notes += idle_keys(settings, camera.keywords, frames, table)
    notes += _darks_without_exposure(table[used])
    out = {name for one in choices if one.kind in ("exclude", "bad") for name in one.frames}
    stay = [i for i, name in enumerate(names) if name not in out]
    paths = [relative(frames[i].source.path, folder) for i in stay]
    notes += card_notes([frames[i] for i in stay], table.iloc[stay], paths, settings, select)
    if lent is not None and not lent.folder.exists():
        notes += [f"there is no library of masters at {lent.folder} yet: reduce makes it"]
    return Plan(
        folder,
        settings,
        frames,
        table,
        tuple(found.unreadable),
        choices,
        skipped,
        jobs.made,
        jobs.missing,
        (*notes, *jobs.messages),
        lent,
    )


def _nothing(unreadable: Sequence[Unreadable], ours: str) -> str:
    if unreadable:
        named = "".join(f"\n  {bad}" for bad in unreadable[:_NAMED])
        more = len(unreadable) - _NAMED
        return f"holds no readable FITS frame; {len(unreadable)} cannot be read:{named}" + (
            f"\n  and {more} more" if more > 0 else ""
        )
    if ours:
        return f"holds no raw frame, only {ours}"
    return "holds no FITS frame; give the folder with the raw frames"


def _darks_without_exposure(table: pd.DataFrame) -> list[str]:
    """What to do about darks that are biases: a name that some cameras give them."""
    count = int(((table["imagetyp"] == "dark") & (table["exptime"] == 0)).sum())
    if not count:
        return []
    frames = "1 dark has" if count == 1 else f"{count} darks have"
    return [
        f"{frames} no exposure; if they are biases, say so in the config: [[classify]] "
        'when = "EXPTIME == 0", imagetyp = "bias"'
    ]


def _require_units(
    table: pd.DataFrame, frames: Sequence[Frame], skipped: dict[int, str], config: NightConfig
) -> None:
    if config.instrument.unit is not None:
        unit_word(config.instrument.unit, "instrument.unit")
        return
    for i, (unit, path) in enumerate(zip(table["unit"], table["path"], strict=True)):
        if not unit and i not in skipped:
            broken = ", which cannot be read" if lacks_card(frames[i], "BUNIT") else ""
            raise UnitError(
                f"{path} does not say the unit of its pixels (BUNIT{broken}); give it in a config "
                '(-c FILE; `daskcal config --template` prints one): [instrument] unit = "adu"'
            )
