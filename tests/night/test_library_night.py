"""Nights that take masters from a library: which, why, and with the same pixels as their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner

import daskcal
from daskcal.cli import main
from daskcal.masters.library import Library
from daskcal.night.config.read import NightConfig

CONFIG = {"mask": {"from_darks": True, "from_flats": True}, "dark": {"hot_threshold": 0.1}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``raw`` and ``out``: a night; ``library``: what it gave; ``later``: a night of two frames."""
    base = tmp_path_factory.mktemp("library")
    small_night.make(base / "raw", dark=6)
    config = NightConfig.model_validate(CONFIG)
    daskcal.reduce_night(base / "raw", base / "out", config, library=base / "library")
    (base / "later").mkdir()
    for name in ("m67_V_0.fits", "m67_B_0.fits"):
        shutil.copy(base / "raw" / name, base / "later" / name)
    return base


@pytest.fixture
def library(base: Path, tmp_path: Path) -> Path:
    """The library, to be changed."""
    return Path(shutil.copytree(base / "library", tmp_path / "library"))


def reduced(base: Path, library: Path, out: Path, **options: Any) -> Any:
    options.setdefault("config", NightConfig.model_validate(CONFIG))
    return daskcal.reduce_night(base / "later", out, library=library, **options)


def planes(path: Path) -> dict[str, np.ndarray]:
    with fits.open(path) as file:
        return {hdu.name: np.array(hdu.data) for hdu in file}


def assert_same_pixels(one: Path, other: Path) -> None:
    mine, theirs = planes(one), planes(other)
    assert list(mine) == list(theirs)
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def test_a_night_without_any_calibration_frame(base: Path, library: Path, tmp_path: Path) -> None:
    ledger = reduced(base, library, tmp_path / "out")
    assert ledger.exit_status() == 0
    assert [product.status for product in ledger.products] == ["made", "made"]
    entry = ledger.products[1]
    assert [name.split("-")[0] for name in entry.masters] == ["library/2024"] * 3
    roles = {one.role: one.fingerprint for one in entry.inputs}
    assert roles["dark"].startswith(entry.masters[1][-17:-5])
    assert "from the library, night 2024-02-29, 0 days before" in "".join(entry.rules)
    for name in ("m67_V_0.fits", "m67_B_0.fits"):  # hot and unstable pixels, and the flat's norm
        assert_same_pixels(tmp_path / "out" / "science" / name, base / "out" / "science" / name)
    assert daskcal.rerun(tmp_path / "out" / "science" / "m67_V_0.fits").equal
    assert not any("library" in message for message in ledger.messages)


def test_hot_and_unstable_pixels_matter_here(base: Path) -> None:
    """Or the comparison above would show nothing."""
    said = fits.getheader(base / "out" / "science" / "m67_V_0.fits").tostring()
    assert "unstable_pixels" in said
    assert "flag_hot" in said
    assert planes(base / "out" / "science" / "m67_V_0.fits")["MASK"].any()


def test_unstable_pixels_lie_beside_the_image(base: Path) -> None:
    dark = base / "out" / "masters" / "dark_60s.fits"
    assert "UNSTABLE" in planes(dark)
    assert daskcal.open_frames(dark)["image"].shape == (1, *small_night.SHAPE)


def test_what_the_night_has_comes_first(base: Path, library: Path, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(base / "raw", tmp_path / "raw"))
    for path in raw.glob("flat_*"):
        path.unlink()
    plan = daskcal.plan_night(raw, NightConfig.model_validate(CONFIG), library=library)
    science = [job for job in plan.jobs if job.kind == "science"]
    assert len(science) == 4
    for job in science:
        own, dark, flat = job.master_names
        assert (own, dark) == ("masters/bias.fits", "masters/dark_60s.fits")
        assert flat.startswith("library/2024-02-29/flat_")
    text = CliRunner().invoke(main, ["plan", str(raw), "--library", str(library)]).output
    assert "there are no flat frames" not in text


def test_a_night_of_flats_alone_is_calibrated_from_the_library(
    base: Path, library: Path, tmp_path: Path
) -> None:
    for path in (base / "raw").glob("flat_V*"):
        shutil.copy(path, tmp_path)
    plan = daskcal.plan_night(tmp_path, NightConfig.model_validate(CONFIG), library=library)
    (job,) = plan.jobs
    assert job.scale_dark
    assert [name[:19] for name in job.master_names] == ["library/2024-02-29/"] * 2


def test_what_no_master_serves_names_the_nearest_miss(
    base: Path, library: Path, tmp_path: Path
) -> None:
    small_night.write(tmp_path / "raw" / "x.fits", "object", 60.0, 300.0, filter="Z")
    plan = daskcal.plan_night(tmp_path / "raw", NightConfig.model_validate(CONFIG), library=library)
    (missing,) = plan.missing
    assert "no flat for filter 'Z': there are flats for 'B', 'V'" in missing.reason
    assert "library/2024-02-29/flat_" in missing.reason


