"""What a config says and no frame has: a plan says so, or refuses it, before a pixel is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_night

from daskcal.errors import ConfigError
from daskcal.night.config.read import load_camera, load_config
from daskcal.night.plan.plan import Plan, plan_night


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night, and a bias of another shape."""
    folder = small_night.make(tmp_path_factory.mktemp("idle") / "raw", bias=3, science=1)
    small_night.write(folder / "small.fits", "bias", shape=(12, 16))
    return folder


def planned(raw: Path, folder: Path, text: str) -> Plan:
    path = folder / "night.toml"
    path.write_text(text, encoding="utf-8")
    return plan_night(raw, load_config(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[keywords]\nexptime = ['EXPOSD', 'ITM']", "keywords.exptime: no frame has EXPOSD or ITM"),
        ("[types]\nNOSUCH = 'bias'", "types.NOSUCH = 'bias': no frame has this word for its type"),
        (
            "[[classify]]\nwhen = 'EXPTIME > 999'\nfiles = '*'\nimagetyp = 'bias'",
            "[[classify]] when = 'EXPTIME > 999', files = '*' decides of no frame",
        ),
        (
            "[[match.keywords]]\nkeyword = 'ROTANGLE'",
            "[[match.keywords]] keyword = 'ROTANGLE': no frame has it",
        ),
        (
            "extends = 'lfc'\n[types]\nNO = 'flat'\n[overscan]\nsection = 'none'\n[trim]\n"
            "section = 'none'",
            "types.NO = 'flat': no frame has this word",
        ),
    ],
    ids=["keywords", "types", "classify", "match", "extends"],
)
def test_what_no_frame_has_is_said_once(raw: Path, tmp_path: Path, text: str, says: str) -> None:
    idle = ("keywords.", "types.", "[[classify]]", "[[match")
    (note,) = (one for one in planned(raw, tmp_path, text).messages if one.startswith(idle))
    assert note.startswith(says)


def test_what_a_frame_has_needs_no_word(raw: Path, tmp_path: Path) -> None:
    text = """
    [keywords]
    exptime = ["EXPOSD", "exptime"]
    [types]
    Object = "science"
    [[classify]]
    files = "small.fits"
    imagetyp = "other"
    [[match.keywords]]
    keyword = "OBJECT"
    masters = ["flat"]
    """
    assert planned(raw, tmp_path, text).messages == ()


def test_shipped_cameras_are_for_all_their_nights(raw: Path) -> None:
    config = load_camera("lfc").model_copy(update={"overscan": load_config().overscan})
    config = config.model_copy(update={"trim": load_config().trim})
    assert not [one for one in plan_night(raw, config).messages if one.startswith("types")]


@pytest.mark.parametrize("key", ["overscan", "trim"])
@pytest.mark.parametrize("section", ["[500:600, :]", "fits [1:32,1:25]"])
def test_a_section_that_no_frame_has_is_refused(
    raw: Path, tmp_path: Path, key: str, section: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}\.section = .*: no frame has it: .*section"):
        planned(raw, tmp_path, f"[{key}]\nsection = '{section}'")


def test_a_section_that_some_frames_lack_is_said(raw: Path, tmp_path: Path) -> None:
    (note,) = planned(raw, tmp_path, "[trim]\nsection = '[:, :20]'").messages
    assert "trim.section = '[:, :20]': 1 of 15 frames do not have it, the first is " in note
    assert "small.fits" in note


def test_minmax_that_leaves_nothing_is_missing_from_the_plan(raw: Path, tmp_path: Path) -> None:
    text = "[combine.bias]\nreject = 'minmax'\nn_low = {}\nn_high = {}"
    for low, high in ((2, 1), (0.5, 0.5)):
        plan = planned(raw, tmp_path, text.format(low, high))
        reasons = [missing.reason for missing in plan.missing if missing.kind == "bias"]
        says = f"combine.bias.n_low = {low} and n_high = {high} leave nothing of"
        assert any(reason.startswith(says) for reason in reasons)
    plan = planned(raw, tmp_path, text.format(1, 1))
    assert [len(job.frames) for job in plan.jobs if job.kind == "bias"] == [3]


def test_regions_outside_of_every_frame(raw: Path, tmp_path: Path) -> None:
    regions, text = tmp_path / "r.txt", "[mask]\nbad_pixels = 'r.txt'"
    regions.write_text("30 32 20 24\n900 901 1 1\n")
    (note,) = planned(raw, tmp_path, text).messages
    assert note.startswith("mask.bad_pixels: 1 of 2 regions of ")
    assert note.endswith("r.txt lie outside of every frame, and mask nothing")
    regions.write_text("900 901 1 1\n")
    with pytest.raises(ConfigError, match=r"^mask\.bad_pixels: every one of the 1 regions"):
        planned(raw, tmp_path, text)
    regions.write_text("30 32 20 24\n")
    assert planned(raw, tmp_path, text).messages == ()
