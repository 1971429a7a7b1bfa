"""A night tells of cards that cannot be read, of files none of which can, and of a new library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_night
from click.testing import CliRunner, Result
from raw_fits import written_over

from daskcal.cli import main
from daskcal.errors import FrameError, UnitError
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import read_ledger
from daskcal.night.plan.plan import plan_night

BROKEN = "EXPTIME = 12..5 / <b>broken</b>"
NOTE = (
    f"EXPTIME cannot be read in 3 files (dark_0.fits, dark_1.fits, dark_2.fits): '{BROKEN}' in the "
    "first; the exposure time is not known"
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A night whose darks have no exposure that could be read."""
    raw = small_night.make(tmp_path / "raw", flat=0, science=1)
    for path in raw.glob("dark*"):
        written_over(path, "EXPTIME", BROKEN)
    return raw


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_plan_run_ledger_and_report_say_it_once(raw: Path, tmp_path: Path) -> None:
    assert run("plan", raw).stdout.count(f"\n  {NOTE}\n") == 1
    assert json.loads(run("plan", raw, "--json").stdout)["messages"].count(NOTE) == 1
    result = run("reduce", raw, "-o", tmp_path / "out")
    assert result.stderr.count(f"note: {NOTE}\n") == 1
    assert read_ledger(tmp_path / "out" / "night.json").messages.count(NOTE) == 1
    report = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "EXPTIME cannot be read in 3 files" in report
    assert "<b>broken" not in report


def test_frames_that_the_user_left_out_are_not_spoken_of(raw: Path) -> None:
    assert "EXPTIME" not in str(plan_night(raw, exclude=["dark*"]))
    messages = plan_night(raw, exclude=["dark_[01]*"]).messages
    assert any(m.startswith("EXPTIME cannot be read in dark_2.fits: ") for m in messages)


def test_what_the_config_gives_or_asks_for_is_said_as_such(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", bias=2, dark=0, flat=0, science=1)
    written_over(raw / "bias_0.fits", "GAIN", "GAIN    = 1..5")
    written_over(raw / "bias_0.fits", "RDNOISE", "AIRMASS = 1..5")
    given = {"instrument": {"gain": 2.0, "rdnoise": 5.0}, "select": {"query": "AIRMASS != 3"}}
    written_over(raw / "bias_1.fits", "CRVAL1", "AIRMASS =                  1.5")
    messages = plan_night(raw, NightConfig.model_validate(given)).messages
    assert any("GAIN" in m and "the gain is known from elsewhere" in m for m in messages)
    assert any("AIRMASS" in m and "conditions or rules of the config" in m for m in messages)


def test_a_unit_that_cannot_be_read_is_said_as_such(raw: Path) -> None:
    written_over(raw / "dark_1.fits", "BUNIT", "BUNIT   = 'adu")
    with pytest.raises(UnitError, match=r"dark_1.fits .* \(BUNIT, which cannot be read\)"):
        plan_night(raw)


def test_a_sound_night_has_nothing_to_note(tmp_path: Path) -> None:
    assert plan_night(small_night.make(tmp_path / "raw")).messages == ()


def test_files_none_of_which_can_be_read_are_named_with_their_reasons(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", bias=8, dark=0, flat=0, science=0)
    for i, path in enumerate(sorted(raw.iterdir())):
        path.write_bytes(path.read_bytes()[: 2880 + 10 * i])
    with pytest.raises(FrameError) as caught:
        plan_night(raw)
    first, *named, more = str(caught.value).splitlines()
    assert first.endswith("holds no readable FITS frame; 8 cannot be read:")
    assert [line.split(":")[0] for line in named] == [
        f"  {raw}/bias_{i}.fits [HDU 0]" for i in range(5)
    ]
    assert all(f"the file has {2880 + 10 * i}" in line for i, line in enumerate(named))
    assert more == "  and 3 more"
    assert run("reduce", raw, "-o", tmp_path / "out").exit_code == 1


def test_a_library_that_is_not_there_yet_is_said(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", bias=3, dark=0, flat=0, science=0)
    library = tmp_path / "library"
    note = f"there is no library of masters at {library} yet: reduce makes it"
    assert f"\n  {note}\n" in run("plan", raw, "--library", library).stdout
    assert not library.exists()
    assert (
        f"note: {note}\n" in run("reduce", raw, "-o", tmp_path / "a", "--library", library).stderr
    )
    assert library.is_dir()
    again = run("reduce", raw, "-o", tmp_path / "b", "--library", library)
    assert note not in again.stderr
    assert note not in run("plan", raw, "--library", library).stdout
