"""Mosaics: a node for each detector, named alike in all files, and what a damaged one costs."""

from __future__ import annotations

import gzip
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from mosaic_files import NAMES, SHAPE, cut_data, cut_file, pixels, spoil_header, write_mosaic
from raw_fits import counted_reads, no_computing

import daskcal
from daskcal.errors import DaskcalWarning, FrameError, GeometryError
from daskcal.fits import scan
from daskcal.frames.detector_names import distinct_names


def exposures(folder: Path, n: int = 3, **options: Any) -> list[Path]:
    return [
        write_mosaic(folder / f"e{k}.fits", [pixels(10 * k + i) for i in range(4)], **options)
        for k in range(n)
    ]


def sizes(tree: xr.DataTree) -> dict[str, int]:
    return {name: node.sizes["frame"] for name, node in tree.children.items()}


def test_a_node_for_each_detector_holds_all_exposures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = exposures(tmp_path)
    with no_computing(), counted_reads(monkeypatch) as reads:
        tree = daskcal.open_mosaic(paths)
    assert reads.bytes == 0
    assert sizes(tree) == dict.fromkeys(NAMES, 3)
    for i, (name, node) in enumerate(tree.children.items()):
        assert node["image"].dtype == np.uint16
        assert set(node["detector"].values) == {name}
        assert list(node["hdu"].values) == [i + 1] * 3
        assert list(node["imagetyp"].values) == ["bias"] * 3  # of the primary header
        expected = np.stack([fits.getdata(path, i + 1) for path in paths])
        np.testing.assert_array_equal(node["image"].values, expected)


def test_steps_go_over_all_detectors(tmp_path: Path) -> None:
    tree = daskcal.open_mosaic(exposures(tmp_path))
    with no_computing():
        raw = {name: node.to_dataset() for name, node in tree.children.items()}
        bias = {name: daskcal.combine(frames, reject="none") for name, frames in raw.items()}
        done = {name: daskcal.subtract_bias(raw[name], bias[name]) for name in raw}
        assert list(xr.DataTree.from_dict(done).children) == list(NAMES)
    for k, name in enumerate(NAMES):
        stack = np.stack([pixels(10 * i + k) for i in range(3)]).astype(float)
        np.testing.assert_allclose(bias[name]["image"].values, stack.mean(0), rtol=1e-6)
        np.testing.assert_allclose(done[name]["image"].values, stack - stack.mean(0), atol=1e-3)


@pytest.mark.parametrize("damage", [spoil_header, cut_data])
@pytest.mark.parametrize("hdu", [1, 2, 3, 4])
def test_a_damaged_extension_costs_that_detector_of_that_exposure(
    tmp_path: Path, damage: Callable[[Path, int], None], hdu: int
) -> None:
    paths = exposures(tmp_path)
    damage(paths[1], hdu)
    with pytest.warns(DaskcalWarning, match=rf"left out: {paths[1]} \[HDU {hdu}\]"):
        tree = daskcal.open_mosaic(paths)
    lost = NAMES[hdu - 1]
    assert sizes(tree) == {name: 2 if name == lost else 3 for name in NAMES}
    for i, name in enumerate(NAMES):
        kept = [k for k in range(3) if (k, name) != (1, lost)]
        expected = np.stack([pixels(10 * k + i) for k in kept])
        np.testing.assert_array_equal(tree[name]["image"].values, expected)


def test_a_file_that_ends_early_keeps_the_detectors_before(tmp_path: Path) -> None:
    paths = exposures(tmp_path)
    cut_file(paths[0], 1)  # the first detector cut, and nothing after it
    cut_file(paths[2], 3)
    with pytest.warns(DaskcalWarning, match="cut short") as said:
        tree = daskcal.open_mosaic(tmp_path)
    assert sizes(tree) == {"NW": 2, "NE": 2, "SW": 1, "SE": 1}
    assert len(said) == 2


def test_the_only_survivor_of_a_file_is_called_as_in_the_others(tmp_path: Path) -> None:
    cards = [{"DETECTOR": "camera", "CCDNAME": f"c{i}"} for i in range(4)]
    paths = exposures(tmp_path, names=["SCI"] * 4, each=cards)
    raw = paths[2].read_bytes()
    end = [at for at in range(0, len(raw), 2880) if raw[at : at + 8] == b"XTENSION"][1]
    paths[2].write_bytes(raw[:end])  # whole HDUs: no fault is to be seen in what is left
    assert sizes(daskcal.open_mosaic(paths)) == {"c0": 3, "c1": 2, "c2": 2, "c3": 2}


