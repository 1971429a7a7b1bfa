"""The folder of a library: what is added, found, rejected, and what needs no index."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner

import daskcal
from daskcal.cli import main
from daskcal.errors import ArgumentError, FrameError, OutputError
from daskcal.masters.library import Library
from daskcal.masters.library_master import UNDATED, night_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The products of a night; no test changes them."""
    base = tmp_path_factory.mktemp("made")
    small_night.make(base / "raw", science=1)
    daskcal.reduce_night(base / "raw", base / "out")
    return base / "out" / "masters"


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Library:
    found = Library(tmp_path / "library")
    for path in sorted(made.iterdir()):
        found.add(path)
    return found


def names(library: Library) -> list[str]:
    return [master.name for master in library.masters()]


def test_masters_are_known_by_their_headers(library: Library, made: Path) -> None:
    masters = library.masters()
    assert [m.kind for m in masters] == ["bias", "dark", "flat", "flat"]
    assert {m.night for m in masters} == {"2024-02-29"}
    dark = masters[1]
    assert Path(dark.path).read_bytes() == (made / "dark_60s.fits").read_bytes()
    assert dark.candidate().facts.darktime == 60
    assert dark.candidate().facts.readout.shape == small_night.SHAPE
    assert dark.facts["hdr_object"] == "M 67"
    assert dark.steps[0] == "subtract_bias"
    assert len(dark.frames) == 3
    assert dark.open().attrs["file"] == dark.name


def test_a_master_is_added_once(library: Library, made: Path) -> None:
    before = names(library)
    again, new = library.add(made / "bias.fits")
    assert not new
    assert names(library) == before
    copy, new = library.add(again.path)
    assert (copy.name, new) == (again.name, False)


def test_what_is_no_master_is_refused(library: Library, made: Path) -> None:
    with pytest.raises(FrameError, match="is no master bias, dark or flat: its type is 'science'"):
        library.add(made.parent / "science" / "m67_V_0.fits")
    (library.folder / "file").write_text("")
    with pytest.raises(OutputError, match="is not a folder"):
        Library(library.folder / "file")


def test_another_programs_master_can_be_added(library: Library, tmp_path: Path) -> None:
    path = foreign(tmp_path, np.float32)
    master, new = library.add(path)
    assert new
    assert (master.kind, master.key, master.identity) == ("bias", "", master.name[-17:-5])


def test_rules_know_the_mean_of_numbers_that_differ_among_its_frames(
    library: Library, tmp_path: Path
) -> None:
    for i in range(3):
        small_night.write(tmp_path / "raw" / f"b{i}.fits", "bias", focus=1.0 + i / 4, note=f"n{i}")
    frames = daskcal.open_frames(tmp_path / "raw")
    daskcal.to_fits(daskcal.combine(frames), tmp_path / "bias.fits")
    assert "FOCUS" not in fits.getheader(tmp_path / "bias.fits")
    master, _ = library.add(tmp_path / "bias.fits")
    assert master.candidate(["FOCUS", "NOTE"]).facts.state == (("FOCUS", 1.25),)
    daskcal.to_fits(daskcal.open_master(tmp_path / "bias.fits"), tmp_path / "again.fits")
    again = daskcal.open_master(tmp_path / "again.fits")
    assert ["FOCUS", 1.25] in again.attrs["card_means"]


def foreign(folder: Path, dtype: type, **cards: object) -> Path:
    """A file of another program with the header of a bias."""
    fits.writeto(
        folder / "zero.fits",
        np.full(small_night.SHAPE, 1000, dtype),
        small_night.header("zero", 0.0, **cards),
    )
    return folder / "zero.fits"


LEFT = {"BIASSEC": "[1:4,1:24]", "TRIMSEC": "[5:32,1:24]"}


