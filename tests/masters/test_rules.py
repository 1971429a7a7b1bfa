"""Rules with a tolerance, for time and amplifiers; sets of frames that they keep apart."""

from __future__ import annotations

from typing import Any

import pytest
from nights import NAN, some, table

from daskcal.masters.groups import group_masters, name_groups
from daskcal.masters.match import Candidate, KeywordRule, Match, Rules, match
from daskcal.masters.matcher import Matcher, table_facts
from daskcal.masters.settings import odd_ones, split_by_settings

ANGLE = KeywordRule("ROTANGLE", 0.5, ("flat",))
LAMP = KeywordRule("LAMP-ID")
KEYWORDS = ("ROTANGLE", "LAMP-ID")


def one(kind: str, name: str = "m", **more: Any) -> Candidate:
    frames = table(*some(2, kind, 1.0, **more))
    return Candidate.of_group(name, group_masters(frames)[0], frames, KEYWORDS)


def found(master: Candidate, rules: Rules, **frame: Any) -> Match:
    row = table(*some(1, "science", 60.0, **frame)).iloc[0]
    return match(row, [master], master.kind, rules)


@pytest.mark.parametrize(
    ("have", "want", "served", "margin"),
    [
        (12.0, 12.5, True, 0.0),
        (12.0, 12.6, False, -0.1),
        ("12", 12.3, True, 0.2),
        ("stowed", "stowed", True, NAN),
        ("stowed", 12.0, False, NAN),
        ("", 12.0, False, NAN),
        ("", "", True, NAN),
    ],
)
def test_a_keyword_with_a_tolerance(have: Any, want: Any, served: bool, margin: float) -> None:
    master = one("flat", hdr_rotangle=have)
    seen = found(master, Rules(keywords=(ANGLE,)), hdr_rotangle=want)
    assert (seen.chosen is not None) == served
    (verdict,) = (v for v in seen.verdicts if v.rule == "ROTANGLE")
    assert verdict.margin == pytest.approx(margin, nan_ok=True)
    if not served:
        assert f"ROTANGLE is {verdict.found}, wanted {verdict.wanted}" in seen.reason


def test_a_keyword_holds_for_its_kinds_of_master() -> None:
    rules = Rules(keywords=(ANGLE, LAMP))
    bias = one("bias", hdr_rotangle=1.0, hdr_lamp_id="a")
    assert found(bias, rules, hdr_rotangle=90.0, hdr_lamp_id="a").chosen
    assert not found(bias, rules, hdr_rotangle=90.0, hdr_lamp_id="b").chosen


def test_not_after() -> None:
    master = one("bias", date_obs="2024-01-02")
    rules = Rules(not_after=True)
    late = found(master, rules, date_obs="2024-01-05")
    assert late.chosen
    assert late.verdicts[-1].margin == pytest.approx(3)
    early = found(master, rules, date_obs="2024-01-01")
    assert "not_after is 1 days later, wanted not later" in early.reason
    assert not found(master, rules).chosen  # when it was taken is not known


def test_amplifiers_and_their_gains() -> None:
    two = {"amplifiers": "a [0:4, 0:4]; b [0:4, 4:8]"}
    assert found(one("bias", **two), Rules(), **two).chosen
    assert not found(one("bias", **two), Rules()).chosen
    assert found(one("bias", **two), Rules(amplifiers=False)).chosen
    gains = two | {"amplifier_gains": "1.1, 1.2"}
    other = two | {"amplifier_gains": "1.1, 1.3"}
    wrong = found(one("bias", **gains), Rules(), **other)
    assert "gain is 1.1, 1.2, wanted 1.1, 1.3" in wrong.reason
    assert found(one("bias", **gains), Rules(gain=False), **other).chosen


def split(frames: Any, rules: Rules) -> dict[str, tuple[int, ...]]:
    groups = split_by_settings(group_masters(frames), frames, rules)
    names = name_groups(groups)
    return {names[group.key]: group.frames for group in groups}


def test_temperatures_within_the_tolerance_of_their_median_are_one_set() -> None:
    temps = (-20.0, -19.7, -20.4, -10.0, -20.2, -9.6, NAN, -20.1)
    frames = table(*(some(1, "dark", 60.0, ccd_temp=t)[0] for t in temps))
    assert split(frames, Rules()) == {"dark_60s": tuple(range(8))}
    assert split(frames, Rules(temperature=1.0)) == {
        "dark_60s": (0, 1, 2, 4, 7),
        "dark_60s_T-10C": (3, 5),
        "dark_60s_TunknownC": (6,),
    }


def test_keywords_keep_their_kinds_of_master_apart() -> None:
    turned = [{"imagetyp": k, "hdr_rotangle": a} for k in ("bias", "flat") for a in (0, 0.4, 90)]
    assert split(table(*turned), Rules(keywords=(ANGLE,))) == {
        "bias": (0, 1, 2),
        "flat": (3, 4),
        "flat_ROTANGLE90": (5,),
    }


def test_what_is_odd() -> None:
    temps = [-20.0] * 5 + [-10.0, 5.0, 5.0, 5.0]
    frames = table(*(some(1, "dark", 60.0, ccd_temp=t)[0] for t in temps))
    groups = split_by_settings(group_masters(frames), frames, Rules(temperature=1.0))
    ((group, why),) = odd_ones(groups, lambda group: True)
    assert group.frames == (5,)  # three of another temperature are a set of their own
    assert why == "its CCD temperature is -10 °C, and that of 5 other dark frames -20 °C"
    assert not list(odd_ones(groups, lambda group: False))


def test_frames_that_were_processed_are_apart() -> None:
    frames = table(*({"imagetyp": "dark", "processed": p} for p in ("", "dark", "")))
    assert split(frames, Rules()) == {"dark_unknown_raw": (0, 2), "dark_unknown_dark": (1,)}


def test_a_matcher_asks_each_frame_for_its_own_time_and_temperature() -> None:
    days = [{"date_obs": f"2024-01-0{d}", "ccd_temp": -20.0 - d / 10} for d in range(1, 6)]
    night = table(
        *some(2, "bias", 0.0, **days[2]), *(some(1, "science", 1.0, **d)[0] for d in days)
    )
    groups = group_masters(night)
    masters = [Candidate.of_group("b", groups[0], night)]
    for rules in (Rules(not_after=True), Rules(temperature=0.1), Rules(days=1.0, temperature=0.1)):
        matcher = Matcher(masters, "bias", rules)
        for facts, (_, row) in zip(table_facts(night), night.iterrows(), strict=True):
            assert str(matcher.match(facts)) == str(match(row, masters, "bias", rules))
