"""Which master serves a frame: rules that can be printed, and the nearest miss where none does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from daskcal.errors import ArgumentError, choose
from daskcal.masters.groups import KINDS, Kind, MasterGroup, Readout, exposure_text, same_number

_DAY = np.timedelta64(86_400_000_000, "us")
_UNKNOWN_TIME = np.datetime64("NaT", "us")  # one for all: it equals nothing but itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which rules hold between a frame and its masters, and their tolerances.

    Attributes
    ----------
    detector, binning, shape, gain, readout_mode, filter : bool
        Whether the property must be the same.
    flat_kind : tuple of str
        Kinds of flat allowed, the preferred first.
    temperature : float or None
        Largest difference in K; None for no limit.
    days : float or None
        Largest difference in time; None for no limit.
    exposure_tolerance : float
        Largest difference in s of dark time between a frame and an unscaled dark.
    scale_darks : bool or "auto"
        Always, never, or where the exposure lies outside the tolerance.
    max_scale : float
        Largest ratio by which a dark may be scaled up.
    has_bias : bool
        Whether darks are bias-subtracted, and the frame can be; a scaled dark needs it.
    """

    detector: bool = True
    binning: bool = True
    shape: bool = True
    gain: bool = True
    readout_mode: bool = True
    filter: bool = True
    flat_kind: tuple[str, ...] = ("dome", "sky", "twilight", "")
    temperature: float | None = None
    days: float | None = None
    exposure_tolerance: float = 0.5
    scale_darks: bool | Literal["auto"] = "auto"
    max_scale: float = 3.0
    has_bias: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at, of a frame or of a master. Unknown is ``""``, NaN or NaT.

    Exposures are compared as dark times (s), in which dark current grows; headers without one have
    the exposure in its place.
    """

    readout: Readout
    darktime: float = math.nan
    filter: str = ""
    flat_kind: str = ""
    ccd_temp: float = math.nan
    date_obs: np.datetime64 = _UNKNOWN_TIME

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Facts:
        """Facts of one row of the frame table (a mapping or a `pandas.Series`)."""
        return cls(
            readout=Readout.of_row(row),
            darktime=_first_known(_number(row.get("darktime")), _number(row.get("exptime"))),
            filter=str(row.get("filter", "")),
            flat_kind=str(row.get("flat_kind", "")),
            ccd_temp=_number(row.get("ccd_temp")),
            date_obs=_moment(row.get("date_obs")),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A master that a frame might use, made or planned."""

    name: str
    kind: Kind
    facts: Facts

    @classmethod
    def of_group(cls, name: str, group: MasterGroup, table: Any) -> Candidate:
        """The master that a group of the frame table (a `pandas.DataFrame`) will make.

        Times, temperature and date are the means of its frames, which combining gives it too.
        """
        rows = table.iloc[list(group.frames)]
        key = group.key
        mean_date = rows["date_obs"].mean() if "date_obs" in rows else None
        facts = Facts(
            readout=key.readout,
            darktime=_first_known(_mean(rows, "darktime"), _mean(rows, "exptime")),
            filter=key.filter,
            flat_kind=key.flat_kind,
            ccd_temp=_mean(rows, "ccd_temp"),
            date_obs=_moment(mean_date),
        )
        return cls(name, key.kind, facts)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One rule applied to one candidate.

    Attributes
    ----------
    found, wanted : str
        What the candidate has, and what the frame needs, with units.
    margin : float
        What is left of a tolerance, in its unit (negative: by how much it is missed); NaN for
        rules of the yes or no kind.
    """

    candidate: str
    rule: str
    passed: bool
    found: str
    wanted: str
    margin: float = math.nan

    def __str__(self) -> str:
        word = "pass" if self.passed else "FAIL"
        room = "" if math.isnan(self.margin) else f" (margin {self.margin:.3g})"
        return f"{self.candidate}: {self.rule}: {word}: {self.found}, wanted {self.wanted}{room}"


@dataclass(frozen=True, eq=False)
class Match:
    """The master chosen for a frame, and why; `str` prints every rule. Texts wait to be asked for.

    Attributes
    ----------
    chosen : Candidate or None
        None where no candidate passes every rule.
    scale : float or None
        For a dark: the ratio by which it is to be scaled; None for an unscaled dark.
    """

    kind: Kind
    frame: Facts
    candidates: tuple[Candidate, ...]
    rules: Rules
    chosen: Candidate | None
    scale: float | None

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every rule on every candidate."""
        return tuple(v for c in self.candidates for v in _judge(self.frame, c, self.rules))

    @cached_property
    def reason(self) -> str:
        """Why this master, or what was missing and the nearest miss."""
        return _why_chosen(self) if self.chosen else _why_none(self)

    @cached_property
    def time_decides(self) -> bool:
        """Whether the times choose the master, or the nearest miss, among several alike in rank."""
        frame, rules = self.frame, self.rules
        served = _passing(frame, self.candidates, self.kind, rules)
        ranks = [_preference(frame, c, rules) for c in served]
        ranks = ranks or [_miss(self, c, _judge(frame, c, rules)) for c in self.candidates]
        return bool(ranks) and ranks.count(min(ranks)) > 1

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
    facts = frame if isinstance(frame, Facts) else Facts.of_row(frame)
    mine = tuple(c for c in candidates if c.kind == kind)
    if len({c.name for c in mine}) < len(mine):
        raise ArgumentError(f"two candidates of kind {kind!r} have the same name")
    chosen = min(
        _passing(facts, mine, kind, rules),
        key=lambda c: (_preference(facts, c, rules), _last(facts, c)),
        default=None,
    )
    scale = _scale(facts, chosen, rules) if chosen and kind == "dark" else None
    return Match(checked, facts, mine, rules, chosen, scale)


