"""The rules themselves: each one asked of a frame and a candidate, and what it says for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from daskcal.masters.facts import Candidate, Facts
from daskcal.masters.groups import exposure_text, same_gain
from daskcal.masters.rules import KeywordRule, Rules

_DAY = np.timedelta64(86_400_000_000, "us")
Passing = tuple[Candidate, ...]


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
        lambda frame, master, rules: (quoted(value(master)), quoted(value(frame))),
    )


def _check_gain(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    return same_gain(master.readout, frame.readout), math.nan


def _say_gain(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    return master.readout.gain_text, frame.readout.gain_text


def _check_shape(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    have, want = master.readout, frame.readout
    placed = have.origin is not None and want.origin is not None
    same = have.shape == want.shape and (have.origin == want.origin or not placed)
    return same or have.covers(want), math.nan


def _check_exposure(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = rules.exposure_tolerance - abs(master.darktime - frame.darktime)
    if rules.scale_darks is False or (rules.scale_darks == "auto" and margin >= 0):
        return margin >= 0, margin
    margin = rules.max_scale - ratio(frame, master)
    return rules.has_bias and margin >= 0, margin


def _say_exposure(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    found, wanted = exposure_text(master.darktime), exposure_text(frame.darktime)
    unscaled = abs(master.darktime - frame.darktime) <= rules.exposure_tolerance
    if rules.scale_darks is False or (rules.scale_darks == "auto" and unscaled):
        return found, f"{wanted} ± {plain(rules.exposure_tolerance)} s"
    needs = "" if rules.has_bias else ", which needs a master bias"
    wanted += f", scaled by at most {plain(rules.max_scale)}×{needs}"
    return f"{found} ({plain(ratio(frame, master))}×)", wanted


def _check_temperature(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = (rules.temperature or 0.0) - abs(master.ccd_temp - frame.ccd_temp)
    return margin >= 0, margin


def _say_temperature(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    limit = plain(rules.temperature or 0.0)
    return f"{plain(master.ccd_temp)} °C", f"{plain(frame.ccd_temp)} ± {limit} °C"


def _check_days(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = (rules.days or 0.0) - abs(days_after(frame, master))
    return margin >= 0, margin


def _say_days(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    apart = abs(days_after(frame, master))
    found = "unknown time" if math.isnan(apart) else f"{plain(apart)} days apart"
    return found, f"at most {plain(rules.days or 0.0)}"


def _check_not_after(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
    margin = -days_after(frame, master)
    return margin >= 0, margin


def _say_not_after(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
    later = days_after(frame, master)
    if math.isnan(later):
        return "unknown time", "not later"
    return f"{plain(abs(later))} days {'later' if later > 0 else 'earlier'}", "not later"


def _keyword(held: KeywordRule) -> _Rule:
    """The rule for one keyword of the header."""
    key, tolerance = held.keyword, held.tolerance

    def check(frame: Facts, master: Facts, rules: Rules) -> tuple[bool, float]:
        have, want = master.of(key), frame.of(key)
        if isinstance(have, float) and isinstance(want, float):
            margin = tolerance - abs(have - want)
            return margin >= 0, margin
        return have == want, math.nan

    def says(frame: Facts, master: Facts, rules: Rules) -> tuple[str, str]:
        within = f" ± {plain(tolerance)}" if tolerance else ""
        return quoted(master.of(key)), quoted(frame.of(key)) + within

    return _Rule(key, check, says)


_DETECTOR = _equal("detector", lambda facts: facts.readout.detector)
_BINNING = _equal("binning", lambda facts: facts.readout.binning)
_READOUT_MODE = _equal("readout_mode", lambda facts: facts.readout.readout_mode)
_FILTER = _equal("filter", lambda facts: facts.filter)
_SHAPE = _Rule(
    "shape", _check_shape, lambda f, m, rules: (m.readout.window_text, f.readout.window_text)
)
_GAIN = _Rule("gain", _check_gain, _say_gain)
_FLAT_KIND = _Rule(
    "flat_kind",
    lambda frame, master, rules: (master.flat_kind in rules.flat_kind, math.nan),
    lambda f, m, rules: (quoted(m.flat_kind), " or ".join(quoted(k) for k in rules.flat_kind)),
)
_EXPOSURE = _Rule("exposure", _check_exposure, _say_exposure)
_TEMPERATURE = _Rule("temperature", _check_temperature, _say_temperature)
_DAYS = _Rule("days", _check_days, _say_days)
_NOT_AFTER = _Rule("not_after", _check_not_after, _say_not_after)
_AMPLIFIERS = _equal("amplifiers", lambda facts: facts.readout.amplifiers or "one")
_OF_CAMERA = ("detector", "binning", "shape", "gain", "readout_mode", "amplifiers")


def of_camera(rule: str) -> bool:
    """Whether a rule asks how the camera is set: what fails it is farther than any other miss."""
    return rule in _OF_CAMERA


@lru_cache(maxsize=64)
def _lasting(kind: str, rules: Rules) -> tuple[_Rule, ...]:
    """The rules for masters of a kind that many frames come out alike in, the camera's first."""
    held = (
        (rules.detector, _DETECTOR),
        (rules.binning, _BINNING),
        (rules.shape, _SHAPE),
        (rules.gain, _GAIN),
        (rules.readout_mode, _READOUT_MODE),
        (rules.amplifiers, _AMPLIFIERS),
        (rules.filter and kind == "flat", _FILTER),
        (kind == "flat", _FLAT_KIND),
        (kind == "dark", _EXPOSURE),
    )
    own = (_keyword(rule) for rule in rules.keywords_of(kind))
    return (*(rule for holds, rule in held if holds), *own)


