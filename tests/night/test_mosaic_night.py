"""A night of a mosaic: masters, matching and products per detector, and what a bad one costs."""

from __future__ import annotations

import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData
from click.testing import CliRunner
from mosaic_files import NAMES, cut_data, cut_file, spoil_header, write_mosaic

from daskcal import plan_night, reduce_night
from daskcal.cli import main
from daskcal.errors import ConfigError
from daskcal.night.calibrate.mosaic_flats import relative_levels
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import Ledger, ProductEntry, read_ledger

SHAPE = (24, 32)
GAINS = (1.0, 1.5, 2.0, 2.5)
LEVELS = (1000.0, 1100.0, 900.0, 1200.0)
QE = (1.0, 0.8, 1.2, 0.9)  # what the detectors make of the same light
SKY, FLAT = 400.0, 20_000.0  # electron


def expose(path: Path, imagetyp: str, light: float, minute: int, **cards: Any) -> Path:
    """One exposure of all four detectors under the same light (electron for QE 1)."""
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    images = [
        np.round(level + rng.poisson(light * qe, SHAPE) / gain + rng.normal(0, 4 / gain, SHAPE))
        for level, gain, qe in zip(LEVELS, GAINS, QE, strict=True)
    ]
    primary = {"IMAGETYP": imagetyp, "EXPTIME": 30.0 if light else 0.0, "OBJECT": "M 67",
               "DATE-OBS": f"2024-03-01T02:{minute:02d}:00", **cards}  # fmt: skip
    each = [{"GAIN": gain, "RDNOISE": 4.0} for gain in GAINS]
    return write_mosaic(path, [i.astype(np.uint16) for i in images], NAMES, primary, each)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("mosaic") / "raw"
    for i in range(4):
        expose(raw / f"bias_{i}.fits", "bias", 0.0, i)
    for i in range(4):
        expose(raw / f"flat_{i}.fits", "flat", FLAT, 10 + i, FILTER="V")
    for i in range(2):
        expose(raw / f"m67_{i}.fits", "object", SKY, 20 + i, FILTER="V")
    return raw


@pytest.fixture
def raw(night: Path, tmp_path: Path) -> Path:
    """A night that may be spoilt."""
    return Path(shutil.copytree(night, tmp_path / "raw"))


def products(ledger: Ledger, status: str = "made") -> set[str]:
    return {p.name for p in ledger.products if p.status == status}


def product(ledger: Ledger, name: str) -> ProductEntry:
    return next(p for p in ledger.products if p.name == name)


MASTERS = {f"masters/{kind}_{name}.fits" for kind in ("bias", "flat_V") for name in NAMES}
SCIENCE = {f"science/m67_{i}_{name}.fits" for i in range(2) for name in NAMES}


def test_a_night_in_one_command(night: Path, tmp_path: Path) -> None:
    ledger = reduce_night(night, tmp_path / "out")
    assert products(ledger) == MASTERS | SCIENCE
    assert ledger.exit_status() == 0
    counts = ledger.counts()
    assert (counts.found, counts.used) == (40, 40)
    assert Counter(entry.detector for entry in ledger.frames) == dict.fromkeys(NAMES, 10)
    for i, name in enumerate(NAMES):
        made = product(ledger, f"science/m67_0_{name}.fits")
        assert made.masters == (f"masters/bias_{name}.fits", f"masters/flat_V_{name}.fits")
        assert [one.hdu for one in made.inputs if one.role == "frame"] == [i + 1]
        image = CCDData.read(tmp_path / "out" / made.name)
        expected = SKY * QE[i] / GAINS[i]  # each detector on its own flat's mean
        error = np.median(image.uncertainty.array) / np.sqrt(image.data.size)
        assert abs(np.mean(image.data) - expected) < 5 * error + 0.01
        assert image.header["DETECTOR"] == name
        assert fits.getheader(tmp_path / "out" / made.masters[1])["DETECTOR"] == name
    assert read_ledger(tmp_path / "out" / "night.json").frames == ledger.frames
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert all(f"m67_1_{name}" in page for name in NAMES)


