"""Which master serves a frame: rules that can be printed, and the nearest miss where none does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from daskcal.errors import ArgumentError, choose
from daskcal.masters.facts import Candidate, Facts
from daskcal.masters.groups import exposure_text
from daskcal.masters.rules import KINDS, KeywordRule, Kind, Rules
from daskcal.masters.verdicts import (
    Passing,
    Verdict,
    days_after,
    judge,
    lasting,
    of_camera,
    passing,
    plain,
    quoted,
    ratio,
)

__all__ = [
    "Candidate",
    "Facts",
    "KeywordRule",
    "Match",
    "Rules",
    "Verdict",
    "choose_from",
    "match",
    "pin",
]


@dataclass(frozen=True, eq=False)
class Match:
    """The master chosen for a frame, and why; `str` prints every rule. Texts wait to be asked for.

    Attributes
    ----------
    chosen : Candidate or None
        None where no candidate passes every rule.
    scale : float or None
        For a dark: the ratio by which it is to be scaled; None for an unscaled dark.
    pinned : str
        The user's words that chose it, whatever the rules say; "" where the rules chose.
    """

    kind: Kind
    frame: Facts
    candidates: tuple[Candidate, ...]
    rules: Rules
    chosen: Candidate | None
    scale: float | None
    pinned: str = ""

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every rule on every candidate."""
        return tuple(v for c in self.candidates for v in judge(self.frame, c, self.rules))

    @cached_property
    def reason(self) -> str:
        """Why this master, or what was missing and the nearest miss."""
        if self.pinned:
            return _why_pinned(self)
        return _why_chosen(self) if self.chosen else _why_none(self)

    @cached_property
    def time_decides(self) -> bool:
        """Whether the times choose the master, or the nearest miss, among several alike in rank."""
        frame, rules = self.frame, self.rules
        ranks = [_preference(frame, c, rules) for c in self.served]
        ranks = ranks or [_miss(self, c, judge(frame, c, rules)) for c in self.candidates]
        return bool(ranks) and ranks.count(min(ranks)) > 1

    @cached_property
    def waived(self) -> tuple[Verdict, ...]:
        """The rules that a pinned master fails."""
        if not self.pinned or self.chosen is None:
            return ()
        return tuple(v for v in judge(self.frame, self.chosen, self.rules) if not v.passed)

    @property
    def served(self) -> Passing:
        """The candidates that pass every rule."""
        left = lasting(self.frame, self.candidates, self.kind, self.rules)
        return passing(self.frame, left, self.rules)

    def table(self) -> list[dict[str, Any]]:
        """One row for each candidate and rule, for a `pandas.DataFrame` or JSON."""
        chosen = self.chosen.name if self.chosen else ""
        names = ("candidate", "rule", "passed", "found", "wanted", "margin")
        return [
            {n: getattr(v, n) for n in names} | {"chosen": v.candidate == chosen}
            for v in self.verdicts
        ]

    @cached_property
    def _told(self) -> str:
        return "\n".join([self.reason, *(f"  {verdict}" for verdict in self.verdicts)])

    def __str__(self) -> str:
        return self._told


def match(
    frame: Facts | Mapping[str, Any], candidates: Sequence[Candidate], kind: str, rules: Rules
) -> Match:
    """Choose the master of one kind for a frame.

    A candidate must pass every rule. Among those that do, the first by: darks, an unscaled before a
    scaled one where both may be, then the nearest exposure (of two as near, the longer); flats, the
    preferred kind; then the nearest time; then the name.

    Parameters
    ----------
    frame : Facts or mapping
        The frame, or its row of the frame table.
    candidates : sequence of Candidate
        Masters; those of other kinds are passed over.
    kind : str
        ``bias``, ``dark`` or ``flat``.
    rules : Rules
        Usually ``config.rules(has_bias=...)``.
    """
    checked = cast(Kind, choose("kind", kind, KINDS))
    keywords = [rule.keyword for rule in rules.keywords]
    facts = frame if isinstance(frame, Facts) else Facts.of_row(frame, keywords)
    mine = tuple(c for c in candidates if c.kind == kind)
    if len({c.name for c in mine}) < len(mine):
        raise ArgumentError(f"two candidates of kind {kind!r} have the same name")
    return choose_from(lasting(facts, mine, kind, rules), facts, mine, checked, rules)


def choose_from(
    left: Passing, frame: Facts, candidates: Passing, kind: Kind, rules: Rules
) -> Match:
    """`match` where it is known which candidates pass `lasting`."""
    chosen = min(
        passing(frame, left, rules),
        key=lambda c: (_preference(frame, c, rules), _last(frame, c)),
        default=None,
    )
    scale = _scale(frame, chosen, rules) if chosen and kind == "dark" else None
    return Match(kind, frame, candidates, rules, chosen, scale)


def pin(
    chosen: Candidate, words: str, frame: Facts, candidates: Passing, kind: Kind, rules: Rules
) -> Match:
    """The match of a frame whose master the user chose, in these `words`.

    A dark is scaled as the rules say, as far as it can be; limits do not hold.
    """
    scale = _scale(frame, chosen, rules) if kind == "dark" and rules.has_bias else None
    known = scale is not None and 0 < scale < math.inf
    return Match(kind, frame, candidates, rules, chosen, scale if known else None, words)