# --- the rules -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule: what decides it, cheap since planning asks it millions of times; and what it says."""

    name: str
    check: Callable[[Facts, Facts, Rules], tuple[bool, float]]  # passed, margin
    says: Callable[[Facts, Facts, Rules], tuple[str, str]]  # found, wanted

    def verdict(self, frame: Facts, candidate: Candidate, rules: Rules) -> Verdict:
        passed, margin = self.check(frame, candidate.facts, rules)
        found, wanted = self.says(frame, candidate.facts, rules)
        return Verdict(candidate.name, self.name, passed, found, wanted, margin)


def _equal(name: str, value: Callable[[Facts], str]) -> _Rule:
    """A rule that wants the same text on both sides; unknown equals only unknown."""
    return _Rule(
        name,
        lambda frame, master, rules: (value(frame) == value(master), math.nan),
        lambda frame, master, rules: (_text(value(master)), _text(value(frame))),
    )


def _check_gain(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    return same_number(master.readout.gain, frame.readout.gain), math.nan


def _check_shape(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    have, want = master.readout, frame.readout
    placed = have.origin is not None and want.origin is not None
    same = have.shape == want.shape and (have.origin == want.origin or not placed)
    return same or have.covers(want), math.nan


def _check_exposure(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = rules.exposure_tolerance - abs(master.darktime - frame.darktime)
    if rules.scale_darks is False or (rules.scale_darks == "auto" and margin >= 0):
        return margin >= 0, margin
    margin = rules.max_scale - _ratio(frame, master)
    return rules.has_bias and margin >= 0, margin


def _say_exposure(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    found, wanted = exposure_text(master.darktime), exposure_text(frame.darktime)
    unscaled = abs(master.darktime - frame.darktime) <= rules.exposure_tolerance
    if rules.scale_darks is False or (rules.scale_darks == "auto" and unscaled):
        return found, f"{wanted} ± {_g(rules.exposure_tolerance)} s"
    needs = "" if rules.has_bias else ", which needs a master bias"
    wanted += f", scaled by at most {_g(rules.max_scale)}×{needs}"
    return f"{found} ({_g(_ratio(frame, master))}×)", wanted


def _check_temperature(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = (rules.temperature or 0.0) - abs(master.ccd_temp - frame.ccd_temp)
    return margin >= 0, margin


def _say_temperature(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    limit = _g(rules.temperature or 0.0)
    return f"{_g(master.ccd_temp)} °C", f"{_g(frame.ccd_temp)} ± {limit} °C"


def _check_days(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = (rules.days or 0.0) - _apart(frame, master)
    return margin >= 0, margin


def _say_days(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    apart = _apart(frame, master)
    found = "unknown time" if math.isnan(apart) else f"{_g(apart)} days apart"
    return found, f"at most {_g(rules.days or 0.0)}"


_DETECTOR = _equal("detector", lambda facts: facts.readout.detector)
_BINNING = _equal("binning", lambda facts: facts.readout.binning)
_READOUT_MODE = _equal("readout_mode", lambda facts: facts.readout.readout_mode)
_FILTER = _equal("filter", lambda facts: facts.filter)
_SHAPE = _Rule(
    "shape", _check_shape, lambda f, m, rules: (m.readout.window_text, f.readout.window_text)
)
_GAIN = _Rule(
    "gain", _check_gain, lambda f, m, rules: (_text(m.readout.gain), _text(f.readout.gain))
)
_FLAT_KIND = _Rule(
    "flat_kind",
    lambda frame, master, rules: (master.flat_kind in rules.flat_kind, math.nan),
    lambda f, m, rules: (_text(m.flat_kind), " or ".join(_text(k) for k in rules.flat_kind)),
)
_EXPOSURE = _Rule("exposure", _check_exposure, _say_exposure)
_TEMPERATURE = _Rule("temperature", _check_temperature, _say_temperature)
_DAYS = _Rule("days", _check_days, _say_days)
_SOFT = ("filter", "flat_kind", "exposure", "temperature", "days")


def _rules_for(kind: str, rules: Rules) -> list[_Rule]:
    """The rules that hold for masters of a kind, those that say most about the camera first."""
    held = (
        (rules.detector, _DETECTOR),
        (rules.binning, _BINNING),
        (rules.shape, _SHAPE),
        (rules.gain, _GAIN),
        (rules.readout_mode, _READOUT_MODE),
        (rules.filter and kind == "flat", _FILTER),
        (kind == "flat", _FLAT_KIND),
        (kind == "dark", _EXPOSURE),
        (rules.temperature is not None, _TEMPERATURE),
        (rules.days is not None, _DAYS),
    )
    return [rule for holds, rule in held if holds]


def _judge(frame: Facts, candidate: Candidate, rules: Rules) -> list[Verdict]:
    return [rule.verdict(frame, candidate, rules) for rule in _rules_for(candidate.kind, rules)]


def _passing(
    frame: Facts, candidates: Sequence[Candidate], kind: str, rules: Rules
) -> list[Candidate]:
    left = list(candidates)
    for rule in _rules_for(kind, rules):
        check = rule.check
        left = [c for c in left if check(frame, c.facts, rules)[0]]
    return left


# --- which of several, and why -------------------------------------------------------------------


def _last(frame: Facts, candidate: Candidate) -> tuple[float, str]:
    """What chooses where all else is alike."""
    return _or_last(_apart(frame, candidate.facts)), candidate.name


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
    return _ratio(frame, candidate.facts)


def _why_chosen(found: Match) -> str:
    chosen, frame = found.chosen, found.frame
    assert chosen is not None
    others = len(_passing(frame, found.candidates, found.kind, found.rules)) - 1
    text = f"{chosen.name}: passes every rule"
    if found.kind == "dark":
        exposures = f"{exposure_text(chosen.facts.darktime)} for {exposure_text(frame.darktime)}"
        how = "unscaled" if found.scale is None else f"scaled by {_g(found.scale)}"
        text += f" ({exposures}, {how})"
    elif frame.filter and found.kind == "flat":
        text += f" (filter {frame.filter!r})"
    if others:
        first = {"dark": "nearest exposure", "flat": "preferred kind"}.get(found.kind)
        order = ", ".join(filter(None, [first, "nearest time", "name"]))
        text += f"; first of {others + 1} by {order}"
    return text


def _why_none(found: Match) -> str:
    if not found.candidates:
        return f"no {found.kind}: there are no {found.kind} frames to use"
    judged = [(c, _judge(found.frame, c, found.rules)) for c in found.candidates]
    nearest, verdicts = min(judged, key=lambda p: (_miss(found, *p), _last(found.frame, p[0])))
    failed = [v for v in verdicts if not v.passed]
    text = f"no {found.kind} {_wanted(found, failed)}"
    if any(v.rule == "filter" for v in failed):
        filters = sorted({_text(c.facts.filter) for c in found.candidates})
        text += f": there are flats for {', '.join(filters)}"
    says = [
        _exposure_miss(found, nearest)
        if v.rule == "exposure"
        else f"{v.rule} is {v.found}, wanted {v.wanted}"
        for v in failed
    ]
    same = [v.rule for v in verdicts if v.passed]
    shared = f"; {', '.join(same)} would do" if same else ""
    return f"{text}; nearest: {nearest.name} ({'; '.join(says)}{shared})"


def _exposure_miss(found: Match, nearest: Candidate) -> str:
    rules, ratio = found.rules, _ratio(found.frame, nearest.facts)
    text = f"exposure is {exposure_text(nearest.facts.darktime)}"
    if rules.scale_darks is False:
        return f"{text}, and darks are not scaled"
    if not ratio <= rules.max_scale:
        return f"{text}; scaling allowed up to {_g(rules.max_scale)}×, would need {_g(ratio)}×"
    return f"{text}; scaling allowed up to {_g(rules.max_scale)}×, would need bias"


def _wanted(found: Match, failed: list[Verdict]) -> str:
    frame, rules = found.frame, found.rules
    names = [v.rule for v in failed]
    if "filter" in names:
        return f"for filter {frame.filter!r}"
    if "exposure" in names:
        return f"within {_g(rules.exposure_tolerance)} s of {exposure_text(frame.darktime)}"
    return f"with the frame's {', '.join(names)}"


def _miss(found: Match, candidate: Candidate, verdicts: list[Verdict]) -> tuple[float, ...]:
    """How far a candidate is from serving: first what belongs to the camera, then the rest."""
    failed = [v.rule for v in verdicts if not v.passed]
    hard = sum(rule not in _SOFT for rule in failed)
    return (hard, len(failed), *_preference(found.frame, candidate, found.rules))


# --- small change --------------------------------------------------------------------------------


def _ratio(frame: Facts, master: Facts) -> float:
    """Dark time of the frame over the dark's: what its dark current is multiplied with."""
    have, want = master.darktime, frame.darktime
    return want / have if have > 0 else math.inf


def _apart(frame: Facts, master: Facts) -> float:
    """Days between them, NaN where a time is unknown."""
    apart = master.date_obs - frame.date_obs
    return math.nan if np.isnat(apart) else abs(float(apart / _DAY))


def _first_known(number: float, other: float) -> float:
    return other if math.isnan(number) else number


def _or_last(number: float) -> float:
    return math.inf if math.isnan(number) else number


def _mean(rows: Any, name: str) -> float:
    """Mean of the known values, bit for bit as the combined master will have it."""
    values = np.asarray(rows[name], dtype=np.float64) if name in rows else np.empty(0)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _number(value: Any) -> float:
    return math.nan if value is None or value != value else float(value)


def _moment(value: Any) -> np.datetime64:
    missing = value is None or value != value
    return _UNKNOWN_TIME if missing else np.datetime64(value, "us")


def _g(number: float) -> str:
    return "unknown" if math.isnan(number) else f"{number:.6g}"


def _text(value: Any) -> str:
    if value is None or value == "":
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else repr(str(value))
