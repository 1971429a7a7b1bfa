"""The cards of a combined image: those that hold for all its frames, and means."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS

import daskcal

N = 3
SKY = {
    "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRPIX1": 4.0, "CRPIX2": 5.0,
    "CRVAL1": 10.0, "CRVAL2": 41.0, "CD1_1": -1e-4, "CD2_2": 1e-4, "A_ORDER": 2, "B_ORDER": 2,
    "A_2_0": 1e-6, "B_0_2": 1e-6, "RADESYS": "FK5", "EQUINOX": 2000.0,
}  # fmt: skip
Each = Mapping[str, tuple[Any, ...]]


def combined(folder: Path, each: Each, **shared: Any) -> fits.Header:
    """The header of what frames are combined into; `each` has a value for each frame, or None."""
    frames = _frames(folder, each, shared)
    (written,) = daskcal.to_fits(daskcal.combine(frames), folder / "master.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CCDData.read(written.path)
    if shutil.which("fitsverify"):
        said = subprocess.run(
            ["fitsverify", written.path], capture_output=True, text=True, check=False
        ).stdout
        assert "0 warning(s) and 0 error(s)" in said, said
    return fits.getheader(written.path)


def _frames(folder: Path, each: Each, shared: Mapping[str, Any]) -> Any:
    (folder / "raw").mkdir()
    for i in range(N):
        header = fits.Header()
        for key, value in (*shared.items(), *((key, some[i]) for key, some in each.items())):
            if value is not None:
                header[key] = value
        data = np.full((8, 10), 100 + i, "u2")
        fits.writeto(folder / "raw" / f"n{i}.fits", data, header)
    return daskcal.open_frames(folder / "raw", unit="adu")


def test_a_card_stays_where_all_frames_say_the_same(tmp_path: Path) -> None:
    header = combined(
        tmp_path,
        {"FILENAME": ("a", "b", "c"), "AIRMASS": (1.1, 1.2, 1.3), "JD": (1.5, 2.5, 3.5),
         "HISTORY": ("one", "two", "three"), "MORE": (None, 1, 1), "LESS": (1, 1, None),
         "LATE": (7, 7, 8), "HIERARCH ESO TEL ALT": (1.5, 2.5, 3.5)},
        OBSERVER="Ada", WEATHER=3, SHUTTER=True, LONG="x" * 100, COMMENT="of all",
        **{"HIERARCH ESO TEL NAME": "big"},
    )  # fmt: skip
    assert (header["OBSERVER"], header["WEATHER"], header["SHUTTER"]) == ("Ada", 3, True)
    assert (header["LONG"], header["ESO TEL NAME"]) == ("x" * 100, "big")
    assert "of all" in list(header["COMMENT"])
    gone = {"FILENAME", "AIRMASS", "JD", "MORE", "LESS", "LATE", "ESO TEL ALT"}
    assert not gone & set(header)
    assert all(line.startswith("daskcal: ") for line in header["HISTORY"])


def test_what_daskcal_knows_is_averaged_under_the_cameras_keyword(tmp_path: Path) -> None:
    header = combined(
        tmp_path,
        {"EXPTIME": (3.0, 3.25, 4.0), "EXPOSURE": ((3000, "ms"), (3250, "ms"), (4000, "ms")),
         "DARKTIME": (4.0, 4.25, 6.5), "DETTEMP": (-100.0, -101.0, -102.0),
         "GAIN": (1.5, 2.0, 2.5), "RDNOISE": (5.0, 6.0, 7.0), "GAIN1": (1.0, 2.0, 3.0)},
        IMAGETYP="dark",
    )  # fmt: skip
    assert header["EXPTIME"] == pytest.approx(41 / 12)
    assert header["EXPOSURE"] == pytest.approx(41000 / 12)
    assert header.comments["EXPOSURE"] == "ms, mean"
    assert header["DARKTIME"] == pytest.approx(59 / 12)
    assert (header["DETTEMP"], header["GAIN"], header["RDNOISE"]) == (-101.0, 2.0, 6.0)
    assert not {"CCD-TEMP", "GAIN1"} & set(header)
    master = daskcal.open_master(tmp_path / "master.fits")
    facts = [master.attrs[name] for name in ("exptime", "darktime", "ccd_temp", "gain", "rdnoise")]
    assert facts == pytest.approx([41 / 12, 59 / 12, -101.0, 2.0, 6.0])


@pytest.mark.parametrize(
    ("darktime", "expected"),
    [
        ((4.0, 4.0, 4.0), 4.0),
        ((None, 5.0, 6.0), 14 / 3),  # the exposure stands for what is not known
        ((0.0, 5.0, 6.0), 14 / 3),
        ((5.0, 6.0, 0.0), 14 / 3),
        ((None, None, None), None),
    ],
)
def test_dark_time_is_what_daskcal_scales_by(
    tmp_path: Path, darktime: tuple[float, ...], expected: float | None
) -> None:
    header = combined(tmp_path, {"DARKTIME": darktime}, IMAGETYP="dark", EXPTIME=3.0)
    assert header.get("DARKTIME") == (expected and pytest.approx(expected))
    assert daskcal.open_master(tmp_path / "master.fits").attrs["darktime"] == (
        pytest.approx(expected or 3.0)
    )


def test_other_programs_read_what_daskcal_was_told_of(tmp_path: Path) -> None:
    frames = _frames(tmp_path, {"COLD": (-100.0, -101.0, -102.0)}, {"IMAGETYP": "dark"})
    frames = frames.assign_coords(ccd_temp=("frame", frames["hdr_cold"].values))
    (written,) = daskcal.to_fits(daskcal.combine(frames), tmp_path / "master.fits")
    header = fits.getheader(written.path)
    assert header["CCD-TEMP"] == -101.0
    assert "COLD" not in header


def test_words_that_readers_need_are_those_of_the_first_frame(tmp_path: Path) -> None:
    header = combined(
        tmp_path,
        {"IMAGETYP": ("zero", "Bias", "bias"), "OBJECT": ("one", "two", "three"),
         "FILTER": ("V", "R", "I"), "DATE-OBS": ("2020-01-02T03:04:05", "2020-01-02T03:05:05",
         "2020-01-02T03:06:05"), "MJD-OBS": (58850.128, 58850.129, 58850.13)},
        INSTRUME="camera",
    )  # fmt: skip
    first = ("zero", "one", "V", "2020-01-02T03:04:05", "camera")
    keys = ("IMAGETYP", "OBJECT", "FILTER", "DATE-OBS", "INSTRUME")
    assert tuple(header[key] for key in keys) == first
    assert "MJD-OBS" not in header


def test_a_gain_that_was_applied_is_one_whatever_it_was(tmp_path: Path) -> None:
    frames = _frames(tmp_path, {"GAIN": (1.5, 2.0, 2.5)}, {})
    master = daskcal.combine(daskcal.gain_correct(frames))
    (written,) = daskcal.to_fits(master, tmp_path / "master.fits")
    assert fits.getheader(written.path)["GAIN"] == 1.0


@pytest.mark.parametrize("key", ["CRVAL1", "EQUINOX", "A_2_0"])
def test_the_sky_stays_as_a_whole_or_not_at_all(tmp_path: Path, key: str) -> None:
    for name, each in (("same", {}), ("other", {key: (1e-6, 2e-6, 3e-6)})):
        folder = tmp_path / name
        folder.mkdir()
        header = combined(folder, each, **(SKY | {"RA": "00:40:00"}))
        assert header["RA"] == "00:40:00"
        has = {word for word in SKY if word in header}
        left = {"RADESYS", "EQUINOX"} - set(each)
        assert has == (set(SKY) if name == "same" else left)
        WCS(header)


def test_of_a_keyword_that_stands_twice_all_values_are_compared(tmp_path: Path) -> None:
    frames = _frames(tmp_path, {}, {"NOTE": "a", "PLACE": "b"})
    first, second, third = frames["cards"].values
    more = [f"{key:8}= '{value}'".ljust(80) for key, value in (("NOTE", "c"), ("NOTE", "d"))]
    texts = np.array([first + more[0], second + more[0], third + more[1]], dtype=object)
    master = daskcal.combine(frames.assign_coords(cards=("frame", texts)))
    assert master.attrs["cards"].count("NOTE    =") == 1
    assert "PLACE   =" in master.attrs["cards"]
