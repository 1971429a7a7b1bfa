"""What products say of their making: enough to show it as a tree, and to make them again."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import small_night
from astropy.io import fits
from astropy.nddata import CCDData
from click.testing import CliRunner

import daskcal
from daskcal.cli import main
from daskcal.errors import CalibrationError, FrameError, OutputError
from daskcal.night.config.read import NightConfig
from daskcal.night.near import read_origins
from daskcal.night.plan.plan import plan_night
from daskcal.provenance import Origin, UsedFrame, software

CONFIG = {"trim": {"section": "[2:, 4:30]"}, "mask": {"from_darks": True}}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night, ``raw``, and its products, ``out``; no test changes them."""
    base = tmp_path_factory.mktemp("provenance")
    small_night.make(base / "raw", dark=5, science=1)
    config = NightConfig.model_validate(CONFIG)
    daskcal.reduce_night(base / "raw", base / "out", config, keep_calibrated=True)
    return base


@pytest.fixture
def copy(night: Path, tmp_path: Path) -> Path:
    """A copy of both that a test may change; the ledger still names the first raw folder."""
    shutil.copytree(night / "raw", tmp_path / "raw")
    shutil.copytree(night / "out", tmp_path / "out")
    return tmp_path


# --- the header ----------------------------------------------------------------------------------


def test_a_header_names_frames_masters_parameters_and_versions(night: Path) -> None:
    plan = plan_night(night / "raw", NightConfig.model_validate(CONFIG))
    marks = {plan.relative(i): frame.fingerprint for i, frame in enumerate(plan.frames)}
    (origin,) = read_origins(night / "out" / "masters" / "flat_V.fits")
    assert origin.frames == tuple(
        UsedFrame(name, 0, marks[name]) for name in (f"flat_V_{i}.fits" for i in range(3))
    )
    assert {used.kind: used.name for used in origin.masters} == {
        "bias": "masters/bias.fits",
        "dark": "masters/dark_60s.fits",
    }
    for used in origin.masters:
        said = subprocess.run(
            ["sha256sum", night / "out" / used.name], capture_output=True, text=True, check=True
        )
        assert said.stdout.split()[0] == used.checksum
    assert origin.config == CONFIG
    assert origin.scale_dark
    assert origin.software == software(CONFIG)
    assert {"daskcal", "numpy", "numba", "machine"} <= set(origin.software)
    assert origin.facts["filter"] == "V"


def test_thousands_of_frames_fit_a_header(tmp_path: Path, night: Path) -> None:
    (origin,) = read_origins(night / "out" / "masters" / "bias.fits")
    many = tuple(UsedFrame(f"night/bias_{i:05}.fits.gz", 0, f"{i:040x}") for i in range(3000))
    master = daskcal.open_master(night / "out" / "masters" / "bias.fits")
    known = Origin(
        name=origin.name, kind="bias", treated_as="bias", key="k" * 64, frames=many,
        config=origin.config, facts=origin.facts, software=origin.software,
    )  # fmt: skip
    daskcal.to_fits(master, tmp_path / "many.fits", origin=known)
    assert read_origins(tmp_path / "many.fits") == [known]
    assert fits.getheader(tmp_path / "many.fits")["DASKKEY"] == "k" * 64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*datfix")
        assert CCDData.read(tmp_path / "many.fits").shape == (22, 26)
    assert daskcal.open_master(tmp_path / "many.fits").attrs["inputs"][-1] == many[-1].path
    if shutil.which("fitsverify"):
        said = subprocess.run(
            ["fitsverify", "-q", tmp_path / "many.fits"], capture_output=True, text=True
        )
        assert said.returncode == 0, said.stdout


def test_steps_with_words_of_the_same_name_do_no_harm(night: Path, tmp_path: Path) -> None:
    (origin,) = read_origins(night / "out" / "masters" / "bias.fits")
    step = '{"step": "flag_bad", "frames": 3, "masters": [{"file": "x", "checksum": "y"}]}'
    assert Origin.of_lines([step, "[1]", *origin.lines()], origin.key) == origin
    assert Origin.of_lines([step]) is None
    master = daskcal.open_master(night / "out" / "masters" / "bias.fits")
    master.attrs["steps"] = [step, *master.attrs["steps"]]
    daskcal.to_fits(master, tmp_path / "one.fits", origin=origin)
    assert read_origins(tmp_path / "one.fits") == [origin]
    inputs = [used.path for used in origin.frames]
    assert daskcal.open_master(tmp_path / "one.fits").attrs["inputs"] == inputs


