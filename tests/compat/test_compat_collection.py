"""`ImageFileCollection` of `daskcal.compat.ccdproc` against ccdproc's, on simulated nights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

import daskcal.compat.ccdproc as compat
from daskcal.errors import ArgumentError, DaskcalWarning, OutputError, UnknownKeywordError
from daskcal.simulate import simulate_night

SIZE = (32, 40)


@pytest.fixture(scope="module", params=["lfc", "aspen-cg16m"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night, with a file that lacks keywords, one with comments, and one of another kind."""
    base = tmp_path_factory.mktemp("night")
    raw = simulate_night(base, request.param, size=SIZE, seed=2).folder
    header = fits.Header({"OBJECT": "Vega", "EXPTIME": 3, "ODD-KEY": 7, "OKAY": True})
    header["HISTORY"], header["COMMENT"] = "first", "a comment"
    header.add_history("second")
    fits.PrimaryHDU(np.ones(SIZE, np.int16), header).writeto(raw / "zz-odd.fts")
    fits.PrimaryHDU(header=fits.Header({"OBJECT": "table"})).writeto(raw / "zz-none.fits")
    (raw / "notes.txt").write_text("cloudy")
    return raw


@pytest.fixture
def both(folder: Path) -> list[Any]:
    return [module.ImageFileCollection(folder) for module in (compat, ccdproc)]


def assert_tables(found: Any, expected: Any) -> None:
    assert found.colnames == expected.colnames
    for name in expected.colnames:
        assert found[name].dtype == expected[name].dtype, name
        assert found[name].tolist() == expected[name].tolist(), name
        np.testing.assert_array_equal(found[name].mask, expected[name].mask)


def test_summary(both: list[Any]) -> None:
    found, expected = both
    assert_tables(found.summary, expected.summary)
    assert found.files == expected.files
    assert found.keywords == expected.keywords
    assert found.location == expected.location
    assert found.ext == 0


KEYWORDS = [
    ["imagetyp", "EXPTIME"], ["date-obs", "object", "file"], ["*"], "*", ["odd-key", "nothing"],
    ["*", "nothing"], "filter",
]  # fmt: skip


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_columns(folder: Path, keywords: Any) -> None:
    if keywords == "filter":  # ccdproc takes it letter by letter
        assert compat.ImageFileCollection(folder, keywords="filter").keywords == ["file", "filter"]
        return
    found, expected = (
        module.ImageFileCollection(folder, keywords=keywords) for module in (compat, ccdproc)
    )
    assert sorted(found.keywords) == sorted(expected.keywords)
    assert found.keywords[0] == "file"
    assert_tables(found.summary[expected.keywords], expected.summary)


def test_columns_change(both: list[Any]) -> None:
    for collection in both:
        collection.keywords = ["object", "exptime"]
    assert both[0].keywords == ["file", "object", "exptime"]  # ccdproc leaves them as they were
    assert_tables(both[0].summary[both[1].keywords], both[1].summary)
    for collection in both:
        collection.refresh()
    assert_tables(both[0].summary[both[1].keywords], both[1].summary)
    for collection in both:
        del collection.keywords
        assert collection.keywords == []
        assert not collection.summary


WANTED: list[dict[str, Any]] = [
    {"imagetyp": "bias"},
    {"imagetyp": "DARK", "exptime": 90.0},
    {"exptime": 300},
    {"exptime": 3.0},
    {"exptime": "300"},
    {"imagetyp": "*"},
    {"filter": None},
    {"filter": ""},
    {"object": "vega"},
    {"object": "ve"},
    {"object": "^ve|t", "regex_match": True},
    {"imagetyp": "dark|flat", "regex_match": True},
    {"combined": True},
    {"okay": True},
    {"okay": 1},
    {"ODD-KEY": 7},
    {"filter": "r*"},
    {"imagetyp": "bias", "include_path": True},
    {},
]  # fmt: skip


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_files_filtered(both: list[Any], wanted: dict[str, Any]) -> None:
    found, expected = (collection.files_filtered(**wanted) for collection in both)
    assert isinstance(found, list) == isinstance(expected, list) == ("include_path" in wanted)
    assert list(found) == list(expected)
    if len(found):
        found, expected = (
            collection.filter(**{k: v for k, v in wanted.items() if k != "include_path"})
            for collection in both
        )
        assert_tables(found.summary, expected.summary)


