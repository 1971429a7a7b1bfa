"""Raw frames grouped into masters, and the masters' names."""

from __future__ import annotations

import re
from typing import Any

import nights
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import NAN, some, table

from daskcal.masters.groups import (
    MasterGroup,
    MasterKey,
    Readout,
    exposure_text,
    group_masters,
    name_groups,
    safe_name,
)


def named(frames: Any) -> dict[str, tuple[int, ...]]:
    groups = group_masters(frames)
    names = name_groups(groups)
    return {names[group.key]: group.frames for group in groups}


class TestNights:
    def test_lfc(self) -> None:
        assert named(nights.lfc()) == {
            "bias": tuple(range(6)),
            "dark_7s": (12, 13, 14),
            "dark_70s": (9, 10, 11),
            "dark_300s": (6, 7, 8),
            "flat_g": (15, 16, 17),
            "flat_i": (18, 19, 20),
        }

    def test_aspen(self) -> None:
        found = named(nights.aspen())
        assert {name: len(frames) for name, frames in found.items()} == {
            "bias": 10,
            "dark_90s": 11,
            "flat_r": 10,
        }

    def test_lowell_keeps_the_v_flat_apart(self) -> None:
        assert named(nights.lowell()) == {
            "bias": tuple(range(8)),
            "flat_V": (8,),
            "flat_VR": (9, 10, 11),
        }

    def test_st7(self) -> None:
        assert named(nights.st7()) == {
            "dark_120s": (0, 1),
            "dark_300s": (2, 3),
            "dark_900s": (4, 5),
        }

    def test_kast_and_tircam2(self) -> None:
        assert list(named(nights.kast())) == ["bias", "flat"]
        assert list(named(nights.tircam2())) == ["bias", "flat_J"]

    def test_nothing_to_group(self) -> None:
        assert group_masters(table(*some(2, "science", 1.0), *some(1, "other", 1.0))) == ()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("detector", ("chip0", "chip1")),
        ("binning", ("1x1", "2x2")),
        ("shape", ((10, 12), (10, 13))),
        ("gain", (1.0, 2.0)),
        ("gain", (1.0, NAN)),
        ("readout_mode", ("fast", "slow")),
        ("origin_x", (0, 100)),
    ],
)
@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_readouts_never_mix(kind: str, column: str, values: tuple[Any, Any]) -> None:
    frames = table(*({"imagetyp": kind, column: v} for v in values * 2), origin_known=True)
    found = named(frames)
    assert sorted(found.values()) == [(0, 2), (1, 3)]
    assert len({name.lower() for name in found}) == 2


def test_dark_current_exposures_that_jitter_are_one() -> None:
    exposures = (300.014, 0.01, 300.062, 0.02, 60.0, 300.0, NAN)
    frames = table(*(some(1, "dark", t)[0] for t in exposures))
    assert named(frames) == {
        "dark_unknown": (6,),
        "dark_0.01s": (1,),
        "dark_0.02s": (3,),
        "dark_60s": (4,),
        "dark_300s": (0, 2, 5),
    }


def test_exposures_do_not_chain() -> None:
    frames = table(*(some(1, "dark", 100 * 1.0008**n)[0] for n in range(4)))
    assert sorted(named(frames).values()) == [(0, 1), (2, 3)]


def test_gains_that_differ_by_rounding_are_one() -> None:
    gains = [2.55, float(np.float32(2.55)), 2.5500001]
    frames = table(*({"imagetyp": "bias", "gain": g} for g in gains))
    assert named(frames) == {"bias": (0, 1, 2)}


def test_kinds_of_flat_stay_apart_and_only_they_are_told_apart() -> None:
    kinds = ["dome", "sky", "", "dome"]
    flats = [{"imagetyp": "flat", "filter": "R", "flat_kind": k} for k in kinds]
    frames = table(*flats, *some(2, "bias", 0.0), *some(1, "flat", 1.0, filter="B"))
    assert named(frames) == {
        "bias": (4, 5),
        "flat_B": (6,),
        "flat_R_unknown": (2,),
        "flat_R_dome": (0, 3),
        "flat_R_sky": (1,),
    }


def test_filters_that_look_alike_on_disk_keep_their_flats() -> None:
    filters = ["g'", "g", "G", "g/", "g_2", "", "../../etc/x", "g/r", "<script>"]
    frames = table(*({"imagetyp": "flat", "filter": f} for f in filters))
    found = named(frames)
    assert found["flat_g_2"] == (4,)
    by_frame = {frames[0]: name for name, frames in found.items()}
    assert by_frame[5] == "flat"
    assert by_frame[6] == "flat_etc_x"
    assert by_frame[7] == "flat_g_r"
    assert len({name.lower() for name in found}) == len(filters)


def test_rows_may_come_in_any_order() -> None:
    frames = nights.lfc()
    shuffled = frames.sample(frac=1, random_state=3)
    paths = {n: {frames["path"][i] for i in ix} for n, ix in named(frames).items()}
    again = {n: {shuffled["path"].iloc[i] for i in ix} for n, ix in named(shuffled).items()}
    assert again == paths


TEXTS = st.text(max_size=60) | st.sampled_from(
    ["g", "g'", "G", "con", "..", "a/b", "a\\b", "Hα", ""]
)
KEYS = st.builds(
    MasterKey,
    st.sampled_from(["bias", "dark", "flat"]),
    st.builds(
        Readout,
        detector=TEXTS,
        binning=st.sampled_from(["", "1x1", "2x2"]),
        shape=st.sampled_from([(10, 12), (20, 12)]),
        origin=st.sampled_from([None, (0, 0), (0, 5)]),
        gain=st.sampled_from([None, 1.0, 1.000001]),
        readout_mode=TEXTS,
    ),
    exptime=st.none() | st.floats(0, 1e5),
    filter=TEXTS,
    flat_kind=st.sampled_from(["", "dome"]),
)
WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


@given(st.lists(KEYS, unique=True, max_size=12), st.randoms())
def test_names_are_safe_distinct_and_stable(keys: list[MasterKey], random: Any) -> None:
    groups = [MasterGroup(key, (n,)) for n, key in enumerate(keys)]
    names = name_groups(groups)
    assert set(names) == set(keys)
    assert len({name.lower() for name in names.values()}) == len(keys)
    for key, name in names.items():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,149}", name)
        assert name.startswith(key.kind)
        assert not name.endswith(".")
        assert ".." not in name
        assert not WINDOWS_DEVICES.match(name)
    random.shuffle(groups)
    assert name_groups(groups) == names


@given(TEXTS)
def test_safe_name(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9+][A-Za-z0-9_.+-]{0,39}", safe_name(text))


@pytest.mark.parametrize("text", ["CON", "aux", "com1.x", f"nul.{'x' * 40}"])
def test_a_safe_name_is_no_device(text: str) -> None:
    name = safe_name(text)
    assert name.partition(".")[0] == f"{text.partition('.')[0]}_"
    assert len(name) <= 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (300.0, "300 s"),
        (300.014, "300 s"),
        (0.5, "0.5 s"),
        (0.0, "0 s"),
        (0.0012345, "0.001234 s"),
        (1234.5, "1234 s"),
        (86400.0, "86400 s"),
        (70.011, "70.01 s"),
        (NAN, "unknown"),
    ],
)
def test_exposure_text(seconds: float, text: str) -> None:
    assert exposure_text(seconds) == text
