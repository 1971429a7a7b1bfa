"""Saturated and bad pixels: bits are set, values stay, masks add up."""

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from raw_fits import write_frames
from small_frames import GAINS, NX, NY, make_master
from step_reference import BAD, SATURATED, Pixels, agree

import daskcal
from daskcal.frames.steps import spelled_out, steps_of


def test_saturated_at_or_above_the_level(frames, raw):
    expected = Pixels(raw)
    expected.saturate(5060)
    done = daskcal.flag_saturated(frames, 5060)
    agree(done, expected)
    assert (expected.mask == SATURATED).sum() > 50
    assert done.image.dtype == np.float32
    np.testing.assert_array_equal(done.image.values, raw)
    assert [(s.step, s.parameters) for s in steps_of(done)] == [
        ("flag_saturated", {"level": 5060.0})
    ]
    assert frames.attrs["steps"] == []


def test_the_level_of_the_header(frames, raw):
    expected = Pixels(raw)
    expected.saturate(60000)
    agree(daskcal.flag_saturated(frames), expected)
    assert expected.mask.astype(bool).sum() == 2


def test_a_level_for_each_frame(tmp_path, raw):
    levels = [5000.0, 65535.0, 5100.0]
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw), SATURATE=levels))
    expected = Pixels(raw)
    expected.saturate(levels)
    done = daskcal.flag_saturated(frames)
    agree(done, expected)
    expected.image, expected.mask = expected.image[[2, 0]], expected.mask[[2, 0]]
    agree(done.isel(frame=[2, 0]).pipe(daskcal.blocks), expected)


@pytest.mark.parametrize("saturate", [None, 0.0, "full"])
def test_an_unknown_level_is_an_error(tmp_path, raw, saturate):
    frames = daskcal.open_frames(
        write_frames(tmp_path / "raw", list(raw), SATURATE=[1e4, saturate, 1e4])
    )
    with pytest.raises(
        daskcal.CalibrationError, match=r"f1\.fits does not say|f0\.fits does not say"
    ):
        daskcal.flag_saturated(frames)


def test_only_raw_values_tell(frames):
    trimmed = daskcal.flag_bad(daskcal.trim_image(frames, "[:, :26]"), np.zeros((NY, 26)))
    assert daskcal.flag_saturated(trimmed, 5000).mask.values.any()
    with pytest.raises(daskcal.CalibrationError, match="gain_correct changed them"):
        daskcal.flag_saturated(daskcal.gain_correct(frames))


def test_bad_pixels_are_added_to_what_is_masked(frames, raw):
    bad = np.zeros((NY, NX), np.uint8)
    bad[3, 2:9], bad[:, 30] = 7, 1
    expected = Pixels(raw)
    expected.saturate(60000)
    expected.mask[:, bad != 0] |= BAD
    done = daskcal.flag_bad(daskcal.flag_saturated(frames), bad)
    agree(done, expected)
    assert done.mask.values[0, 3, 4] == BAD | SATURATED
    assert done.image.dtype == np.float32


@pytest.mark.parametrize("form", ["file", "dataset", "labelled", "dask", "bool"])
def test_a_bad_pixel_mask_in_every_form(tmp_path, frames, raw, form):
    bad = np.zeros((NY, NX), np.int16)
    bad[5, 6] = 1
    window = daskcal.trim_image(frames, "[2:12, 3:20]")
    if form == "file":
        given = tmp_path / "bad.fits"
        fits.PrimaryHDU(bad).writeto(given)
    elif form == "dataset":
        given = make_master(bad)
    elif form == "labelled":
        given = make_master(bad).image
    else:
        given = bad[2:12, 3:20] if form == "dask" else bad[2:12, 3:20].astype(bool)
        given = xr.DataArray(given).chunk().data if form == "dask" else given
    mask = daskcal.flag_bad(window, given).mask.values
    assert mask.sum() == 3 * BAD
    assert (mask[:, 3, 3] == BAD).all()


def test_a_bad_pixel_mask_that_does_not_fit(frames):
    with pytest.raises(daskcal.GeometryError, match=r"shape \(20, 31\) and the frames \(20, 32\)"):
        daskcal.flag_bad(frames, np.zeros((NY, NX - 1)))
    with pytest.raises(daskcal.GeometryError, match=r"lacks columns 26 to 31"):
        daskcal.flag_bad(frames, make_master(0, (NY, 26)))
    with pytest.raises(daskcal.ArgumentError, match="found list"):
        daskcal.flag_bad(frames, [[0, 1]])


def test_gain_multiplies_each_frame_with_its_own(frames, raw):
    noisy = daskcal.create_variance(frames, bias_level=1000)
    noisy["variance_shared"] = noisy.variance * 2
    expected = Pixels(raw)
    expected.noise(GAINS, [5, 6, 5], quantum=1, bias_level=1000)
    expected.shared = 2 * expected.variance
    expected.gain(GAINS)
    done = daskcal.gain_correct(noisy)
    agree(done, expected, planes=("image", "mask", "variance", "variance_shared"))
    assert done.image.attrs["units"] == "electron"
    assert done.gain.values.tolist() == [1, 1, 1]
    assert done.applied_gain.values.tolist() == GAINS
    assert frames.gain.values.tolist() == GAINS
    assert frames.image.attrs["units"] == "adu"
    assert spelled_out(done)[-1].parameters == {"gain": GAINS}


def test_uint16_never_wraps(tmp_path):
    image = np.full((4, 6), 65535, np.uint16)
    image[:, 4:] = 60000
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [image]))
    assert daskcal.gain_correct(frames, 3.0).image.values.max() == 3 * 65535
    assert daskcal.subtract_bias(frames, make_master(65535, (4, 6))).image.values.min() == -5535
    assert daskcal.subtract_overscan(frames, "[:, 4:]").image.values.max() == 5535
    integer = make_master(np.uint16(65535), (4, 6), darktime=60.0)
    assert daskcal.subtract_dark(frames, integer).image.values.min() == -5535


def test_gain_that_cannot_be_applied(tmp_path, frames):
    with pytest.raises(daskcal.UnitError, match="the frames are in electron"):
        daskcal.gain_correct(daskcal.gain_correct(frames))
    for gain, found in ((0.0, "a gain of 0.0"), (np.nan, "no known gain"), (-1, "a gain of -1")):
        with pytest.raises(daskcal.CalibrationError, match=found):
            daskcal.gain_correct(frames, gain)
    unknown = daskcal.open_frames(
        write_frames(tmp_path / "unknown", [np.ones((2, 3), np.uint16)] * 2, GAIN=[2.0, None])
    )
    with pytest.raises(daskcal.CalibrationError, match=r"f1\.fits has no known gain"):
        daskcal.gain_correct(unknown)
