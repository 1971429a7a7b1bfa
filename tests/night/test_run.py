"""Whole runs: what products hold, what the ledger says, and the same bytes for the same night."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import small_night
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.wcs import WCS
from small_night import bits

import daskcal
from daskcal.errors import ArgumentError, ConfigError, UnknownKeywordError
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import Ledger, read_ledger
from daskcal.night.plan.plan import plan_night
from daskcal.night.run.progress import Watch
from daskcal.night.run.run import reduce_night

TRIM = {"trim": {"section": "[2:, 4:30]"}}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night that no test changes."""
    return small_night.make(tmp_path_factory.mktemp("run") / "raw")


@pytest.fixture(scope="module")
def done(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ledger]:
    """That night reduced, trimmed."""
    out = tmp_path_factory.mktemp("run") / "out"
    ledger = reduce_night(raw, out, NightConfig.model_validate(TRIM), keep_calibrated=True)
    return out, ledger


def product(ledger: Ledger, name: str) -> Any:
    return next(entry for entry in ledger.products if entry.name == name)


def statuses(ledger: Ledger) -> dict[str, str]:
    return {entry.path: entry.status for entry in ledger.frames}


# --- what products hold --------------------------------------------------------------------------


def test_products_open_with_ccddata(done: tuple[Path, Ledger]) -> None:
    out, ledger = done
    names = [p.name for p in ledger.products]
    assert len(names) == 8 + 4 + 3 + 6
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", ".*datfix")  # astropy adds MJD-OBS from DATE-OBS
            frame = CCDData.read(out / name)
        assert frame.shape == (22, 26)
        assert frame.data.dtype.newbyteorder("=") == np.float32
        assert str(frame.unit) == "adu"
        assert isinstance(frame.uncertainty, StdDevUncertainty)
        assert np.nanmin(frame.uncertainty.array) > 0
        if name.startswith(("masters", "science")):
            assert frame.mask.shape == frame.shape


def test_products_keep_the_raw_cards_and_the_sky(raw: Path, done: tuple[Path, Ledger]) -> None:
    out, _ = done
    before = fits.getheader(raw / "m67_V_0.fits")
    after = fits.getheader(out / "science" / "m67_V_0.fits")
    changed = {"BITPIX", "NAXIS1", "NAXIS2", "BZERO", "BSCALE", "EXTEND", "CRPIX1", "CRPIX2"}
    for key in set(before) - changed - {"COMMENT", ""}:
        assert after[key] == before[key], key
    assert list(before["COMMENT"])[-1] in list(after["COMMENT"])
    sky = WCS(before).pixel_to_world(10 + 4, 7 + 2)
    assert sky.separation(WCS(after).pixel_to_world(10, 7)).arcsec < 1e-6


def test_a_science_header_says_what_was_done(done: tuple[Path, Ledger]) -> None:
    out, ledger = done
    header = fits.getheader(out / "science" / "m67_V_0.fits")
    assert header["DASKCAL"] == daskcal.__version__
    assert "NCOMBINE" not in header
    assert "COMBINED" not in header
    text = "".join(
        line.removeprefix("daskcal: ") for line in map(str, header["HISTORY"]) if "daskcal" in line
    )
    for name in ("masters/bias.fits", "masters/dark_60s.fits", "masters/flat_V.fits"):
        assert name in text
        assert product(ledger, name).checksum in text
        assert (
            product(ledger, name).checksum == hashlib.sha256((out / name).read_bytes()).hexdigest()
        )
    steps = [step["step"] for step in product(ledger, "science/m67_V_0.fits").parameters["steps"]]
    assert [s for s in steps if s.startswith(("trim", "subtract", "flat"))] == [
        "trim_image", "subtract_bias", "subtract_dark", "flat_correct",
    ]  # fmt: skip