@lru_cache(maxsize=64)
def _passing_by(rules: Rules) -> tuple[_Rule, ...]:
    """The rules for what changes from frame to frame: temperature and time."""
    held = (
        (rules.temperature is not None, _TEMPERATURE),
        (rules.days is not None, _DAYS),
        (rules.not_after, _NOT_AFTER),
    )
    return tuple(rule for holds, rule in held if holds)


def judge(frame: Facts, candidate: Candidate, rules: Rules) -> list[Verdict]:
    """Every rule that holds, asked of one candidate."""
    held = (*_lasting(candidate.kind, rules), *_passing_by(rules))
    return [rule.verdict(frame, candidate, rules) for rule in held]


def lasting(frame: Facts, candidates: Iterable[Candidate], kind: str, rules: Rules) -> Passing:
    """The candidates that pass the rules for all that does not change from frame to frame."""
    return _filtered(frame, candidates, _lasting(kind, rules), rules)


def passing(frame: Facts, left: Sequence[Candidate], rules: Rules) -> Passing:
    """Those of `lasting` that pass the rules for temperature and time too."""
    return _filtered(frame, left, _passing_by(rules), rules)


def _filtered(
    frame: Facts, candidates: Iterable[Candidate], held: Sequence[_Rule], rules: Rules
) -> Passing:
    left = tuple(candidates)
    for rule in held:
        check = rule.check
        left = tuple(c for c in left if check(frame, c.facts, rules)[0])
    return left


def ratio(frame: Facts, master: Facts) -> float:
    """Dark time of the frame over the dark's: what its dark current is multiplied with."""
    have, want = master.darktime, frame.darktime
    return want / have if have > 0 else math.inf


def days_after(frame: Facts, master: Facts) -> float:
    """Days from the frame to the master, negative where it came before; NaN where unknown."""
    apart = master.date_obs - frame.date_obs
    return math.nan if np.isnat(apart) else float(apart / _DAY)


def plain(number: float) -> str:
    """A number for people."""
    return "unknown" if math.isnan(number) else f"{number:.6g}"


def quoted(value: Any) -> str:
    """A text in quotes, or a number, for people."""
    if value is None or value == "":
        return "unknown"
    return f"{value:.6g}" if isinstance(value, float) else repr(str(value))
