"""Which products a night makes, each from which frames and with which masters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from daskcal.masters.groups import MasterGroup, group_masters, name_groups
from daskcal.masters.match import Candidate, Match
from daskcal.masters.matcher import Matcher, table_facts
from daskcal.night.config import NightConfig
from daskcal.products import product_names

if TYPE_CHECKING:
    import pandas as pd

    from daskcal.night.library import Lender

Kind = Literal["bias", "dark", "flat", "science"]
MasterKind = Literal["bias", "dark", "flat"]
MASTERS: tuple[MasterKind, ...] = ("bias", "dark", "flat")
ORDER: tuple[Kind, ...] = (*MASTERS, "science")
_ABSENT = {
    "bias": "there are no bias frames: no master bias is subtracted",
    "dark": "there are no dark frames: no dark is subtracted",
    "flat": "there are no flat frames: nothing is divided by a flat",
}


@dataclass(frozen=True, slots=True)
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
        Whether the dark is scaled to each frame's dark time.
    matches : tuple of Match
        What chose the masters; jobs share them, and texts are made of those that are asked for.
    """

    name: str
    kind: Kind
    frames: tuple[int, ...]
    masters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scale_dark: bool = False
    matches: tuple[Match, ...] = field(default=(), repr=False)

    @property
    def master_names(self) -> tuple[str, ...]:
        """Names of all its masters."""
        return tuple(name for names in self.masters.values() for name in names)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why these masters, a line each."""
        return tuple(dict.fromkeys(match.reason for match in self.matches))

    @property
    def rules(self) -> tuple[str, ...]:
        """The same with every rule, and how it came out."""
        return _texts(self.matches)


@dataclass(frozen=True, slots=True)
class Missing:
    """One product that is wanted and cannot be made, with the nearest miss."""

    name: str
    kind: Kind
    frames: tuple[int, ...]
    reason: str
    matches: tuple[Match, ...] = field(default=(), repr=False)

    @property
    def rules(self) -> tuple[str, ...]:
        """Every rule for the masters that it needs, and how it came out."""
        return _texts(self.matches)


@dataclass(frozen=True, slots=True)
class Jobs:
    """What will be made, masters first, what cannot be, and what there is to say of it."""

    made: tuple[Job, ...]
    missing: tuple[Missing, ...]
    messages: tuple[str, ...]


def plan_jobs(
    config: NightConfig, table: pd.DataFrame, used: np.ndarray, library: Lender | None = None
) -> Jobs:
    """Masters in the order of their needs, then science frames.

    Parameters
    ----------
    config : NightConfig
        The night's.
    table : pandas.DataFrame
        A row for each frame.
    used : array of bool
        Which rows may be used.
    library : Lender, optional
        Gives masters to frames that none of the night's own serves.
    """
    builder = _Builder(config, table, used, library)
    builder.masters()
    builder.science()
    return Jobs(tuple(builder.jobs), tuple(builder.missing), tuple(builder.messages))


def frame_names(rows: pd.DataFrame) -> list[str]:
    """Names of the products of single frames, without ``.fits``, from rows of the table."""
    detectors = rows["detector"].where(rows["detectors"] > 1, "")
    return product_names(
        [str(path) for path in rows["path"]], [int(hdu) for hdu in rows["hdu"]], list(detectors)
    )


def used_masters(jobs: Iterable[Job]) -> set[str]:
    """Names of the masters that a job takes."""
    return {name for job in jobs for name in job.master_names}


def _texts(matches: Sequence[Match]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(match) for match in matches))


class _Builder:
    """Works out jobs from the table, and keeps what it has found so far."""

    def __init__(
        self, config: NightConfig, table: pd.DataFrame, used: np.ndarray, library: Lender | None
    ) -> None:
        self.config, self.table, self.used, self.library = config, table, used, library
        self.jobs: list[Job] = []
        self.missing: list[Missing] = []
        self.messages: list[str] = []
        self.candidates: dict[str, list[Candidate]] = {kind: [] for kind in MASTERS}
        self.present = set(table["imagetyp"][used])
        self.lent = library.kinds(set(table["detector"][used])) if library else set()
        self.present |= self.lent
        self.facts = table_facts(table)
        self.matchers: dict[tuple[MasterKind, bool], Matcher] = {}

    def masters(self) -> None:
        """Jobs for the masters."""
        positions = np.flatnonzero(self.used)
        groups = [
            MasterGroup(group.key, tuple(int(positions[i]) for i in group.frames))
            for group in group_masters(self.table[self.used])
        ]
        names = name_groups(groups)
        for kind in MASTERS:
            for group in groups:
                if group.key.kind == kind:
                    self._master(kind, f"masters/{names[group.key]}.fits", group)

    def _master(self, kind: Kind, name: str, group: MasterGroup) -> None:
        fewest = getattr(self.config.combine, kind).min_frames
        n = len(group.frames)
        if n < fewest:
            reason = f"has {n} frames, and combine.{kind}.min_frames = {fewest}"
            self.missing.append(Missing(name, kind, group.frames, reason))
        elif self._calibrated(name, kind, group.frames):
            self.candidates[kind].append(Candidate.of_group(name, group, self.table))

    def science(self) -> None:
        """A job for each science frame."""
        science = np.flatnonzero(self.used & (self.table["imagetyp"] == "science").to_numpy())
        rows = self.table.iloc[science]
        names = frame_names(rows)
        for i, name in zip(science, names, strict=True):
            self._calibrated(f"science/{name}.fits", "science", (int(i),))
        if science.size:
            absent = [k for k in MASTERS if k not in self.present and self._switch(k) == "auto"]
            self.messages += [_ABSENT[kind] for kind in absent]

    def _calibrated(self, name: str, kind: Kind, frames: tuple[int, ...]) -> bool:
        """Add the job of a product with its masters, or what it lacks; whether it can be made."""
        matches = [m for need in MASTERS if self._needs(kind, need) for m in self._of(frames, need)]
        if kind == "flat" and self.config.flat.subtract_dark == "auto":
            matches = self._without_unfitting_darks(name, matches)
        reason = next((m.reason for m in matches if m.chosen is None), _disagreement(matches))
        if reason:
            self.missing.append(Missing(name, kind, frames, reason, tuple(matches)))
            return False
        masters: dict[str, tuple[str, ...]] = {}
        for found in matches:
            if found.chosen is not None:
                names = (*masters.get(found.kind, ()), found.chosen.name)
                masters[found.kind] = tuple(dict.fromkeys(names))
        scaled = any(found.scale is not None for found in matches)
        self.jobs.append(Job(name, kind, frames, masters, scaled, tuple(dict.fromkeys(matches))))
        return True

    def _of(self, frames: Sequence[int], need: MasterKind) -> list[Match]:
        """The master of one kind for each of a product's frames."""
        found = self._matched(frames, need, always_scaled=False)
        if len({m.scale is None for m in found if m.chosen is not None}) > 1:
            # one product's frames are treated alike: where one needs a scaled dark, all have one
            found = self._matched(frames, need, always_scaled=True)
        return found

    def _matched(self, frames: Sequence[int], need: MasterKind, always_scaled: bool) -> list[Match]:
        matcher = self.matchers.get((need, always_scaled))
        if matcher is None:  # by now all masters of this kind are known: they come in ORDER
            has_bias = bool(self.candidates["bias"]) or "bias" in self.lent
            rules = self.config.rules(has_bias=has_bias)
            rules = replace(rules, scale_darks=True) if always_scaled else rules
            matcher = Matcher(self.candidates[need], need, rules)
            self.matchers[need, always_scaled] = matcher
        found = [matcher.match(self.facts[i]) for i in frames]
        if self.library is None:
            return found
        own, rules = matcher.candidates, matcher.rules
        return [
            match if match.chosen else self.library.match(self.facts[i], own, need, rules)
            for i, match in zip(frames, found, strict=True)
        ]

    def _needs(self, kind: Kind, need: MasterKind) -> bool:
        if ORDER.index(need) >= ORDER.index(kind):
            return False
        switch = self._switch(need)
        if kind == "flat" and need == "dark" and switch is not False:
            switch = self.config.flat.subtract_dark
        return need in self.present if switch == "auto" else bool(switch)

    def _switch(self, need: MasterKind) -> bool | Literal["auto"]:
        """What the config says of subtracting or dividing by a kind of master."""
        if need == "bias":
            return self.config.bias.subtract
        return self.config.dark.subtract if need == "dark" else self.config.flat.correct

    def _without_unfitting_darks(self, name: str, matches: list[Match]) -> list[Match]:
        """Drop the darks of a flat where one of its frames has none: all are treated alike."""
        darks = [m for m in matches if m.kind == "dark"]
        lacking = next((m.reason for m in darks if m.chosen is None), _disagreement(darks))
        if not lacking:
            return matches
        self.messages.append(f"{name} is made without a dark: {lacking}")
        return [m for m in matches if m.kind != "dark"]


def _disagreement(matches: Sequence[Match]) -> str:
    """Why the darks chosen for a product's frames cannot be used together; "" where they can.

    `subtract_dark` gives each frame the nearest exposure of all the darks of a product. Limits on
    time or temperature may have chosen another.
    """
    darks = [m for m in matches if m.kind == "dark" and m.chosen is not None]
    times = {m.chosen.name: m.chosen.facts.darktime for m in darks if m.chosen is not None}
    for found in darks:
        wanted = found.frame.darktime
        best = min(times, key=lambda name: (abs(times[name] - wanted), -times[name]))
        if found.chosen is not None and not math.isclose(times[best], times[found.chosen.name]):
            return (
                f"its frames need different darks, and {best} is nearer in exposure to one that "
                f"must have {found.chosen.name}; match.days and match.temperature decide that"
            )
    return ""
