"""Marks of bad frames: what they make stale, and that taking them back brings the old bits back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner, Result
from small_night import bits, made, timeless

import daskcal
from daskcal.cli import main
from daskcal.errors import ArgumentError, ConfigError, FrameError, OutputError
from daskcal.night.ledger import read_ledger
from daskcal.night.marks import NAME, marked
from daskcal.night.plan.plan import plan_night
from daskcal.night.run.run import reduce_night

SCIENCE = [f"science/m67_{name}_{i}.fits" for name in "BV" for i in (0, 1)]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_night.make(tmp_path_factory.mktemp("marks") / "raw")


@pytest.fixture
def raw(night: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(night, tmp_path / "raw"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def run(*args: object, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    return result


def test_mark_bad_and_back(out: Path, tmp_path: Path) -> None:
    """One bias of two cameras: all that depended on it is made anew and nothing else; and back."""
    raw = tmp_path / "two"
    for name in ("red", "blue"):
        small_night.make(raw / name, bias=3, dark=2, flat=2, science=1, detector=name)
    run("reduce", raw, "-o", out)
    before, old = read_ledger(out / "night.json"), bits(out)
    said = run("mark-bad", raw / "red" / "bias_1.fits", "--reason", "light leak").stdout
    assert said == f"{raw}/red/bias_1.fits: marked bad in {raw}/red/{NAME}\n"

    of_red = [p.name for p in before.products if "red" in p.name]
    assert len(of_red) == 4 + 2
    rest = len(before.products) - len(of_red)
    line = "masters/bias_red.fits: red/bias_1.fits is marked bad: light leak; 5 products follow"
    planned = run("plan", raw, "-o", out, status=0).stdout.splitlines()
    assert planned[-2:] == [f"{rest} products are as they should be", line]
    result = run("reduce", raw, "-o", out, status=3)
    assert f"note: {line}\n" in result.stderr
    assert "skipped: red/bias_1.fits: marked bad: light leak" in result.stdout

    after = read_ledger(out / "night.json")
    assert made(after) == of_red
    assert [(c.kind, c.expression, c.frames) for c in after.choices] == [
        ("bad", "mark-bad: light leak", ("red/bias_1.fits",))
    ]
    then, now = ({p["name"]: p for p in timeless(one)["products"]} for one in (before, after))
    assert {name for name in then if then[name] != now[name]} == set(of_red)
    assert fits.getheader(out / "masters" / "bias_red.fits")["NCOMBINE"] == 2
    assert {name for name, mark in bits(out).items() if old[name] != mark} == set(of_red)
    fresh = reduce_night(raw, tmp_path / "fresh")
    assert timeless(fresh) == timeless(after)
    assert bits(tmp_path / "fresh") == bits(out)

    run("mark-bad", raw / "red" / "bias_1.fits", "--undo")
    assert not (raw / "red" / NAME).exists()
    result = run("reduce", raw, "-o", out)
    assert "red/bias_1.fits is no longer marked bad: light leak; 5 products" in result.stderr
    again = read_ledger(out / "night.json")
    assert made(again) == of_red
    assert bits(out) == old
    assert timeless(again) == timeless(before)


def test_a_science_frame(raw: Path, out: Path) -> None:
    reduce_night(raw, out)
    daskcal.mark_bad(raw / "m67_V_0.fits", "clouds")
    ledger = reduce_night(raw, out)
    assert not made(ledger)
    assert [p.name for p in ledger.products if p.kind == "science"] == [*SCIENCE[:2], SCIENCE[3]]
    assert {f.path: f.reason for f in ledger.frames if f.status == "skipped"} == {
        "m67_V_0.fits": "marked bad: clouds"
    }


def test_marks_in_the_output(raw: Path, out: Path) -> None:
    """For frames in a folder that must not be written: they count for this output alone."""
    run("mark-bad", raw / "bias_0.fits", raw / "bias_1.fits", "--reason", "cold", "-o", out)
    assert os.listdir(out) == [NAME]
    assert json.loads((out / NAME).read_text())["marks"][0]["path"] == "../raw/bias_0.fits"
    assert plan_night(raw).skipped == {}
    assert len(plan_night(raw, output=out).skipped) == 2
    said = run("plan", raw, "-o", out).stdout
    assert "bias_0.fits, bias_1.fits: marked bad: cold" in said
    assert fits.getheader(_reduced(raw, out))["NCOMBINE"] == 2
    daskcal.unmark_bad([raw / "bias_1.fits"], output=out)
    assert fits.getheader(_reduced(raw, out))["NCOMBINE"] == 3


def _reduced(raw: Path, out: Path) -> Path:
    reduce_night(raw, out, select="imagetyp == 'bias'")
    return out / "masters" / "bias.fits"


def test_a_mark_follows_the_frame(raw: Path, tmp_path: Path) -> None:
    """It is of the content: under another name, and in a copy beside it, it is bad as well."""
    daskcal.mark_bad([raw / "bias_0.fits"], "light leak")
    (raw / "bias_0.fits").rename(raw / "zero.fits")
    shutil.copy(raw / "zero.fits", raw / "copy.fits")
    plan = plan_night(raw)
    assert sorted(plan.relative(i) for i in plan.skipped) == ["copy.fits", "zero.fits"]
    daskcal.mark_bad([raw / "zero.fits"], "another reason")
    assert set(marked(raw).values()) == {"another reason"}
    daskcal.unmark_bad(raw / "zero.fits")
    with pytest.raises(ArgumentError, match="is not marked bad"):
        daskcal.unmark_bad(raw / "zero.fits")


def test_a_frame_that_is_gone_is_known_by_its_path(raw: Path) -> None:
    daskcal.mark_bad(raw / "bias_0.fits", "light leak")
    (raw / "bias_0.fits").unlink()
    daskcal.unmark_bad(raw / "bias_0.fits")
    assert not (raw / NAME).exists()


def test_all_detectors_of_a_file(tmp_path: Path) -> None:
    counts = {"n_bias": 3, "n_dark": 0, "n_flat": 0, "n_science": 0}
    sim = daskcal.simulate_night(tmp_path / "sim", "mosaic", size=(64, 96), **counts)
    daskcal.mark_bad(sim.files[0], "shutter stuck")
    plan = plan_night(sim.folder, sim.config)
    assert len(plan.skipped) == 4
    assert len({plan.frames[i].source.path for i in plan.skipped}) == 1
    reasons = set(plan.skipped.values())
    assert reasons == {"marked bad: shutter stuck"}


def test_what_cannot_be_marked(raw: Path, out: Path, tmp_path: Path) -> None:
    (raw / "short.fits").write_bytes((raw / "bias_0.fits").read_bytes()[:2880])
    reduce_night(raw, out, select="imagetyp == 'bias'")
    for path, error, says in (
        (raw, ArgumentError, "is a folder"),
        (raw / "short.fits", FrameError, "it is left out of every night as it is"),
        (raw / "none.fits", FrameError, "no such"),
        (out / "masters" / "bias.fits", ArgumentError, "is a product of daskcal"),
    ):
        with pytest.raises(error, match=says):
            daskcal.mark_bad(path, "because")
    with pytest.raises(ArgumentError, match="reason is empty"):
        daskcal.mark_bad(raw / "bias_0.fits", " ")
    with pytest.raises(OutputError, match="-o OUT keeps marks"):
        daskcal.mark_bad(raw / "bias_0.fits", "because", output=raw / "bias_1.fits")
    assert not (raw / NAME).exists()
    for args in ([], ["--undo", "--reason", "x"]):
        assert "give --reason TEXT, or --undo" in run("mark-bad", raw, *args, status=2).stderr


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "x"}', '{"format": "daskcal-marks-1"}'])
def test_marks_that_are_damaged_are_never_passed_over(raw: Path, text: str) -> None:
    (raw / NAME).write_text(text)
    with pytest.raises(ConfigError, match=NAME):
        plan_night(raw)


def test_a_reason_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="reason = None is no text"):
        daskcal.mark_bad(tmp_path / "n1.fits", None)  # type: ignore[arg-type]
