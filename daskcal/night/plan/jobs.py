"""Which products a night makes, each from which frames and with which masters."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from daskcal.masters.groups import MasterGroup, MasterKey, group_masters, name_groups
from daskcal.masters.match import Candidate, Match
from daskcal.masters.matcher import Matcher, table_facts
from daskcal.masters.settings import odd_ones, split_by_settings
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.choices import bad_master
from daskcal.night.plan.pins import Pins
from daskcal.products import product_names

if TYPE_CHECKING:
    import pandas as pd

    from daskcal.night.library import Lender

Kind = Literal["bias", "dark", "flat", "science"]
MasterKind = Literal["bias", "dark", "flat"]
MASTERS: tuple[MasterKind, ...] = ("bias", "dark", "flat")
ORDER: tuple[Kind, ...] = (*MASTERS, "science")
Matched = tuple[tuple[int, Match], ...]
_NAMED = 4  # frames of those that are refused together
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
    matched : tuple of (int, Match)
        What chose the masters of each frame; jobs share them, and texts are made of those that are
        asked for.
    """

    name: str
    kind: Kind
    frames: tuple[int, ...]
    masters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scale_dark: bool = False
    matched: Matched = field(default=(), repr=False)

    @property
    def matches(self) -> tuple[Match, ...]:
        """What chose the masters, each once."""
        return _distinct(self.matched)

    @property
    def master_names(self) -> tuple[str, ...]:
        """Names of all its masters."""
        return tuple(name for names in self.masters.values() for name in names)

    @property
    def waives_exposure(self) -> bool:
        """Whether the user chose a dark whose exposure the limits would not let through."""
        return any(v.rule == "exposure" for match in self.matches for v in match.waived)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why these masters, a line each."""
        return tuple(dict.fromkeys(match.reason for match in self.matches))

    @property
    def rules(self) -> tuple[str, ...]:
        """The same with every rule, and how it came out."""
        return _texts(self.matches)


@dataclass(frozen=True, slots=True)
class BareJob(Job):
    """A job without what chose its masters."""

    waived: bool = False

    @property
    def waives_exposure(self) -> bool:
        """Whether the user chose its dark whatever the limits on exposure."""
        return self.waived


@dataclass(frozen=True, slots=True)
class Missing:
    """One product that is wanted and cannot be made, with the nearest miss."""

    name: str
    kind: Kind
    frames: tuple[int, ...]
    reason: str
    matched: Matched = field(default=(), repr=False)

    @property
    def matches(self) -> tuple[Match, ...]:
        """What chose masters for it, or found none, each once."""
        return _distinct(self.matched)

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
    pins: Pins


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

    Raises
    ------
    ConfigError
        A pin names no master, or a keyword that no frame has.
    """
    builder = _Builder(config, table, used, library)
    builder.masters()
    builder.science()
    builder.pins.check(builder.nameable)
    builder.refuse_odd_ones()
    return Jobs(tuple(builder.jobs), tuple(builder.missing), tuple(builder.messages), builder.pins)


def frame_names(rows: pd.DataFrame) -> list[str]:
    """Names of the products of single frames, without ``.fits``, from rows of the table."""
    detectors = rows["detector"].where(rows["detectors"] > 1, "")
    return product_names(
        [str(path) for path in rows["path"]], [int(hdu) for hdu in rows["hdu"]], list(detectors)
    )


def used_masters(jobs: Iterable[Job]) -> set[str]:
    """Names of the masters that a job takes."""
    shared = {id(job.masters): job.masters for job in jobs}.values()
    return {name for masters in shared for names in masters.values() for name in names}