@pytest.mark.parametrize(
    ("dtype", "cards", "found"),
    [
        (np.uint16, {}, "its pixels are integers"),
        (np.int16, LEFT, "its pixels are integers .* and its overscan is still there"),
        (np.float32, LEFT, "its overscan is still there .BIASSEC = '.1:4,1:24.'"),
        (np.float32, {"TRIMSEC": "[5:32,1:24]"}, "it is not trimmed"),
    ],
    ids=["integer", "integer-overscan", "overscan", "untrimmed"],
)
def test_a_raw_frame_is_no_master(
    library: Library, tmp_path: Path, dtype: type, cards: dict[str, str], found: str
) -> None:
    before = names(library)
    with pytest.raises(FrameError, match=f"is a raw frame, .*: {found}.* needs NCOMBINE"):
        library.add(foreign(tmp_path, dtype, **cards))
    assert names(library) == before


@pytest.mark.parametrize(
    ("dtype", "cards"),
    [
        (np.uint16, {"NCOMBINE": 5}),
        (np.uint16, {"STACKCNT": 5}),
        (np.float32, LEFT | {"NCOMBINE": 5}),
        (np.float32, {"BIASSEC": "[33:40,1:24]", "TRIMSEC": "[1:32,1:24]"}),
        (np.float32, {"BIASSEC": "[1:4,1:24]", "TRIMSEC": "[5:36,1:24]"}),
    ],
    ids=["ncombine", "siril", "overscan-combined", "cut-right", "cut-left"],
)
def test_what_may_be_a_master_is_taken(
    library: Library, tmp_path: Path, dtype: type, cards: dict[str, object]
) -> None:
    assert library.add(foreign(tmp_path, dtype, **cards))[1]


def test_an_index_that_is_lost_damaged_or_stale_costs_nothing(library: Library) -> None:
    expected = library.masters()
    index = library.folder / "index.sqlite"
    for damage in (b"", b"not a database" * 100, index.read_bytes()[:5000]):
        index.write_bytes(damage)
        assert library.masters() == expected
        assert library.masters() == expected
    index.unlink()
    assert library.masters() == expected
    with closing(sqlite3.connect(index)) as base, base:
        base.execute("UPDATE headers SET record = '{\"kind\": 3}' WHERE name LIKE '%bias%'")
    assert library.masters() == expected
    os.unlink(expected[0].path)
    assert library.masters() == expected[1:]


