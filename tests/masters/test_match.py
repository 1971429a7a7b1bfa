"""The master that serves a frame, the rules that say so, and the nearest miss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import nights
import pandas as pd
import pytest
from nights import NAN, some, table

from daskcal.errors import ArgumentError
from daskcal.masters.groups import group_masters, name_groups
from daskcal.masters.match import Candidate, Facts, Match, Rules, match
from daskcal.night.config.read import load_camera

SCALING = Rules(has_bias=True)


def candidates(frames: pd.DataFrame) -> list[Candidate]:
    groups = group_masters(frames)
    names = name_groups(groups)
    return [Candidate.of_group(names[g.key], g, frames) for g in groups]


def science(frames: pd.DataFrame, number: int = 0) -> pd.Series:
    return frames[frames["imagetyp"] == "science"].iloc[number]


def chosen(found: Match) -> str:
    return found.chosen.name if found.chosen else ""


def one(kind: str, exptime: float = NAN, **more: Any) -> Candidate:
    """A master of two frames."""
    frames = table(*some(2, kind, exptime, **more))
    name = more.pop("name", f"{kind}_{exptime:g}_{more}")
    return Candidate.of_group(name, group_masters(frames)[0], frames)


def frame(exptime: float = 60.0, **more: Any) -> pd.Series:
    return science(table(*some(1, "science", exptime, **more)))


class TestSeeds:
    def test_lfc(self) -> None:
        frames, rules = nights.lfc(), load_camera("lfc").rules(has_bias=True)
        masters = candidates(frames)
        for number, flat in enumerate(["flat_g", "flat_i"]):
            dark = match(science(frames, number), masters, "dark", rules)
            assert (chosen(dark), dark.scale) == ("dark_300s", None)
            assert chosen(match(science(frames, number), masters, "flat", rules)) == flat
            assert chosen(match(science(frames, number), masters, "bias", rules)) == "bias"
        darks = [chosen(match(frames.iloc[n], masters, "dark", rules)) for n in range(15, 21)]
        assert darks == ["dark_70s"] * 3 + ["dark_7s"] * 3

    def test_aspen_scales_the_90_s_dark_down(self) -> None:
        frames, rules = nights.aspen(), load_camera("aspen-cg16m").rules(has_bias=True)
        masters = candidates(frames)
        flats = frames[frames["imagetyp"] == "flat"]
        scales = [match(row, masters, "dark", rules).scale for _, row in flats.iterrows()]
        assert scales == pytest.approx(flats["exptime"] / 90)
        assert match(science(frames), masters, "dark", rules).scale == 1.0

    def test_lowell_and_st7(self) -> None:
        lowell = nights.lowell()
        assert chosen(match(science(lowell), candidates(lowell), "flat", Rules())) == "flat_VR"
        st7 = nights.st7()
        warm = match(science(st7), candidates(st7), "dark", Rules(temperature=0.5))
        assert chosen(warm) == "dark_120s"
        assert match(science(st7), candidates(st7), "dark", Rules(temperature=0.1)).chosen is None


@pytest.mark.parametrize(
    ("rule", "have", "want"),
    [
        ("detector", "chip0", "chip1"),
        ("detector", "chip0", ""),
        ("binning", "1x1", "2x2"),
        ("gain", 1.0, 2.0),
        ("gain", 1.0, NAN),
        ("readout_mode", "fast", "slow"),
        ("filter", "R", "V"),
        ("shape", (10, 12), (12, 10)),
    ],
)
def test_each_rule_can_be_switched_off(rule: str, have: Any, want: Any) -> None:
    master = one("flat", 1.0, name="m", **{rule: have})
    found = match(frame(**{rule: want}), [master], "flat", Rules())
    assert found.chosen is None
    assert [v.rule for v in found.verdicts if not v.passed] == [rule]
    assert rule in found.reason
    waived = match(frame(**{rule: want}), [master], "flat", replace(Rules(), **{rule: False}))
    assert chosen(waived) == "m"
    assert rule not in [v.rule for v in waived.verdicts]


def test_unknown_equals_unknown() -> None:
    assert match(frame(), [one("bias", 0.0, name="b")], "bias", Rules()).chosen is not None


class TestWindows:
    def windows(self, have: dict[str, Any], want: dict[str, Any]) -> bool:
        master = one("bias", 0.0, name="b", **have)
        return match(frame(**want), [master], "bias", Rules()).chosen is not None

    def test_a_window_inside(self) -> None:
        full = {"shape": (100, 100), "origin_known": True}
        part = {"shape": (10, 10), "origin_y": 50, "origin_x": 90, "origin_known": True}
        assert self.windows(full, part)
        assert not self.windows(part, full)
        assert not self.windows(full, part | {"origin_x": 91})
        assert not self.windows(full, part | {"origin_known": False})
        assert not self.windows(full, full | {"origin_y": 1})

    def test_one_unknown_origin_of_the_same_shape(self) -> None:
        known = {"shape": (10, 10), "origin_known": True}
        assert self.windows(known, known | {"origin_known": False})


class TestDarks:
    def test_tolerance_is_included(self) -> None:
        masters = [one("dark", 60.5, name="d")]
        assert chosen(match(frame(60.0), masters, "dark", Rules())) == "d"
        assert match(frame(59.99), masters, "dark", Rules()).chosen is None

    def test_nearest_exposure(self) -> None:
        masters = [one("dark", t, name=f"d{t:g}") for t in (59.7, 60.1, 60.4)]
        assert chosen(match(frame(60.0), masters, "dark", Rules())) == "d60.1"

    @pytest.mark.parametrize(
        ("exptime", "dark", "scale"),
        [(90.0, 30.0, 3.0), (90.1, 30.0, None), (1.0, 90.0, 1 / 90), (30.4, 30.0, None)],
    )
    def test_scaling(self, exptime: float, dark: float, scale: float | None) -> None:
        found = match(frame(exptime), [one("dark", dark, name="d")], "dark", SCALING)
        assert found.scale == pytest.approx(scale)
        assert (found.chosen is None) == (exptime == 90.1)

    def test_scaling_goes_by_dark_time(self) -> None:
        master = one("dark", 30.0, darktime=32.0, name="d")
        assert match(frame(60.0, darktime=64.0), [master], "dark", SCALING).scale == 2.0
        assert match(frame(60.0, darktime=NAN), [master], "dark", SCALING).scale == 60 / 32
        assert match(frame(60.0, darktime=32.2), [master], "dark", SCALING).scale is None

    def test_an_unscaled_dark_goes_before_a_scaled_one(self) -> None:
        # an exposure outside the tolerance is never nearer than one inside, whatever the order
        masters = [one("dark", t, name=f"d{t:g}") for t in (61.0, 60.4, 120.0)]
        found = match(frame(60.0), masters, "dark", SCALING)
        assert (chosen(found), found.scale) == ("d60.4", None)

    def test_always_scaled(self) -> None:
        rules = replace(SCALING, scale_darks=True)
        found = match(frame(60.0), [one("dark", 60.0, name="d")], "dark", rules)
        assert found.scale == 1.0
        bare = match(
            frame(60.0), [one("dark", 60.0, name="d")], "dark", replace(rules, has_bias=False)
        )
        assert bare.chosen is None

    def test_dark_of_no_or_unknown_exposure(self) -> None:
        masters = [one("dark", 0.0, name="d0"), one("dark", NAN, name="d")]
        assert match(frame(60.0), masters, "dark", SCALING).chosen is None
        assert match(frame(NAN), masters, "dark", SCALING).chosen is None


class TestTies:
    def test_kind_of_flat_before_time(self) -> None:
        far, near = "2020-01-01", "2020-01-03"
        masters = [
            one("flat", 1.0, filter="R", flat_kind="sky", date_obs=near, name="s"),
            one("flat", 1.0, filter="R", flat_kind="dome", date_obs=far, name="d"),
        ]
        light = frame(filter="R", date_obs=near)
        assert chosen(match(light, masters, "flat", Rules())) == "d"
        assert chosen(match(light, masters, "flat", Rules(flat_kind=("sky", "dome")))) == "s"
        assert match(light, masters, "flat", Rules(flat_kind=("twilight",))).chosen is None

    def test_time_then_name(self) -> None:
        dates = {"b": "2020-01-02", "c": "2020-01-04", "a": "2020-01-09", "z": "NaT"}
        masters = [one("bias", 0.0, date_obs=d, name=n) for n, d in dates.items()]
        assert chosen(match(frame(date_obs="2020-01-03"), masters, "bias", Rules())) == "b"
        assert chosen(match(frame(), masters, "bias", Rules())) == "a"


def test_days_and_temperature_have_margins() -> None:
    master = one("bias", 0.0, date_obs="2020-01-01", ccd_temp=-20.0, name="b")
    rules = Rules(days=3, temperature=1.0)
    found = match(frame(date_obs="2020-01-02", ccd_temp=-20.4), [master], "bias", rules)
    margins = {v.rule: v.margin for v in found.verdicts}
    assert margins["days"] == pytest.approx(2)
    assert margins["temperature"] == pytest.approx(0.6)
    late = match(frame(date_obs="2020-01-06", ccd_temp=NAN), [master], "bias", rules)
    assert [v.rule for v in late.verdicts if not v.passed] == ["temperature", "days"]
    assert "5 days apart, wanted at most 3" in late.reason


class TestReasons:
    def test_no_flat_for_the_filter(self) -> None:
        masters = [one("flat", 1.0, filter=f, name=f"flat_{f}") for f in "BV"]
        found = match(frame(filter="R"), masters, "flat", Rules())
        assert found.reason == (
            "no flat for filter 'R': there are flats for 'B', 'V'; nearest: flat_B (filter is 'B', "
            "wanted 'R')"
        )

    def test_a_wrong_filter_is_nearer_than_a_wrong_camera(self) -> None:
        masters = [
            one("flat", 1.0, filter="R", binning="2x2", name="binned"),
            one("flat", 1.0, filter="V", flat_kind="sky", name="v"),
        ]
        rules = Rules(flat_kind=("dome",))
        assert (
            "nearest: v (filter is 'V'" in match(frame(filter="R"), masters, "flat", rules).reason
        )

    @pytest.mark.parametrize(
        ("rules", "says"),
        [
            (Rules(), "; scaling allowed up to 3×, would need bias"),
            (Rules(scale_darks=False), "; darks are not scaled"),
            (Rules(max_scale=1.5, has_bias=True), "scaling allowed up to 1.5×, would need 2×"),
        ],
    )
    def test_no_dark(self, rules: Rules, says: str) -> None:
        masters = [one("dark", t, name=f"d{t:g}") for t in (5.0, 30.0)]
        reason = match(frame(60.0), masters, "dark", rules).reason
        assert reason.startswith("no dark within 0.5 s of 60 s: nearest 30 s, d30; ")
        assert says in reason

    def test_no_candidates(self) -> None:
        found = match(frame(), [one("bias", 0.0)], "dark", Rules())
        assert found.reason == "no dark: there are no dark frames to use"
        assert found.verdicts == ()

    def test_why_chosen(self) -> None:
        masters = [one("dark", t, name=f"d{t:g}") for t in (60.1, 60.4)]
        reason = match(frame(60.0), masters, "dark", Rules()).reason
        assert reason == (
            "d60.1: passes every rule (60.1 s for 60 s, unscaled); "
            "first of 2 by nearest exposure, nearest time, name"
        )

    def test_prints_every_rule(self) -> None:
        masters = [one("dark", t, name=f"d{t:g}") for t in (30.0, 60.25)]
        found = match(frame(60.0), masters, "dark", Rules())
        text = str(found)
        assert "d30: exposure: FAIL: 30 s (2×), wanted 60 s, scaled by at most 3×" in text
        assert "d60.25: exposure: pass: 60.25 s, wanted 60 s ± 0.5 s (margin 0.25)" in text
        rows = found.table()
        assert len(rows) == len(found.verdicts) == 14
        assert {row["candidate"] for row in rows if row["chosen"]} == {"d60.25"}


def test_wrong_kind_and_equal_names() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'flat'"):
        match(frame(), [], "flats", Rules())
    with pytest.raises(ArgumentError, match="the same name"):
        match(frame(), [one("bias", 0.0, name="b")] * 2, "bias", Rules())


def test_facts_of_a_mapping() -> None:
    row = {"exptime": 5.0, "shape": (3, 4), "gain": None, "date_obs": None}
    facts = Facts.of_row(row)
    assert (facts.darktime, facts.readout.shape) == (5.0, (3, 4))
    assert facts.readout.gain is None
