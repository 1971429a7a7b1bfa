"""What the user chose: masters for some frames, and what is bad; what may not be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner
from test_plan import jobs_of, table

from daskcal.cli import main
from daskcal.errors import ConfigError
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.jobs import Job, Jobs
from daskcal.night.plan.plan import plan_night
from daskcal.night.remake import rerun
from daskcal.night.run.run import reduce_night


def config(**tables: Any) -> NightConfig:
    return NightConfig.model_validate(tables)


def job(planned: Jobs, name: str) -> Job:
    return next(job for job in planned.made if job.name == name)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return small_night.make(tmp_path / "raw")


class TestPins:
    FRAMES = (
        {},
        {"imagetyp": "dark", "exptime": 10.0},
        {"imagetyp": "dark", "exptime": 100.0},
        {"imagetyp": "flat", "filter": "V"},
        {"imagetyp": "flat", "filter": "R"},
        {"imagetyp": "science", "filter": "R", "exptime": 100.0, "object": "M67"},
        {"imagetyp": "science", "filter": "R", "exptime": 100.0, "object": "M13"},
    )  # fmt: skip

    def planned(self, *pins: dict[str, str], **more: Any) -> Jobs:
        return jobs_of(table(*self.FRAMES), pin=list(pins), **more)

    def test_the_first_that_fits_decides(self) -> None:
        planned = self.planned(
            {"when": "object == 'M67'", "flat": "flat_V"},
            {"when": "imagetyp == 'science'", "flat": "masters/flat_R.fits", "dark": "dark_10s"},
        )
        first, second = job(planned, "science/0005.fits"), job(planned, "science/0006.fits")
        assert first.masters["flat"] == ("masters/flat_V.fits",)
        assert second.masters["flat"] == ("masters/flat_R.fits",)
        assert first.masters["dark"] == second.masters["dark"] == ("masters/dark_10s.fits",)
        assert first.scale_dark
        assert first.waives_exposure  # 100 s by a dark of 10 s
        assert not job(planned, "masters/flat_R.fits").waives_exposure
        told = next(r for r in first.reasons if "flat_V" in r)
        assert told == (
            "masters/flat_V.fits: pinned by [[pin]] when = \"object == 'M67'\", flat = 'flat_V' "
            "(filter 'R'); by the rules it would not serve: filter is 'V', wanted 'R'"
        )
        assert "flat_V.fits: filter: FAIL: 'V', wanted 'R'" in "\n".join(first.rules)

    def test_one_for_every_frame(self) -> None:
        planned = self.planned({"bias": "bias.fits"})
        assert all(m.pinned for j in planned.made for m in j.matches if m.kind == "bias")

    @pytest.mark.parametrize(
        ("pin", "says"),
        [
            ({"flat": "flat_W"}, "there is no such master flat; did you mean 'masters/flat_"),
            ({"bias": "dark_10s"}, "there is no such master bias"),
            ({"flat": "flat_R", "when": "object == 'M1'", "dark": "x"}, "no such master dark"),
            ({"flat": "flat_R", "when": "OBJCT == 'M1'"}, "unknown header keyword 'OBJCT'"),
        ],
    )
    def test_what_names_nothing(self, pin: dict[str, str], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            self.planned(pin)

    def test_frames_of_a_flat_that_need_different_darks(self) -> None:
        frames = [*self.FRAMES, {"imagetyp": "flat", "filter": "V", "exptime": 10.0}]
        frames[3] = frames[3] | {"exptime": 10.0, "object": "dome"}
        pins = [{"when": "object == 'dome'", "dark": "dark_100s"}]
        planned = jobs_of(table(*frames), pin=pins)
        assert any("a pin decided that" in message for message in planned.messages)

    def test_a_run_follows_them(self, raw: Path, tmp_path: Path) -> None:
        small_night.write(raw / "short.fits", "dark", 5.0)
        pins = [{"when": "FILTER == 'B' and imagetyp == 'science'", "flat": "flat_V"},
                {"when": "imagetyp == 'science'", "dark": "dark_5s"}]  # fmt: skip
        ledger = reduce_night(raw, tmp_path / "out", config(pin=pins))
        made = next(p for p in ledger.products if p.name == "science/m67_B_0.fits")
        assert made.status == "made"  # 12 times a dark of 5 s: no limit holds for a pin
        assert set(made.masters) == {
            "masters/bias.fits", "masters/dark_5s.fits", "masters/flat_V.fits"
        }  # fmt: skip
        assert any("pinned by" in rule for rule in made.rules)
        (flat, dark) = ledger.choices
        assert (flat.kind, dark.kind) == ("pin", "pin")
        assert flat.frames == ("m67_B_0.fits", "m67_B_1.fits")
        assert len(dark.frames) == 4

    def test_one_that_fits_no_frame_is_said(self, raw: Path) -> None:
        plan = plan_night(raw, config(pin=[{"when": "filter == 'Q'", "flat": "flat_V"}]))
        assert "[[pin]] when = \"filter == 'Q'\", flat = 'flat_V' fits no frame" in plan.messages


class TestBads:
    def test_frames(self, raw: Path, tmp_path: Path) -> None:
        marked = config(bad=[{"file": "bias_[12].fits", "reason": "light leak"}])
        ledger = reduce_night(raw, tmp_path / "out", marked)
        lost = {entry.path: entry.reason for entry in ledger.frames if entry.status == "skipped"}
        assert lost == dict.fromkeys(("bias_1.fits", "bias_2.fits"), "marked bad: light leak")
        (choice,) = ledger.choices
        assert (choice.kind, choice.frames) == ("bad", ("bias_1.fits", "bias_2.fits"))
        bias = next(p for p in ledger.products if p.name == "masters/bias.fits")
        assert [i.path for i in bias.inputs] == ["bias_0.fits", "bias_3.fits"]

    def test_a_master_and_the_next_candidate_goes_on(self, raw: Path) -> None:
        small_night.write(raw / "sky.fits", "skyflat", 2.0, 20000.0, filter="V")
        plan = plan_night(raw)
        assert any("masters/flat_V_sky.fits" in j.master_names for j in plan.jobs)
        bad = {"file": "masters/flat_V_sky*", "reason": "clouds"}
        plan = plan_night(raw, config(bad=[bad]))
        (missing,) = plan.missing
        assert (missing.name, missing.reason) == ("masters/flat_V_sky.fits", "marked bad: clouds")
        science = [j for j in plan.jobs if j.name.startswith("science/m67_V")]
        assert {name for j in science for name in j.masters["flat"]} == {
            "masters/flat_V_unknown.fits"
        }
        assert plan.choices[0].frames == ("masters/flat_V_sky.fits",)

    def test_a_glob_of_frames_leaves_masters_alone(self, raw: Path) -> None:
        plan = plan_night(raw, config(bad=[{"file": "bias*", "reason": "all"}]))
        assert {plan.relative(i) for i in plan.skipped} == {f"bias_{i}.fits" for i in range(4)}
        plan = plan_night(raw, config(bad=[{"file": "*/bias.fits", "reason": "no"}]))
        assert "[[bad]] file = '*/bias.fits': no is no frame, and no master" in plan.messages
        assert any(job.name == "masters/bias.fits" for job in plan.jobs)


class TestMixing:
    def test_a_warm_dark_costs_itself(self, raw: Path, tmp_path: Path) -> None:
        for path in raw.glob("*.fits"):
            fits.setval(path, "CCD-TEMP", value=-20.0)
        fits.setval(raw / "dark_1.fits", "CCD-TEMP", value=-12.0)
        ledger = reduce_night(raw, tmp_path / "out", config(match={"temperature": 2.0}))
        lost = {entry.path: entry.reason for entry in ledger.frames if entry.status != "used"}
        assert list(lost) == ["dark_1.fits"]
        assert (
            "its CCD temperature is -12 °C, and that of 2 other dark frames -20 °C"
            in lost["dark_1.fits"]
        )
        science = next(p for p in ledger.products if p.name == "science/m67_B_0.fits")
        assert "masters/dark_60s.fits" in science.masters
        assert ledger.exit_status() == 3

    def test_a_frame_of_another_shape_costs_itself(self, raw: Path, tmp_path: Path) -> None:
        small_night.write(raw / "bias_odd.fits", "bias", shape=(20, 32))
        ledger = reduce_night(raw, tmp_path / "out", config())
        lost = {entry.path: entry.reason for entry in ledger.frames if entry.status != "used"}
        assert list(lost) == ["bias_odd.fits"]
        assert "shape is 20×32, and that of 4 other bias frames 24×32" in lost["bias_odd.fits"]
        assert ledger.exit_status() == 3

    def test_windows_that_science_was_read_in_are_no_odd_ones(self, raw: Path) -> None:
        small_night.write(raw / "bias_odd.fits", "bias", shape=(20, 32))
        small_night.write(raw / "window.fits", "light", 60.0, 500.0, shape=(20, 32), filter="V")
        alone = config(dark={"subtract": False}, flat={"correct": False})
        made = [job for job in plan_night(raw, alone).jobs if job.kind == "bias"]
        assert sorted(len(job.frames) for job in made) == [1, 4]

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("CALSTAT", "BD"),
            ("DARKCOR", "Apr  6 18:40 Dark image is d60"),
            ("HISTORY", "Dark frame subtracted by the camera"),
            ("HISTORY", "AutoDark"),
        ],
    )
    def test_darks_that_were_subtracted_are_refused(
        self, raw: Path, keyword: str, value: str
    ) -> None:
        with fits.open(raw / "dark_2.fits", mode="update") as hdus:
            hdus[0].header[keyword] = value
        plan = plan_night(raw)
        (missing,) = plan.missing
        assert missing.kind == "dark"
        assert missing.reason.startswith("refused: the headers of dark_2.fits say that ")
        assert "dark came off before" in missing.reason
        darks = [j for j in plan.jobs if j.kind == "dark"]
        assert [len(j.frames) for j in darks] == [2]

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [("CALSTAT", ""), ("DARKCOR", False), ("DARKCOR", "no"), ("HISTORY", "AutoDark: off"),
         ("HISTORY", "SUBTRACTIVE_DITHER_1"), ("COMMENT", "taken in the dark")],
    )  # fmt: skip
    def test_words_that_say_nothing_of_the_kind(self, raw: Path, keyword: str, value: Any) -> None:
        with fits.open(raw / "dark_2.fits", mode="update") as hdus:
            hdus[0].header[keyword] = value
        assert not plan_night(raw).missing

    @pytest.mark.parametrize("keyword", ["GAIN", "XBINNING"])
    def test_gains_and_binnings_never_mix(self, raw: Path, keyword: str) -> None:
        for path in raw.glob("*.fits"):
            with fits.open(path, mode="update") as hdus:
                hdus[0].header.update({"XBINNING": 1, "YBINNING": 1})
        fits.setval(raw / "bias_2.fits", keyword, value=3.0 if keyword == "GAIN" else 2)
        plan = plan_night(raw)
        biases = sorted((j.frames for j in plan.jobs if j.kind == "bias"), key=len)
        assert [len(frames) for frames in biases] == [1, 3]
        assert plan.relative(biases[0][0]) == "bias_2.fits"


def test_instrument_state(raw: Path) -> None:
    for n, path in enumerate(sorted(raw.glob("flat_V*"))):
        fits.setval(path, "ROTANGLE", value=(0.0, 0.2, 90.0)[n])
    for path in raw.glob("m67*"):
        fits.setval(path, "ROTANGLE", value=89.8)
    held = {"keywords": [{"keyword": "ROTANGLE", "tolerance": 0.5, "masters": ["flat"]}]}
    plan = plan_night(raw, config(match=held))
    flats = {j.name: len(j.frames) for j in plan.jobs if j.kind == "flat"}
    assert flats == {
        "masters/flat_B.fits": 3, "masters/flat_V.fits": 2, "masters/flat_V_ROTANGLE90.fits": 1
    }  # fmt: skip
    taken = [j.masters["flat"] for j in plan.jobs if j.kind == "science"]
    assert taken == [("masters/flat_V_ROTANGLE90.fits",)] * 2
    (reason,) = {m.reason for m in plan.missing}
    assert reason.endswith("nearest: masters/flat_B.fits (ROTANGLE is unknown, wanted 89.8 ± 0.5)")


def test_a_pin_in_a_config_file(raw: Path, tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text("[[pin]]\nflat = 'flat_W'\n")
    result = CliRunner().invoke(main, ["plan", str(raw), "-c", str(file)])
    assert result.exit_code == 2
    assert "did you mean 'masters/flat_V.fits'" in result.output


def test_dates_that_are_not_after(raw: Path) -> None:
    plan = plan_night(raw, config(match={"not_after": True}))
    assert not plan.missing
    early = small_night.write(raw / "early.fits", "object", 60.0, minute=-60, filter="V")
    assert np.datetime64(fits.getval(early, "DATE-OBS")) < np.datetime64("2024-03-01T02:00")
    plan = plan_night(raw, config(match={"not_after": True}))
    (missing,) = plan.missing
    assert "no bias with the frame's not_after" in missing.reason


def test_a_product_with_a_waived_limit_is_made_again(raw: Path, tmp_path: Path) -> None:
    for i in range(3):
        fits.setval(raw / f"dark_{i}.fits", "EXPTIME", value=6.0)  # for 60 s: ten times as long
    pins = [{"when": "imagetyp == 'science'", "dark": "dark_6s"}]
    reduce_night(raw, tmp_path / "out", config(pin=pins))
    assert rerun(tmp_path / "out" / "science" / "m67_B_0.fits").equal