def test_master_headers(done: tuple[Path, Ledger]) -> None:
    header = fits.getheader(done[0] / "masters" / "dark_60s.fits")
    assert header["COMBINED"] is True
    assert header["NCOMBINE"] == 3
    assert header["EXPTIME"] == 60.0
    assert header["DATE-BEG"] == "2024-03-01T02:20:00.5"
    assert header["DATE-END"] == "2024-03-01T02:23:00.5"
    assert header["MJD-AVG"] == pytest.approx(60370 + (2 + 21.5 / 60 + 0.5 / 3600) / 24, abs=1e-8)


def test_products_are_sound_fits(done: tuple[Path, Ledger]) -> None:
    program = shutil.which("fitsverify")
    if program is None:
        pytest.skip("fitsverify is not installed")
    out, ledger = done
    names = [str(out / p.name) for p in ledger.products]
    found = subprocess.run([program, "-q", *names], capture_output=True, text=True, check=False)
    assert found.stdout.count("verification OK") == len(names), found.stdout


def test_the_kept_frames_make_the_master(done: tuple[Path, Ledger]) -> None:
    out, ledger = done
    kept = [fits.getdata(out / "calibrated" / f"dark_{i}.fits") for i in range(3)]
    master = fits.getdata(out / "masters" / "dark_60s.fits")
    used = fits.getdata(out / "masters" / "dark_60s.fits", "NUSED")
    np.testing.assert_allclose(master[used == 3], np.mean(kept, axis=0)[used == 3], rtol=1e-5)
    entry = product(ledger, "calibrated/dark_1.fits")
    assert [(i.path, i.role) for i in entry.inputs] == [
        ("dark_1.fits", "frame"), ("masters/bias.fits", "bias"),
    ]  # fmt: skip


def test_uncertainties_follow_the_noise(done: tuple[Path, Ledger]) -> None:
    frame = CCDData.read(done[0] / "science" / "m67_V_1.fits")
    scatter = frame.data[~frame.mask].std()
    assert np.median(frame.uncertainty.array[~frame.mask]) == pytest.approx(scatter, rel=0.15)


# --- the ledger ----------------------------------------------------------------------------------


def test_the_ledger_adds_up(raw: Path, done: tuple[Path, Ledger]) -> None:
    out, ledger = done
    assert read_ledger(out / "night.json").counts() == ledger.counts()
    assert set(statuses(ledger)) == {path.name for path in raw.iterdir()}
    assert {entry.status for entry in ledger.frames} == {"used"}
    assert all(entry.fingerprint for entry in ledger.frames)
    assert ledger.frames[0].date_obs.startswith("2024-03-01T02:00:00.5")
    assert ledger.exit_status() == 0
    for entry in ledger.products:
        assert entry.size == (out / entry.name).stat().st_size
        assert entry.checksum == hashlib.sha256((out / entry.name).read_bytes()).hexdigest()
        assert all(one.fingerprint for one in entry.inputs)
        assert entry.kind == "calibrated" or entry.seconds > 0
    flat = product(ledger, "masters/flat_V.fits")
    assert flat.masters == ("masters/bias.fits", "masters/dark_60s.fits")
    assert {one.role for one in flat.inputs} == {"frame", "bias", "dark"}
    assert any("exposure: pass" in rule for rule in flat.rules)


def test_choices_are_in_the_ledger(raw: Path, tmp_path: Path) -> None:
    config = NightConfig.model_validate({"select": {"exclude": ["bias_3*"]}})
    ledger = reduce_night(
        raw, tmp_path / "out", config, exclude=["m67_B_*"], select="filter != 'B' or exptime > 9"
    )
    assert [(c.kind, c.expression, c.frames) for c in ledger.choices] == [
        ("config", "select.exclude = 'bias_3*'", ("bias_3.fits",)),
        ("select", "filter != 'B' or exptime > 9", tuple(f"flat_B_{i}.fits" for i in range(3))),
        ("exclude", "m67_B_*", ("m67_B_0.fits", "m67_B_1.fits")),
    ]
    reasons = {e.path: e.reason for e in ledger.frames if e.status == "skipped"}
    assert reasons["bias_3.fits"] == "left out by select.exclude = 'bias_3*'"
    assert reasons["m67_B_0.fits"] == "left out by --exclude 'm67_B_*'"
    assert len(reasons) == 6
    assert ledger.exit_status() == 3
    assert [i.path for i in product(ledger, "masters/bias.fits").inputs] == [
        f"bias_{i}.fits" for i in range(3)
    ]