def test_what_is_written_again_by_hand_does_not_claim_to_be_the_same(
    night: Path, tmp_path: Path
) -> None:
    master = daskcal.open_master(night / "out" / "masters" / "bias.fits")
    daskcal.to_fits(master, tmp_path / "mine.fits")
    assert "DASKKEY" not in fits.getheader(tmp_path / "mine.fits")
    with pytest.raises(FrameError, match="does not say what it was made of"):
        daskcal.why(tmp_path / "mine.fits")


def test_a_store_says_it_of_each_frame(night: Path, tmp_path: Path) -> None:
    daskcal.reduce_night(night / "raw", tmp_path / "out", format="zarr")
    (store,) = (tmp_path / "out" / "science").glob("*.zarr")
    origins = read_origins(store)
    assert [one.frames[0].path for one in origins] == ["m67_B_0.fits", "m67_V_0.fits"]
    assert origins[1].masters[-1].name == "masters/flat_V.fits"
    assert "masters/flat_B.fits" in str(daskcal.why(store))
    assert daskcal.rerun(store).equal


def test_a_store_has_the_planes_that_were_asked_for(night: Path, tmp_path: Path) -> None:
    daskcal.reduce_night(night / "raw", tmp_path / "out", format="zarr", products=["image", "mask"])
    (store,) = (tmp_path / "out" / "science").glob("*.zarr")
    assert set(daskcal.open_zarr(store).data_vars) == {"image", "mask"}
    assert "variance" in daskcal.open_master(tmp_path / "out" / "masters" / "bias.fits")
    assert daskcal.rerun(store).equal
    again = daskcal.reduce_night(night / "raw", tmp_path / "out", format="zarr")
    assert "variance" in daskcal.open_zarr(store)
    assert not next(p for p in again.products if p.kind == "science").reused


def test_a_store_is_made_again_where_everything_has_moved(night: Path, tmp_path: Path) -> None:
    daskcal.reduce_night(night / "raw", tmp_path / "out", format="zarr")
    shutil.copytree(night / "raw", tmp_path / "elsewhere")
    (tmp_path / "out").rename(tmp_path / "moved")
    (store,) = (tmp_path / "moved" / "science").glob("*.zarr")
    found = daskcal.rerun(store, tmp_path / "again.zarr", raw=tmp_path / "elsewhere")
    assert found.equal
    assert daskcal.open_zarr(tmp_path / "again.zarr").identical(daskcal.open_zarr(store))
    assert daskcal.open_zarr(store)["path"].values.tolist() == ["m67_B_0.fits", "m67_V_0.fits"]


# --- why -----------------------------------------------------------------------------------------


def test_why_shows_the_tree(night: Path) -> None:
    done = CliRunner().invoke(main, ["why", str(night / "out" / "science" / "m67_V_0.fits")])
    assert done.exit_code == 0
    for text in (
        "science/m67_V_0.fits: science",
        "    frame m67_V_0.fits ",
        "    dark masters/dark_60s.fits sha256 ",
        "        rule exposure: pass: 60 s, wanted 60 s ± 0.5 s (margin 0.5)",
        "            bias masters/bias.fits",
        "            frame flat_V_2.fits ",
        "step subtract_dark by masters/dark_60s.fits scale=false",
    ):
        assert text in done.output
    assert "not found" not in done.output


def test_why_of_a_single_file_elsewhere_says_what_it_could_not_find(
    night: Path, tmp_path: Path
) -> None:
    alone = shutil.copy(night / "out" / "science" / "m67_V_0.fits", tmp_path / "renamed.fits")
    said = str(daskcal.why(alone))
    assert said.count("not found") == 3
    assert "no folder of raw frames" in said
    beside = shutil.copy(night / "out" / "masters" / "dark_60s.fits", tmp_path)
    said = str(daskcal.why(alone, raw=night / "raw"))
    assert "exposure: pass: 60 s, wanted 60 s" in said  # tried on the headers
    assert "frame dark_4.fits" in said
    Path(beside).write_bytes(b"")
    assert "dark_60s.fits is another one" in str(daskcal.why(alone))


# --- rerun ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["masters/bias", "masters/dark_60s", "masters/flat_B", "science/m67_B_0", "calibrated/dark_1"],
)
def test_products_are_made_again_bit_for_bit(night: Path, name: str) -> None:
    done = CliRunner().invoke(main, ["rerun", str(night / "out" / f"{name}.fits")])
    assert done.exit_code == 0, done.output
    assert "the same bits" in done.output


