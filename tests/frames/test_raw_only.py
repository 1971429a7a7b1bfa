"""Masters and products in folders of raw frames: never among them unless they are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from mosaic_files import write_mosaic
from raw_fits import write_frames

import daskcal
from daskcal.cli import main

IMAGES = [np.full((8, 10), level, np.uint16) for level in (100, 110, 120)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three biases, and a fourth that is COMBINED by who knows whom."""
    write_frames(tmp_path / "raw", [*IMAGES, IMAGES[0]], IMAGETYP="bias",
                 COMBINED=[None, None, None, True])  # fmt: skip
    return tmp_path / "raw"


@pytest.fixture
def calibrated(raw: Path) -> Path:
    """A folder with the three, gain-corrected."""
    out = raw.parent / "calibrated"
    out.mkdir()
    frames = daskcal.open_frames([raw / f"f{i}.fits" for i in range(3)])
    daskcal.to_fits(daskcal.gain_correct(frames), out)
    return out


def names(frames: object) -> list[str]:
    return [Path(path).name for path in frames["path"].values]  # type: ignore[index]


def run(*args: object, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("glob", [(), ("*.fits",)], ids=["folder", "glob"])
def test_of_a_folder_only_raw_frames_are_taken(raw: Path, glob: tuple[str, ...]) -> None:
    with pytest.warns(
        daskcal.DaskcalWarning,
        match=r"^left out, as no raw frames: 1 file is COMBINED by other software \(f3.fits\); "
        r"open_master opens one, and files that are named one by one are taken$",
    ) as caught:
        frames = daskcal.open_frames(raw.joinpath(*glob))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert names(frames) == ["f0.fits", "f1.fits", "f2.fits"]


def test_a_night_reduced_into_its_own_folder_opens_still(raw: Path) -> None:
    daskcal.reduce_night(raw, raw / "out")
    with pytest.warns(
        daskcal.DaskcalWarning,
        match=r"1 product of daskcal \(out/masters/bias.fits\) and 1 file is COMBINED .*\(f3.fits",
    ):
        assert daskcal.open_frames(raw).sizes["frame"] == 3
    assert (
        "left alone, as no raw frames: 1 product of daskcal (out/masters/bias.fits) and 1 file is "
        "COMBINED by other software (f3.fits)"
    ) in daskcal.plan_night(raw).messages


def test_files_that_are_named_are_taken(raw: Path, calibrated: Path) -> None:
    assert names(daskcal.open_frames(raw / "f3.fits")) == ["f3.fits"]
    products = sorted(calibrated.iterdir())
    assert names(daskcal.open_frames(products)) == ["f0.fits", "f1.fits", "f2.fits"]
    with pytest.warns(
        daskcal.DaskcalWarning,
        match=r"taken together with raw frames, as named one by one: 1 file .*f3.fits",
    ):
        frames = daskcal.open_frames([raw / "f0.fits", raw / "f3.fits"])
    assert names(frames) == ["f0.fits", "f3.fits"]


def test_a_folder_of_products_is_taken(raw: Path, calibrated: Path) -> None:
    assert daskcal.open_frames(calibrated).sizes["frame"] == 3
    stack = daskcal.combine(daskcal.open_frames(calibrated))
    daskcal.to_fits(stack, calibrated / "stack.fits")  # which is not one of those it is made of
    with pytest.warns(daskcal.DaskcalWarning, match=r"as no calibrated frames: 1 .*\(stack.fits\)"):
        assert daskcal.open_frames(calibrated).sizes["frame"] == 3
    shutil.copy(raw / "f3.fits", calibrated / "stack2.fits")
    with pytest.warns(daskcal.DaskcalWarning, match="stack2.fits"):
        assert daskcal.open_frames(calibrated / "*").sizes["frame"] == 3


def test_many_products_are_not_all_named(raw: Path) -> None:
    for i in range(9):
        shutil.copy(raw / "f3.fits", raw / f"m{i}.fits")
    with pytest.warns(
        daskcal.DaskcalWarning, match=r"10 files are .*\(f3.fits, m0.fits, m1.fits and 7 more\);"
    ):
        daskcal.open_frames(raw)


def test_folders_of_mosaics_name_open_mosaic(tmp_path: Path) -> None:
    for i in range(3):
        write_mosaic(tmp_path / f"e{i}.fits", IMAGES)
    with pytest.raises(daskcal.FrameError, match=r"several detectors \(3\).*open_mosaic") as no:
        daskcal.open_frames(tmp_path)  # and no warning, which would be an error here
    assert no.value.reason == "several-detectors"
    fits.PrimaryHDU(IMAGES[0], fits.Header({"COMBINED": True})).writeto(tmp_path / "m.fits")
    with pytest.warns(daskcal.DaskcalWarning, match=r"left out.*m.fits"):
        assert daskcal.open_mosaic(tmp_path)["NW"].sizes["frame"] == 3
    with (
        pytest.warns(daskcal.DaskcalWarning, match=r"left out.*m.fits"),
        pytest.raises(daskcal.FrameError, match="open_mosaic"),
    ):
        daskcal.open_frames(tmp_path)


# --- the command line -----------------------------------------------------------------------------


def test_ls_marks_products_and_does_not_count_them(raw: Path) -> None:
    listed = run("ls", raw)[0].splitlines()
    assert [line.split()[:2] for line in listed[:-1]] == [
        ["file", "kind"], ["f0.fits", "raw"], ["f1.fits", "raw"], ["f2.fits", "raw"],
        ["f3.fits", "combined"],
    ]  # fmt: skip
    assert listed[-1] == f"3 frames and 1 product in {raw}"


def test_combine_leaves_its_earlier_result_out(raw: Path) -> None:
    (raw / "f3.fits").unlink()
    out = raw / "m.fits"
    assert run("combine", raw, "-o", out) == (f"{out}: 3 frames combined\n", "")
    first = out.read_bytes()
    said, notes = run("combine", raw, "-o", out)
    assert said == f"{out}: 3 frames combined\n"
    assert "Note: left out, as no raw frames: 1 product of daskcal (m.fits); " in notes
    assert out.read_bytes() == first
    by_shell = sorted(raw.iterdir())
    said, notes = run("combine", *by_shell, "-o", raw / "m2.fits")
    assert "4 frames combined" in said
    assert notes == (
        "Note: taken together with raw frames, as named one by one: 1 product of daskcal (m.fits)\n"
    )
    notes = run("combine", *by_shell, "-o", out, status=2)[1]
    assert f"{out} is one of the frames to read" in notes
    assert out.read_bytes() == first


def test_an_output_that_can_be_none_is_wrong_usage(raw: Path, tmp_path: Path) -> None:
    assert "no folder" in run("combine", raw, "-o", tmp_path / "no" / "x.fits", status=2)[1]
    file = raw / "f0.fits"
    assert "is not a folder" in run("reduce", raw, "-o", file, status=2)[1]
    assert "is a file" in run("simulate", file, status=2)[1]
    assert "is not empty" in run("simulate", raw, status=2)[1]
    with pytest.raises(daskcal.OutputError, match="is not empty"):
        daskcal.simulate_night(raw)
