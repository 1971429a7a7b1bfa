"""Frames matched once for all that are alike: what comes out is what each alone would have."""

from __future__ import annotations

from typing import Any

import nights
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import NAN, some, table

from daskcal.masters.groups import KINDS, group_masters, name_groups
from daskcal.masters.match import Candidate, Match, Rules, match
from daskcal.masters.matcher import Matcher, table_facts


def candidates(frames: pd.DataFrame) -> list[Candidate]:
    groups = group_masters(frames)
    names = name_groups(groups)
    return [Candidate.of_group(names[g.key], g, frames) for g in groups]


def told(found: Match) -> tuple[str, float | None, str, list[dict[str, Any]]]:
    # a margin may be NaN, which equals nothing
    rows = [row | {"margin": str(row["margin"])} for row in found.table()]
    return found.chosen.name if found.chosen else "", found.scale, str(found), rows


frames = st.fixed_dictionaries(
    {
        "imagetyp": st.sampled_from(["bias", "dark", "flat", "science", "science"]),
        "exptime": st.sampled_from([NAN, 0.0, 30.0, 60.0, 61.0, 300.0]),
        "filter": st.sampled_from(["", "V", "R"]),
        "flat_kind": st.sampled_from(["", "dome", "sky"]),
        "gain": st.sampled_from([NAN, 1.0, 1.0000001, 2.0]),
        "ccd_temp": st.sampled_from([NAN, -20.0, -19.8, -10.0]),
        "date_obs": st.sampled_from(["NaT", "2024-01-01", "2024-01-02", "2024-01-09"]),
        "readout_mode": st.sampled_from(["", "fast"]),
    }
)
rules = st.builds(
    Rules,
    gain=st.booleans(),
    readout_mode=st.booleans(),
    filter=st.booleans(),
    temperature=st.sampled_from([None, 0.5]),
    days=st.sampled_from([None, 3.0]),
    scale_darks=st.sampled_from([True, False, "auto"]),
    has_bias=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(frames, min_size=1, max_size=10), rules)
def test_as_each_frame_alone(rows: list[dict[str, Any]], held: Rules) -> None:
    night = table(*rows)
    masters = candidates(night)
    for kind in KINDS:
        matcher = Matcher(masters, kind, held)
        for facts, (_, row) in zip(table_facts(night), night.iterrows(), strict=True):
            assert told(matcher.match(facts)) == told(match(row, masters, kind, held))


@pytest.mark.parametrize(
    ("held", "distinct"), [(Rules(), 1), (Rules(days=1.0), 5), (Rules(temperature=9.0), 5)]
)
def test_frames_that_differ_in_what_no_rule_asks_are_matched_once(
    held: Rules, distinct: int
) -> None:
    science = [
        {"imagetyp": "science", "date_obs": f"2024-01-01T0{i}:00", "ccd_temp": -20.0 - i}
        for i in range(5)
    ]
    night = table(*some(2, "bias", 0.0, date_obs="2024-01-01", ccd_temp=-20.0), *science)
    matcher = Matcher(candidates(night), "bias", held)
    assert len({matcher.match(facts) for facts in table_facts(night)[2:]}) == distinct


def test_unknown_values_are_alike() -> None:
    night = table(*some(2, "dark", 60.0), *some(3, "science", NAN))
    matcher = Matcher(candidates(night), "dark", Rules(temperature=1.0, days=1.0))
    assert len({matcher.match(facts) for facts in table_facts(night)[2:]}) == 1


def test_the_nearest_time_chooses_where_nothing_else_does() -> None:
    night = table(
        *some(2, "bias", 0.0, gain=1.0, date_obs="2024-01-01"),
        *some(2, "bias", 0.0, gain=2.0, date_obs="2024-01-05"),
        *some(1, "science", 60.0, gain=1.0, date_obs="2024-01-02"),
        *some(1, "science", 60.0, gain=1.0, date_obs="2024-01-04"),
    )
    matcher = Matcher(candidates(night), "bias", Rules(gain=False))
    early, late = (matcher.match(facts) for facts in table_facts(night)[4:])
    assert early.chosen is not None
    assert late.chosen is not None
    assert early.chosen.name != late.chosen.name
    assert early.time_decides


def test_a_real_night() -> None:
    night = nights.lfc()
    masters, held = candidates(night), Rules(has_bias=True)
    for kind in KINDS:
        matcher = Matcher(masters, kind, held)
        for facts, (_, row) in zip(table_facts(night), night.iterrows(), strict=True):
            assert told(matcher.match(facts)) == told(match(row, masters, kind, held))