def test_something_was_found(both: list[Any]) -> None:
    """Or the comparisons above would say nothing."""
    assert len(both[0].files_filtered(imagetyp="bias")) > 3
    assert list(both[0].files_filtered(object="vega")) == ["zz-odd.fts"]
    assert len(both[0].files_filtered(exptime=90.0)) + len(both[0].files_filtered(exptime=300)) > 2


def test_values(both: list[Any]) -> None:
    found, expected = both
    assert found.values("exptime") == expected.values("exptime")
    assert set(found.values("object", unique=True)) == set(expected.values("object", unique=True))
    with pytest.raises(ArgumentError, match="not in the current summary"):
        found.values("nothing")


def test_sort(folder: Path) -> None:
    both = [m.ImageFileCollection(folder, glob_exclude="zz*") for m in (compat, ccdproc)]
    for collection in both:
        collection.keywords = ["file", "imagetyp", "exptime"]
        collection.sort(["exptime", "file"])
    assert_tables(both[0].summary[both[1].keywords], both[1].summary)
    assert both[0].files == both[1].files
    for wanted in ({"exptime": 90.0}, {"naxis1": 1}, {"instrume": "*"}):  # also of no column
        found, expected = (collection.files_filtered(**wanted) for collection in both)
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    "options",
    [
        {"glob_include": "*d*"},
        {"glob_exclude": "*0*"},
        {"glob_include": "*0*", "glob_exclude": "*3*"},
        {"filenames": "zz-odd.fts"},
        {"filenames": ["zz-odd.fts", "zz-none.fits"]},
        {"find_fits_by_reading": True},
    ],
    ids=str,
)
def test_choice_of_files(folder: Path, options: dict[str, Any]) -> None:
    found, expected = (
        module.ImageFileCollection(folder, **options) for module in (compat, ccdproc)
    )
    assert found.files == expected.files
    assert_tables(found.summary, expected.summary)
    for collection in (found, expected):
        assert collection.glob_include == options.get("glob_include")
        assert collection.glob_exclude == options.get("glob_exclude")


def test_files_without_a_folder(folder: Path) -> None:
    names = [str(folder / "zz-odd.fts"), str(folder / "zz-none.fits")]
    found, expected = (m.ImageFileCollection(filenames=names) for m in (compat, ccdproc))
    assert_tables(found.summary, expected.summary)
    assert list(found.files_filtered(object="vega")) == list(expected.files_filtered(object="vega"))


def test_names_in_capitals(folder: Path, tmp_path: Path) -> None:
    """ccdproc misses them."""
    shutil.copy(folder / "zz-odd.fts", tmp_path / "A.FITS")
    assert compat.ImageFileCollection(tmp_path).files == ["A.FITS"]


def test_extensions(tmp_path: Path) -> None:
    for i in range(3):
        primary = fits.PrimaryHDU(header=fits.Header({"OBJECT": "m31"}))
        header = fits.Header({"GAIN": 1.5 + i, "CCD": f"c{i}"})
        image = fits.ImageHDU(np.full(SIZE, i, np.int16), header, name="SCI")
        fits.HDUList([primary, image]).writeto(tmp_path / f"{i}.fits")
    for ext in (0, 1, "SCI"):
        found, expected = (m.ImageFileCollection(tmp_path, ext=ext) for m in (compat, ccdproc))
        assert_tables(found.summary, expected.summary)
    assert [d[0, 0] for d in found.data(ccd="c[12]", regex_match=True)] == [1, 2]