def test_the_index_saves_opening_files(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = library.masters()

    def opened(path: str) -> None:
        raise AssertionError(f"{path} is opened")

    monkeypatch.setattr("daskcal.masters.library.image_frame", opened)
    assert library.masters() == expected


def test_a_locked_index_and_a_folder_that_must_not_be_written(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskcal.masters.library_index._BUSY_SECONDS", 0.05)
    expected = library.masters()
    with closing(sqlite3.connect(library.folder / "index.sqlite")) as base, base:
        base.execute("BEGIN EXCLUSIVE")
        assert library.masters() == expected
        base.rollback()
    monkeypatch.setattr("sqlite3.connect", _refused)
    assert library.masters() == expected


def _refused(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("unable to open database file")


def test_a_library_may_move(library: Library, tmp_path: Path) -> None:
    library.masters()
    moved = Library(library.folder.rename(tmp_path / "moved"))
    assert all(str(tmp_path / "moved") in master.path for master in moved.masters())
    assert all(master.check() for master in moved.masters())


def test_a_rejection_outlives_the_index_and_is_undone(library: Library) -> None:
    run = CliRunner()
    folder = str(library.folder)
    done = run.invoke(main, ["library", "reject", folder, "bias-", "--reason", "light <leak>"])
    assert done.exit_code == 0, done.output
    (library.folder / "index.sqlite").unlink()
    bias = library.masters()[0]
    assert bias.rejected == "light <leak>"
    assert Path(bias.path).is_file()
    assert "light <leak>" in run.invoke(main, ["library", "ls", folder]).output
    assert run.invoke(main, ["library", "reject", folder, bias.name, "--undo"]).exit_code == 0
    assert not library.masters()[0].rejected
    with pytest.raises(ArgumentError, match="is not rejected"):
        library.accept(bias.name)
    with pytest.raises(ArgumentError, match="several have it"):
        library.reject("flat", "no reason")
    with pytest.raises(ArgumentError, match="needs a reason"):
        library.reject(bias.name, " ")
    for options in ([], ["--undo", "--reason", "both"]):
        assert run.invoke(main, ["library", "reject", folder, bias.name, *options]).exit_code == 2


def test_a_damaged_rejection_still_rejects(library: Library) -> None:
    bias = library.masters()[0]
    Path(bias.path + ".rejected.json").write_text("{")
    assert "cannot be read" in library.masters()[0].rejected


def test_a_master_of_the_same_frames_is_superseded_and_comes_back(
    library: Library, made: Path, tmp_path: Path
) -> None:
    raw = made.parent.parent / "raw"
    daskcal.reduce_night(raw, tmp_path / "fewer", exclude=["bias_0.fits"])
    first = library.masters()[0]
    second, _ = library.add(tmp_path / "fewer" / "masters" / "bias.fits")
    found = {m.name: m.rejected for m in library.masters() if m.kind == "bias"}
    assert found == {first.name: f"superseded by {second.name}", second.name: ""}
    library.add(made / "bias.fits")
    found = {m.name: m.rejected for m in library.masters() if m.kind == "bias"}
    assert found == {first.name: "", second.name: f"superseded by {first.name}"}


def test_a_master_made_anew_of_a_rejected_ones_frames_is_rejected_too(
    library: Library, made: Path, tmp_path: Path
) -> None:
    first = library.reject("bias-", "light leak")
    raw = made.parent.parent / "raw"
    config = tmp_path / "other.toml"
    config.write_text("[combine.bias]\nlow = 4\n")
    daskcal.reduce_night(raw, tmp_path / "other", config)
    second, new = library.add(tmp_path / "other" / "masters" / "bias.fits")
    assert new
    assert second.rejected == f"light leak (as {first.name}, of the same frames)"


def test_a_changed_file_is_found_when_it_is_used(library: Library) -> None:
    bias = library.masters()[0]
    path = Path(bias.path)
    shutil.copy(path, path.with_suffix(".copy"))  # a link to the night's master no more
    os.replace(path.with_suffix(".copy"), path)
    fits.setval(path, "OBJECT", value="edited")
    with pytest.raises(FrameError, match="was changed or is damaged"):
        bias.check()
    assert library.check([bias])
    assert list(library.damaged) == [bias.name]


def test_what_was_read_once_is_not_read_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    masters = library.masters()
    assert not library.check(masters)
    expected = library.checksums

    def read(path: str) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr("daskcal.masters.library_master.file_checksum", read)
    again = Library(library.folder)
    assert not again.check(masters)
    assert again.checksums == expected
    os.utime(masters[0].path)
    with pytest.raises(AssertionError, match=r"bias-.* is read"):
        again.check(masters)


def _add_all(folder: str, paths: list[str]) -> None:
    for path in paths:
        Library(folder).add(path)


def test_two_runs_at_once(made: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in made.iterdir()]
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=_add_all, args=(str(tmp_path / "new"), order))
        for order in (paths, paths[::-1])
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    found = Library(tmp_path / "new").masters()
    assert [master.kind for master in found] == ["bias", "dark", "flat", "flat"]
    assert all(master.check() and not master.rejected for master in found)
    assert not small_night.temporaries(tmp_path / "new")


def test_another_file_system_gets_a_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    master, new = Library(tmp_path / "copies").add(made / "bias.fits")
    assert new
    assert master.check()
    assert os.stat(master.path).st_nlink == 1
    assert not small_night.temporaries(tmp_path / "copies")


def test_nights_begin_at_noon() -> None:
    assert night_of("2024-03-01T02:00:00.5") == night_of("2024-02-29T12:00:00") == "2024-02-29"
    assert night_of("") == UNDATED
