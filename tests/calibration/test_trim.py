"""Trimming: pixels go, detector coordinates stay, masters are laid over by label."""

import numpy as np
import pytest
from raw_fits import write_frames
from small_frames import NX, NY, make_master

import daskcal
from daskcal.frames.steps import steps_of


def test_labels_are_kept(frames, raw):
    done = daskcal.trim_image(frames, "[2:18, 3:26]")
    np.testing.assert_array_equal(done.image.values, raw[:, 2:18, 3:26])
    assert done.image.dtype == np.float32
    np.testing.assert_array_equal(done.y, np.arange(2, 18))
    np.testing.assert_array_equal(done.x, np.arange(3, 26))
    assert steps_of(done)[-1].parameters == {"section": "[2:18, 3:26]"}
    assert frames.sizes["x"] == NX


@pytest.mark.parametrize("text", ["[4:26,3:18]", "[26:4, 18:3]", " [ 4:26 , 3:18 ] "])
def test_the_fits_form(frames, raw, text):
    done = daskcal.trim_image(frames, fits_section=text)
    np.testing.assert_array_equal(done.image.values, raw[:, 2:18, 3:26])


def test_the_header(frames, raw):
    done = daskcal.trim_image(frames, fits_section="TRIMSEC")
    np.testing.assert_array_equal(done.image.values, raw[:, :, :26])


def test_python_counts_from_the_frames_as_they_are_and_fits_from_the_raw_ones(frames, raw):
    chosen = frames.isel(frame=[2, 1], x=slice(4, 30), y=slice(1, 20))
    by_python = daskcal.trim_image(chosen, "[1:, 2:-4]")
    np.testing.assert_array_equal(by_python.image.values, raw[[2, 1], 2:, 6:26])
    by_fits = daskcal.trim_image(chosen, fits_section="[7:26,3:20]")
    np.testing.assert_array_equal(by_fits.image.values, raw[[2, 1], 2:, 6:26])
    np.testing.assert_array_equal(by_fits.x, by_python.x)
    with pytest.raises(daskcal.GeometryError, match=r"\[2:20, 0:26\] is outside of the frames"):
        daskcal.trim_image(chosen, fits_section="[1:26,3:20]")


def test_the_fits_form_after_arithmetic_still_counts_from_the_raw_frame(frames, raw):
    chosen = daskcal.trim_image(frames, "[:, 4:30]")
    changed = chosen.assign(image=chosen.image * 2.0)
    done = daskcal.trim_image(changed, fits_section="[7:26,3:20]")
    np.testing.assert_array_equal(done.image.values, raw[:, 2:, 6:26] * 2.0)


def test_a_window_of_the_detector(tmp_path, raw):
    paths = write_frames(tmp_path / "raw", list(raw), LTV1=-100.0, LTV2=-200.0)
    done = daskcal.trim_image(daskcal.open_frames(paths), fits_section="[4:26,3:18]")
    np.testing.assert_array_equal(done.image.values, raw[:, 2:18, 3:26])
    assert (done.y.values[0], done.x.values[0]) == (202, 103)


@pytest.mark.parametrize("section", ["[:, :33]", "[:, 40:]", "[::2, :]"])
def test_sections_outside(frames, section):
    with pytest.raises(daskcal.GeometryError):
        daskcal.trim_image(frames, section)


def test_which_section(frames):
    with pytest.raises(daskcal.ArgumentError, match="one of them"):
        daskcal.trim_image(frames)


# --- masters over frames --------------------------------------------------------------------------


def ramp(shape, origin=(0, 0)):
    y, x = np.ogrid[origin[0] : origin[0] + shape[0], origin[1] : origin[1] + shape[1]]
    return (y * 100 + x).astype(np.float64)


STEPS = {
    "bias": lambda frames, master: daskcal.subtract_bias(frames, master),
    "dark": lambda frames, master: daskcal.subtract_dark(frames, master, tolerance=None),
    "flat": lambda frames, master: daskcal.flat_correct(frames, master, normalise=1.0),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_larger_master_is_aligned_by_label(frames, raw, step):
    master = make_master(ramp((NY, NX)) + 1)
    window = daskcal.trim_image(frames, "[2:18, 3:26]")
    done = STEPS[step](window, master).image.values
    part = (ramp((NY, NX)) + 1)[2:18, 3:26]
    image = raw[:, 2:18, 3:26].astype(float)
    expected = image / part if step == "flat" else image - part
    np.testing.assert_allclose(done, expected, rtol=1e-6, atol=1e-3)
    trimmed = master.isel(y=slice(2, 18), x=slice(1, 30))
    np.testing.assert_array_equal(STEPS[step](window, trimmed).image.values, done)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("shape", "origin", "lacks"),
    [
        ((NY, 26), (0, 0), "columns 26 to 31"),
        ((15, NX), (0, 0), "rows 15 to 19"),
        ((NY, NX), (2, 3), "rows 0 to 1, columns 0 to 2"),
        ((5, 5), (40, 40), "rows 0 to 19, columns 0 to 31"),
    ],
)
def test_a_master_that_does_not_cover(frames, step, shape, origin, lacks):
    with pytest.raises(daskcal.GeometryError, match=f"lacks {lacks} of the frames"):
        STEPS[step](frames, make_master(1.0, shape, origin))


def test_an_unknown_origin_with_another_shape_is_refused(tmp_path, raw):
    from astropy.io import fits

    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw)))
    large = tmp_path / "large.fits"
    fits.PrimaryHDU(np.ones((40, 50), np.float32)).writeto(large)
    with pytest.raises(
        daskcal.GeometryError, match=r"large\.fits\) has 40 rows × 50 columns .* its h"
    ):
        daskcal.subtract_bias(frames, large)
    header = fits.Header({"LTV1": -0.0, "LTV2": 0.0})
    fits.PrimaryHDU(np.ones((40, 50), np.float32), header).writeto(tmp_path / "known.fits")
    with pytest.raises(daskcal.GeometryError, match="the frames' header does not say"):
        daskcal.subtract_bias(frames, tmp_path / "known.fits")
    known = daskcal.open_frames(write_frames(tmp_path / "k", list(raw), LTV1=-4.0, LTV2=-5.0))
    assert daskcal.subtract_bias(known, tmp_path / "known.fits").image.shape == (3, NY, NX)
    # the user says where the frames lie
    moved = frames.assign_coords(y=frames.y.values + 19, x=frames.x.values + 18)
    assert daskcal.subtract_bias(moved, large).image.shape == (3, NY, NX)


def test_equal_shapes_tell_where_an_unknown_origin_is(tmp_path, raw):
    from astropy.io import fits

    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw)))
    whole, cut = tmp_path / "whole.fits", tmp_path / "cut.fits"
    fits.PrimaryHDU(ramp((NY, NX)).astype(np.float32)).writeto(whole)
    fits.PrimaryHDU(ramp((NY, 26)).astype(np.float32)).writeto(cut)
    trimmed = daskcal.trim_image(frames, "[:, :26]")
    expected = raw[:, :, :26] - ramp((NY, 26))
    np.testing.assert_allclose(daskcal.subtract_bias(trimmed, whole).image.values, expected)
    np.testing.assert_allclose(daskcal.subtract_bias(trimmed, cut).image.values, expected)