def test_broken_files_are_left_out(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "zz-odd.fts", tmp_path / "a.fits")
    (tmp_path / "b.fits").write_text("no FITS")
    found, expected = (m.ImageFileCollection(tmp_path) for m in (compat, ccdproc))
    assert found.files == expected.files == ["a.fits", "b.fits"]
    assert_tables(found.summary, expected.summary)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.warns(AstropyUserWarning, match="no FITS files in the collection"):
        empty = compat.ImageFileCollection(tmp_path)
    assert empty.files == []
    assert empty.summary is None
    assert empty.files_filtered(imagetyp="bias") == []
    assert list(empty.ccds(imagetyp="bias")) == []


def test_nearly_a_keyword(both: list[Any]) -> None:
    """ccdproc finds no file, and says nothing."""
    with pytest.warns(DaskcalWarning, match="did you mean 'imagetyp'"):
        found = both[0].files_filtered(imagetype="bias")
    assert len(found) == 0
    with pytest.raises(UnknownKeywordError, match="did you mean 'keywords'"):
        compat.ImageFileCollection(both[0].location, keyword="*")


# --- files one after the other ------------------------------------------------------------------


def pairs(both: list[Any], kind: str, **wanted: Any) -> list[tuple[Any, Any]]:
    found, expected = (list(getattr(one, kind)(**wanted)) for one in both)
    assert len(found) == len(expected) > 0
    return list(zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_generators(both: list[Any]) -> None:
    wanted = {"imagetyp": "dark", "return_fname": True}
    for (ours, name), (theirs, of_ccdproc) in pairs(both, "headers", **wanted):
        assert name == of_ccdproc
        assert ours.tostring() == theirs.tostring()
    for (ours, _), (theirs, _) in pairs(both, "data", **wanted):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    for (ours, _), (theirs, _) in pairs(both, "hdus", **wanted):
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours.data, theirs.data)
    kwargs = {"ccd_kwargs": {"unit": "adu"}}
    for (ours, name), (theirs, of_ccdproc) in pairs(both, "ccds", **wanted, **kwargs):
        assert name == of_ccdproc
        np.testing.assert_array_equal(ours.data, theirs.data)
        assert ours.unit == theirs.unit
    assert len(list(both[0].headers())) == len(both[0].files)


@pytest.mark.parametrize("kind", ["headers", "hdus", "data"])
def test_copies(folder: Path, tmp_path: Path, kind: str) -> None:
    for module in (compat, ccdproc):
        target = tmp_path / module.__name__
        target.mkdir()
        collection = module.ImageFileCollection(folder)
        options = {"save_location": str(target), "save_with_name": "-new", "imagetyp": "bias"}
        for one in getattr(collection, kind)(**options):
            if kind == "headers":
                one["OBSERVER"] = "me"
            elif kind == "hdus":
                one.header["OBSERVER"] = "me"
            else:
                one //= 2
    names = sorted(path.name for path in (tmp_path / "ccdproc").iterdir())
    assert len(names) > 3
    for name in names:
        ours, theirs = (tmp_path / m / name for m in (compat.__name__, "ccdproc"))
        assert ours.read_bytes() == theirs.read_bytes()
    again = {**options, "save_location": str(tmp_path / compat.__name__)}
    with pytest.raises(OutputError, match="cannot be written"):
        list(getattr(compat.ImageFileCollection(folder), kind)(**again))


def test_files_are_changed_where_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "zz-odd.fts", tmp_path / "a.fits")
    for header in compat.ImageFileCollection(tmp_path).headers(overwrite=True):
        header["OBSERVER"] = "me"
    assert fits.getval(tmp_path / "a.fits", "OBSERVER") == "me"
    with pytest.raises(ArgumentError, match="ccds writes nothing"):
        compat.ImageFileCollection(tmp_path).ccds(overwrite=True)
