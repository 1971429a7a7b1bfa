"""Bad pixels and cosmic rays of a night, as its config asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_night
from astropy.io import fits
from astropy.nddata import CCDData
from scipy.ndimage import maximum_filter

import daskcal
from daskcal.fits.content import spool_folder
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.effort import effort
from daskcal.simulate import load_truth

RAYS = [(5, 9), (12, 20), (18, 4)]
FRAME = "science/m67_V_0.fits"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night of six darks; cosmic rays in a science frame, and pixels that are not right."""
    folder = small_night.make(tmp_path_factory.mktemp("pixels") / "raw", dark=6)
    for path in folder.iterdir():
        with fits.open(path, mode="update") as hdus:
            image = hdus[0].data
            if path.name.startswith("dark") and int(path.stem[-1]) % 2:
                image[20, 25] += 400  # jumps between two levels
            if path.name.startswith(("flat", "m67")):
                image[10, 3] = 1000 + (image[10, 3] - 1000) // 3  # sees little
            if path.name == "m67_V_0.fits":
                for at in RAYS:
                    image[at] += 900
    return folder


def reduced(raw: Path, out: Path, **tables: object) -> tuple[CCDData, np.ndarray, str]:
    """A science product, its mask's bits, and what its HISTORY says."""
    ledger = daskcal.reduce_night(raw, out, NightConfig.model_validate(tables))
    assert {product.status for product in ledger.products} == {"made"}
    header = fits.getheader(out / FRAME)
    said = "".join(str(line).removeprefix("daskcal: ") for line in header["HISTORY"])
    return CCDData.read(out / FRAME), fits.getdata(out / FRAME, "MASK"), said


def test_without_a_word_nothing_is_done(raw: Path, tmp_path: Path) -> None:
    _, bits, said = reduced(raw, tmp_path / "out")
    assert not (bits & 33).any()
    assert "cosmicray" not in said
    assert "flag_bad" not in said


@pytest.mark.parametrize("method", ["lacosmic", "median"])
@pytest.mark.parametrize("clean", [False, True])
def test_cosmic_rays(raw: Path, tmp_path: Path, method: str, clean: bool) -> None:
    wanted = {
        "method": method,
        "sigclip": 6.0,
        "sigfrac": 0.9,
        "clean": clean,
        "thresh": 8.0,
        "mbox": 5,
    }
    wanted |= {"rbox": 5} if clean else {}
    plain, before, _ = reduced(raw, tmp_path / "plain")
    product, bits, said = reduced(raw, tmp_path / "out", cosmic_rays=wanted)
    assert {tuple(at) for at in np.argwhere(bits & 32).tolist()} == set(RAYS)
    np.testing.assert_array_equal(bits & ~np.uint16(32), before)
    np.testing.assert_array_equal(product.uncertainty.array, plain.uncertainty.array)
    rays = (bits & 32) != 0
    np.testing.assert_array_equal(product.data[~rays], plain.data[~rays])
    assert (plain.data[rays] > 700).all()
    assert (product.data[rays] < 400).all() if clean else (product.data[rays] > 700).all()
    assert f'"step": "cosmicray_{method}"' in said
    assert list(spool_folder().glob(".frames*")) == []


def test_cosmic_rays_in_a_store(raw: Path, tmp_path: Path) -> None:
    rays = {"method": "lacosmic", "sigclip": 6.0, "sigfrac": 0.9}
    config = NightConfig.model_validate({"cosmic_rays": rays})
    daskcal.reduce_night(raw, tmp_path / "out", config, format="zarr")
    (store,) = (tmp_path / "out" / "science").iterdir()
    frames = daskcal.open_zarr(store)
    (at,) = np.flatnonzero([path.endswith("m67_V_0.fits") for path in frames.path.values])
    found = np.argwhere(frames.mask.values[at] & 32)
    assert {tuple(at) for at in found.tolist()} == set(RAYS)
    assert list(spool_folder().glob(".frames*")) == []


