"""Frames and masters as FITS products, and masters read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from astropy.wcs import WCS

import daskcal
from daskcal.errors import ArgumentError, FrameError, OutputError, UnknownKeywordError
from daskcal.fits.scan import is_product, scan
from daskcal.frames.blocks import blocks
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.open import open_frames
from daskcal.products import open_master, product_names, to_fits

NY, NX = 30, 40


def raw_header(i: int) -> fits.Header:
    header = fits.Header()
    header["IMAGETYP"] = ("OBJECT", "kind")
    header["EXPTIME"] = (300.0 + i, "seconds")
    header["DATE-OBS"] = f"2020-01-0{i + 1}T03:04:05.5"
    header["FILTER"] = "g'"
    header["GAIN"] = (1.5, "electron per adu")
    header["BIASSEC"] = "[36:40,1:30]"
    for key, value in (("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRPIX1", 20.5)):
        header[key] = value
    for key, value in (("CRPIX2", 15.25), ("CRVAL1", 10.0), ("CRVAL2", 41.0)):
        header[key] = value
    header["CD1_1"], header["CD2_2"] = -1e-4, 1e-4
    header["HISTORY"] = "taken by hand"
    return header


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    for i in range(3):
        data = np.random.default_rng(i).integers(0, 65535, (NY, NX), dtype=np.uint16)
        fits.writeto(folder / f"n{i}.fits", data, raw_header(i))
    return folder


def calibrated(raw: Path) -> xr.Dataset:
    """Frames as calibration leaves them: trimmed floats with variances and a mask."""
    frames = open_frames(raw, unit="adu").isel(x=slice(4, 36), y=slice(2, None))
    values = frames["image"].astype(np.float32)
    mask = xr.zeros_like(values, dtype=np.uint16).assign_attrs(MASK_ATTRS)
    out = frames.assign(
        image=values.assign_attrs(frames["image"].attrs),
        variance=values * 0 + 9,
        variance_shared=values * 0 + 16,
        mask=xr.where(values > 60000, np.uint16(4), mask).assign_attrs(MASK_ATTRS),
    )
    return out.assign_attrs(steps=[json.dumps({"step": "trim_image", "section": "[2:, 4:36]"})])


def master(shared: bool = True) -> xr.Dataset:
    rng = np.random.default_rng(5)
    shape, chunks = (NY, NX), (7, NX)

    def plane(values: np.ndarray) -> tuple[tuple[str, str], da.Array]:
        return ("y", "x"), da.from_array(values, chunks=chunks)

    image = rng.normal(1000, 5, shape).astype(np.float32)
    image[3, 4] = np.nan
    mask = np.zeros(shape, np.uint16)
    mask[3, 4] = 16
    planes = {
        "image": plane(image),
        "variance": plane(rng.uniform(1, 9, shape).astype(np.float32)),
        "mask": plane(mask),
        "n_used": plane(rng.integers(0, 12, shape).astype(np.uint16)),
    }
    if shared:
        planes["variance_shared"] = plane(rng.uniform(1, 4, shape).astype(np.float32))
    cards = raw_header(0).tostring(sep="", endcard=False, padding=False)
    attrs = {
        "steps": [json.dumps({"step": "combine", "method": "average", "note": "ü" * 60})],
        "cards": cards,
        "imagetyp": "dark",
        "n_combined": 12,
        "inputs": [f"dark_{i:03d}.fits" for i in range(12)],
        "exptime": 300.5,
        "darktime": 301.0,
        "gain": 1.5,
        "rdnoise": float("nan"),
        "filter": "",
        "date_beg": "2020-01-01T03:04:05.500000",
        "date_end": "2020-01-01T05:04:05",
        "mjd_avg": 58849.25,
    }
    out = xr.Dataset(
        planes, coords={"y": np.arange(2, NY + 2), "x": np.arange(4, NX + 4)}, attrs=attrs
    )
    out["image"].attrs["units"] = "adu"
    out["mask"].attrs = dict(MASK_ATTRS)
    return out


def check_file(path: str | Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
            hdus.verify("exception")
            assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
    if shutil.which("fitsverify"):
        run = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False)
        assert "0 warning(s) and 0 error(s)" in run.stdout, run.stdout


def test_of_no_frames_nothing_is_written(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no frame is selected"):
        to_fits(calibrated(raw).isel(frame=[]), tmp_path / "science")
    assert not (tmp_path / "science").exists()


def test_where_one_file_must_not_be_written_none_is(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "science"
    folder.mkdir()
    (folder / "n2.fits").write_text("mine")
    with pytest.raises(OutputError, match=r"n2\.fits exists; pass overwrite=True"):
        to_fits(calibrated(raw), folder)
    assert os.listdir(folder) == ["n2.fits"]


def test_a_name_of_a_packed_file_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"bias\.fits\.gz: files are not packed"):
        to_fits(daskcal.combine(calibrated(raw)), tmp_path / "bias.fits.gz")
    assert not list(tmp_path.glob("bias*"))


def test_what_is_read_from_is_never_replaced(raw: Path) -> None:
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    frames = calibrated(raw)
    with pytest.raises(OutputError, match=r"n0\.fits is a frame that these pixels are read from"):
        to_fits(frames, raw, overwrite=True)
    with pytest.raises(OutputError, match=r"n1\.fits is a frame"):
        to_fits(daskcal.combine(frames), raw / "n1.fits", overwrite=True)
    with pytest.raises(OutputError, match="is a frame"):
        to_fits(frames.isel(frame=[1]), raw, names=["n1"], overwrite=True, compute=False)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == before


def test_frames_become_a_file_each(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)
    written = to_fits(frames, tmp_path / "science")
    assert [Path(w.path).name for w in written] == ["n0.fits", "n1.fits", "n2.fits"]
    assert sorted(os.listdir(tmp_path / "science")) == ["n0.fits", "n1.fits", "n2.fits"]
    for i, one in enumerate(written):
        check_file(one.path)
        ccd = CCDData.read(one.path)
        frame = frames.isel(frame=i).compute()
        np.testing.assert_array_equal(ccd.data, frame["image"])
        assert ccd.data.dtype.newbyteorder("=") == np.float32
        np.testing.assert_array_equal(ccd.uncertainty.array, np.full((28, 32), 5.0))
        assert isinstance(ccd.uncertainty, StdDevUncertainty)
        np.testing.assert_array_equal(ccd.mask, frame["mask"] != 0)
        assert ccd.unit == u.adu
        header = ccd.header
        assert (header["EXPTIME"], header["FILTER"]) == (300.0 + i, "g'")
        assert header.comments["EXPTIME"] == "seconds"
        assert not {"BIASSEC", "BZERO", "COMBINED"} & set(header)
        assert header["HISTORY"][0] == "taken by hand"
        assert "trim_image" in str(header["HISTORY"])
        with fits.open(one.path) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "MASK"]
            assert hdus["MASK"].header["FLAG4"] == "saturated"
            np.testing.assert_array_equal(hdus["MASK"].data, frame["mask"])


def test_the_sky_and_the_detector_stay_where_they_are(raw: Path, tmp_path: Path) -> None:
    (first, *_) = to_fits(calibrated(raw), tmp_path / "science")
    before = WCS(fits.getheader(raw / "n0.fits")).pixel_to_world_values(20, 15)
    header = fits.getheader(first.path)
    np.testing.assert_allclose(
        WCS(header).pixel_to_world_values(16, 13), before, rtol=0, atol=1e-12
    )
    assert (header["LTV1"], header["LTV2"]) == (-4, -2)
    again = open_frames(first.path)
    assert (int(again.y[0]), int(again.x[0])) == (2, 4)


def test_products_are_not_taken_for_raw_frames(raw: Path, tmp_path: Path) -> None:
    to_fits(calibrated(raw), tmp_path / "out")
    to_fits(master(shared=False), tmp_path / "out" / "dark.fits")
    assert all(is_product(frame.header) for frame in scan(tmp_path / "out").frames)
    assert not any(is_product(frame.header) for frame in scan(raw).frames)


def test_no_uncertainty_where_the_noise_is_unknown(raw: Path, tmp_path: Path) -> None:
    (one, *_) = to_fits(calibrated(raw).drop_vars(["variance", "variance_shared"]), tmp_path / "o")
    ccd = CCDData.read(one.path)
    assert ccd.uncertainty is None
    assert ccd.mask is not None
    (one, *_) = to_fits(calibrated(raw), tmp_path / "o", planes=["image"], overwrite=True)
    with fits.open(one.path) as hdus:
        assert len(hdus) == 1


def test_raw_frames_are_written_too(raw: Path, tmp_path: Path) -> None:
    written = to_fits(open_frames(raw, unit="adu"), tmp_path / "copy")
    for one in written:
        check_file(one.path)
        np.testing.assert_array_equal(
            fits.getdata(one.path), fits.getdata(raw / Path(one.path).name)
        )


def test_bytes_do_not_depend_on_the_layout(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)
    sums = []
    for i, (rows, scheduler) in enumerate([(64, "threads"), (3, "sync"), (11, "threads")]):
        with dask.config.set(scheduler=scheduler):
            cut = blocks(frames, frame=1, rows=rows)
            sums.append([w.checksum for w in to_fits(cut, tmp_path / f"{i}")])
            cut = master().chunk({"y": rows})
            sums[-1] += [w.checksum for w in to_fits(cut, tmp_path / f"{i}.fits")]
    assert sums[0] == sums[1] == sums[2]


def test_lazy_writing(raw: Path, tmp_path: Path) -> None:
    sinks = to_fits(calibrated(raw), tmp_path / "o", compute=False)
    assert os.listdir(tmp_path / "o") == []
    written = dask.compute(*sinks)
    assert [Path(w.path).name for w in written] == ["n0.fits", "n1.fits", "n2.fits"]


def test_gains_after_gain_correct(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)
    gains = np.array([1.5, 1.25, 2.0])
    done = daskcal.gain_correct(frames.assign_coords(gain=("frame", gains)).assign_attrs(steps=[]))
    turned = done.isel(frame=[2, 0, 1])  # what is known of a frame goes with it
    written = to_fits(turned, tmp_path / "o")
    for one, gain in zip(written, gains[[2, 0, 1]], strict=True):
        header = fits.getheader(one.path)
        assert header["GAIN"] == 1.0
        assert f'"gain": {gain}' in str(header["HISTORY"])


def test_master_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "dark.fits"
    whole = master()
    (written,) = to_fits(whole, path)
    check_file(path)
    found = open_master(path)
    for name in ("image", "mask", "n_used"):
        np.testing.assert_array_equal(found[name], whole[name])
        assert found[name].dtype == whole[name].dtype
    for name in ("variance", "variance_shared"):
        np.testing.assert_allclose(found[name], whole[name], rtol=3e-6)
        assert found[name].dtype == np.float32
    assert found["image"].attrs["units"] == "adu"
    np.testing.assert_array_equal(found["y"], whole["y"])
    np.testing.assert_array_equal(found["x"], whole["x"])
    for name in ("imagetyp", "n_combined", "inputs", "exptime", "darktime", "gain", "mjd_avg"):
        assert found.attrs[name] == whole.attrs[name]
    assert [json.loads(s) for s in found.attrs["steps"]] == [
        json.loads(s) for s in whole.attrs["steps"]
    ]
    assert found.attrs["file"] == "dark.fits"
    assert found.attrs["checksum"] == written.checksum
    assert written.checksum == hashlib.sha256(path.read_bytes()).hexdigest()


def test_master_header(tmp_path: Path) -> None:
    path = tmp_path / "dark.fits"
    to_fits(master(), path)
    header = fits.getheader(path)
    assert (header["COMBINED"], header["NCOMBINE"], header["IMAGETYP"]) == (True, 12, "DARK")
    assert (header["EXPTIME"], header["MJD-AVG"], header["BUNIT"]) == (300.5, 58849.25, "adu")
    assert header["DATE-BEG"] == "2020-01-01T03:04:05.5"
    assert header["DATE-END"] == "2020-01-01T05:04:05"
    assert "DASKCAL" in header
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
    assert names == ["PRIMARY", "UNCERT", "UNCSHARE", "MASK", "NUSED"]
    ccd = CCDData.read(path)
    assert ccd.uncertainty is not None
    assert ccd.mask.sum() == 1


def test_a_master_written_again_says_the_same(tmp_path: Path) -> None:
    (first,) = to_fits(master(), tmp_path / "a.fits")
    (second,) = to_fits(open_master(tmp_path / "a.fits"), tmp_path / "b.fits")
    kept = []
    for one in (first, second):
        cards = fits.getheader(one.path).cards
        kept.append([str(c) for c in cards if c.keyword not in ("CHECKSUM", "HISTORY")])
    assert sorted(kept[0]) == sorted(kept[1])
    found, again = (open_master(one.path) for one in (first, second))
    for name in ("steps", "inputs", "imagetyp", "exptime", "n_combined", "date_beg"):
        assert again.attrs[name] == found.attrs[name]
    xr.testing.assert_allclose(again, found, rtol=1e-6)


def test_opening_a_master_reads_no_pixel(tmp_path: Path) -> None:
    to_fits(master(), tmp_path / "a.fits")
    found = open_master(tmp_path / "a.fits")
    assert all(isinstance(found[name].data, da.Array) for name in found.data_vars)


def test_rice_masters(tmp_path: Path) -> None:
    whole = master()
    to_fits(whole, tmp_path / "a.fits", compress="rice")
    check_file(tmp_path / "a.fits")
    found = open_master(tmp_path / "a.fits")
    np.testing.assert_array_equal(found["mask"], whole["mask"])
    np.testing.assert_allclose(found["image"], whole["image"], rtol=0, atol=1)
    assert found.attrs["imagetyp"] == "dark"
    ccd = CCDData.read(tmp_path / "a.fits", hdu=1)
    assert ccd.shape == (NY, NX)
    assert ccd.uncertainty is not None


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty])
def test_a_master_of_ccdproc(tmp_path: Path, kind: type) -> None:
    rng = np.random.default_rng(1)
    data = rng.normal(500, 3, (NY, NX))
    mask = rng.random((NY, NX)) > 0.9
    ccd = CCDData(data, unit="adu", mask=mask, uncertainty=kind(np.full((NY, NX), 4.0)))
    ccd.meta["IMAGETYP"] = "BIAS"
    ccd.meta["COMBINED"] = True
    ccd.write(tmp_path / "bias.fits")
    found = open_master(tmp_path / "bias.fits")
    assert found["image"].dtype == np.float64
    np.testing.assert_array_equal(found["image"], data)
    np.testing.assert_array_equal(found["mask"], mask.astype(np.uint16))
    variance = 16.0 if kind is StdDevUncertainty else 4.0
    np.testing.assert_array_equal(found["variance"], np.full((NY, NX), variance))
    assert found.attrs["imagetyp"] == "bias"
    assert found["image"].attrs["units"] == "adu"
    assert "steps" not in found.attrs


def test_a_plain_image_as_master(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    data[1, 1] = np.inf
    fits.writeto(tmp_path / "flat.fits", data)
    found = open_master(tmp_path / "flat.fits").compute()
    assert found["mask"].values[1, 1] == 16
    assert found["mask"].values.sum() == 16
    assert "variance" not in found


def test_masters_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="none"):
        open_master(tmp_path / "none.fits")
    (tmp_path / "text.fits").write_text("no")
    with pytest.raises(FrameError):
        open_master(tmp_path / "text.fits")


def test_a_failing_frame_leaves_no_trace(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)

    def burn(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("the camera is on fire")

    burnt = frames["image"].copy(
        data=frames["image"].data.map_blocks(burn, meta=np.empty((0, 0, 0), "f4"))
    )
    folder = tmp_path / "o"
    to_fits(frames, folder)
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    with pytest.raises(RuntimeError, match="on fire"):
        to_fits(frames.assign(image=burnt), folder, overwrite=True)
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_few_files_are_in_the_making_at_once(tmp_path: Path) -> None:
    folder, out = tmp_path / "raw", tmp_path / "out"
    folder.mkdir()
    for i in range(11):
        fits.writeto(folder / f"n{i:02d}.fits", np.full((NY, NX), i, np.uint16))
    frames = open_frames(folder, unit="adu")
    most = []

    def look(block: np.ndarray) -> np.ndarray:
        most.append(sum(name.startswith(".") for name in os.listdir(out)))
        return block

    seen = frames["image"].data.map_blocks(look, meta=np.empty((0, 0, 0), "u2"))
    written = to_fits(frames.assign(image=frames["image"].copy(data=seen)), out)
    assert [fits.getdata(one.path).max() for one in written] == list(range(11))
    assert len(most) == 11
    assert max(most) <= 4


def test_what_is_not_written_is_not_computed(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)

    def burn(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("the camera is on fire")

    burnt = frames["variance"].data.map_blocks(burn, meta=np.empty((0, 0, 0), "f4"))
    frames["variance"] = frames["variance"].copy(data=burnt)
    for one in to_fits(frames, tmp_path / "o", planes=["image", "mask"]):
        with fits.open(one.path) as hdus:
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASK"]


def test_refusals(raw: Path, tmp_path: Path) -> None:
    frames = calibrated(raw)
    with pytest.raises(OutputError, match="there is no folder"):
        to_fits(master(), tmp_path / "none" / "a.fits")
    with pytest.raises(OutputError, match="cannot be made"):
        to_fits(frames, tmp_path / "none" / "deep")
    with pytest.raises(ArgumentError, match="did you mean 'uncert'"):
        to_fits(frames, tmp_path / "o", planes=["image", "uncet"])
    with pytest.raises(ArgumentError, match="3 distinct names"):
        to_fits(frames, tmp_path / "o", names=["a", "A", "b"])
    with pytest.raises(ArgumentError, match="not the name of a file"):
        to_fits(frames, tmp_path / "o", names=["a", "../b", "c"])
    with pytest.raises(UnknownKeywordError, match="did you mean 'overwrite'"):
        to_fits(frames, tmp_path / "o", overwrit=True)
    to_fits(frames, tmp_path / "o")
    with pytest.raises(OutputError, match="overwrite=True"):
        to_fits(frames, tmp_path / "o")


@pytest.mark.parametrize(
    ("paths", "hdus", "names"),
    [
        (["/n/a.fits", "/n/b.fit.gz"], [0, 0], ["a", "b"]),
        (["/n/a.fits", "/n/a.fits.gz"], [0, 0], ["a_fits", "a_fits_gz"]),
        (["/n/a.fits", "/n/a.fits"], [1, 2], ["a_hdu1", "a_hdu2"]),
        (["/n/red/a.fits", "/n/blue/a.fits"], [0, 0], ["a_red", "a_blue"]),
        (["/n/A.fits", "/n/m/a.fits"], [0, 0], ["A_n", "a_m"]),
        (["/1/x/a.fits", "/2/x/a.fits"], [0, 0], ["a_1", "a_2"]),
        (["", ""], [0, 1], ["frame_hdu0", "frame_hdu1"]),
        (["/x/a.fits", "/y/a.fits", "/a_x.fits"], [0, 0, 0], ["a_1", "a_2", "a_x"]),
        (["/n/night 1.fz"], [1], ["night 1"]),
        (["/n/x:y.fits", '/n/<b>"?*\\|.fits'], [0, 0], ["x_y", "_b______"]),
        (["/n/x:y.fits", "/n/x_y.fits", "/n/x?y.fits"], [0, 0, 0], ["x_y_1", "x_y_2", "x_y_3"]),
        (["/a:b/n.fits", "/c/n.fits"], [0, 0], ["n_a_b", "n_c"]),
        (
            ["/n/CON.fits", "/n/nul.2.fits.gz", "/n/Com1.fit"],
            [0, 0, 0],
            ["CON_", "nul_.2", "Com1_"],
        ),
        (["/n/CON.fits", "/n/con_.fits"], [0, 0], ["CON__1", "con__2"]),
        (["/n/console.fits", "/n/étoile Ω.fits"], [0, 0], ["console", "étoile Ω"]),
    ],
)
def test_names_are_distinct(paths: list[str], hdus: list[int], names: list[str]) -> None:
    assert product_names(paths, hdus) == names