def test_a_file_of_which_nothing_is_left_is_an_error_where_it_is_named(tmp_path: Path) -> None:
    paths = exposures(tmp_path)
    for hdu in (4, 3, 2, 1):
        spoil_header(paths[1], hdu)
    with pytest.raises(FrameError, match="BITPIX is 17"):
        daskcal.open_mosaic(paths)
    with pytest.warns(DaskcalWarning, match="BITPIX is 17"):
        assert sizes(daskcal.open_mosaic(tmp_path)) == dict.fromkeys(NAMES, 2)


def test_open_frames_refuses_several_detectors_and_names_open_mosaic(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="open_mosaic") as caught:
        daskcal.open_frames(exposures(tmp_path))
    assert caught.value.reason == "several-detectors"


@pytest.mark.parametrize(
    ("names", "cards", "expected"),
    [
        (["a", "b"], [{}, {}], ["a", "b"]),
        (["SCI", "SCI"], [{"EXTVER": 1}, {"EXTVER": 2}], ["extver1", "extver2"]),
        (["SCI", "SCI"], [{"CCDNAME": "Q 1"}, {"CCDNAME": "q/1"}], ["Q_1", "q_1_2"]),
        ([], [{}, {}], ["hdu1", "hdu2"]),
        (["x", "x"], [{"DETECTOR": "cam"}] * 2, ["hdu1", "hdu2"]),
        (["../up", "a b"], [{}, {}], ["UP", "A_B"]),
    ],
)
def test_names_tell_detectors_apart(
    tmp_path: Path, names: list[str], cards: list[dict[str, Any]], expected: list[str]
) -> None:
    path = write_mosaic(tmp_path / "m.fits", [pixels(0), pixels(1)], names, each=cards)
    found = list(daskcal.open_mosaic(path).children)
    assert [name.casefold() for name in found] == [name.casefold() for name in expected]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_distinct_names_are_distinct_whatever_the_words(words: list[str]) -> None:
    names = distinct_names(words)
    assert set(names) == set(words)
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(name and "/" not in name for name in names.values())


def test_a_file_with_one_detector_is_a_tree_of_one(tmp_path: Path) -> None:
    path = tmp_path / "one.fits"
    fits.PrimaryHDU(pixels(5), fits.Header({"DETECTOR": "E2V 1", "BUNIT": "adu"})).writeto(path)
    tree = daskcal.open_mosaic(path)
    assert sizes(tree) == {"E2V_1": 1}
    xr.testing.assert_identical(tree["E2V_1"].to_dataset(), daskcal.open_frames(path))


def test_companions_and_images_of_other_shapes_are_no_detectors(tmp_path: Path) -> None:
    images = [pixels(0), pixels(1), pixels(2), pixels(3, (8, 8))]
    path = write_mosaic(tmp_path / "m.fits", images, ["A", "B", "MASK", "GUIDE"])
    assert list(daskcal.open_mosaic(path).children) == ["A", "B"]


def test_a_packed_mosaic_opens(tmp_path: Path) -> None:
    (plain,) = exposures(tmp_path, 1)
    with plain.open("rb") as file, gzip.open(tmp_path / "p.fits.gz", "wb") as packed:
        shutil.copyfileobj(file, packed)
    tree = daskcal.open_mosaic(tmp_path / "p.fits.gz")
    for i, node in enumerate(tree.children.values()):
        np.testing.assert_array_equal(node["image"].values[0], pixels(i))


def test_windows_of_one_detector_that_differ_are_refused(tmp_path: Path) -> None:
    exposures(tmp_path, 1)
    write_mosaic(tmp_path / "w.fits", [pixels(i, (20, 60)) for i in range(4)])
    with pytest.raises(GeometryError, match="open them apart"):
        daskcal.open_mosaic(tmp_path)