def test_masks_from_flats_and_darks(raw: Path, tmp_path: Path) -> None:
    mask = {"from_flats": True, "from_darks": True}
    _, bits, said = reduced(raw, tmp_path / "out", mask=mask, trim={"section": "[2:, 1:]"})
    expected = daskcal.ccdmask(tmp_path / "out/masters/flat_V.fits").image.values
    assert expected[8, 2]
    assert expected[18, 24]  # jumps in darks: masked in every flat, and so without a value
    np.testing.assert_array_equal(bits & 1, expected)
    assert '"step": "ccdmask"' in said
    assert '"step": "unstable_pixels"' in said
    assert "masters/flat_V.fits" in said


@pytest.mark.parametrize("ending", [".fits", ".txt", ".reg"])
def test_a_file_with_the_rest_and_bad_columns(raw: Path, tmp_path: Path, ending: str) -> None:
    frames = daskcal.open_frames(raw / "m67_V_0.fits")
    (tmp_path / "regions").write_text("# hot\n7 7 3 18\n# bad\n2 3 5 5\n")
    given = daskcal.open_mask(tmp_path / "regions", like=frames)
    daskcal.write_mask(given, tmp_path / f"bad{ending}")
    mask = {"bad_pixels": str(tmp_path / f"bad{ending}"), "from_flats": True, "bad_columns": 0.5}
    rest = {"trim": {"section": "[2:, :]"}, "dark": {"hot_threshold": None}}
    _, bits, _ = reduced(raw, tmp_path / "out", mask=mask, **rest)
    expected = daskcal.ccdmask(tmp_path / "out/masters/flat_V.fits").image.values
    assert expected[8, 3]
    expected[:, 6] = expected[2, 1:3] = 1
    expected[:16, 6] = 3
    np.testing.assert_array_equal(bits & 3, expected)
    mask = {"bad_pixels": str(tmp_path / f"bad{ending}")}
    _, bits, _ = reduced(raw, tmp_path / "alone", mask=mask, dark={"hot_threshold": None})
    np.testing.assert_array_equal(bits & 3, given.image)


def test_too_few_darks_are_said(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    config = NightConfig.model_validate({"mask": {"from_darks": True}})
    ledger = daskcal.reduce_night(raw, tmp_path / "out", config)
    assert any("dark_60s.fits has 3 frames, and mask.from_darks" in m for m in ledger.messages)
    assert ledger.exit_status() == 0


def test_unknown_noise_names_the_frame_and_the_key(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", rdnoise=None)
    config = NightConfig.model_validate({"cosmic_rays": {"method": "lacosmic"}})
    ledger = daskcal.reduce_night(raw, tmp_path / "out", config)
    failed = [p for p in ledger.products if p.kind == "science"]
    assert {p.status for p in failed} == {"failed"}
    assert all("rdnoise = ... under [instrument]" in p.reason for p in failed)


def test_the_plan_knows_what_a_whole_frame_takes(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"combine": {"flat": {"scale": None}}}  # no other whole frames
    plain = daskcal.plan_night(raw, NightConfig.model_validate(tables))
    tables["cosmic_rays"] = {"method": "lacosmic"}
    rays = daskcal.plan_night(raw, NightConfig.model_validate(tables))
    assert effort(rays).memory == effort(plain).memory  # the budget
    monkeypatch.setattr("daskcal.night.plan.effort.budget", lambda: 1000)
    frame = 24 * 32
    assert 84 * frame < effort(rays).memory < 150 * frame
    assert json.loads(rays.config.model_dump_json())["cosmic_rays"]["method"] == "lacosmic"


def test_a_simulated_nights_rays_are_found_and_little_else(tmp_path: Path) -> None:
    daskcal.simulate_night(tmp_path / "raw", size=(400, 400), n_cosmics=60)
    truth = load_truth(tmp_path / "raw")
    rays = NightConfig.model_validate({"cosmic_rays": {"method": "lacosmic"}})
    daskcal.reduce_night(tmp_path / "raw" / "raw", tmp_path / "out", rays)
    for frame in truth.frames:
        if frame.kind == "science":
            bits = fits.getdata(tmp_path / "out" / "science" / f"{frame.stem}.fits", "MASK")
            planted = (truth.mask(frame.file) & 32) != 0
            open_ = planted & ((bits & ~np.uint16(32)) == 0)  # not bad for another reason
            assert ((bits & 32) != 0)[open_].mean() > 0.9
            assert np.count_nonzero((bits & 32 != 0) & ~maximum_filter(planted, 3)) < 20
