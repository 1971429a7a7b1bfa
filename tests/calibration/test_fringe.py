"""Fringes: the scale that is found, and what it does to noise and masks."""

from __future__ import annotations

import numpy as np
import pytest
from raw_fits import no_computing, write_frames
from small_frames import make_master
from step_reference import BAD, NO_DATA

import daskcal
from daskcal.frames.steps import steps_of

SHAPE, SCALES = (120, 150), np.array([1.0, 2.5, 0.4])


def pattern():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 20 * np.sin(x / 7 + (y / 30) ** 2)


def images(scales=SCALES):
    """A tilted sky with fringes and noise; 5 % of the pixels are in stars."""
    rng = np.random.default_rng(9)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = 500 + 0.2 * x + 0.3 * y
    out = np.array([sky + k * pattern() + rng.normal(0, 10, SHAPE) for k in scales])
    out[rng.random(out.shape) < 0.05] += rng.exponential(2000)
    return out.astype(np.float32)


@pytest.fixture
def frames(tmp_path):
    return daskcal.open_frames(write_frames(tmp_path / "raw", list(images()), GAIN=1.0))


def fringe(**planes):
    return make_master(pattern(), shape=SHAPE, **planes)


def scales_of(frames, done):
    difference = (frames.image - done.image).values.astype(float)
    return (difference * pattern()).sum(axis=(1, 2)) / (pattern() ** 2).sum()


def test_each_frame_gets_its_own(frames):
    with no_computing():
        done = daskcal.subtract_fringe(frames, fringe())
    np.testing.assert_allclose(scales_of(frames, done), SCALES, atol=0.02)
    assert steps_of(done)[-1].parameters == {"scale": "fit"}
    few = done.isel(frame=[2, 0], y=slice(10, 40))
    np.testing.assert_array_equal(few.image.values, done.image.values[[2, 0], 10:40])
    for rows in (1, 7, 64, -1):
        cut = daskcal.blocks(done, rows=rows)
        np.testing.assert_array_equal(cut.image.values, done.image.values)


def test_least_squares_of_clean_pixels(tmp_path):
    """Without stars it is the plain least-squares answer, but for what 3σ clip of normal noise."""
    rng = np.random.default_rng(3)
    image = 100 + 1.5 * pattern() + rng.normal(0, 3, SHAPE)
    frames = daskcal.open_frames(write_frames(tmp_path, [image]))
    done = daskcal.subtract_fringe(frames, fringe())
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    terms = np.stack([np.ones(SHAPE), y, x, pattern()]).reshape(4, -1).T
    expected = np.linalg.lstsq(terms, image.ravel(), rcond=None)[0][-1]
    assert scales_of(frames, done)[0] == pytest.approx(expected, abs=1e-3)


def test_masks_and_noise(frames):
    mask = np.zeros(SHAPE, np.uint16)
    mask[3, 5] = BAD
    image = pattern()
    image[7, 8], image[3, 5] = np.nan, 1e12
    master = fringe(mask=mask, variance=4.0, variance_shared=1.0).assign(image=(("y", "x"), image))
    master.image.attrs["units"] = "adu"
    done = daskcal.subtract_fringe(frames, master)
    expected = daskcal.subtract_fringe(frames, fringe())
    np.testing.assert_allclose(scales_of(frames, expected), SCALES, atol=0.02)
    assert (done.mask.values[:, 3, 5] == BAD).all()
    assert (done.mask.values[:, 7, 8] == NO_DATA).all()
    k = done.variance_shared.values[:, 50, 50] / 5
    np.testing.assert_allclose(np.sqrt(k), SCALES, atol=0.02)


@pytest.mark.parametrize("scale", [2.0, [1.0, 0.0, 3.0]])
def test_given_scales(frames, scale):
    done = daskcal.subtract_fringe(frames, fringe(variance=4.0), scale=scale)
    k = np.broadcast_to(scale, 3)[:, None, None]
    raw = frames.image.values
    np.testing.assert_allclose(done.image.values, raw - k * pattern(), rtol=1e-5, atol=1e-3)
    expected = np.broadcast_to(4 * k**2, done.variance_shared.shape)
    np.testing.assert_allclose(done.variance_shared.values, expected)
    assert steps_of(done)[-1].parameters == {"scale": scale}


def test_errors(frames):
    for scale in ([1, 2], float("nan")):
        with pytest.raises(daskcal.ArgumentError, match="one for each frame"):
            daskcal.subtract_fringe(frames, fringe(), scale=scale)
    with pytest.raises(daskcal.UnitError, match="fringe frame is in electron"):
        daskcal.subtract_fringe(frames, fringe(units="electron"))
    with pytest.raises(daskcal.CalibrationError, match="once only"):
        daskcal.subtract_fringe(daskcal.subtract_fringe(frames, fringe()), fringe())
    even = daskcal.subtract_fringe(frames, make_master(7.0, shape=SHAPE))
    with pytest.raises(daskcal.FrameError, match=r"f0.fits: subtract_fringe: its 18000 good"):
        even.isel(frame=[0]).compute()
