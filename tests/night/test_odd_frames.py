"""One frame that is unlike the others, or of no use, costs itself and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import small_night
from astropy.io import fits

import daskcal
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import Ledger, ProductEntry
from daskcal.night.run.run import reduce_night

SECTIONS = {"BIASSEC": "[29:32,1:24]", "TRIMSEC": "[1:28,1:24]"}


def product(ledger: Ledger, name: str) -> ProductEntry:
    return next(entry for entry in ledger.products if entry.name == name)


def statuses(ledger: Ledger) -> dict[str, str]:
    return {entry.path: entry.status for entry in ledger.frames}


def test_a_card_that_differs_costs_its_frame_and_not_the_overscan(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", **SECTIONS)
    with fits.open(raw / "bias_1.fits", mode="update") as hdus:
        hdus[0].header["BIASSEC"] = "[30:32,1:24]"
    ledger = reduce_night(raw, tmp_path / "out")
    assert statuses(ledger)["bias_1.fits"] == "failed"
    bias = product(ledger, "masters/bias.fits")
    assert bias.parameters["steps"][0]["step"] == "subtract_overscan"
    assert len(bias.inputs) == 3
    level = np.nanmedian(fits.getdata(tmp_path / "out" / "masters" / "bias.fits"))
    assert abs(level) < 5  # adu; the pedestal is 1000
    assert ledger.exit_status() == 3


def test_a_dead_flat_costs_itself(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    dead = np.zeros(small_night.SHAPE, np.uint16)
    header = small_night.header("flat", 2.0, minute=40, filter="V")
    fits.writeto(raw / "flat_V_0.fits", dead, header, overwrite=True)
    ledger = reduce_night(raw, tmp_path / "out")
    assert statuses(ledger)["flat_V_0.fits"] == "skipped"
    assert product(ledger, "masters/flat_V.fits").status == "made"
    assert len([i for i in product(ledger, "masters/flat_V.fits").inputs if i.role == "frame"]) == 2
    assert product(ledger, "science/m67_V_0.fits").status == "made"


def test_too_few_frames_are_left_for_a_master(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    dead = np.zeros(small_night.SHAPE, np.uint16)
    header = small_night.header("flat", 2.0, minute=40, filter="V")
    fits.writeto(raw / "flat_V_0.fits", dead, header, overwrite=True)
    config = NightConfig.model_validate({"combine": {"flat": {"min_frames": 3}}})
    ledger = reduce_night(raw, tmp_path / "out", config)
    lost = product(ledger, "masters/flat_V.fits")
    assert lost.status == "missing"
    assert "min_frames = 3" in lost.reason
    assert product(ledger, "science/m67_V_0.fits").status == "missing"
    assert product(ledger, "science/m67_B_0.fits").status == "made"
    assert statuses(ledger)["flat_V_0.fits"] == "skipped"


def test_bad_pixels_do_not_enter_the_scale_of_a_flat(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    bad = np.zeros(small_night.SHAPE, np.uint8)
    bad[:, :8] = 1
    fits.writeto(tmp_path / "bad.fits", bad)
    for path in raw.glob("flat_*.fits"):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[:, :8] = 60000
    config = NightConfig.model_validate({"mask": {"bad_pixels": str(tmp_path / "bad.fits")}})
    reduce_night(raw, tmp_path / "out", config)
    flat = fits.open(tmp_path / "out" / "masters" / "flat_V.fits")
    assert abs(np.nanmedian(flat[0].data[:, 8:]) - 1) < 0.01
    assert (flat["MASK"].data[:, :8] & 1 == 1).all()
    flat.close()


def test_a_store_keeps_the_noise_of_the_frames_that_have_one(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    with fits.open(raw / "m67_V_1.fits", mode="update") as hdus:
        del hdus[0].header["RDNOISE"]
    reduce_night(raw, tmp_path / "out", format="zarr")
    (store,) = (tmp_path / "out" / "science").glob("*.zarr")
    frames = daskcal.open_zarr(store)
    known = np.isfinite(frames["variance"].values).all(axis=(1, 2))
    assert dict(zip((Path(p).name for p in frames["path"].values), known, strict=True)) == {
        "m67_B_0.fits": True,
        "m67_B_1.fits": True,
        "m67_V_0.fits": True,
        "m67_V_1.fits": False,
    }


def test_a_frame_that_cannot_be_calibrated_is_left_out_of_its_store(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    with fits.open(raw / "m67_V_1.fits", mode="update") as hdus:
        del hdus[0].header["RDNOISE"]
    config = NightConfig.model_validate({"variance": {"create": True}})
    ledger = reduce_night(raw, tmp_path / "out", config, format="zarr")
    (store,) = (tmp_path / "out" / "science").glob("*.zarr")
    assert daskcal.open_zarr(store).sizes["frame"] == 3
    assert statuses(ledger)["m67_V_1.fits"] == "failed"


def test_masters_without_a_value_are_not_made(tmp_path: Path) -> None:
    """All pixels are there, but for those of the overscan, and so none is left of any."""
    raw = small_night.make(tmp_path / "raw", BIASSEC="[29:32,1:24]")
    for path in raw.glob("*.fits"):
        data, header = fits.getdata(path, header=True)
        data = data.astype(np.float32)
        data[:, 28:] = np.nan
        for key in ("BZERO", "BSCALE"):
            header.remove(key, ignore_missing=True)
        fits.writeto(path, data, header, overwrite=True)
    ledger = reduce_night(raw, tmp_path / "out")
    bias = product(ledger, "masters/bias.fits")
    assert bias.status == "missing"
    assert "none of its pixels has a value" in bias.reason
    assert not [entry.name for entry in ledger.products if entry.status == "made"]
    assert not list((tmp_path / "out").glob("*/*.fits"))
    assert ledger.exit_status() == 1
