"""What a night will make, from what, and why: known from headers alone."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import ArgumentError, ConfigError, FrameError, UnitError
from daskcal.fits import DEFAULT_KEYWORDS, Frame, Unreadable, is_product, scan
from daskcal.frames.instrument import Instrument
from daskcal.frames.table import frame_table, header_columns
from daskcal.frames.units import unit_word
from daskcal.masters.groups import MasterGroup, group_masters, name_groups
from daskcal.masters.match import Candidate, Match, match
from daskcal.night.classify import classify, glob_mask
from daskcal.night.config import NightConfig, load_config
from daskcal.night.ledger import Choice
from daskcal.night.query import parse_query, query_mask
from daskcal.products import product_names
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Job:
    """One product that will be made.

    Attributes
    ----------
    name : str
        Below the output folder: ``masters/bias.fits``.
    kind : str
        ``bias``, ``dark``, ``flat`` or ``science``.
    frames : tuple of int
        Positions in the plan's table.
    masters : mapping of str to tuple of str
        Kind of master to the names of those that calibrate it (several darks for one flat).
    scale_dark : bool
        Whether the dark is scaled to the frame's dark time.
    rules : tuple of str
        Why these masters: the rules and how they came out.
    """

    name: str
    kind: str
    frames: tuple[int, ...]
    masters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scale_dark: bool = False
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """One product that is wanted and cannot be made, with the nearest miss."""

    name: str
    kind: str
    frames: tuple[int, ...]
    reason: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """A night's frames, what each is for, and what will be made, masters first.

    Attributes
    ----------
    folder : Path
        The night's folder.
    frames, table : tuple of Frame, pandas.DataFrame
        Every raw frame, and a row of normalised values for each.
    unreadable : tuple of Unreadable
        Files that give no frame.
    skipped : mapping of int to str
        Frames that nothing is made of, with the reason.
    jobs, missing : tuple
        What will be made, in an order that can be followed; what cannot be.
    """

    folder: Path
    config: NightConfig
    frames: tuple[Frame, ...]
    table: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    choices: tuple[Choice, ...]
    skipped: dict[int, str]
    jobs: tuple[Job, ...]
    missing: tuple[Missing, ...]
    messages: tuple[str, ...]

    @property
    def bytes_in(self) -> int:
        """Bytes of raw pixels that will be read."""
        used = {i for job in self.jobs for i in job.frames}
        sources = [self.frames[i].source for i in used]
        return sum(s.shape[0] * s.shape[1] * abs(s.bitpix) // 8 for s in sources)

    @property
    def bytes_out(self) -> int:
        """Bytes of products, about: image, uncertainty and mask of the raw shape."""
        shapes = [self.frames[job.frames[0]].source.shape for job in self.jobs]
        return sum(rows * columns * 10 for rows, columns in shapes)

    def relative(self, i: int) -> str:
        """The path of frame `i` below the night's folder, for people."""
        path = Path(self.frames[i].source.path)
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def __str__(self) -> str:
        from daskcal.night.plan_text import plan_text

        return plan_text(self)


def instrument_of(config: NightConfig) -> Instrument:
    """The camera that a config describes."""
    given = config.instrument
    aliases = {name: list(keys) for name, keys in config.keywords.items()}
    return Instrument(
        name=given.name or "",
        unit=given.unit,
        gain=given.gain,
        rdnoise=given.rdnoise,
        saturation=given.saturation,
        bias_level=given.bias_level,
        hdu=given.hdu,
        keywords=DEFAULT_KEYWORDS.extended(aliases, dict(config.types)),
    )


