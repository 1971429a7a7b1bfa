"""Real headers, from the scan to the masters that serve each science frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from daskcal.fits import scan
from daskcal.frames.table import frame_table, header_columns
from daskcal.masters.groups import group_masters, name_groups
from daskcal.masters.match import Candidate, match
from daskcal.night.config.read import ClassifyRule, NightConfig
from daskcal.night.plan.classify import classify

KAST = (
    ClassifyRule(when="OBSTYPE == 'DARK' and EXPTIME == 0", imagetyp="bias"),
    ClassifyRule(when="'Flat' in OBJECT", imagetyp="flat", flat_kind="dome"),
    ClassifyRule(when="OBJECT == 'Arcs'", imagetyp="other"),
)
TIRCAM2 = (
    ClassifyRule(files="bias_*.fits", imagetyp="bias"),
    ClassifyRule(files="flats*.fits", imagetyp="flat"),
    ClassifyRule(when="EXPTIME == 40", imagetyp="science"),
)


@pytest.mark.parametrize(
    ("name", "rules", "masters", "used"),
    [
        (
            "lowell_hall42_5945",
            (),
            {"bias": 8, "flat_V": 1, "flat_VR": 7},
            {"bias": "bias", "dark": None, "flat": "flat_VR"},
        ),
        (
            "dot_tircam2_nir",
            TIRCAM2,
            {"bias": 3, "flat_J": 5},
            {"bias": "bias", "dark": None, "flat": "flat_J"},
        ),
        (
            "uoft_st7_darks/ast325",
            (),
            {"dark_120s": 7, "dark_300s": 5, "dark_900s": 5},
            {"bias": None, "dark": "dark_120s", "flat": None},
        ),
        (
            "lick_kast_2amp",
            KAST,
            {"bias": 3, "flat": 3},
            {"bias": "bias", "dark": None, "flat": "flat"},
        ),
    ],
)
def test_real_night(
    realdata: Callable[[str], Path],
    name: str,
    rules: tuple[ClassifyRule, ...],
    masters: dict[str, int],
    used: dict[str, str | None],
) -> None:
    folder = realdata(name)
    found = scan(folder)
    table = pd.concat(
        [frame_table(found.frames), pd.DataFrame(header_columns(found.frames))], axis=1
    )
    table = classify(table, rules, folder)
    groups = group_masters(table)
    names = name_groups(groups)
    assert {names[group.key]: len(group.frames) for group in groups} == masters
    candidates = [Candidate.of_group(names[group.key], group, table) for group in groups]
    science = table[table["imagetyp"] == "science"]
    assert len(science)
    match_rules = NightConfig().rules(has_bias="bias" in masters)
    for row in science.to_dict("records"):
        for kind, wanted in used.items():
            chosen = match(row, candidates, kind, match_rules).chosen
            assert (chosen.name if chosen else None) == wanted
