"""Hot pixels of a master dark: single, in clusters and columns; the glow of an amplifier is not."""

import numpy as np
import pytest
from raw_fits import no_computing, write_frames
from small_frames import NX, NY, make_master
from step_reference import HOT

import daskcal
from daskcal.frames.steps import steps_of

SHAPE = (60, 80)


def dark(seed=1, **attrs):
    rng = np.random.default_rng(seed)
    return make_master(rng.normal(20, 2, SHAPE).astype(np.float32), SHAPE, **attrs)


def found(master, **options):
    with no_computing():
        lazily = daskcal.hot_pixels(master, **options)
    assert lazily.image.dtype == bool
    return lazily.image.values


def test_single_hot_pixels_and_nothing_else():
    master = dark()
    expected = np.zeros(SHAPE, bool)
    for y, x in ((0, 0), (0, 79), (59, 79), (30, 40), (31, 60)):
        expected[y, x] = True
    master.image.values[expected] += 60
    np.testing.assert_array_equal(found(master), expected)
    assert not found(dark(2)).any()


def test_a_cluster_and_a_column():
    master = dark()
    expected = np.zeros(SHAPE, bool)
    expected[20:23, 30:33] = True
    expected[:, 55] = True
    master.image.values[expected] += 500
    np.testing.assert_array_equal(found(master), expected)


def test_a_glow_is_not_hot_and_a_hot_pixel_in_it_is():
    master = dark()
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    master.image.values[:] += 800 * np.exp(-np.hypot(y, x) / 15)
    assert master.image.values.max() > 20 + 8 * 2 * 20
    assert not found(master).any()
    master.image.values[25, 25] += 400
    assert np.argwhere(found(master)).tolist() == [[25, 25]]


def test_masked_and_undefined_pixels_are_not_hot():
    master = dark(mask=np.zeros(SHAPE, np.uint16))
    master.image.values[5, 5] = 1e5
    master.mask.values[5, 5] = 1
    master.image.values[6, 6] = np.nan
    master.image.values[7, 7] = 1e5
    assert np.argwhere(found(master)).tolist() == [[7, 7]]


def test_integers_that_are_mostly_equal():
    master = make_master(np.full(SHAPE, 7, np.int32), SHAPE)
    master.image.values[4, 4], master.image.values[9, 9] = 8, 300
    assert np.argwhere(found(master)).tolist() == [[9, 9]]


@pytest.mark.parametrize(("units", "factor"), [("adu", 2.0), ("electron", 1.0)])
def test_a_threshold_in_electron_per_second(units, factor):
    image = np.full(SHAPE, 20.0, np.float32)
    image[3, 4] += 5 * 60 / factor + 0.5
    image[3, 5] += 5 * 60 / factor - 0.5
    master = make_master(image, SHAPE, units=units, gain=2.0, darktime=60.0)
    assert np.argwhere(found(master, threshold=5.0)).tolist() == [[3, 4]]


def test_a_threshold_needs_gain_and_exposure():
    for known in ({"gain": 2.0}, {"darktime": 60.0}, {"gain": 2.0, "exptime": 0.0}):
        with pytest.raises(daskcal.CalibrationError, match="needs the gain and exposure"):
            daskcal.hot_pixels(dark(**known), threshold=1.0)
    with pytest.raises(daskcal.ArgumentError, match="threshold=-1"):
        daskcal.hot_pixels(dark(gain=1.0, exptime=1.0), threshold=-1)


def test_flags_on_frames(frames, raw):
    master = make_master(
        np.zeros((NY, NX), np.float32) + np.arange(NX) % 3, file="d.fits", checksum="c"
    )
    master.image.values[7, 8] = 900
    hot = daskcal.hot_pixels(master)
    window = daskcal.trim_image(frames, "[5:, 2:]")
    done = daskcal.flag_hot(daskcal.flag_saturated(frames), hot)
    assert done.mask.values[2, 7, 8] == HOT | 4
    assert done.mask.values[1].sum() == HOT
    done = daskcal.flag_hot(window, hot)
    assert np.argwhere(done.mask.values[0]).tolist() == [[2, 6]]
    assert done.image.dtype == np.float32
    assert steps_of(done)[-1].masters[0].file == "d.fits"


def test_flag_hot_takes_a_map_that_covers(frames):
    with pytest.raises(daskcal.ArgumentError, match="not the dark itself"):
        daskcal.flag_hot(frames, make_master(1.0))
    with pytest.raises(daskcal.GeometryError, match="lacks columns 26 to 31"):
        daskcal.flag_hot(frames, daskcal.hot_pixels(make_master(1.0, (NY, 26))))


def test_a_dark_from_a_file(tmp_path):
    image = dark().image.values.round().astype(np.uint16)
    image[10, 12] = 5000
    (path,) = write_frames(tmp_path / "dark", [image], IMAGETYP="dark")
    hot = daskcal.hot_pixels(path)
    assert np.argwhere(hot.image.values).tolist() == [[10, 12]]
    assert hot.attrs["file"] == "f0.fits"
    trimmed = daskcal.hot_pixels(make_master(image, SHAPE, (100, 200)))
    assert (trimmed.y.values[0], trimmed.x.values[0]) == (100, 200)
