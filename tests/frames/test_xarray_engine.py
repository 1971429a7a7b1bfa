"""The engine of xarray: the pixels that astropy reads, lazily, whatever way a file stores them."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from raw_fits import no_computing

import daskcal
from daskcal.errors import ArgumentError, FrameError
from daskcal.frames.recipe import Files
from daskcal.frames.recovery import recover

SHAPE = (40, 60)
CARDS = {"IMAGETYP": "object", "EXPTIME": 60.0, "BUNIT": "adu", "GAIN": 1.5, "RDNOISE": 5.0}


def _hdu(kind: str, seed: int, name: str = "") -> fits.ImageHDU | fits.CompImageHDU:
    values = np.random.default_rng(seed).integers(0, 60000, SHAPE).astype("u2")
    if kind == "rice":
        hdu = fits.CompImageHDU(values, name=name, compression_type="RICE_1")
    else:
        hdu = fits.ImageHDU(values.astype("f4") if kind == "float" else values, name=name)
    if kind == "scaled":
        hdu.data = values.astype("f8") / 8
        hdu.scale("int16", bscale=0.125, bzero=4096.0)
    hdu.header.update(CARDS)
    return hdu


@pytest.fixture(params=["uint16", "scaled", "float", "rice"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _write(path: Path, kind: str, names: str) -> Path:
    hdus = [_hdu(kind, i, name) for i, name in enumerate(names.split())]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


@pytest.mark.parametrize("chunks", [None, {}, "auto", {"y": 7}])
def test_one_image_is_what_astropy_reads(tmp_path: Path, kind: str, chunks: object) -> None:
    path = _write(tmp_path / "one.fits", kind, "SCI")
    with no_computing():
        opened = xr.open_dataset(path, engine="daskcal", chunks=chunks)
        assert opened["image"].dims == ("frame", "y", "x")
        assert isinstance(opened["image"].data, da.Array)
        assert isinstance((opened["image"].isel(y=slice(3, 9)) - 100).data, da.Array)
    np.testing.assert_array_equal(opened["image"].values[0], fits.getdata(path, 1))
    xr.testing.assert_identical(opened.drop_encoding(), daskcal.open_frames(path))
    if chunks == {"y": 7}:
        assert opened["image"].chunks[1] == (7, 7, 7, 7, 7, 5)


def test_what_is_opened_without_chunks_is_read_in_the_layout_of_each_step(tmp_path: Path) -> None:
    opened = xr.open_dataset(_write(tmp_path / "one.fits", "uint16", "SCI"), engine="daskcal")
    assert isinstance(recover(opened).recipe.source, Files)
    assert opened["exptime"].item() == 60.0
    assert daskcal.gain_correct(opened)["image"].attrs["units"] == "electron"


def test_each_detector_is_what_astropy_reads(tmp_path: Path, kind: str) -> None:
    path = _write(tmp_path / "four.fits", kind, "NW NE SW SE")
    with no_computing():
        tree = xr.open_datatree(path, engine="daskcal")
    assert list(tree.children) == ["NW", "NE", "SW", "SE"]
    for i, node in enumerate(tree.children.values(), 1):
        assert isinstance(node["image"].data, da.Array)
        np.testing.assert_array_equal(node["image"].values[0], fits.getdata(path, i))
    chunked = xr.open_datatree(path, engine="daskcal", chunks={"y": 10})
    assert chunked["SE"]["image"].chunks[1] == (10,) * 4
    groups = xr.open_groups(path, engine="daskcal")
    assert {"/NW", "/NE", "/SW", "/SE"} <= set(groups)


def test_one_detector_of_several_by_its_hdu(tmp_path: Path) -> None:
    path = _write(tmp_path / "two.fits", "uint16", "NW NE")
    opened = xr.open_dataset(path, engine="daskcal", hdu="NE")
    np.testing.assert_array_equal(opened["image"].values[0], fits.getdata(path, 2))
    with pytest.raises(FrameError, match="open_mosaic"):
        xr.open_dataset(path, engine="daskcal")


def test_variables_that_are_not_wanted_are_dropped(tmp_path: Path) -> None:
    path = _write(tmp_path / "two.fits", "uint16", "NW NE")
    unwanted = ["hdr_gain", "cards", "nothing"]
    opened = xr.open_dataset(path, engine="daskcal", hdu=1, drop_variables=unwanted)
    assert not {"hdr_gain", "cards"} & set(opened.coords)
    tree = xr.open_datatree(path, engine="daskcal", drop_variables="hdr_gain", unit="adu")
    assert "hdr_gain" not in tree["NE"].coords
    assert "cards" in tree["NE"].coords


@pytest.mark.parametrize("name", ["f.fits", "no_ending", "f.fits.gz"])
def test_the_engine_is_found_by_what_a_file_holds(tmp_path: Path, name: str) -> None:
    plain = _write(tmp_path / "x.fits", "uint16", "SCI")
    path = tmp_path / name
    if name.endswith(".gz"):
        with plain.open("rb") as file, gzip.open(path, "wb") as packed:
            shutil.copyfileobj(file, packed)
    else:
        plain.rename(path)
    assert xr.open_dataset(path)["image"].shape == (1, *SHAPE)


def test_what_is_no_fits_file_is_left_to_other_engines(tmp_path: Path) -> None:
    engine = xr.backends.list_engines()["daskcal"]
    (tmp_path / "notes.txt").write_text("not FITS")
    assert not engine.guess_can_open(tmp_path / "notes.txt")
    assert not engine.guess_can_open(tmp_path)
    assert not engine.guess_can_open(b"SIMPLE  =")
    assert engine.guess_can_open(tmp_path / "not_there.fits")


def test_what_is_no_file_is_refused_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"daskcal\.open_frames opens"):
        xr.open_dataset(tmp_path, engine="daskcal")
    with pytest.raises(ArgumentError, match="by its path, found bytes"):
        xr.open_dataset(b"SIMPLE  =", engine="daskcal")
    with pytest.raises(FrameError, match="no such file"):
        xr.open_dataset(tmp_path / "not_there.fits", engine="daskcal")