@pytest.mark.parametrize(
    ("flat", "scale"), [("mean", "median"), ("median", "mean"), ("mean", "none")]
)
def test_flats_of_one_norm_keep_the_detectors_together(
    raw: Path, tmp_path: Path, flat: str, scale: str
) -> None:
    # an exposure of another level, which one detector lacks: its flats are brighter on the whole
    (raw / "flat_1.fits").unlink()
    expose(raw / "flat_1.fits", "flat", 0.7 * FLAT, 11, FILTER="V")
    if scale != "none":
        cut_file(raw / "flat_1.fits", 4)
    path = tmp_path / "night.toml"
    path.write_text(
        f'[flat]\nnormalise_over = "mosaic"\nnormalise = "{flat}"\n'
        f'[output]\ngain_correct = true\n[combine.flat]\nscale = "{scale}"\n'
        + ("" if scale == "none" else 'section = "[2:, :]"\n')
    )
    ledger = reduce_night(raw, tmp_path / "out", path)
    images = [fits.getdata(tmp_path / "out" / f"science/m67_0_{name}.fits") for name in NAMES]
    for image in images:  # the same light, whatever a detector makes of it
        assert abs(image.mean() / (SKY * np.mean(QE)) - 1) < 0.01
    norms = [_norm(product(ledger, f"science/m67_0_{name}.fits")) for name in NAMES]
    flats = [fits.getdata(tmp_path / "out" / f"masters/flat_V_{name}.fits") for name in NAMES]
    parts = [np.mean(f.astype(float)) / norm for f, norm in zip(flats, norms, strict=True)]
    assert np.mean(parts) == pytest.approx(1, abs=2e-3)
    np.testing.assert_allclose(parts, QE / np.mean(QE), rtol=3e-3)


def test_throughput_is_found_where_detectors_lack_exposures() -> None:
    light, seen = {"a": 5.0, "b": 90.0, "c": 2000.0}, {"one": 2.0, "two": 0.5, "three": 1.0}
    exposed = {d: {e: light[e] * t for e in light} for d, t in seen.items()}
    del exposed["two"]["c"], exposed["one"]["a"]
    found = relative_levels(exposed)
    assert found == {name: pytest.approx(t) for name, t in seen.items()}
    assert relative_levels({"one": {}, "two": {}}) == {"one": pytest.approx(1), "two": 1}


def _norm(entry: ProductEntry) -> float:
    steps = entry.parameters["steps"]
    return float(next(s["normalise"] for s in steps if s["step"] == "flat_correct"))


@pytest.mark.parametrize("damage", [spoil_header, cut_data, cut_file])
def test_a_bad_extension_costs_that_detector_of_that_exposure(
    raw: Path, tmp_path: Path, damage: Callable[[Path, int], None]
) -> None:
    damage(raw / "m67_1.fits", 4)
    ledger = reduce_night(raw, tmp_path / "out")
    assert products(ledger) == MASTERS | SCIENCE - {"science/m67_1_SE.fits"}
    assert len(ledger.products) == len(products(ledger))
    counts = ledger.counts()
    assert (counts.found, counts.used, counts.failed) == (40, 39, 1)
    (lost,) = [entry for entry in ledger.frames if entry.status == "failed"]
    assert (lost.path, lost.hdu) == ("m67_1.fits", 4)
    assert ledger.exit_status() == 3
    assert "m67_1.fits: no SE, which other files of the mosaic have" in ledger.messages