def _distinct(matched: Matched) -> tuple[Match, ...]:
    return tuple(dict.fromkeys(match for _, match in matched))


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
        self.keywords = [rule.keyword for rule in config.match.keywords]
        self.facts = table_facts(table, self.keywords)
        self.matchers: dict[tuple[MasterKind, bool], Matcher] = {}
        self.pins = Pins(config.pin, table)
        self.groups: dict[MasterKey, tuple[str, MasterGroup]] = {}
        self._chosen: dict[tuple[Match, ...], _Chosen] = {}

    def masters(self) -> None:
        """Jobs for the masters."""
        groups = self._grouped()
        names = name_groups(groups)
        for kind in MASTERS:
            for group in groups:
                if group.key.kind == kind:
                    name = f"masters/{names[group.key]}.fits"
                    self.groups[group.key] = name, group
                    self._master(kind, name, group)

    def _grouped(self) -> tuple[MasterGroup, ...]:
        positions = np.flatnonzero(self.used)
        groups = [
            MasterGroup(group.key, tuple(int(positions[i]) for i in group.frames))
            for group in group_masters(self.table[self.used])
        ]
        return split_by_settings(groups, self.table, self.config.rules(has_bias=False))

    def _master(self, kind: MasterKind, name: str, group: MasterGroup) -> None:
        fewest = getattr(self.config.combine, kind).min_frames
        n = len(group.frames)
        bad = bad_master(self.config, name)
        if bad or (bad := self._done_before(kind, group)):
            self.missing.append(Missing(name, kind, group.frames, bad))
        elif n < fewest:
            reason = f"has {n} frames, and combine.{kind}.min_frames = {fewest}"
            self.missing.append(Missing(name, kind, group.frames, reason))
        elif too_few := getattr(self.config.combine, kind).leaves_nothing(n):
            reason = f"combine.{kind}.{too_few}"
            self.missing.append(Missing(name, kind, group.frames, reason))
        elif self._calibrated(name, kind, group.frames):
            found = Candidate.of_group(name, group, self.table, self.keywords)
            self.candidates[kind].append(found)

    def _done_before(self, kind: MasterKind, group: MasterGroup) -> str:
        """Why frames that others have worked on make no master; "" where they do."""
        steps = [kind, *(need for need in MASTERS if self._needs(kind, need))]
        done = [step for step in group.key.processed.split(", ") if step in steps]
        if not done:
            return ""
        return (
            f"refused: the headers of {self._named(group)} say that {' and '.join(done)} came off "
            f"before (CALSTAT, HISTORY or the like), and a master {kind} is made of raw frames"
        )

    def _named(self, group: MasterGroup) -> str:
        """The frames of a group, for people; of many the first."""
        paths = [os.path.basename(self.table["path"].iat[i]) for i in group.frames[:_NAMED]]
        more = len(group.frames) - len(paths)
        return ", ".join(paths) + (f" and {more} more" if more else "")

    def refuse_odd_ones(self) -> None:
        """Make no masters of frames that only a tolerance keeps from others, and nothing takes."""
        taken = used_masters(self.jobs)
        names = {key: name for key, (name, _) in self.groups.items()}
        groups = [group for _, group in self.groups.values()]
        for group, why in odd_ones(groups, lambda group: names[group.key] not in taken):
            name = names[group.key]
            self.jobs = [job for job in self.jobs if job.name != name]
            self.missing = [missing for missing in self.missing if missing.name != name]
            reason = f"refused, {self._named(group)}: {why}"
            self.missing.append(Missing(name, group.key.kind, group.frames, reason))

    def science(self) -> None:
        """A job for each science frame."""
        science = np.flatnonzero(self.used & (self.table["imagetyp"] == "science").to_numpy())
        rows = self.table.iloc[science]
        names = frame_names(rows)
        for i, name in zip(science.tolist(), names, strict=True):
            self._calibrated(f"science/{name}.fits", "science", (i,))
        if science.size:
            absent = [k for k in MASTERS if k not in self.present and self._switch(k) == "auto"]
            self.messages += [_ABSENT[kind] for kind in absent]

    def _calibrated(self, name: str, kind: Kind, frames: tuple[int, ...]) -> bool:
        """Add the job of a product with its masters, or what it lacks; whether it can be made."""
        matched = [p for need in MASTERS if self._needs(kind, need) for p in self._of(frames, need)]
        if kind == "flat" and self.config.flat.subtract_dark == "auto":
            matched = self._without_unfitting_darks(name, matched)
        key = tuple(match for _, match in matched)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._chosen[key] = _Chosen.by(key)
        if chosen.lacking:
            self.missing.append(Missing(name, kind, frames, chosen.lacking, tuple(matched)))
            return False
        self.jobs.append(Job(name, kind, frames, chosen.masters, chosen.scaled, tuple(matched)))
        return True

    def _of(self, frames: Sequence[int], need: MasterKind) -> list[tuple[int, Match]]:
        """The master of one kind for each of a product's frames."""
        found = self._matched(frames, need, always_scaled=False)
        if len({m.scale is None for m in found if m.chosen is not None}) > 1:
            # one product's frames are treated alike: where one needs a scaled dark, all have one
            found = self._matched(frames, need, always_scaled=True)
        return list(zip(frames, found, strict=True))

    def _matched(self, frames: Sequence[int], need: MasterKind, always_scaled: bool) -> list[Match]:
        matcher = self.matchers.get((need, always_scaled))
        if matcher is None:  # by now all masters of this kind are known: they come in ORDER
            has_bias = bool(self.candidates["bias"]) or "bias" in self.lent
            rules = self.config.rules(has_bias=has_bias)
            rules = replace(rules, scale_darks=True) if always_scaled else rules
            matcher = Matcher(self.candidates[need], need, rules)
            self.matchers[need, always_scaled] = matcher
        found = [matcher.match(self.facts[i]) for i in frames]
        if self.library is not None:
            lend = self.library.match
            own, rules = matcher.candidates, matcher.rules
            found = [
                match if match.chosen else lend(self.facts[i], own, need, rules)
                for i, match in zip(frames, found, strict=True)
            ]
        if not self.pins.given:
            return found
        known = self.nameable(need)
        return [
            self.pins.match(i, need, m, matcher, known) for i, m in zip(frames, found, strict=True)
        ]

    def nameable(self, kind: MasterKind) -> Sequence[Candidate]:
        """The masters of a kind that a pin may name."""
        lent = self.library.candidates(kind) if self.library else []
        return [*self.candidates[kind], *lent]

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

    def _without_unfitting_darks(
        self, name: str, matched: list[tuple[int, Match]]
    ) -> list[tuple[int, Match]]:
        """Drop the darks of a flat where one of its frames has none: all are treated alike."""
        lacking = _lacking([match for _, match in matched if match.kind == "dark"])
        if not lacking:
            return matched
        self.messages.append(f"{name} is made without a dark: {lacking}")
        return [(i, match) for i, match in matched if match.kind != "dark"]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What matches come to together: shared by all products that have the same."""

    masters: dict[str, tuple[str, ...]]
    scaled: bool
    lacking: str

    @classmethod
    def by(cls, matches: Sequence[Match]) -> _Chosen:
        masters: dict[str, tuple[str, ...]] = {}
        for found in matches:
            if found.chosen is not None:
                names = (*masters.get(found.kind, ()), found.chosen.name)
                masters[found.kind] = tuple(dict.fromkeys(names))
        scaled = any(found.scale is not None for found in matches)
        return cls(masters, scaled, _lacking(matches))


def _lacking(matches: Sequence[Match]) -> str:
    """Why a product's frames cannot be calibrated together; "" where they can."""
    return next((m.reason for m in matches if m.chosen is None), _disagreement(matches))


def _disagreement(matches: Sequence[Match]) -> str:
    """Why the darks chosen for a product's frames cannot be used together; "" where they can.

    `subtract_dark` gives each frame the nearest exposure of all the darks of a product. Pins, or
    limits on time or temperature, may have chosen another.
    """
    darks = [m for m in matches if m.kind == "dark" and m.chosen is not None]
    times = {m.chosen.name: m.chosen.facts.darktime for m in darks if m.chosen is not None}
    if len(times) < 2:
        return ""
    for found in darks:
        wanted = found.frame.darktime
        best = min(times, key=lambda name: (abs(times[name] - wanted), -times[name]))
        if found.chosen is not None and not math.isclose(times[best], times[found.chosen.name]):
            why = "a pin" if found.pinned else "match.days and match.temperature"
            return (
                f"its frames need different darks, and {best} is nearer in exposure to one that "
                f"must have {found.chosen.name}: {why} decided that"
            )
    return ""
