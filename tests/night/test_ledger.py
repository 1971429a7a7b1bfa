"""The ledger: what it holds, that it survives the disk, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskcal.atomic import write_atomically
from daskcal.errors import ArgumentError, ConfigError, OutputError
from daskcal.night.ledger import (
    Choice,
    FrameEntry,
    Input,
    Ledger,
    ProductEntry,
    read_ledger,
    write_ledger,
)


def frame(path="a.fits", hdu=0, status="used", reason="in masters/bias.fits", **more):
    return FrameEntry(path, hdu, status, reason, **more)


def product(name="masters/bias.fits", kind="bias", status="made", **more):
    return ProductEntry(name, kind, status, **more)


FULL = Ledger(
    version="0.1.0",
    command="daskcal reduce raw -o out",
    config='[night]\nname = "g′"\n',
    started="2024-01-02T03:04:05Z",
    finished="2024-01-02T03:05:05Z",
    choices=(Choice("exclude", "*_bad.fits", ("b.fits",)),),
    frames=(
        frame(fingerprint="ab12", imagetyp="bias", exptime=0.0, filter="g'", object="M 31"),
        frame("b.fits", None, "skipped", "truncated", exptime=1.5),
        frame("c.fits", 1, "failed", "changed", exptime=2.5, date_obs="2024-01-02T03:04:05"),
    ),
    products=(
        product(
            inputs=(Input("a.fits", 0, "ab12"),),
            parameters={"reject": {"low": 5.0, "high": 5.0}, "maxiters": None},
            checksum="c0ffee",
            size=2880,
            seconds=0.5,
            figures={"median": 1000.5, "rms": 5.7},
        ),
        product("science/x.fits", "science", "missing", reason="no flat", seconds=1.0),
    ),
    messages=("header read noise 9.3 e disagrees with measured 5.7 e",),
)


def test_round_trip(tmp_path):
    path = write_ledger(FULL, tmp_path / "out" / "night.json")
    assert read_ledger(path) == FULL
    assert [p.name for p in path.parent.iterdir()] == ["night.json"]


def test_same_ledger_same_bytes_and_readable(tmp_path):
    one = write_ledger(FULL, tmp_path / "1.json").read_text()
    turned = {"maxiters": None, "reject": {"high": 5.0, "low": 5.0}}
    products = (dataclasses.replace(FULL.products[0], parameters=turned), FULL.products[1])
    two = dataclasses.replace(FULL, products=products)
    assert write_ledger(two, tmp_path / "2.json").read_text() == one
    assert one.count("\n") > 20  # a line for each frame, each product and so on
    assert "g′" in one


def test_nan_is_null(tmp_path):
    ledger = Ledger(
        "1",
        frames=(frame(exptime=math.nan),),
        products=(product(figures={"rms": math.nan, "peak": math.inf}),),
    )
    path = write_ledger(ledger, tmp_path / "night.json")
    record = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert record["frames"][0]["exptime"] is None
    assert record["products"][0]["figures"] == {"peak": None, "rms": None}
    again = read_ledger(path)
    assert math.isnan(again.frames[0].exptime)
    assert math.isnan(again.products[0].figures["rms"])
    assert math.isnan(again.products[0].seconds)


def test_numpy_and_paths_become_plain(tmp_path):
    parameters = {
        "dark": np.float32(2.5),
        "n": np.int64(3),
        "on": np.bool_(True),
        "rows": (1, 2),
        "level": np.array([1.0, np.nan]),
        "file": Path("bpm.fits"),
        "at": np.datetime64("2024-01-02T03:04:05"),
        "never": np.datetime64("NaT", "us"),
    }
    ledger = Ledger("1", products=(product(parameters=parameters, figures={"m": np.float64(2)}),))
    again = read_ledger(write_ledger(ledger, tmp_path / "night.json"))
    assert again.products[0].parameters == {
        "at": "2024-01-02T03:04:05",
        "dark": 2.5,
        "file": "bpm.fits",
        "level": [1.0, None],
        "n": 3,
        "never": "",
        "on": True,
        "rows": [1, 2],
    }


def test_what_json_cannot_hold_is_named(tmp_path):
    ledger = Ledger("1", products=(product(parameters={"f": {"g": object()}}),))
    with pytest.raises(ArgumentError, match=r"ledger\.products\[0\]\.parameters\.f\.g is a object"):
        write_ledger(ledger, tmp_path / "night.json")
    assert not any(tmp_path.iterdir())


@given(text=st.text(st.characters(), max_size=40))
def test_any_text_survives(tmp_path_factory, text):
    ledger = Ledger("1", frames=(frame(exptime=1.0, object=text, filter=text),), messages=(text,))
    path = tmp_path_factory.mktemp("text") / "night.json"
    assert read_ledger(write_ledger(ledger, path)) == ledger


def test_a_file_name_that_is_not_utf8_survives(tmp_path):
    name = os.fsdecode(b"\xff.fits")
    ledger = Ledger("1", frames=(frame(name),))
    assert read_ledger(write_ledger(ledger, tmp_path / "night.json")).frames[0].path == name


@given(st.lists(st.sampled_from(["used", "skipped", "failed"]), max_size=30))
def test_counts_add_up(statuses):
    ledger = Ledger("1", frames=tuple(frame(hdu=i, status=s) for i, s in enumerate(statuses)))
    counts = ledger.counts()
    assert counts.found == len(statuses) == counts.used + counts.skipped + counts.failed
    assert counts.skipped == statuses.count("skipped")


@pytest.mark.parametrize(
    ("frames", "products", "status"),
    [
        (["used"], ["made"], 0),
        (["used", "skipped"], ["made"], 3),
        (["used", "failed"], ["made"], 3),
        (["used"], ["made", "missing"], 3),
        (["used"], ["made", "failed"], 1),
        (["used"], ["missing"], 1),
        (["skipped"], [], 1),
        ([], [], 1),
    ],
)
def test_exit_status(frames, products, status):
    ledger = Ledger(
        "1",
        frames=tuple(frame(hdu=i, status=s) for i, s in enumerate(frames)),
        products=tuple(product(f"{i}", status=s, reason="x") for i, s in enumerate(products)),
    )
    assert ledger.exit_status() == status


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: frame(status="skiped"), "did you mean 'skipped'"),
        (lambda: frame(status="skipped", reason=""), "a.fits is skipped and no reason"),
        (lambda: product(status="done"), "status='done'"),
        (lambda: product(status="missing"), "no reason"),
        (lambda: product(kind="drak"), "did you mean 'dark'"),
        (lambda: Input("a", 0, "", "flatt"), "did you mean 'flat'"),
        (lambda: Choice("exclud", "*"), "did you mean 'exclude'"),
        (lambda: Ledger("1", frames=(frame(), frame())), "2 times"),
        (lambda: Ledger("1", products=(product(), product())), r"masters/bias\.fits .* 2 times"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged, not JSON"),
        ("[1, 2]", "not a ledger"),
        ('{"format": "daskcal-ledger-99"}', "daskcal-ledger-99"),
        ('{"format": "daskcal-ledger-2"}', "damaged at version"),
        (
            '{"format": "daskcal-ledger-2", "version": "1", "frames": [{"path": "a", "hdu": 0, '
            '"status": "lost"}]}',
            r"damaged at frames\.0\.status",
        ),
    ],
)
def test_damaged_file_is_named(tmp_path, text, message):
    path = tmp_path / "night.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_ledger(path)
    assert str(path) in str(caught.value)


def test_cut_short_anywhere_is_refused(tmp_path):
    path = write_ledger(FULL, tmp_path / "night.json")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"night\.json"):
            read_ledger(path)


def test_no_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*night\.json; give the folder"):
        read_ledger(tmp_path / "night.json")


def test_older_file_survives_a_failure(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "a.txt", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.txt cannot be written: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match=r"night\.json cannot be written"):
        write_ledger(FULL, tmp_path / "out" / "night.json")


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    path = write_ledger(FULL, tmp_path / "night.json")
    assert path.stat().st_mode == plain.stat().st_mode
