"""Cameras: what is given goes before the headers, and the shipped ones by name."""

import numpy as np
import pytest
from raw_fits import write_frames

import daskcal
from daskcal.fits import DEFAULT_KEYWORDS
from daskcal.frames.instrument import shipped_instrument, shipped_instruments

IMAGE = np.full((6, 8), 100, np.uint16)


def test_shipped_cameras_by_name(tmp_path):
    assert {"lfc", "aspen-cg16m"} <= set(shipped_instruments())
    paths = write_frames(tmp_path / "raw", [IMAGE], BUNIT=None, IMAGETYP="FLATFIELD")
    frames = daskcal.open_frames(paths, instrument="lfc")
    assert frames.image.attrs["units"] == "adu"
    assert frames.imagetyp.values.tolist() == ["flat"]


def test_keywords_of_a_shipped_camera_come_first(tmp_path):
    paths = write_frames(tmp_path / "raw", [IMAGE], EXPOSURE=7.5, EXPTIME=60.0)
    assert daskcal.open_frames(paths).exptime.item() == 60
    assert daskcal.open_frames(paths, instrument="aspen-cg16m").exptime.item() == 7.5


@pytest.mark.parametrize("name", shipped_instruments())
def test_every_shipped_camera_is_one(name):
    assert shipped_instrument(name).name


def test_unknown_camera_names_the_nearest():
    with pytest.raises(daskcal.ArgumentError, match="did you mean 'lfc'"):
        daskcal.open_frames(".", instrument="lfd")


def test_what_is_known_of_the_camera_goes_before_the_header(tmp_path):
    paths = write_frames(tmp_path / "raw", [IMAGE, IMAGE], BUNIT=None, SATURATE=90.0)
    camera = daskcal.Instrument(
        unit="electron", gain=2.5, rdnoise=3.0, saturation=100.0, bias_level=40.0,
        keywords=DEFAULT_KEYWORDS.extended({"object": ["FILTER"]}),
    )  # fmt: skip
    frames = daskcal.open_frames(paths, instrument=camera)
    assert frames.image.attrs["units"] == "electron"
    assert frames.gain.values.tolist() == [2.5, 2.5]
    assert frames.rdnoise.values.tolist() == [3.0, 3.0]
    assert frames.object.values.tolist() == ["V", "V"]
    flagged = daskcal.flag_saturated(frames)
    assert (flagged.mask.values == 4).all()
    noisy = daskcal.create_variance(frames)
    np.testing.assert_allclose(noisy.variance.values, 60 + 9 + 1 / 12, rtol=1e-6)


def test_the_image_of_another_hdu(tmp_path):
    from astropy.io import fits

    image = fits.ImageHDU(np.full((4, 5), 9, np.int16), name="CHIP2")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((4, 5), np.int16)), image]
    fits.HDUList(hdus).writeto(tmp_path / "two.fits")
    camera = daskcal.Instrument(hdu="CHIP2")
    frames = daskcal.open_frames(tmp_path / "two.fits", instrument=camera)
    assert frames.hdu.item() == 2
    assert (frames.image.values == 9).all()
    assert daskcal.open_frames(tmp_path / "two.fits", instrument=camera, hdu=1).hdu.item() == 1


def test_keywords_that_are_a_plain_table():
    with pytest.raises(daskcal.ArgumentError, match=r"should be Keywords; .*extended"):
        daskcal.Instrument(unit="adu", keywords={"gain": ("X",)})
