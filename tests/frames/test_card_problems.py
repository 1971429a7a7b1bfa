"""Cards that cannot be read, or contradict each other, are said as frames are opened or listed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from raw_fits import write_frames, written_over

import daskcal
from daskcal.errors import DaskcalWarning
from daskcal.fits import scan
from daskcal.frames.card_problems import MOST
from daskcal.frames.instrument import Instrument
from daskcal.frames.listing import listing

IMAGE = np.ones((4, 6), np.uint16)
BROKEN = "EXPTIME = 12..5 / broken"


def frames(folder: Path, **cards: str) -> list[Path]:
    """Three sound frames, and in place of a card of the first what is given for it."""
    paths = write_frames(folder, [IMAGE] * 3)
    for key, card in cards.items():
        written_over(paths[0], key, card)
    return paths


def said(paths: object, **options: object) -> str:
    """The one warning of opening frames."""
    with pytest.warns(DaskcalWarning) as caught:
        daskcal.open_frames(paths, **options)
    (one,) = caught
    assert one.filename == __file__  # the line of the user's that opened them
    return str(one.message)


def listed(folder: Path) -> list[str]:
    return [line for line in listing(scan(folder)).splitlines() if line.startswith("note: ")]


def test_a_card_that_cannot_be_read_is_said_with_file_keyword_and_meaning(tmp_path):
    paths = frames(tmp_path / "raw", EXPTIME=BROKEN)
    assert said(paths) == (
        f"EXPTIME cannot be read in {paths[0]}: '{BROKEN}'; the exposure time is not known"
    )
    assert listed(tmp_path / "raw") == [
        f"note: EXPTIME cannot be read in f0.fits: '{BROKEN}'; the exposure time is not known"
    ]


def test_frames_that_are_alike_are_said_together_and_others_apart(tmp_path):
    paths = write_frames(tmp_path / "raw", [IMAGE] * 6)
    for i, path in enumerate(paths):
        written_over(path, "EXPTIME", f"EXPTIME = {i}..5")
    written_over(paths[5], "FILTER", "EXPOSURE=                   30")
    for line in (said(tmp_path / "raw"), *listed(tmp_path / "raw")[:1]):
        assert re.search(
            r"EXPTIME cannot be read in 5 files \(\S*f0.fits, \S*f1.fits, \S*f2.fits and 2 more\): "
            r"'EXPTIME = 0\.\.5' in the first; the exposure time is not known",
            line,
        )
    assert listed(tmp_path / "raw")[1].endswith("the exposure time is known from elsewhere")


@pytest.mark.parametrize("unknown", ["GAIN    = 1..5", "RDNOISE = x", "FILTER  = 'V"])
def test_what_is_lost_is_named(tmp_path, unknown):
    words = {"GAIN": "gain", "RDNOISE": "read noise", "FILTER": "filter"}
    key = unknown.split()[0]
    assert f"the {words[key]} is not known" in said(frames(tmp_path / "raw", **{key: unknown}))


def test_a_value_that_the_camera_gives_is_known(tmp_path):
    paths = frames(tmp_path / "raw", GAIN="GAIN    = 1..5")
    message = said(paths, instrument=Instrument(gain=2.0))
    assert message.endswith("the gain is known from elsewhere")


def test_a_card_given_twice_is_said_where_the_other_value_means_something_else(tmp_path):
    paths = frames(tmp_path / "raw", BUNIT="EXPTIME =                 30.0")
    assert said(paths) == (
        f"EXPTIME is given twice, with other values, in {paths[0]}: 60.0 is used, 30.0 is not"
    )


@pytest.mark.parametrize(
    "card",
    ["IMAGETYP=                    1", "EXPTIME =                   60", "FILTER  = 'none'",
     "COMMENT caf\xe9", "OBJECT  = 'M 31' / caf\xe9"],
    ids=["a code of a type", "the same", "nothing", "a comment", "the comment of a value"],
)  # fmt: skip
def test_what_changes_nothing_is_not_said(tmp_path, card):
    paths = frames(tmp_path / "raw", BUNIT=card)
    assert any(frame.problems for frame in scan(paths).frames) or "60" in card
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        daskcal.open_frames(paths)
    assert not listed(tmp_path / "raw")


def test_a_card_given_twice_that_means_nothing_here_is_not_said(tmp_path):
    paths = frames(tmp_path / "raw", BUNIT="WEATHER = 'fair'", RDNOISE="WEATHER = 'foul'")
    assert scan(paths).frames[0].problems
    assert not listed(tmp_path / "raw")


def test_text_in_other_characters_is_said_where_it_is_a_value(tmp_path):
    message = said(frames(tmp_path / "raw", FILTER="FILTER  = 'r\xb4'"))
    assert "FILTER has bytes that are not printable ASCII" in message
    assert message.endswith("read as 'r?'")


def test_any_value_that_cannot_be_read_is_said_and_sections_are_told_from_others(tmp_path):
    message = said(frames(tmp_path / "raw", FILTER="WINDDIR = 1..2", BUNIT="TRIMSEC = [1:2,"))
    first, second = message.split("; WINDDIR")
    assert first.startswith("TRIMSEC cannot be read")
    assert first.endswith("it says what pixels are, or where")
    assert second.endswith("'WINDDIR = 1..2'")


def test_many_bad_cards_of_one_file_are_few_lines(tmp_path):
    (path,) = write_frames(tmp_path / "raw", [IMAGE], **{f"K{i}": i for i in range(40)})
    for i in range(30):
        written_over(path, f"K{i}", f"K{i:<7}= {i}..0")
    for i in range(30, 40):
        written_over(path, f"K{i}", f"\x01{i}=;")
    lines = listed(tmp_path / "raw")
    assert len(lines) == MOST + 1
    assert lines[-1] == f"note: and {31 - MOST} more cards have problems"


def test_a_mosaic_says_them_once(tmp_path):
    paths = frames(tmp_path / "raw", EXPTIME=BROKEN)
    with pytest.warns(DaskcalWarning, match="EXPTIME cannot be read in .*f0.fits") as caught:
        daskcal.open_mosaic(paths)
    assert len(caught) == 1


def test_real_headers_are_calm(realdata):
    for camera in ("header_zoo", "lick_kast_2amp", "lowell_hall42_5945"):
        assert not listed(realdata(camera))