def test_a_choice_that_fits_nothing_is_said(raw: Path) -> None:
    plan = plan_night(raw, exclude=["bais_*"])
    assert "--exclude 'bais_*' leaves out no frame" in plan.messages


def test_masters_that_nothing_took_are_marked(raw: Path, tmp_path: Path) -> None:
    config = NightConfig.model_validate(
        {"bias": {"subtract": False}, "dark": {"scale": False}, "flat": {"subtract_dark": False},
         "variance": {"create": False}}
    )  # fmt: skip
    ledger = reduce_night(raw, tmp_path / "out", config)
    used = {p.name: p.used for p in ledger.products}
    assert used["masters/bias.fits"] is False
    assert used["masters/dark_60s.fits"] is True
    record = json.loads((tmp_path / "out" / "night.json").read_text())
    assert [p["name"] for p in record["products"] if not p["used"]] == ["masters/bias.fits"]
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert page.count('<span class="tag fair">not used</span>') == 1


def test_a_master_of_failed_science_is_not_used(raw: Path, tmp_path: Path) -> None:
    fits.writeto(tmp_path / "bad.fits", np.zeros((4, 4), np.uint8))
    config = NightConfig.model_validate({"mask": {"bad_pixels": str(tmp_path / "bad.fits")}})
    ledger = reduce_night(raw, tmp_path / "out", config)
    assert ledger.exit_status() == 1
    assert not product(ledger, "masters/dark_60s.fits").used
    assert product(ledger, "masters/bias.fits").used  # the darks took it
    assert statuses(ledger)["m67_V_0.fits"] == "skipped"


# --- again, elsewhere, otherwise -----------------------------------------------------------------


def test_the_same_bytes_whatever_computes_them(
    raw: Path, done: tuple[Path, Ledger], tmp_path: Path
) -> None:
    config = NightConfig.model_validate(TRIM)
    expected = bits(done[0])
    layouts: list[dict[str, Any]] = [
        {"scheduler": "synchronous"},
        {"scheduler": "threads", "num_workers": 7},
        {"daskcal.memory": "2MB"},
    ]
    for i, layout in enumerate(layouts):
        with dask.config.set(layout):
            reduce_night(raw, tmp_path / f"out{i}", config, keep_calibrated=True)
        assert bits(tmp_path / f"out{i}") == expected, layout


def test_earlier_products_are_no_raw_frames(raw: Path, tmp_path: Path) -> None:
    night = Path(shutil.copytree(raw, tmp_path / "night"))
    first = reduce_night(night, night / "reduced")
    expected = bits(night / "reduced")
    for name in ("masters/bias.fits", "science/m67_V_0.fits"):  # copied flat out among the raw
        shutil.copy(night / "reduced" / name, night / f"copy_{Path(name).name}")
    again = reduce_night(night, night / "reduced")
    assert statuses(again) == statuses(first)
    assert bits(night / "reduced") == expected
    assert any("10 products of daskcal (copy_bias.fits, " in said for said in again.messages)
    other = reduce_night(night, tmp_path / "elsewhere")
    assert bits(tmp_path / "elsewhere") == expected
    assert statuses(other) == statuses(first)


