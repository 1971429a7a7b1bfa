"""Zarr stores: exact round trips, complete or refused."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import daskcal.zarr as daskcal_zarr
from daskcal.errors import FrameError, OutputError, UnknownKeywordError
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.open import open_frames
from daskcal.zarr import open_zarr, to_zarr


def texts(*values: str) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def frames(rows: int = 8) -> xr.Dataset:
    rng = np.random.default_rng(2)
    dims, shape = ("frame", "y", "x"), (3, 20, 11)

    def plane(values: np.ndarray) -> tuple[tuple[str, ...], da.Array]:
        return dims, da.from_array(values, chunks=(1, rows, 11))

    image = rng.normal(0, 1, shape).astype(np.float32)
    image[0, 0, :2] = np.nan, np.inf
    planes = {
        "image": plane(image),
        "variance": plane(rng.random(shape).astype(np.float32)),
        "mask": plane(np.zeros(shape, np.uint16)),
    }
    times = np.array(["NaT", "2019-03-26T02:27:31.130001", "1950-01-01"], "M8[us]")
    cards = "OBJECT  = 'M 31    '".ljust(80) + "GAIN    =                  1.5".ljust(80)
    coords = {
        "path": ("frame", texts("/n/a.fits", "/n/über.fits", "")),
        "cards": ("frame", texts(cards, "", cards * 40)),
        "date_obs": ("frame", times),
        "exptime": ("frame", np.array([1.5, np.nan, np.inf])),
        "hdu": ("frame", np.array([0, 1, 2])),
        "hdr_simple": ("frame", np.array([True, False, True])),
        "imagetyp": ("frame", texts("bias", "dark", "dark")),
        "y": np.arange(7, 27),
        "x": np.arange(-3, 8),
    }
    steps = [json.dumps({"step": "trim_image", "section": "[:, 3:]"}), "{}"]
    ds = xr.Dataset(planes, coords, {"steps": steps})
    ds["image"].attrs = {"units": "adu", "quantum": 1.0}
    ds["mask"].attrs = dict(MASK_ATTRS)
    return ds


def master() -> xr.Dataset:
    ds = frames().isel(frame=0, drop=True)
    ds["n_used"] = ds["mask"].astype(np.uint16) + np.uint16(3)
    facts = {
        "imagetyp": "flat",
        "n_combined": 3,
        "rdnoise": float("nan"),
        "inputs": ["a.fits", "b.fits"],
        "cards": "OBJECT  = 'M 31    '".ljust(80),
        "date_beg": np.datetime64("2020-01-01T01:02:03.000004", "us"),
    }
    return ds.assign_attrs(facts)


def same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found.drop_attrs().compute(), expected.drop_attrs().compute())
    for name, variable in expected.variables.items():
        assert found[name].dtype == variable.dtype, name
    for now, before in ((found, expected), *((found[n], expected[n]) for n in expected.variables)):
        assert set(now.attrs) == set(before.attrs)
        for key, value in before.attrs.items():
            np.testing.assert_array_equal(now.attrs[key], value)
            assert type(now.attrs[key]) is type(value)
            assert getattr(now.attrs[key], "dtype", None) == getattr(value, "dtype", None)


@pytest.mark.parametrize("make", [frames, master])
def test_round_trip(tmp_path: Path, make: object) -> None:
    ds = make()
    before = ds.copy(deep=True)
    written = to_zarr(ds, tmp_path / "a.zarr")
    same(open_zarr(tmp_path / "a.zarr"), ds)
    same(ds, before)  # the input is as it was
    assert written.path == str(tmp_path / "a.zarr")
    files = [f for f in (tmp_path / "a.zarr").rglob("*") if f.is_file()]
    assert written.size == sum(f.stat().st_size for f in files)
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_frames_of_files_with_all_their_cards(tmp_path: Path) -> None:
    for i in range(2):
        header = fits.Header([("OBJECT", "M 31", "galaxy"), ("DATE-OBS", "2020-01-02T03:04:05")])
        header["HIERARCH ESO DET NAME"] = "left"
        header["HISTORY"] = "by hand"
        fits.writeto(tmp_path / f"{i}.fits", np.full((9, 7), i, np.uint16), header)
    opened = open_frames([tmp_path / "0.fits", tmp_path / "1.fits"], unit="adu")
    to_zarr(opened, tmp_path / "a.zarr")
    found = open_zarr(tmp_path / "a.zarr")
    same(found, opened)
    assert found["image"].dtype == np.uint16
    assert "HIERARCH ESO DET NAME" in str(found["cards"].values[1])


def test_what_is_read_back_is_lazy_and_can_be_selected(tmp_path: Path) -> None:
    to_zarr(frames(), tmp_path / "a.zarr")
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed")):
        found = open_zarr(tmp_path / "a.zarr")
        darks = found.query(frame="imagetyp == 'dark' and hdu > 1")
        assert list(found.groupby("imagetyp").groups) == ["bias", "dark"]
    assert darks.sizes["frame"] == 1
    assert all(isinstance(found[name].data, da.Array) for name in found.data_vars)
    assert all(not found[name].chunks for name in found.coords)
    assert found["image"].chunks == ((1, 1, 1), (20,), (11,))


def test_others_can_open_it(tmp_path: Path) -> None:
    to_zarr(frames(), tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xr.open_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found["image"], frames()["image"])
    assert found["image"].attrs["units"] == "adu"


def test_a_selection_of_a_store_is_written_again(tmp_path: Path) -> None:
    """Encodings of the first store must not get in the way."""
    to_zarr(frames(), tmp_path / "a.zarr")
    part = open_zarr(tmp_path / "a.zarr").isel(frame=[2, 0], y=slice(3, 17))
    to_zarr(part, tmp_path / "b.zarr")
    same(open_zarr(tmp_path / "b.zarr"), frames().isel(frame=[2, 0], y=slice(3, 17)))


def test_bytes_do_not_depend_on_layout_and_scheduler(tmp_path: Path) -> None:
    sums = set()
    for i, (rows, scheduler) in enumerate([(3, "sync"), (20, "threads"), (8, "threads")]):
        with dask.config.set(scheduler=scheduler):
            sums.add(to_zarr(frames(rows), tmp_path / f"{i}.zarr").checksum)
    assert len(sums) == 1


def test_lazy_writing(tmp_path: Path) -> None:
    lazy = to_zarr(frames(), tmp_path / "a.zarr", compute=False)
    assert not (tmp_path / "a.zarr").exists()
    assert lazy.compute().path == str(tmp_path / "a.zarr")
    same(open_zarr(tmp_path / "a.zarr"), frames())


@pytest.mark.parametrize("name", ["image", "mask", "path", "y"])
def test_a_missing_chunk_is_named(tmp_path: Path, name: str) -> None:
    to_zarr(frames(), tmp_path / "a.zarr")
    lost = next(f for f in sorted((tmp_path / "a.zarr" / name).rglob("*")) if f.name == "0")
    while lost.is_dir():
        lost = next(iter(sorted(lost.iterdir())))
    lost.unlink()
    chunk = lost.relative_to(tmp_path / "a.zarr").as_posix()
    with pytest.raises(FrameError, match=f"chunk {chunk} is missing"):
        open_zarr(tmp_path / "a.zarr")


def test_a_short_chunk_is_refused(tmp_path: Path) -> None:
    to_zarr(frames(), tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr" / "image" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(FrameError, match="chunks of image have"):
        open_zarr(tmp_path / "a.zarr")


def test_stores_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="there is no Zarr"):
        open_zarr(tmp_path / "none.zarr")
    frames().drop_vars(["path", "cards", "imagetyp"]).to_zarr(
        tmp_path / "other.zarr", zarr_format=3, consolidated=False
    )
    with pytest.raises(FrameError, match="was not written by daskcal"):
        open_zarr(tmp_path / "other.zarr")
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr" / "zarr.json").write_text("{")
    with pytest.raises(FrameError, match="is not a readable"):
        open_zarr(tmp_path / "bad.zarr")


def test_a_failure_leaves_the_older_store(tmp_path: Path) -> None:
    def burn(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("the camera is on fire")

    ds = frames()
    to_zarr(ds, tmp_path / "a.zarr")
    image = ds["image"].data.map_blocks(burn, meta=np.empty((0, 0, 0), "f4"))
    burnt = ds.assign(image=(ds["image"].dims, image))
    with pytest.raises(RuntimeError, match="on fire"):
        to_zarr(burnt, tmp_path / "a.zarr", overwrite=True)
    with pytest.raises(RuntimeError, match="on fire"):
        to_zarr(burnt, tmp_path / "b.zarr")
    lazy = to_zarr(burnt, tmp_path / "b.zarr", compute=False)
    with pytest.raises(RuntimeError, match="on fire"):
        lazy.compute()
    to_zarr(ds, tmp_path / "b.zarr")  # clears what the lazy one left
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "b.zarr"]
    same(open_zarr(tmp_path / "a.zarr"), ds)


def test_what_changed_on_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rot(root: str) -> None:
        chunk = Path(root, "image", "c", "1", "0", "0")
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2] ^= 1
        chunk.write_bytes(data)

    to_zarr(master(), tmp_path / "a.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(daskcal_zarr, "_flush", rot)
        with pytest.raises(OutputError, match="image that was read back differs"):
            to_zarr(frames(), tmp_path / "a.zarr", overwrite=True)
    assert os.listdir(tmp_path) == ["a.zarr"]
    same(open_zarr(tmp_path / "a.zarr"), master())


def test_a_file_system_that_cannot_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daskcal_zarr, "exchange", lambda *_: False)
    to_zarr(frames(), tmp_path / "a.zarr")
    to_zarr(master(), tmp_path / "a.zarr", overwrite=True)
    same(open_zarr(tmp_path / "a.zarr"), master())
    rename = os.rename

    def failing(old: str, new: str) -> None:
        if new.endswith("a.zarr") and old.endswith(".tmp"):
            raise OSError(5, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OutputError, match="Input/output error"):
        to_zarr(frames(), tmp_path / "a.zarr", overwrite=True)
    same(open_zarr(tmp_path / "a.zarr"), master())
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_overwrite(tmp_path: Path) -> None:
    to_zarr(frames(), tmp_path / "a.zarr")
    with pytest.raises(OutputError, match="overwrite=True"):
        to_zarr(master(), tmp_path / "a.zarr")
    to_zarr(master(), tmp_path / "a.zarr", overwrite=True)
    same(open_zarr(tmp_path / "a.zarr"), master())
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        to_zarr(frames(), tmp_path / "none" / "a.zarr")
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputError, match="is not a Zarr store"):
        to_zarr(frames(), tmp_path / "photos", overwrite=True)
    to_zarr(frames(), tmp_path / "rest.zarr")
    (tmp_path / "rest.zarr" / "zarr.json").unlink()
    (tmp_path / "rest.zarr" / "notes").write_text("")
    with pytest.raises(OutputError, match="is not a Zarr store"):
        to_zarr(frames(), tmp_path / "rest.zarr", overwrite=True)
    (tmp_path / "rest.zarr" / "notes").unlink()
    to_zarr(frames(), tmp_path / "rest.zarr", overwrite=True)
    same(open_zarr(tmp_path / "rest.zarr"), frames())
    with pytest.raises(UnknownKeywordError, match="did you mean 'overwrite'"):
        to_zarr(frames(), tmp_path / "a.zarr", overwrit=True)
