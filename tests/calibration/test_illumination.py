"""Illumination frames of sky flats, and dividing by them."""

from __future__ import annotations

import numpy as np
import pytest
from raw_fits import no_computing
from small_frames import make_master

import daskcal
from daskcal.frames.steps import steps_of

SHAPE = (210, 330)


def truth():
    y, x = (each / 100 for each in np.mgrid[: SHAPE[0], : SHAPE[1]])
    return 1 + 0.05 * np.sin(y) + 0.03 * x - 0.01 * x**2


def sky(noise=0.03, **planes):
    rng = np.random.default_rng(4)
    image = truth() * 3000 * rng.normal(1, noise, SHAPE)
    return make_master(image, shape=SHAPE, **planes)


def test_what_is_smooth_comes_back():
    """To 0.2 % rms, under a noise of 3 % in each pixel, and to 1 % in the corners."""
    found = daskcal.illumination_frame(sky(), box=30).image.values / 3000
    assert np.abs(found / truth() - 1).max() < 0.01
    assert np.std(found / truth()) < 0.002


def test_stars_and_bad_pixels_do_not_count():
    master = sky()
    plain = daskcal.illumination_frame(master, box=30).image.values
    mask = np.zeros(SHAPE, np.uint16)
    mask[35:120, 65:160] = 1  # whole boxes, which those about them stand for
    image = master.image.values.copy()
    image[mask != 0] = 1e9
    image[10, 10:20] = np.nan
    image[200:204, 200:204] = 1e6
    found = daskcal.illumination_frame(
        make_master(image, shape=SHAPE, mask=mask), box=30
    ).image.values
    assert np.abs(found / plain - 1).max() < 0.01
    assert np.isfinite(found).all()


@pytest.mark.parametrize("rows", [1, 7, 64, 210])
def test_chunks_do_not_matter(rows):
    lazy = sky(mask=np.zeros(SHAPE, np.uint16)).chunk(y=rows, x=50)
    with no_computing():
        found = daskcal.illumination_frame(lazy, box=30)
    whole = daskcal.illumination_frame(sky(), box=30)
    np.testing.assert_array_equal(found.image.values, whole.image.values)
    np.testing.assert_array_equal(found.isel(y=slice(33, 41)).image.values, whole.image[33:41])


def test_illumination_correct(frames, raw):
    """As a flat divides: image, own and shared noise, and what it says nothing of."""
    shape = raw.shape[1:]
    level = np.linspace(900, 1100, raw[0].size).reshape(shape)
    level[3, 4] = 0
    variance = np.full(shape, 25.0)
    done = daskcal.create_variance(daskcal.subtract_bias(frames, make_master(1000)))
    before = done.variance.values.astype(float)
    with no_computing():
        done = daskcal.illumination_correct(done, make_master(level, variance=variance))
    norm = level[level > 0].mean()
    with np.errstate(divide="ignore"):
        f = np.where(level > 0, level / norm, np.nan)
    signal = raw - 1000.0
    np.testing.assert_allclose(done.image.values, signal / f, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(done.variance.values, before / f**2, rtol=1e-6)
    shared = signal**2 * 25 / norm**2 / f**4
    np.testing.assert_allclose(done.variance_shared.values, shared, rtol=1e-5)
    assert (done.mask.values[:, 3, 4] == 64).all()
    assert steps_of(done)[-1].step == "illumination_correct"
    with pytest.raises(daskcal.CalibrationError, match="once only"):
        daskcal.illumination_correct(done, make_master(1.0))


def test_errors(frames):
    for box in (4, 200, 30.0):
        with pytest.raises(daskcal.ArgumentError, match=f"box={box}"):
            daskcal.illumination_frame(sky(), box=box)
    nothing = daskcal.illumination_frame(sky(mask=np.ones(SHAPE, np.uint16)))
    with pytest.raises(daskcal.CalibrationError, match="no box of the sky flat"):
        nothing.compute()
    dark = daskcal.illumination_correct(frames, make_master(-1.0, file="sky.fits", checksum="x"))
    message = r"illumination_correct: no pixel of the illumination frame \(sky.fits\)"
    with pytest.raises(daskcal.CalibrationError, match=message):
        dark.compute()
    with pytest.raises(daskcal.CalibrationError, match="before subtract_fringe"):
        daskcal.illumination_correct(
            daskcal.subtract_fringe(frames, make_master(1.0), scale=1), make_master(1.0)
        )
