"""Classification by rule, and the conditions that rules and selections are written in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskcal.errors import ConfigError
from daskcal.night.config.keys import ClassifyRule
from daskcal.night.plan.classify import classify, glob_mask
from daskcal.night.query import parse_query, query_mask

NAN = float("nan")


def frames(**columns: Any) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    names = [f"/night/f{n}.fits" for n in range(size)]
    fixed = {"path": names, "imagetyp": "other", "flat_kind": "", "filter": "R"}
    return pd.DataFrame({**fixed, **columns})


@pytest.fixture
def kast() -> pd.DataFrame:
    """As the headers of a Kast night: no IMAGETYP, biases as darks of 0 s, flats as objects."""
    return frames(
        hdr_obstype=["DARK", "DARK", "OBJECT", "OBJECT", ""],
        hdr_exptime=[0, 30, 15, 1200, 0],
        hdr_object=["Bias", "Dark", "Dome Flat", "J1217p3905", "Bias"],
        imagetyp=["dark", "dark", "science", "science", "other"],
        exptime=[0.0, 30.0, 15.0, 1200.0, 0.0],
    )


def test_first_rule_that_fits_decides(kast: pd.DataFrame) -> None:
    rules = [
        ClassifyRule(when="OBSTYPE == 'DARK' and EXPTIME == 0", imagetyp="bias"),
        ClassifyRule(when="'Flat' in OBJECT", imagetyp="flat", flat_kind="dome", filter="none"),
        ClassifyRule(when="EXPTIME >= 0", imagetyp="science"),
    ]
    done = classify(kast, rules)
    assert list(done["imagetyp"]) == ["bias", "science", "flat", "science", "science"]
    assert list(done["flat_kind"]) == ["", "", "dome", "", ""]
    assert list(done["filter"]) == ["R", "R", "none", "R", "R"]
    assert kast["imagetyp"].iloc[0] == "dark"  # the input stays


def test_a_rule_without_match_changes_nothing(kast: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        classify(kast, [ClassifyRule(when="EXPTIME > 9999", imagetyp="bias")]), kast
    )
    pd.testing.assert_frame_equal(classify(kast, []), kast)


def test_any_index_will_do(kast: pd.DataFrame) -> None:
    kast.index = pd.Index([7, 7, 3, 2, 1])
    done = classify(kast, [ClassifyRule(when="EXPTIME == 0", imagetyp="bias")])
    assert list(done["imagetyp"]) == ["bias", "dark", "science", "science", "bias"]


def test_what_stops_being_a_flat_loses_its_kind() -> None:
    table = frames(imagetyp=["flat", "flat"], flat_kind=["sky", "sky"], exptime=[1.0, 2.0])
    rules = [
        ClassifyRule(when="exptime == 1", imagetyp="science"),
        ClassifyRule(when="exptime == 2", imagetyp="flat"),
    ]
    assert list(classify(table, rules)["flat_kind"]) == ["", "sky"]


def test_tircam2_by_file_name() -> None:
    names = ["/n/bias_1.fits", "/n/flats01.fits", "/n/IC310_1.fits", "/n/sub/bias_2.fits"]
    table = frames(path=names, hdr_exptime=["0", "6", "40", "0"])
    rules = [
        ClassifyRule(files="bias_*.fits", imagetyp="bias"),
        ClassifyRule(files="flats*", imagetyp="flat"),
        ClassifyRule(files="*", when="EXPTIME == 40", imagetyp="science"),
    ]
    assert list(classify(table, rules, "/n")["imagetyp"]) == ["bias", "flat", "science", "bias"]


def test_globs_see_the_name_and_the_path_within_the_night() -> None:
    paths = ["/n/zero/a.fits", "/n/a [1].fits", "/n/B.FITS"]
    assert list(glob_mask(paths, ["zero/*"], "/n")) == [True, False, False]
    assert list(glob_mask(paths, ["a [1].fits"], "/n")) == [False, True, False]
    assert list(glob_mask(paths, ["b.fits"], "/n")) == [False, False, False]
    assert list(glob_mask(paths, ["zero/a.fits", "B*"], "/n")) == [True, False, True]
    assert glob_mask([], ["*"]).shape == (0,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GAIN == 2.0", [True, False, False, False]),
        ("GAIN != 2.0", [False, True, False, False]),  # absent neither fits nor excludes
        ("not GAIN == 2.0", [False, True, False, False]),
        ("GAIN == 2 or object == 'M31'", [True, True, False, True]),
        ("object in ['M31', 'M33']", [False, True, False, True]),
        ("object not in ('M31',)", [True, False, True, False]),
        ("object == ''", [False, False, True, False]),  # a normalised name is never absent
        ("MODE == 'fast'", [True, False, False, False]),  # trailing blanks do not count
        ("1 < exptime <= 40", [False, True, True, False]),
        ("exptime / 2 == 20", [False, False, True, False]),
        ("exptime > -1", [True, True, True, False]),
        ("1 / exptime > 0", [True, True, True, False]),
        ("TEXTTIME >= 6", [False, True, True, False]),  # EXPTIME = '40'
        ("DONE", [True, False, False, False]),
        ("not DONE", [False, True, False, False]),
        ("DONE == True", [True, False, False, False]),
        ("WHOLE and GAIN > 0", [True, True, False, False]),
        ("WHOLE == False", [False, False, True, True]),
        ("date_obs >= '2022-10-23T02:00'", [False, True, True, False]),
        ("SET_TEMP == -17", [True, True, True, True]),
        ("True", [True, True, True, True]),
        ("MODE < 3", [False, False, False, False]),
    ],
)
def test_condition(text: str, expected: list[bool]) -> None:
    times = ["2022-10-23T01:00", "2022-10-23T02:00", "2022-10-23T03:00", "NaT"]
    table = pd.DataFrame(
        {
            "exptime": [1.0, 2.0, 40.0, NAN],
            "object": ["x", "M31", "", "M31"],
            "date_obs": np.array(times, "datetime64[us]"),
            "hdr_gain": [2.0, 3.0, NAN, NAN],
            "hdr_mode": ["fast  ", "slow", "", ""],
            "hdr_texttime": ["0", "6", "40", "dark"],
            "hdr_done": ["T", "F", "", "x"],  # some frames lack the card
            "hdr_whole": [True, True, False, False],
            "hdr_set_temp": [-17, -17, -17, -17],
        }
    )
    assert list(query_mask(table, parse_query(text))) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('x') == 0", "functions cannot be called"),
        ("object.__class__ == 1", "attributes"),
        ("object[0] == 'M'", "indexing"),
        ("@x == 1", "cannot read"),
        ("GAIN = 2", "use '==' to compare"),
        ("(GAIN := 2) == 2", "is not allowed here; use '=='"),
        ("(GAIN == 1) & (GAIN == 2)", "use 'and' and 'or'"),
        ("GAIN ** 2 == 4", "only + - * /"),
        ("GAIN is None", "instead of 'is'"),
        ("lambda: 1", "not allowed"),
        ("[x for x in GAIN] == 1", "not allowed"),
        ("f'{GAIN}' == 1", "not allowed"),
        ("GAIN == b'x'", "not allowed"),
        ("GAIN + 1", "not allowed"),
        ("3", "not allowed"),
        ("GAIN ==", "cannot read"),
        ("GAIN == 1\x00", "cannot read"),
        ("(" * 500 + "1" + ")" * 500, "cannot read"),
        ("not " * 1000 + "GAIN", "characters"),
        (" and ".join(["A<1"] * 200), "too many terms"),
    ],
)
def test_condition_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_query(text)
    assert says in str(caught.value)


@given(st.text(alphabet="ab1.'=<> ()[]+-*/@_andorti,:\n", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except ConfigError:
        return
    row = dict.fromkeys(query.names, 1.0)
    assert query.fits(row) in (True, False)


def test_unknown_keyword_offers_the_nearest(kast: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"header keyword 'OBSTYP'; did you mean 'OBSTYPE'\?"):
        classify(kast, [ClassifyRule(when="OBSTYP == 'DARK'", imagetyp="bias")])
    with pytest.raises(ConfigError, match=r"name 'exptme'; did you mean 'exptime'\?"):
        query_mask(kast, parse_query("exptme == 0"))
    with pytest.raises(ConfigError, match="keyword 'ZZZ'; no frame has it"):
        query_mask(kast, parse_query("ZZZ == 0"))


def test_an_empty_night_has_no_unknown_keyword() -> None:
    empty = pd.DataFrame({"path": []})
    assert query_mask(empty, parse_query("OBSTYPE == 'DARK'")).shape == (0,)