def test_another_cameras_masters_ask_for_nothing(library: Path, tmp_path: Path) -> None:
    small_night.write(tmp_path / "x.fits", "object", 60.0, 300.0, detector="another")
    plan = daskcal.plan_night(tmp_path, library=library)
    assert [job.master_names for job in plan.jobs] == [()]
    assert "there are no bias frames: no master bias is subtracted" in plan.messages


def test_the_nearest_night_that_is_sound(base: Path, library: Path, tmp_path: Path) -> None:
    """Of two nights the nearer is taken; a damaged, rejected, or otherwise treated one is not."""
    older = small_night.make(tmp_path / "older")
    for path in older.iterdir():
        date = fits.getval(path, "DATE-OBS").replace("2024-03-01", "2024-02-20")
        fits.setval(path, "DATE-OBS", value=date)
    config = NightConfig.model_validate(CONFIG)
    daskcal.reduce_night(older, tmp_path / "older_out", config, library=library)
    (bias,) = (m for m in Library(library).masters() if m.kind == "bias" and m.night > "2024-02-25")

    def taken(name: str, **options: Any) -> tuple[str, Any]:
        ledger = reduced(base, library, tmp_path / name, **options)
        return ledger.products[0].masters[0].split("/")[1], ledger

    assert taken("first")[0] == "2024-02-29"
    Library(library).reject(bias.name, "light leak")
    assert taken("rejected")[0] == "2024-02-19"
    Library(library).accept(bias.name)
    os.rename(bias.path, bias.path + ".was")
    shutil.copy(bias.path + ".was", bias.path)
    with open(bias.path, "r+b") as file:
        file.seek(-3000, os.SEEK_END)
        file.write(b"damage")
    night, ledger = taken("damaged")
    assert night == "2024-02-19"
    assert any("was changed or is damaged" in message for message in ledger.messages)
    said = daskcal.library_why(library, base / "later" / "m67_V_0.fits", config)
    assert "night 2024-02-29, 0 days before" in said  # why reads no pixel, and no damage
    trimmed = NightConfig.model_validate(CONFIG | {"trim": {"section": "[2:, 4:30]"}})
    said = daskcal.library_why(library, base / "later" / "m67_V_0.fits", trimmed)
    assert "it was made with other values of [trim]" in said
    assert "there are no bias frames" in said


def test_masters_of_frames_marked_bad_are_not_taken(
    base: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daskcal.night import library as module
    from daskcal.night.plan.plan import plan_night

    (bias,) = (m for m in Library(library).masters() if m.kind == "bias")
    seen = module.lender(library, NightConfig.model_validate(CONFIG), bad=bias.frames[:1])
    assert seen.unfit[bias.name] == ("bias", "1 of its frames are marked bad")
    assert bias.name not in seen.masters
    assert plan_night(base / "later", NightConfig.model_validate(CONFIG), library=library).library


def test_a_master_that_a_gate_rejects_is_not_added(base: Path, tmp_path: Path) -> None:
    config = CONFIG | {"gates": {"hot_pixels": {"action": "reject", "high": 0.01}}}
    ledger = daskcal.reduce_night(
        base / "raw", tmp_path / "out", NightConfig.model_validate(config), library=tmp_path / "new"
    )
    assert any(gate.verdict == "reject" for gate in ledger.gates)
    assert [master.kind for master in Library(tmp_path / "new").masters()] == ["bias"]


def test_a_library_that_cannot_be_written_costs_no_product(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", _unless(tmp_path / "library", Path.mkdir, refuse))
    ledger = daskcal.reduce_night(base / "raw", tmp_path / "out", library=tmp_path / "library")
    assert {product.status for product in ledger.products} == {"made"}
    assert any("could not be added to the library" in message for message in ledger.messages)


def _unless(below: Path, usual: Any, otherwise: Any) -> Any:
    def call(path: Path, *args: Any, **options: Any) -> Any:
        inside = path.is_relative_to(below)
        return (otherwise if inside else usual)(path, *args, **options)

    return call


def test_one_norm_for_a_mosaic_from_the_library(tmp_path: Path) -> None:
    night = daskcal.simulate_night(
        tmp_path / "night", "mosaic", size=(32, 48), n_bias=3, n_dark=3, n_flat=3, n_science=1
    )
    config = tmp_path / "one_norm.toml"
    config.write_text(night.config.read_text() + '\n[flat]\nnormalise_over = "mosaic"\n')
    ledger = daskcal.reduce_night(
        night.folder, tmp_path / "out", config, library=tmp_path / "library"
    )
    science = [e.path for e in ledger.frames if e.imagetyp == "science"]
    (tmp_path / "later").mkdir()
    for path in set(science):
        shutil.copy(night.folder / path, tmp_path / "later")
    again = daskcal.reduce_night(
        tmp_path / "later", tmp_path / "lent", config, library=tmp_path / "library"
    )
    made = [product.name for product in again.products]
    assert len(made) == len(science)
    for name in made:
        assert_same_pixels(tmp_path / "lent" / name, tmp_path / "out" / name)
    assert daskcal.rerun(tmp_path / "lent" / made[0]).equal