@strict_keywords
def plan_night(
    raw: str | PathLike[str],
    config: NightConfig | str | PathLike[str] | None = None,
    *,
    select: str | None = None,
    exclude: Sequence[str] = (),
) -> Plan:
    """Find out from headers what a folder of raw frames will make. No pixel is read.

    Parameters
    ----------
    raw : path
        The night's folder, searched with all that is below it.
    config : NightConfig or path, optional
        A config file, or the name of a shipped camera; headers and defaults decide without one.
    select : str, optional
        Condition for the frames to use, such as ``"filter == 'V'"``, beside the config's.
    exclude : sequence of str
        Globs of frames to leave out, beside the config's.

    Returns
    -------
    Plan
        ``print(plan)`` explains it.

    Raises
    ------
    FrameError
        The folder is missing, or holds no FITS frame.
    ConfigError
        The config or a condition cannot be used.
    UnitError
        Frames have no unit, and the config gives none.
    """
    folder = Path(raw).absolute()
    if not folder.is_dir():
        raise FrameError(str(raw), "missing", "is not a folder of raw frames")
    settings = config if isinstance(config, NightConfig) else load_config(config)
    found = scan(folder, hdu=settings.instrument.hdu)
    frames = tuple(frame for frame in found.frames if not is_product(frame.header))
    ours = len(found.frames) - len(frames)
    if not frames:
        raise FrameError(str(raw), "no-image", _nothing(found.unreadable, ours))
    table = _table(frames, settings, folder)
    choices, skipped = _choose(table, settings, select, exclude, folder)
    skipped |= _duplicates(frames, skipped)
    skipped |= _others(table, skipped)
    _require_units(table, skipped, settings)
    builder = _Builder(settings, table, skipped)
    builder.masters()
    builder.science()
    notes = [f"{ours} products of daskcal among the files are left alone"] if ours else []
    return Plan(
        folder,
        settings,
        frames,
        table,
        tuple(found.unreadable),
        tuple(choices),
        skipped,
        tuple(builder.jobs),
        tuple(builder.missing),
        tuple(notes + builder.messages),
    )


def _nothing(unreadable: Sequence[Unreadable], ours: int) -> str:
    if unreadable:
        first = unreadable[0]
        return (
            f"holds no readable FITS frame; {len(unreadable)} cannot be read, the first is "
            f"{first.path}: {first.message}"
        )
    if ours:
        return f"holds no raw frame, only {ours} products of daskcal"
    return "holds no FITS frame; give the folder with the raw frames"


def _table(frames: tuple[Frame, ...], config: NightConfig, folder: Path) -> pd.DataFrame:
    """The frame table with what the config says of the camera and of types in place."""
    import pandas as pd

    camera = instrument_of(config)
    table = frame_table(frames, camera.keywords)
    headers = pd.DataFrame(header_columns(frames), index=table.index)
    table = pd.concat([table, headers], axis=1)
    for name in ("gain", "rdnoise", "detector"):
        value = getattr(config.instrument, name)
        if value is not None:
            table[name] = value
    return classify(table, config.classify, folder)


def _choose(
    table: pd.DataFrame,
    config: NightConfig,
    select: str | None,
    exclude: Sequence[str],
    folder: Path,
) -> tuple[list[Choice], dict[int, str]]:
    """What the user chose to leave out: records for the ledger, and frames with the reason."""
    choices, skipped = [], {}
    names = [str(path) for path in table["path"]]
    for query, where in ((config.select.query, "config"), (select, "--select")):
        if not query:
            continue
        try:
            left = np.flatnonzero(~query_mask(table, parse_query(query)))
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"select = {query!r}: {error}") from None
        if left.size == len(table):
            raise ArgumentError(f"select = {query!r} leaves none of the {len(table)} frames")
        choices.append(Choice("select", query, tuple(names[i] for i in left)))
        skipped |= {int(i): f"left out by select = {query!r} ({where})" for i in left}
    for globs, where in ((config.select.exclude, "config"), (exclude, "--exclude")):
        for glob in globs:
            out = np.flatnonzero(glob_mask(names, [glob], folder))
            choices.append(Choice("exclude", glob, tuple(names[i] for i in out)))
            skipped |= {int(i): f"excluded by {glob!r} ({where})" for i in out}
    return choices, skipped


def _duplicates(frames: Sequence[Frame], skipped: dict[int, str]) -> dict[int, str]:
    """Frames whose bytes another file holds as well: they would count twice in a master."""
    first: dict[str, int] = {}
    doubles = {}
    for i, frame in enumerate(frames):
        if i in skipped:
            continue
        seen = first.setdefault(frame.fingerprint, i)
        original = frames[seen].source.path
        if seen != i and filecmp.cmp(original, frame.source.path, shallow=False):
            doubles[i] = f"the same bytes as {original}"
    return doubles


def _others(table: pd.DataFrame, skipped: dict[int, str]) -> dict[int, str]:
    other = np.flatnonzero(table["imagetyp"] == "other")
    reason = "neither bias, dark, flat nor science by its header; [[classify]] in the config can say"
    return {int(i): reason for i in other if int(i) not in skipped}


def _require_units(table: pd.DataFrame, skipped: dict[int, str], config: NightConfig) -> None:
    if config.instrument.unit is not None:
        unit_word(config.instrument.unit, "instrument.unit")
        return
    for i, (unit, path) in enumerate(zip(table["unit"], table["path"], strict=True)):
        if not unit and i not in skipped:
            raise UnitError(
                f"{path} does not say the unit of its pixels (BUNIT); give it in the config: "
                '[instrument] unit = "adu"'
            )