# --- which of several, and why -------------------------------------------------------------------


def _last(frame: Facts, candidate: Candidate) -> tuple[float, str]:
    """What chooses where all else is alike."""
    return _or_last(abs(days_after(frame, candidate.facts))), candidate.name


def _preference(frame: Facts, candidate: Candidate, rules: Rules) -> tuple[float, ...]:
    """What comes before time and name in the order of candidates that serve."""
    if candidate.kind == "dark":
        scaled = _scale(frame, candidate, rules) is not None
        darktime = candidate.facts.darktime
        # of two as near the longer, as `subtract_dark` takes them: what is planned is what is done
        return (scaled, _or_last(abs(darktime - frame.darktime)), _or_last(-darktime))
    if candidate.kind == "flat":
        kinds, kind = rules.flat_kind, candidate.facts.flat_kind
        return (kinds.index(kind) if kind in kinds else len(kinds),)
    return ()


def _scale(frame: Facts, candidate: Candidate, rules: Rules) -> float | None:
    near = abs(candidate.facts.darktime - frame.darktime) <= rules.exposure_tolerance
    if rules.scale_darks is False or (rules.scale_darks == "auto" and near):
        return None
    return ratio(frame, candidate.facts)


def _why_chosen(found: Match) -> str:
    chosen = found.chosen
    assert chosen is not None
    others = len(found.served) - 1
    text = f"{chosen.name}: passes every rule{_how(found)}"
    if others:
        first = {"dark": "nearest exposure", "flat": "preferred kind"}.get(found.kind)
        order = ", ".join(filter(None, [first, "nearest time", "name"]))
        text += f"; first of {others + 1} by {order}"
    return text


def _how(found: Match) -> str:
    """The filter of a flat; a dark's exposure, and whether it is scaled."""
    chosen, frame = found.chosen, found.frame
    if found.kind == "flat" and frame.filter:
        return f" (filter {frame.filter!r})"
    if found.kind != "dark" or chosen is None:
        return ""
    exposures = f"{exposure_text(chosen.facts.darktime)} for {exposure_text(frame.darktime)}"
    how = "unscaled" if found.scale is None else f"scaled by {plain(found.scale)}"
    return f" ({exposures}, {how})"


def _why_pinned(found: Match) -> str:
    chosen = found.chosen
    assert chosen is not None
    text = f"{chosen.name}: pinned by {found.pinned}{_how(found)}"
    says = ", ".join(f"{v.rule} is {v.found}, wanted {v.wanted}" for v in found.waived)
    return f"{text}; by the rules it would not serve: {says}" if says else text


def _why_none(found: Match) -> str:
    if not found.candidates:
        return f"no {found.kind}: there are no {found.kind} frames to use"
    judged = [(c, judge(found.frame, c, found.rules)) for c in found.candidates]
    nearest, verdicts = min(judged, key=lambda p: (_miss(found, *p), _last(found.frame, p[0])))
    failed = {v.rule: v for v in verdicts if not v.passed}
    says = [
        f"{v.rule} is {v.found}, wanted {v.wanted}" for v in failed.values() if v.rule != "exposure"
    ]
    text = f"no {found.kind} {_wanted(found, list(failed))}"
    if "exposure" in failed:
        near = f"nearest {exposure_text(nearest.facts.darktime)}, {nearest.name}"
        return f"{text}: {'; '.join([near, *says, _exposure_miss(found, nearest)])}"
    if "filter" in failed:
        filters = sorted({quoted(c.facts.filter) for c in found.candidates})
        text += f": there are flats for {', '.join(filters)}"
    return f"{text}; nearest: {nearest.name} ({'; '.join(says)})"


def _exposure_miss(found: Match, nearest: Candidate) -> str:
    """What keeps a dark from being scaled."""
    rules, wanted = found.rules, ratio(found.frame, nearest.facts)
    if rules.scale_darks is False:
        return "darks are not scaled"
    allowed = f"scaling allowed up to {plain(rules.max_scale)}×"
    return f"{allowed}, would need " + (
        "bias" if wanted <= rules.max_scale else f"{plain(wanted)}×"
    )


def _wanted(found: Match, failed: Sequence[str]) -> str:
    frame, rules = found.frame, found.rules
    if "filter" in failed:
        return f"for filter {frame.filter!r}"
    if "exposure" in failed:
        return f"within {plain(rules.exposure_tolerance)} s of {exposure_text(frame.darktime)}"
    return f"with the frame's {', '.join(failed)}"


def _miss(found: Match, candidate: Candidate, verdicts: list[Verdict]) -> tuple[float, ...]:
    """How far a candidate is from serving: first what belongs to the camera, then the rest."""
    failed = [v.rule for v in verdicts if not v.passed]
    hard = sum(map(of_camera, failed))
    return (hard, len(failed), *_preference(found.frame, candidate, found.rules))


def _or_last(number: float) -> float:
    return math.inf if math.isnan(number) else number
