"""The shutter: exposures that are not what the header says, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from raw_fits import no_computing
from small_frames import NX, NY, TIMES, make_master
from step_reference import BAD, NO_DATA

import daskcal
from daskcal.frames.steps import steps_of

TIME = np.array(TIMES)[:, None, None]


def delays():
    y, x = np.mgrid[:NY, :NX]
    return 0.2 + 0.01 * np.hypot(y - NY / 2, x - NX / 2) - 0.4 * (x > NX / 2)


def test_shutter_correct(frames, raw):
    mask = np.zeros((NY, NX), np.uint16)
    mask[2, 3] = BAD
    delay = delays()
    delay[4, 5] = np.nan
    noise = np.full((NY, NX), 0.01**2)
    shutter = make_master(delay, units="s", mask=mask, variance=noise)
    done = daskcal.subtract_bias(frames, make_master(1000, variance=4.0))
    done = daskcal.create_variance(done)
    before = done.variance.values.astype(float)
    done = daskcal.shutter_correct(done, shutter)
    scale = TIME / (TIME + delay)
    signal = raw - 1000.0
    np.testing.assert_allclose(done.image.values, signal * scale, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(done.variance.values, before * scale**2, rtol=1e-6)
    slope = signal * TIME / (TIME + delay) ** 2  # of the corrected value with the delay
    expected = 4 * scale**2 + slope**2 * 0.01**2
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-5)
    assert (done.mask.values[:, 2, 3] == BAD).all()
    assert (done.mask.values[:, 4, 5] == NO_DATA).all()
    assert steps_of(done)[-1].step == "shutter_correct"
    for rows in (1, 7, 64, -1):
        cut = daskcal.blocks(done, frame=2, rows=rows)
        for plane in ("image", "variance_shared"):
            np.testing.assert_array_equal(cut[plane].values, done[plane].values)


def test_without_noise_of_the_map_it_stays_shared(frames):
    """The same for frames of one exposure, their own for those of another."""
    done = daskcal.subtract_bias(frames, make_master(1000, variance=4.0))
    done = daskcal.shutter_correct(done, make_master(delays(), units="s"))
    expected = 4 * (TIME / (TIME + delays())) ** 2
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-6)


def test_map_of_two_flats(frames):
    """Light and delays of any shape come back, and the map has the noise that both flats give."""
    x = np.arange(NX)
    light = 800.0 * (1 + x / 50) * np.ones((NY, 1))
    short = make_master(light * (1.5 + delays()), exptime=1.5, variance=30.0)
    long = make_master(light * (20 + delays()), exptime=20.0, variance=50.0)
    with no_computing():
        shutter = daskcal.shutter_map(short, long)
        daskcal.shutter_correct(frames, shutter)
    np.testing.assert_allclose(shutter.image.values, delays(), atol=1e-9)
    assert shutter.image.attrs["units"] == "s"
    step = 1e-3

    def slope(d1, d2):
        flats = [one.assign(image=one.image + d * step) for one, d in ((short, d1), (long, d2))]
        return (daskcal.shutter_map(*flats).image.values - delays()) / step

    expected = slope(1, 0) ** 2 * 30 + slope(0, 1) ** 2 * 50
    np.testing.assert_allclose(shutter.variance.values, expected, rtol=1e-4)


def test_errors(frames):
    one, other = make_master(1.0, exptime=2.0), make_master(1.0, exptime=2.0)
    with pytest.raises(daskcal.ArgumentError, match="the shorter first"):
        daskcal.shutter_map(one, other)
    with pytest.raises(daskcal.GeometryError, match="different pixels"):
        daskcal.shutter_map(one, make_master(1.0, shape=(3, 4)), times=(1, 2))
    shutter = make_master(0.1, units="s")
    short = frames.assign_coords(exptime=("frame", [1.0, 0.0, 1.0]))
    with pytest.raises(daskcal.CalibrationError, match="is 0 s"):
        daskcal.shutter_correct(short, shutter)
    flat = daskcal.flat_correct(frames, make_master(1.0))
    with pytest.raises(daskcal.CalibrationError, match="before flat_correct"):
        daskcal.shutter_correct(flat, shutter)
    with pytest.raises(daskcal.GeometryError, match="shutter map"):
        daskcal.shutter_correct(frames, make_master(0.1, shape=(4, 4)))
