"""Masks to files and back: FITS bit planes, plain images, IRAF's and DS9's lists of regions."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from raw_fits import write_frames
from small_frames import NX, NY, make_master
from step_reference import BAD, HOT

import daskcal
from daskcal.calibration.mask_files import rectangles
from daskcal.frames.masks import MASK_ATTRS


def mask_of(bits, origin=(0, 0)):
    mask = make_master(bits, bits.shape, origin, units="")
    mask["image"].attrs = dict(MASK_ATTRS)
    return mask


def some_bits():
    bits = np.zeros((NY, NX), np.uint16)
    bits[3, 4] = bits[:, 20] = bits[0, 0] = BAD
    bits[10:13, 18:25] |= HOT
    bits[NY - 1, NX - 1] = HOT
    return bits


@pytest.fixture
def frames(tmp_path):
    return daskcal.open_frames(write_frames(tmp_path / "raw", [np.zeros((NY, NX), "u2")]))


@pytest.mark.parametrize("ending", [".fits", ".txt", ".reg"])
@pytest.mark.parametrize("origin", [(0, 0), (5, 100)])
def test_there_and_back_with_reasons_and_place(tmp_path, ending, origin):
    bits, path = some_bits(), tmp_path / f"bad{ending}"
    mask = mask_of(bits, origin)
    written = daskcal.write_mask(mask, path)
    assert written.path == str(path)
    again = daskcal.open_mask(path, like=mask)
    np.testing.assert_array_equal(again.image.values, bits)
    assert (again.y.values[0], again.x.values[0]) == origin
    assert "flag_meanings" in again.image.attrs
    with pytest.raises(daskcal.OutputError, match="exists"):
        daskcal.write_mask(mask, path)
    daskcal.write_mask(mask, path, overwrite=True)


@pytest.mark.parametrize("ending", [".fits", ".txt", ".reg"])
def test_frames_take_the_file(tmp_path, frames, ending):
    daskcal.write_mask(mask_of(some_bits()), tmp_path / f"bad{ending}")
    window = frames.isel(y=slice(2, 15), x=slice(4, 30))
    flagged = daskcal.flag_bad(window, tmp_path / f"bad{ending}")
    np.testing.assert_array_equal(flagged.mask.values[0], some_bits()[2:15, 4:30])


def test_a_fits_mask_says_what_its_bits_mean_and_is_no_raw_frame(tmp_path):
    daskcal.write_mask(mask_of(some_bits()), tmp_path / "bad.fits")
    with fits.open(tmp_path / "bad.fits", checksum=True) as hdus:
        assert hdus[0].data.dtype == np.uint16
        np.testing.assert_array_equal(hdus[0].data, some_bits())
        header = hdus[0].header
    assert (header["IMAGETYP"], header["FLAG1"], header["FLAG2"]) == ("MASK", "bad", "hot")
    assert header["FLAG32"] == "cosmic_ray"
    with pytest.raises(daskcal.FrameError, match="only 1 product of daskcal"):
        daskcal.plan_night(tmp_path)


def test_hot_pixels_are_hot_in_a_file(tmp_path):
    dark = make_master(np.full((NY, NX), 10.0, "f4"))
    dark.image.values[7, 8] = 900
    daskcal.write_mask(daskcal.hot_pixels(dark), tmp_path / "hot.txt")
    assert (tmp_path / "hot.txt").read_text().splitlines()[1:] == ["# hot", "9 9 8 8"]


def test_what_people_write(tmp_path, frames):
    (tmp_path / "iraf").write_text(
        "# comment\n3 5 2 2\n  7 1\n\n30 40 19 25 # beyond the edge\n9 8 4 3\n"
    )
    expected = np.zeros((NY, NX), int)
    expected[1, 2:5] = expected[0, 6] = expected[18:, 29:] = expected[2:4, 7:9] = 1
    np.testing.assert_array_equal(daskcal.open_mask(tmp_path / "iraf", like=frames).image, expected)

    (tmp_path / "ds9.reg").write_text(
        "# Region file format: DS9 version 4.1\n"
        'global color=green dashlist=8 3 width=1 font="helvetica 10 normal"\n'
        "image\n"
        "box(4,2,3,1,0)\nbox(7,1,1,1,0) # color=red tag={hot}\nbox(8.5,3.5,2,2,360)\n"
    )  # fmt: skip
    expected[18:, 29:], expected[0, 6] = 0, 2
    np.testing.assert_array_equal(
        daskcal.open_mask(tmp_path / "ds9.reg", like=frames).image, expected
    )
    with pytest.raises(daskcal.FrameError, match=r"line 4 .*save the regions as 'physical'"):
        daskcal.open_mask(tmp_path / "ds9.reg", like=frames.isel(y=slice(3, 9)))


@pytest.mark.parametrize(
    "line",
    ["1 2 3", "0 1 1 1", "a b", "box(1,2,3,4,45)", "box(1,2,0,4,0)", "circle(3,4,5)", "1.5 2"],
)
def test_a_line_that_is_no_region_is_named(tmp_path, frames, line):
    (tmp_path / "bad.reg").write_text(f"image\n{line}\n")
    with pytest.raises(daskcal.FrameError, match="line 2 is"):
        daskcal.open_mask(tmp_path / "bad.reg", like=frames)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(daskcal.FrameError, match="cannot be read"):
        daskcal.open_mask(tmp_path / "none.fits")
    (tmp_path / "r.txt").write_text("1 1 1 1\n")
    with pytest.raises(daskcal.ArgumentError, match="like="):
        daskcal.open_mask(tmp_path / "r.txt")
    with pytest.raises(daskcal.ArgumentError, match=r"did you mean '\.fits'"):
        daskcal.write_mask(mask_of(some_bits()), tmp_path / "bad.fit")


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_rectangles_cover_what_is_true_and_nothing_twice(plane):
    count = np.zeros(plane.shape, int)
    for s in rectangles(plane):
        count[s.y0 : s.y1, s.x0 : s.x1] += 1
    np.testing.assert_array_equal(count, plane.astype(int))


def test_regions_outside_of_the_frames_are_said(tmp_path, frames):
    path = tmp_path / "r.txt"
    path.write_text("1 2 1 2\n900 901 1 1\n")
    with pytest.warns(daskcal.DaskcalWarning, match=r"r\.txt: 1 of 2 regions lie outside"):
        assert daskcal.open_mask(path, like=frames)["image"].values.astype(bool).sum() == 4
    with pytest.warns(daskcal.DaskcalWarning, match="1 of 2 regions"):
        daskcal.flag_bad(frames, path)
    path.write_text("900 901 1 1\n")
    with pytest.raises(daskcal.FrameError, match="every one of its 1 regions lies outside"):
        daskcal.open_mask(path, like=frames)
    path.write_text("30 30 20 20\n")
    assert not daskcal.open_mask(path, like=frames.isel(y=slice(0, 4)))["image"].values.any()
