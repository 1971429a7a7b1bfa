"""Products behind URLs: those of this machine byte for byte, whole or not there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.memory import MemoryFileSystem

import daskcal
from daskcal.errors import FrameError, OutputError
from daskcal.fits.content import spool_folder


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def pixels(frames: int = 0, fail: bool = False) -> xr.Dataset:
    """A master, or frames, in several bands; one of them cannot be computed where it is to fail."""
    shape = (frames, 90, 70) if frames else (90, 70)
    dims = ("frame", "y", "x") if frames else ("y", "x")
    rng = np.random.default_rng(7)

    def broken(band: np.ndarray, block_info: Any = None) -> np.ndarray:
        if fail and block_info and block_info[0]["chunk-location"][-2] == 2:
            raise FrameError("raw.fits", "damaged", "a tile cannot be decoded")
        return band

    planes = {
        "image": rng.normal(100, 5, shape).astype("f4"),
        "variance": rng.uniform(1, 2, shape).astype("f4"),
        "mask": rng.integers(0, 2, shape).astype("u2"),
    }
    chunks = (*((1,) if frames else ()), 30, 70)
    made = xr.Dataset(
        {
            name: (
                dims,
                da.from_array(values, chunks=chunks).map_blocks(broken, dtype=values.dtype),
            )
            for name, values in planes.items()
        },
        {"y": np.arange(90), "x": np.arange(70)},
        {"imagetyp": "bias"},
    )
    made["image"].attrs["units"] = "adu"
    made["mask"].attrs = {"flag_masks": np.array([1], "u2"), "flag_meanings": "bad"}
    if frames:
        names = np.array([f"/raw/f{i}.fits" for i in range(frames)], dtype=object)
        made = made.assign_coords(path=("frame", names))
    return made


@pytest.mark.parametrize("compress", ["none", "rice"])
def test_a_master_is_the_same_file_and_reads_back(
    compress: str, store: MemoryFileSystem, tmp_path: Path
) -> None:
    url = "memory://reduced/masters/bias.fits"
    (there,) = daskcal.to_fits(pixels(), url, compress=compress)
    (here,) = daskcal.to_fits(pixels(), tmp_path / "bias.fits", compress=compress)
    assert (there.path, there.size, there.checksum) == (url, here.size, here.checksum)
    assert hashlib.sha256(store.cat_file(url)).hexdigest() == here.checksum
    opened = [daskcal.open_master(p) for p in (url, tmp_path / "bias.fits")]
    assert opened[0].identical(opened[1])
    assert list(spool_folder().glob("*product-*")) == []


def test_frames_get_a_file_each(store: MemoryFileSystem, tmp_path: Path) -> None:
    there = daskcal.to_fits(pixels(6), "memory://reduced/science/")
    here = daskcal.to_fits(pixels(6), tmp_path / "science")
    assert [w.path for w in there] == [f"memory://reduced/science/f{i}.fits" for i in range(6)]
    assert [w.checksum for w in there] == [w.checksum for w in here]


def test_an_older_product_stays_unless_it_is_to_be_replaced(store: MemoryFileSystem) -> None:
    url = "memory://reduced/bias.fits"
    (first,) = daskcal.to_fits(pixels(), url)
    with pytest.raises(OutputError, match=r"memory://reduced/bias\.fits exists"):
        daskcal.to_fits(pixels(), url)
    with pytest.raises(FrameError, match="a tile cannot be decoded"):
        daskcal.to_fits(pixels(fail=True), url, overwrite=True)
    assert hashlib.sha256(store.cat_file(url)).hexdigest() == first.checksum
    (again,) = daskcal.to_fits(pixels() + 1, url, overwrite=True)
    assert hashlib.sha256(store.cat_file(url)).hexdigest() == again.checksum != first.checksum


def test_what_cannot_be_made_leaves_nothing(store: MemoryFileSystem) -> None:
    with pytest.raises(FrameError):
        daskcal.to_fits(pixels(fail=True), "memory://reduced/bias.fits")
    assert store.find("/") == []
    assert list(spool_folder().glob("*product-*")) == []


def test_a_store_that_refuses_is_named(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with pytest.raises(
        OutputError, match=r"memory://r/bias\.fits cannot be written.*Access Denied"
    ):
        daskcal.to_fits(pixels(), "memory://r/bias.fits")


@pytest.mark.parametrize("frames", [0, 3])
def test_a_zarr_store_is_the_same_and_opens_with_xarray_too(
    frames: int, store: MemoryFileSystem, tmp_path: Path
) -> None:
    url = "memory://reduced/night.zarr"
    there, here = (daskcal.to_zarr(pixels(frames), p) for p in (url, tmp_path / "night.zarr"))
    assert (there.size, there.checksum) == (here.size, here.checksum)
    opened = daskcal.open_zarr(url)
    assert opened.identical(daskcal.open_zarr(tmp_path / "night.zarr"))
    plain = xr.open_zarr(url)
    for name in ("image", "variance", "mask"):
        assert (plain[name].values == pixels(frames)[name].values).all()
    with pytest.raises(OutputError, match=r"memory://reduced/night\.zarr exists"):
        daskcal.to_zarr(pixels(frames), url)
    replaced = daskcal.to_zarr(pixels(frames) + 1, url, overwrite=True)
    assert replaced.checksum != there.checksum
    daskcal.open_zarr(url)


def test_a_zarr_store_is_invisible_until_it_is_complete(store: MemoryFileSystem) -> None:
    url = "memory://reduced/night.zarr"
    with pytest.raises(FrameError, match="a tile cannot be decoded"):
        daskcal.to_zarr(pixels(fail=True), url)
    assert store.find("/reduced") != []  # chunks are there
    with pytest.raises(FrameError, match="there is no Zarr v3 store"):
        daskcal.open_zarr(url)
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(url)
    written = daskcal.to_zarr(pixels(), url, overwrite=True)
    assert written.size == sum(store.du("/reduced", total=False).values())  # no other file is left
    chunk = next(name for name in store.find("/reduced") if "/image/c/" in name)
    store.rm_file(chunk)
    with pytest.raises(FrameError, match=r"chunk image/c/.* is missing"):
        daskcal.open_zarr(url)


def test_what_is_no_store_is_not_replaced(store: MemoryFileSystem) -> None:
    store.pipe_file("/data/thesis.txt", b"no store")
    with pytest.raises(OutputError, match="not a Zarr store"):
        daskcal.to_zarr(pixels(), "memory://data", overwrite=True)
    assert store.cat_file("/data/thesis.txt") == b"no store"