def test_rice_products_are_no_raw_frames_either(raw: Path, tmp_path: Path) -> None:
    night = Path(shutil.copytree(raw, tmp_path / "night"))
    first = reduce_night(night, night / "reduced", compress="rice")
    expected = bits(night / "reduced")
    assert statuses(reduce_night(night, night / "reduced", compress="rice")) == statuses(first)
    assert bits(night / "reduced") == expected
    path = night / "reduced" / "science" / "m67_V_0.fits"
    frame = CCDData.read(path, hdu=1)  # FITS knows no compressed primary HDU
    reduce_night(night, tmp_path / "plain")
    plain = CCDData.read(tmp_path / "plain" / "science" / "m67_V_0.fits")
    assert frame.unit == plain.unit
    assert frame.header["DASKCAL"] == daskcal.__version__
    assert np.array_equal(frame.mask, plain.mask)
    assert np.abs(frame.data - plain.data)[~plain.mask].max() < plain.data[~plain.mask].std() / 8
    assert frame.wcs.wcs.crpix == pytest.approx(plain.wcs.wcs.crpix)


def test_a_zarr_store_of_each_detector(
    raw: Path, done: tuple[Path, Ledger], tmp_path: Path
) -> None:
    ledger = reduce_night(raw, tmp_path / "out", NightConfig.model_validate(TRIM), format="zarr")
    entry = product(ledger, "science/frames.zarr")
    assert entry.status == "made"
    assert entry.checksum
    assert [one.path for one in entry.inputs if one.role == "frame"] == [
        f"m67_{name}_{i}.fits" for name in "BV" for i in (0, 1)
    ]
    assert {one.role for one in entry.inputs} == {"frame", "bias", "dark", "flat"}
    assert ledger.counts().used == 17
    frames = daskcal.open_zarr(tmp_path / "out" / "science" / "frames.zarr")
    assert frames.sizes == {"frame": 4, "y": 22, "x": 26}
    for i, name in enumerate(("m67_B_0", "m67_B_1", "m67_V_0", "m67_V_1")):
        one = frames.isel(frame=i)
        with fits.open(done[0] / "science" / f"{name}.fits") as hdus:
            np.testing.assert_array_equal(one["image"].values, hdus[0].data)
            np.testing.assert_array_equal(one["mask"].values, hdus["MASK"].data)
        header = fits.Header.fromstring(str(one["cards"].values))
        assert (
            header.tostring()
            == fits.Header.fromstring(
                daskcal.open_frames(raw / f"{name}.fits")["cards"].values[0]
            ).tostring()
        )
        assert "flat_correct" in str(one["calibration"].values)
    assert frames["image"].attrs["units"] == "adu"
    assert list(frames.query(frame="filter == 'V'")["object"].values) == ["M 67", "M 67"]
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "No picture" not in page
    again = reduce_night(raw, tmp_path / "out", NightConfig.model_validate(TRIM), format="zarr")
    assert product(again, "science/frames.zarr").checksum == entry.checksum


def test_a_bad_frame_costs_a_store_that_frame(raw: Path, tmp_path: Path) -> None:
    night = Path(shutil.copytree(raw, tmp_path / "night"))
    for i in range(3):
        (night / f"flat_B_{i}.fits").unlink()
    out = tmp_path / "out"
    ledger = reduce_night(night, out, format="zarr", watch=Spoiler(night / "m67_V_1.fits", "zarr"))
    assert [i.path for i in product(ledger, "science/frames.zarr").inputs if i.role == "frame"] == [
        "m67_V_0.fits"
    ]
    found = statuses(ledger)
    assert [found[f"m67_{n}.fits"] for n in ("B_0", "V_0", "V_1")] == ["skipped", "used", "failed"]
    assert ledger.exit_status() == 3
    assert daskcal.open_zarr(out / "science" / "frames.zarr").sizes["frame"] == 1