def test_on_another_machine_frames_are_known_by_content(copy: Path) -> None:
    moved = (copy / "raw").rename(copy / "elsewhere")
    (moved / "sub").mkdir()
    (moved / "dark_0.fits").rename(moved / "sub" / "another_name.fits")
    swapped = moved / "bias_0.fits"
    swapped.rename(moved / "x")
    (moved / "bias_1.fits").rename(swapped)
    (moved / "x").rename(moved / "bias_1.fits")
    for name in ("bias.fits", "dark_60s.fits", "flat_V.fits"):
        (copy / "out" / "masters" / name).unlink()
    product = copy / "out" / "science" / "m67_V_0.fits"
    found = daskcal.rerun(product, copy / "again.fits", raw=moved)
    assert found.equal
    assert found.remade == tuple(f"masters/{n}.fits" for n in ("bias", "dark_60s", "flat_V"))
    assert (copy / "again.fits").read_bytes() == product.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        daskcal.rerun(product, copy / "again.fits", raw=moved)
    assert not small_night.temporaries(copy)


def test_changed_and_missing_frames_are_refused_by_name(copy: Path) -> None:
    fits.setval(copy / "raw" / "bias_1.fits", "OBJECT", value="another")
    (copy / "raw" / "bias_3.fits").unlink()
    with pytest.raises(CalibrationError, match=r"bias_1.fits: changed: .*; bias_3.fits: missing: "):
        daskcal.rerun(copy / "out" / "masters" / "bias.fits", raw=copy / "raw")


def test_a_missing_master_without_a_ledger_is_named(copy: Path) -> None:
    (copy / "out" / "night.json").unlink()
    with pytest.raises(CalibrationError, match="no folder of raw frames is known"):
        daskcal.rerun(copy / "out" / "masters" / "dark_60s.fits")
    (copy / "out" / "masters" / "bias.fits").write_bytes(b"other")
    with pytest.raises(CalibrationError, match=r"masters/bias.fits .*bias.fits is another one"):
        daskcal.rerun(copy / "out" / "masters" / "dark_60s.fits", raw=copy / "raw")


def test_other_versions_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskcal.provenance._version", lambda name: "0.0")
    with pytest.raises(CalibrationError, match=r"numpy .* \(here 0.0\)"):
        daskcal.rerun(copy / "out" / "masters" / "bias.fits")


def test_other_bits_are_told(copy: Path) -> None:
    product = copy / "out" / "masters" / "bias.fits"
    with fits.open(product, mode="update") as file:
        file["NUSED"].data[3, 3] += 1
    done = CliRunner().invoke(main, ["rerun", str(product), "--raw", str(copy / "raw")])
    assert done.exit_code == 1
    assert "NOT the same bits" in done.output


def test_files_of_the_config_are_known_by_content(night: Path, tmp_path: Path) -> None:
    mask = tmp_path / "bad.txt"
    mask.write_text("3 5 7 9\n")
    config = NightConfig.model_validate({"mask": {"bad_pixels": str(mask)}})
    daskcal.reduce_night(night / "raw", tmp_path / "out", config)
    product = tmp_path / "out" / "science" / "m67_V_0.fits"
    assert str(tmp_path) not in fits.getheader(product).tostring()
    assert daskcal.rerun(product).equal
    mask.write_text("3 5 7 8\n")
    with pytest.raises(ValueError, match=r"bad.txt \(mask.bad_pixels\)"):
        daskcal.rerun(product)


def test_a_master_of_several_detectors_with_one_norm(tmp_path: Path) -> None:
    night = daskcal.simulate_night(
        tmp_path / "raw", "mosaic", size=(32, 48), n_bias=3, n_dark=3, n_flat=3, n_science=1
    )
    config = tmp_path / "one_norm.toml"
    config.write_text(night.config.read_text() + '\n[flat]\nnormalise_over = "mosaic"\n')
    daskcal.reduce_night(night.folder, tmp_path / "out", config)
    science = sorted((tmp_path / "out" / "science").glob("*_CCD2.fits"))[0]
    assert read_origins(science)[0].norm is not None
    assert daskcal.rerun(science).equal
    assert daskcal.rerun(sorted((tmp_path / "out" / "masters").glob("flat*CCD3*"))[0]).equal


@pytest.mark.parametrize("camera", ["lfc", "aspen-cg16m"])
def test_masters_of_the_shipped_cameras(tmp_path: Path, camera: str) -> None:
    counts = {"n_bias": 3, "n_dark": 3, "n_flat": 3, "n_science": 1}
    night = daskcal.simulate_night(tmp_path / "raw", camera, size=(48, 64), **counts)
    ledger = daskcal.reduce_night(night.folder, tmp_path / "out", night.config)
    for kind in ("dark", "flat", "science"):
        name = next(entry.name for entry in ledger.products if entry.kind == kind)
        assert daskcal.rerun(tmp_path / "out" / name).equal


def test_real_frames_are_made_again(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    raw = realdata("lick_kast_2amp")
    ledger = daskcal.reduce_night(raw, tmp_path / "out", "lick-kast-blue")
    made = {entry.kind: entry.name for entry in ledger.products if entry.status == "made"}
    assert made
    for name in made.values():
        assert daskcal.rerun(tmp_path / "out" / name).equal, name