def test_the_index_gives_the_same_detectors_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKCAL_CACHE", str(tmp_path / "cache"))
    paths = exposures(tmp_path / "raw")
    spoil_header(paths[1], 2)
    for path in paths:
        os.utime(path, (1e9, 1e9))
    first = scan(tmp_path / "raw", detectors=True)
    with monkeypatch.context() as patch:
        patch.setattr("daskcal.fits.frame.open_file", None)  # no file is opened
        assert scan(tmp_path / "raw", detectors=True) == first
    assert [frame.of for frame in first.frames] == [4] * 11
    single = scan(tmp_path / "raw")  # asked for one image each, the files give none
    assert {bad.reason for bad in single.unreadable} == {"several-detectors", "damaged"}
    paths[0].write_bytes(paths[1].read_bytes())
    os.utime(paths[0], (1e9, 1e9 + 9))
    assert len(scan(tmp_path / "raw", detectors=True).frames) == 10


def test_a_scan_reads_no_more_of_a_sound_file_than_headers_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [np.zeros((600, 500), np.uint16) for _ in range(4)]
    path = write_mosaic(tmp_path / "big.fits", images)
    read = 0
    real = os.pread

    def counting(handle: int, size: int, offset: int) -> bytes:
        nonlocal read
        raw = real(handle, size, offset)
        read += len(raw)
        return raw

    monkeypatch.setattr(os, "pread", counting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(scan(path, detectors=True, index=False).frames) == 4
    assert read < 0.1 * path.stat().st_size


# --- an extension for each amplifier -------------------------------------------------------------


def in_amplifiers(path: Path, seed: int) -> dict[str, np.ndarray]:
    """Two detectors read through two amplifiers each, the right one backwards; their images."""
    wholes = {name: pixels(seed + i) for i, name in enumerate(("east", "west"))}
    half = SHAPE[1] // 2
    images, names, cards = [], [], []
    for name, whole in wholes.items():
        for side, part, columns in (
            ("L", whole[:, :half], f"1:{half}"),
            ("R", whole[:, half:][:, ::-1], f"{SHAPE[1]}:{half + 1}"),
        ):
            images.append(part)
            names.append(f"{name}{side}")
            section = {"DATASEC": f"[1:{half},1:{SHAPE[0]}]", "CCDSEC": f"[{columns},1:{SHAPE[0]}]"}
            cards.append({"CCDNAME": name, "GAIN": 1.0 + len(images), "RDNOISE": 3.0} | section)
    write_mosaic(path, images, names, {}, cards)
    return wholes


def test_amplifiers_in_extensions_of_their_own_make_detectors(tmp_path: Path) -> None:
    wholes = [in_amplifiers(tmp_path / f"e{k}.fits", 10 * k) for k in range(2)]
    tree = daskcal.open_mosaic(tmp_path)
    assert sizes(tree) == {"east": 2, "west": 2}
    for name, node in tree.children.items():
        expected = np.stack([whole[name] for whole in wholes])
        np.testing.assert_array_equal(node["image"].values, expected)
    np.testing.assert_array_equal(tree["west"]["amp_gain"].values, [[4, 5]] * 2)


@pytest.mark.parametrize("damage", [spoil_header, cut_data])
@pytest.mark.parametrize(("hdu", "left"), [(1, "west"), (2, "west"), (3, "east"), (4, "east")])
def test_a_damaged_amplifier_costs_its_detector(
    tmp_path: Path, damage: Callable[[Path, int], None], hdu: int, left: str
) -> None:
    wholes = in_amplifiers(tmp_path / "e.fits", 5)
    damage(tmp_path / "e.fits", hdu)
    with pytest.warns(DaskcalWarning, match=rf"\[HDU {hdu}\]"):
        tree = daskcal.open_mosaic(tmp_path / "e.fits")
    assert sizes(tree) == {left: 1}
    np.testing.assert_array_equal(tree[left]["image"].values[0], wholes[left])


def test_the_index_keeps_detectors_of_several_extensions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASKCAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "raw").mkdir()
    in_amplifiers(tmp_path / "raw" / "e.fits", 5)
    in_amplifiers(tmp_path / "raw" / "f.fits", 7)
    spoil_header(tmp_path / "raw" / "f.fits", 1)
    for path in (tmp_path / "raw").iterdir():
        os.utime(path, (1e9, 1e9))
    first = scan(tmp_path / "raw", detectors=True)
    assert [(len(frame.parts), frame.of) for frame in first.frames] == [(2, 2)] * 3
    with monkeypatch.context() as patch:
        patch.setattr("daskcal.fits.frame.open_file", None)  # no file is opened
        assert scan(tmp_path / "raw", detectors=True) == first
