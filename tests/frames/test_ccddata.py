"""To astropy's CCDData and back."""

import astropy.units as u
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from raw_fits import write_frames

import daskcal

SHAPE = (6, 8)
IMAGE = np.arange(48.0, dtype=np.float32).reshape(SHAPE) + 100


def sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (10, 20), (4.5, 3.25), (-1e-4, 1e-4)
    return wcs


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(np.full(SHAPE, 2.0)),
        VarianceUncertainty(np.full(SHAPE, 4.0)),
        InverseVariance(np.full(SHAPE, 0.25)),
    ],
    ids=lambda u: type(u).__name__,
)
def test_every_uncertainty_becomes_a_variance(uncertainty):
    frames = daskcal.from_ccddata(CCDData(IMAGE, unit="adu", uncertainty=uncertainty))
    np.testing.assert_allclose(frames.variance.values, 4)
    (back,) = daskcal.to_ccddata(frames)
    assert isinstance(back.uncertainty, StdDevUncertainty)
    np.testing.assert_allclose(back.uncertainty.array, 2)


def test_an_uncertainty_of_no_known_kind_is_refused():
    ccd = CCDData(IMAGE, unit="adu", uncertainty=UnknownUncertainty(IMAGE))
    with pytest.raises(daskcal.ArgumentError, match="UnknownUncertainty"):
        daskcal.from_ccddata(ccd)


def test_no_variance_where_one_has_none():
    pair = [
        CCDData(IMAGE, unit="adu", uncertainty=StdDevUncertainty(IMAGE)),
        CCDData(IMAGE, unit="adu"),
    ]
    assert "variance" not in daskcal.from_ccddata(pair)


def test_masks_and_undefined_pixels():
    data = IMAGE.copy()
    data[0, 0] = np.nan
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    frames = daskcal.from_ccddata(
        [CCDData(data, unit="adu", mask=mask), CCDData(IMAGE, unit="adu")]
    )
    expected = np.zeros((2, *SHAPE), np.uint16)
    expected[0, 0, 0], expected[0, 2, 3] = 16, 1
    np.testing.assert_array_equal(frames.mask.values, expected)
    back, other = daskcal.to_ccddata(frames)
    np.testing.assert_array_equal(back.mask, expected[0] != 0)
    assert not other.mask.any()
    assert "mask" not in daskcal.from_ccddata(CCDData(IMAGE, unit="adu"))


def test_headers_and_dates_become_coordinates():
    header = fits.Header({"IMAGETYP": "Dark Frame", "EXPTIME": 30.0, "GAIN": 2.0})
    header["DATE-OBS"], header["NCOMB"] = "2020-01-02T03:04:05", np.int64(3)
    header["HISTORY"] = "made up"
    frames = daskcal.from_ccddata(CCDData(IMAGE, unit="adu", meta=header))
    assert frames.imagetyp.item() == "dark"
    assert frames.exptime.item() == frames.hdr_exptime.item() == 30
    assert frames.date_obs.values[0] == np.datetime64("2020-01-02T03:04:05")
    assert frames.gain.item() == 2
    assert frames.hdr_ncomb.item() == 3
    (back,) = daskcal.to_ccddata(frames)
    assert back.header["EXPTIME"] == 30
    assert back.header["HISTORY"][0] == "made up"


def test_a_header_that_is_a_dict():
    meta = {"exptime": 12.5, "object": "M 31", "a long keyword": 1, "list": [1, 2], "none": None,
            "greek": "α"}  # fmt: skip
    frames = daskcal.from_ccddata(CCDData(IMAGE, unit="electron", meta=meta))
    assert frames.exptime.item() == 12.5
    assert frames.object.item() == "M 31"
    assert frames.hdr_a_long_keyword.item() == 1
    (back,) = daskcal.to_ccddata(frames)
    assert back.header["OBJECT"] == "M 31"


