"""Pixels that vary unlike their neighbours: found in simulated stacks, hardly ever by chance."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from raw_fits import no_computing
from scipy.stats import norm

import daskcal

SHAPE = (96, 130)


def frames(images, **attrs):
    made = xr.Dataset({"image": (("frame", "y", "x"), images)})
    made["image"].attrs = {"units": "adu", **attrs}
    return made


def darks(n, seed=0, sigma=4.0):
    """Integers with a glow, whose noise is larger on one side."""
    rng = np.random.default_rng(seed)
    noise = sigma * np.linspace(1, 1.5, SHAPE[1])
    return np.round(rng.normal(1000, noise, (n, *SHAPE))).astype("f4")


def where(mask):
    return {tuple(at) for at in np.argwhere(mask.image.values).tolist()}


@pytest.mark.parametrize("n", [5, 9, 30])
def test_jumping_and_stuck_pixels_and_no_others(n):
    images = darks(n)
    images[: n // 2, 10, 20] += 150  # between two levels
    images[::3, 50, 100] -= 150
    images[:, 0, 0] += 200 * np.arange(n)
    images[1, 30, 30] += 5000  # a cosmic ray
    with no_computing():
        mask = daskcal.unstable_pixels(frames(images, quantum=1.0))
    assert mask.image.dtype == np.uint16
    assert where(mask) == {(10, 20), (50, 100), (0, 0)}
    images[:, 80, 3] = 1003
    found = where(daskcal.unstable_pixels(frames(images, quantum=1.0)))
    assert ((80, 3) in found) == (n > 9)  # of few values that are rounded, all may well be equal
    if n == 9:
        assert (80, 3) in where(daskcal.unstable_pixels(frames(images)))  # not rounded: never equal


def test_a_dead_pixel_of_a_flat():
    rng = np.random.default_rng(4)
    level = np.array([2e4, 1.5e4, 3e4, 2.5e4, 2e4, 1e4, 2e4, 2.2e4])[:, None, None]
    images = rng.poisson(level, (8, *SHAPE)).astype("f4")
    images[:, 40, 40] = rng.normal(10, 1, 8)  # sees nothing
    images[:, 60, 60] *= np.linspace(0.8, 1.2, 8)  # not as bright as the flat, or brighter
    mask = daskcal.unstable_pixels(frames(images, quantum=1.0), scale="median")
    assert where(mask) == {(40, 40), (60, 60)}


@pytest.mark.parametrize("n", [5, 12, 40])
def test_as_many_by_chance_as_sigma_says(n):
    images = np.random.default_rng(n).normal(1000, 7, (n, 500, 500)).astype("f4")
    found = np.count_nonzero(daskcal.unstable_pixels(frames(images), sigma=3.0).image)
    assert 0.8 < found / (2 * norm.sf(3.0) * 500**2) < 1.8


def test_masked_pixels_are_not_looked_at():
    images = darks(8)
    images[:4, 10, 20] += 150
    made = frames(images)
    made["mask"] = ("frame", "y", "x"), np.zeros(images.shape, np.uint16)
    made.mask.values[:3, 10, 20] = 1
    assert not where(daskcal.unstable_pixels(made))


def test_arguments():
    with pytest.raises(daskcal.ArgumentError, match="5 frames or more, and found 4"):
        daskcal.unstable_pixels(frames(darks(4)))
    with pytest.raises(daskcal.ArgumentError, match="sigma=0"):
        daskcal.unstable_pixels(frames(darks(5)), sigma=0)