@pytest.mark.parametrize("planes", [("image",), ("mask",), ("uncert", "image", "uncert")])
def test_chosen_planes(raw: Path, tmp_path: Path, planes: tuple[str, ...]) -> None:
    reduce_night(raw, tmp_path / "out", products=planes, select="imagetyp != 'flat'")
    with fits.open(tmp_path / "out" / "science" / "m67_V_0.fits") as hdus:
        names = {hdu.name for hdu in hdus}
    assert names == {"PRIMARY", *(p.upper() for p in planes if p != "image")}
    with fits.open(tmp_path / "out" / "masters" / "bias.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "MASK", "NUSED"]


def test_names_are_safe_and_distinct(tmp_path: Path) -> None:
    night = tmp_path / "night"
    small_night.make(night, flat=0, science=0)
    for folder in ("a", "b"):
        small_night.write(night / folder / "x.fits", "object", 60.0, 300.0, minute=len(folder))
    small_night.write(night / "X.fit", "object", 60.0, 200.0)
    for i, name in enumerate(("../../evil", "g'", "G", "g")):
        small_night.write(night / f"f{i}.fits", "flat", 60.0, 9000.0, filter=name)
    ledger = reduce_night(night, tmp_path / "out")
    names = [p.name for p in ledger.products]
    assert len({name.casefold() for name in names}) == len(names)
    made = [p.name for p in ledger.products if p.status == "made"]
    assert len(made) == 6
    assert [name for name in small_night.files(tmp_path / "out") if name in made] == sorted(made)
    assert sorted(os.listdir(tmp_path)) == ["night", "out"]
    assert not [name for name in names if ".." in name]


# --- frames that change or fail on the way -------------------------------------------------------


class Spoiler(Watch):
    """Changes a file when a product is begun, after it was scanned."""

    def __init__(self, path: Path, when: str) -> None:
        self.path, self.when = path, when

    def begin(self, name: str) -> None:
        if self.when in name and self.path.exists():
            data = self.path.read_bytes()
            self.path.write_bytes(data + bytes(2880))


@pytest.mark.parametrize(
    ("name", "when"),
    [("bias_2.fits", "bias"), ("m67_V_0.fits", "m67_V_0"), ("flat_V_1.fits", "flat_V")],
)
def test_a_frame_that_changes_after_the_scan(
    raw: Path, tmp_path: Path, name: str, when: str
) -> None:
    night = Path(shutil.copytree(raw, tmp_path / "night"))
    out = tmp_path / "out"
    ledger = reduce_night(night, out, watch=Spoiler(night / name, when))
    entry = next(e for e in ledger.frames if e.path == name)
    assert entry.status == "failed"
    assert "changed" in entry.reason
    assert all(
        name not in [i.path for i in p.inputs] for p in ledger.products if p.status == "made"
    )
    assert {p.status for p in ledger.products} <= {"made", "missing"}
    assert ledger.exit_status() == 3
    assert not small_night.temporaries(out)


def test_a_failing_master_takes_down_what_needs_it(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daskcal.night.run.run as night_run

    combine = night_run.combine

    def failing(frames: Any, **options: Any) -> Any:
        if set(frames["filter"].values) == {"B"}:
            raise daskcal.CalibrationError("no reason at all")
        return combine(frames, **options)

    monkeypatch.setattr(night_run, "combine", failing)
    ledger = reduce_night(raw, tmp_path / "out")
    assert ledger.exit_status() == 1
    failed = {p.name: p.reason for p in ledger.products if p.status == "failed"}
    assert failed == {
        "masters/flat_B.fits": "no reason at all",
        "science/m67_B_0.fits": "masters/flat_B.fits, which it needs, was not made",
        "science/m67_B_1.fits": "masters/flat_B.fits, which it needs, was not made",
    }
    found = statuses(ledger)
    assert found["flat_B_0.fits"] == found["m67_B_0.fits"] == "skipped"
    assert found["m67_V_0.fits"] == "used"
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "no reason at all" in page


# --- nights that lack something ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("some", "status", "made"),
    [
        ({"bias": 0, "dark": 0, "flat": 0}, 0, 4),
        ({"dark": 0, "flat": 0, "science": 0}, 0, 1),
        ({"flat": 0}, 0, 6),
        ({"bias": 0}, 0, 7),
    ],
    ids=["only science", "only biases", "no flats", "no biases"],
)
def test_nights_that_lack_something(
    tmp_path: Path, some: dict[str, int], status: int, made: int
) -> None:
    night = small_night.make(tmp_path / "raw", **some)
    ledger = reduce_night(night, tmp_path / "out")
    assert ledger.exit_status() == status
    assert [p.status for p in ledger.products] == ["made"] * made
    has_science = some.get("science") != 0
    for kind in ("bias", "dark", "flat"):
        said = any(f"there are no {kind} frames" in message for message in ledger.messages)
        assert said == (some.get(kind) == 0 and has_science)


def test_without_a_bias_no_dark_is_scaled(tmp_path: Path) -> None:
    plan = plan_night(small_night.make(tmp_path / "raw", bias=0))
    flat = next(job for job in plan.jobs if job.name == "masters/flat_V.fits")
    assert flat.masters == {}
    assert any(
        "flat_V.fits is made without a dark" in m and "would need bias" in m for m in plan.messages
    )


def test_a_file_twice_counts_once(raw: Path, tmp_path: Path) -> None:
    night = Path(shutil.copytree(raw, tmp_path / "night"))
    (night / "copies").mkdir()
    shutil.copy(night / "bias_0.fits", night / "copies" / "again.fits")
    ledger = reduce_night(night, tmp_path / "out")
    assert fits.getheader(tmp_path / "out" / "masters" / "bias.fits")["NCOMBINE"] == 4
    entry = next(e for e in ledger.frames if e.path == "copies/again.fits")
    assert (entry.status, entry.reason) == ("skipped", "the same bytes as bias_0.fits")


def test_frames_of_unknown_noise_are_said_once(tmp_path: Path) -> None:
    night = small_night.make(tmp_path / "raw", rdnoise=None, flat=0)
    ledger = reduce_night(night, tmp_path / "out")
    assert len([m for m in ledger.messages if "read noise of some frames is not known" in m]) == 1
    with fits.open(tmp_path / "out" / "science" / "m67_V_0.fits") as hdus:
        assert "UNCERT" not in hdus


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"keep_calibrate": True}, UnknownKeywordError, "did you mean 'keep_calibrated'"),
        ({"format": "zar"}, ArgumentError, "did you mean 'zarr'"),
        ({"compress": "ric"}, ArgumentError, "did you mean 'rice'"),
        ({"products": ["imag"]}, ArgumentError, "did you mean 'image'"),
        ({"products": "image"}, ArgumentError, "should be a sequence"),
        ({"memory": "plenty"}, ArgumentError, "such as '4GB'"),
        ({"select": "filtr == 'V'"}, ConfigError, "did you mean 'filter'"),
    ],
)
def test_arguments_are_checked_before_anything_is_made(
    raw: Path, tmp_path: Path, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        reduce_night(raw, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_run_reads_no_more_than_it_must(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daskcal.fits.assembled as assembled
    from daskcal.night.gates import sample as gates_sample

    read: Callable[..., Any] = assembled.read_pixels
    pixels: dict[str, int] = {}

    def counting(source: Any, rows: tuple[int, int], columns: tuple[int, int], out: Any) -> Any:
        name = Path(source.path).name
        pixels[name] = pixels.get(name, 0) + (rows[1] - rows[0]) * (columns[1] - columns[0])
        return read(source, rows, columns, out)

    monkeypatch.setattr(assembled, "read_pixels", counting)
    rows, columns = small_night.SHAPE
    monkeypatch.setattr(gates_sample, "OF_A_FRAME", gates_sample.BANDS * columns)
    reduce_night(raw, tmp_path / "out")
    sample = gates_sample.BANDS  # rows: gates look at a few, raw, and of masters' frames calibrated
    expected = {
        "dark": rows + 2 * sample,
        "m67_": rows + sample,
        "flat": 2 * rows + 2 * sample,  # once for their scale, once to be combined
    }
    assert {name: n / columns for name, n in pixels.items() if name[:4] in expected} == {
        name: expected[name[:4]] for name in os.listdir(raw) if name[:4] in expected
    }