class _Builder:
    """Works out jobs from the table: masters in the order of their needs, then science."""

    def __init__(self, config: NightConfig, table: pd.DataFrame, skipped: dict[int, str]) -> None:
        self.config, self.table = config, table
        self.used = np.array([i not in skipped for i in range(len(table))], dtype=bool)
        self.jobs: list[Job] = []
        self.missing: list[Missing] = []
        self.messages: list[str] = []
        self.candidates: dict[str, list[Candidate]] = {"bias": [], "dark": [], "flat": []}
        self.wanted: set[str] = set()  # kinds of which the night has frames

    def masters(self) -> None:
        """Jobs for the masters."""
        chosen = self.table[self.used]
        positions = np.flatnonzero(self.used)
        groups = [
            MasterGroup(group.key, tuple(int(positions[i]) for i in group.frames))
            for group in group_masters(chosen)
        ]
        names = name_groups(groups)
        self.wanted = {group.key.kind for group in groups}
        for kind in ("bias", "dark", "flat"):
            for group in groups:
                if group.key.kind == kind:
                    self._master(kind, f"masters/{names[group.key]}.fits", group)

    def _master(self, kind: str, name: str, group: MasterGroup) -> None:
        fewest = getattr(self.config.combine, kind).min_frames
        n = len(group.frames)
        if n < fewest:
            reason = f"has {n} frames, and combine.{kind}.min_frames = {fewest}"
            self.missing.append(Missing(name, kind, group.frames, reason))
            return
        if self._calibrated(name, kind, group.frames):
            self.candidates[kind].append(Candidate.of_group(name, group, self.table))

    def science(self) -> None:
        """A job for each science frame."""
        science = np.flatnonzero(self.used & (self.table["imagetyp"] == "science").to_numpy())
        rows = self.table.iloc[science]
        names = product_names([str(p) for p in rows["path"]], [int(h) for h in rows["hdu"]])
        for i, name in zip(science, names, strict=True):
            self._calibrated(f"science/{name}.fits", "science", (int(i),))

    def _calibrated(self, name: str, kind: str, frames: tuple[int, ...]) -> bool:
        """Add the job of a product with its masters, or what it lacks; whether it can be made."""
        matches = [m for i in frames for m in self._matches(i, kind)]
        if kind == "flat" and self.config.flat.subtract_dark == "auto":
            matches = self._without_unfitting_darks(name, matches)
        rules = tuple(dict.fromkeys(str(m) for m in matches))
        lacking = next((m for m in matches if m.chosen is None), None)
        if lacking is not None:
            self.missing.append(Missing(name, kind, frames, lacking.reason, rules))
            return False
        masters: dict[str, tuple[str, ...]] = {}
        for found in matches:
            if found.chosen is not None:
                names = (*masters.get(found.kind, ()), found.chosen.name)
                masters[found.kind] = tuple(dict.fromkeys(names))
        scaled = any(found.scale is not None for found in matches)
        self.jobs.append(Job(name, kind, frames, masters, scaled, rules))
        return True

    def _matches(self, i: int, kind: str) -> list[Match]:
        """The masters that frame `i` needs, matched."""
        rules = self.config.rules(has_bias=bool(self.candidates["bias"]))
        row = self.table.iloc[i]
        return [
            match(row, self.candidates[need], need, rules)
            for need in ("bias", "dark", "flat")
            if self._needs(kind, need)
        ]

    def _needs(self, kind: str, need: str) -> bool:
        order = ("bias", "dark", "flat", "science")
        if order.index(need) >= order.index(kind):
            return False
        switch = {
            "bias": self.config.bias.subtract,
            "dark": self.config.dark.subtract,
            "flat": self.config.flat.correct,
        }[need]
        if kind == "flat" and need == "dark" and switch is not False:
            switch = self.config.flat.subtract_dark
        return need in self.wanted if switch == "auto" else bool(switch)

    def _without_unfitting_darks(self, name: str, matches: list[Match]) -> list[Match]:
        """Drop the darks of a flat where one of its frames has none: all are treated alike."""
        lacking = next((m for m in matches if m.kind == "dark" and m.chosen is None), None)
        if lacking is None:
            return matches
        self.messages.append(f"{name} is made without a dark: {lacking.reason}")
        return [m for m in matches if m.kind != "dark"]


def used_masters(jobs: Iterable[Job]) -> set[str]:
    """Names of the masters that a job takes."""
    return {name for job in jobs for names in job.masters.values() for name in names}