def test_pixels_that_cannot_be_read_cost_that_detector(tmp_path: Path, night: Path) -> None:
    """A compressed extension whose tiles are damaged: seen when its pixels are read."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in night.iterdir():
        with fits.open(path) as hdus:
            packed = [fits.CompImageHDU(h.data, h.header, compression_type="RICE_1")
                      for h in hdus[1:]]  # fmt: skip
            fits.HDUList([fits.PrimaryHDU(header=hdus[0].header), *packed]).writeto(raw / path.name)
    with fits.open(raw / "flat_2.fits", disable_image_compression=True) as hdus:
        begin, size = hdus[3].fileinfo()["datLoc"], hdus[3]._theap
    spoilt = bytearray((raw / "flat_2.fits").read_bytes())
    spoilt[begin : begin + size] = b"\x7f" * size  # where the tiles lie
    (raw / "flat_2.fits").write_bytes(spoilt)
    ledger = reduce_night(raw, tmp_path / "out")
    assert products(ledger) == MASTERS | SCIENCE
    frames = {name: len([i for i in product(ledger, f"masters/flat_V_{name}.fits").inputs
                         if i.role == "frame"]) for name in NAMES}  # fmt: skip
    assert frames == {"NW": 4, "NE": 4, "SW": 3, "SE": 4}
    (lost,) = [entry for entry in ledger.frames if entry.status == "failed"]
    assert (lost.path, lost.hdu, lost.detector) == ("flat_2.fits", 3, "SW")


def test_the_plan_says_what_is_alike_once(night: Path) -> None:
    text = str(plan_night(night))
    said = "masters/bias_NE.fits, masters/bias_NW.fits, masters/bias_SE.fits, masters/bias_SW.fits"
    assert f"{said} from 4 frames each" in text
    assert "8 frames: science/m67_0_NW.fits" in text
    assert len(text.splitlines()) < 20


def test_ls_has_a_line_for_each_detector(raw: Path) -> None:
    spoil_header(raw / "m67_1.fits", 2)
    found = CliRunner().invoke(main, ["ls", str(raw)])
    assert found.exit_code == 3
    lines = found.output.splitlines()
    assert lines[0].split()[:2] == ["file", "detector"]
    assert [line.split()[1] for line in lines if line.startswith("m67_0")] == list(NAMES)
    assert "39 frames in" in found.output
    assert "m67_1.fits [HDU 2]: BITPIX is 17" in found.output


def test_choices_name_the_detector(night: Path, tmp_path: Path) -> None:
    ledger = reduce_night(night, tmp_path / "out", select="detector != 'NE'")
    assert len(products(ledger)) == 12
    (choice,) = ledger.choices
    assert len(choice.frames) == 10
    assert "m67_0.fits [NE]" in choice.frames


def test_kept_frames_and_stores_are_apart(night: Path, tmp_path: Path) -> None:
    ledger = reduce_night(night, tmp_path / "out", keep_calibrated=True, format="zarr")
    kept = {name for name in products(ledger) if name.startswith("calibrated/")}
    assert kept == {
        f"calibrated/{kind}_{i}_{name}.fits"
        for kind in ("bias", "flat")
        for i in range(4)
        for name in NAMES
    }
    assert products(ledger) - kept - MASTERS == {f"science/{name}.zarr" for name in NAMES}


def test_one_name_for_all_detectors_is_refused(night: Path) -> None:
    config = NightConfig.model_validate({"instrument": {"detector": "CCD"}})
    with pytest.raises(ConfigError, match="holds 4 detectors"):
        plan_night(night, config)


def test_identical_detectors_of_one_file_are_no_doubles(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for i in range(2):
        same = [np.full(SHAPE, 1000 + i, np.uint16)] * 2
        write_mosaic(raw / f"b{i}.fits", same, [], {"EXPTIME": 0.0})
    plan = plan_night(raw)
    assert not plan.skipped
    assert {job.name for job in plan.jobs} == {"masters/bias_hdu1.fits", "masters/bias_hdu2.fits"}


def test_one_detector_by_the_config(night: Path, tmp_path: Path) -> None:
    config = NightConfig.model_validate({"instrument": {"hdu": "SW"}})
    ledger = reduce_night(night, tmp_path / "out", config)
    science = {"science/m67_0.fits", "science/m67_1.fits"}
    assert products(ledger) == {"masters/bias.fits", "masters/flat_V.fits"} | science


def test_a_detector_may_have_tables_of_its_own() -> None:
    matrix = ((0.0, 2e-4), (1e-4, 0.0))
    config = NightConfig.model_validate({"detectors": {"CCD2": {"crosstalk": {"matrix": matrix}}}})
    assert config.of_detector("CCD2").crosstalk.matrix == matrix
    assert config.of_detector("CCD2").overscan == config.overscan
    assert config.of_detector("CCD1") == config