def test_the_sky_stays_where_it_is_through_a_trim():
    frames = daskcal.from_ccddata(CCDData(IMAGE, unit="adu", wcs=sky()))
    (back,) = daskcal.to_ccddata(daskcal.trim_image(frames, "[2:, 3:]"))
    at = sky().pixel_to_world(5, 4)
    assert back.wcs.pixel_to_world(5 - 3, 4 - 2).separation(at) < 1e-9 * u.deg
    again = daskcal.from_ccddata(back)
    np.testing.assert_array_equal(again.y, np.arange(2, 6))
    np.testing.assert_array_equal(again.x, np.arange(3, 8))
    assert back.shape == (4, 5)


def test_frames_from_files_and_a_master(tmp_path):
    images = [IMAGE.astype(np.uint16), IMAGE.astype(np.uint16) + 2]
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", images, OBJECT="M 31"))
    first, second = daskcal.to_ccddata(frames)
    np.testing.assert_array_equal(second.data, images[1])
    assert second.unit == u.adu
    assert (first.header["OBJECT"], first.header["BUNIT"]) == ("M 31", "adu")
    assert first.mask is None
    assert first.uncertainty is None
    noisy = daskcal.subtract_overscan(frames, "[:, 6:]").pipe(daskcal.create_variance)
    noisy["variance_shared"] = xr.full_like(noisy.variance, 7.0)
    master = daskcal.combine(noisy, reject="none")
    ccd = daskcal.to_ccddata(master)
    total = (master.variance + master.variance_shared).values
    np.testing.assert_allclose(ccd.uncertainty.array, np.sqrt(total), rtol=1e-6)
    np.testing.assert_array_equal(ccd.data, master.image.values)


@pytest.mark.parametrize("order", ["<", ">"])
def test_calibrating_what_came_from_ccddata(order):
    data = IMAGE.astype(f"{order}f4")
    ccd = CCDData(data, unit="adu", meta={"GAIN": 2.0})
    done = daskcal.gain_correct(daskcal.from_ccddata(ccd)).compute()
    assert done.image.dtype == np.float32
    np.testing.assert_array_equal(done.image.values[0], 2 * IMAGE)
    np.testing.assert_array_equal(ccd.data, IMAGE)


def test_units_that_are_refused():
    for unit in ("", "Jy"):
        with pytest.raises(daskcal.UnitError, match="expected 'adu' or 'electron'"):
            daskcal.from_ccddata(CCDData(IMAGE, unit=unit))
    with pytest.raises(daskcal.UnitError, match="'dimensionless'"):
        daskcal.from_ccddata(CCDData(IMAGE, unit=u.dimensionless_unscaled))
    with pytest.raises(daskcal.UnitError, match="adu, electron"):
        daskcal.from_ccddata([CCDData(IMAGE, unit="adu"), CCDData(IMAGE, unit="electron")])


def test_what_is_refused():
    ccd = CCDData(IMAGE, unit="adu")
    with pytest.raises(daskcal.ArgumentError, match="expected CCDData"):
        daskcal.from_ccddata([ccd, IMAGE])
    with pytest.raises(daskcal.ArgumentError, match="expected CCDData"):
        daskcal.from_ccddata([])
    with pytest.raises(daskcal.GeometryError, match="one 2-D shape"):
        daskcal.from_ccddata([ccd, CCDData(IMAGE[1:], unit="adu")])
    with pytest.raises(daskcal.GeometryError, match="different places"):
        daskcal.from_ccddata([ccd, CCDData(IMAGE, unit="adu", meta={"LTV1": -1, "LTV2": 0})])
    with pytest.raises(daskcal.UnitError, match="to_ccddata needs the unit"):
        daskcal.to_ccddata(daskcal.from_ccddata(ccd).map(lambda v: v, keep_attrs=False))


def test_a_ccddata_is_a_master(tmp_path):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [IMAGE.astype(np.uint16)]))
    flat = CCDData(np.full(SHAPE, 2.0), unit=u.dimensionless_unscaled)
    done = daskcal.flat_correct(daskcal.subtract_bias(frames, CCDData(IMAGE - 1, unit="adu")), flat)
    np.testing.assert_array_equal(done.image.values, 1)
    with pytest.raises(daskcal.UnitError, match=r"in electron and the frames are in adu"):
        daskcal.subtract_bias(frames, CCDData(IMAGE, unit="electron"))
