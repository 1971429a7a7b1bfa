"""Kast's two amplifiers, 21 adu apart in the raw frames, join without a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import daskcal
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.sections import Section

BIASES, FLATS, SCIENCE = ("b21", "b22", "b23"), ("b11", "b12", "b13"), ("b24", "b27")


@pytest.fixture(scope="module")
def opened(realdata: Callable[[str], Path]) -> Callable[..., xr.Dataset]:
    folder = realdata("lick_kast_2amp")

    def some(*names: str) -> xr.Dataset:
        paths = [folder / f"{name}.fits.gz" for name in names]
        return daskcal.open_frames(paths, instrument="lick-kast-blue")

    return some


def overscanned(raw: xr.Dataset) -> xr.Dataset:
    done = daskcal.subtract_overscan(raw, method="mean", clip=5.0)
    return daskcal.trim_image(done)


def halves(image: np.ndarray) -> float:
    """How far the right amplifier's pixels lie above the left one's."""
    return float(image[:, 1024:2048].mean(dtype=float) - image[:, :1024].mean(dtype=float))


def test_the_camera_knows_the_amplifiers(opened) -> None:
    raw = opened("b21")
    assert raw.sizes["x"] == 2048 + 62
    assert [(amp.name, amp.section, amp.readout) for amp in amplifiers(raw)] == [
        ("left", Section(0, 350, 0, 1024), "bottom left"),
        ("right", Section(0, 350, 1024, 2048), "bottom right"),
    ]


def test_gain_1_is_a_setting_and_no_gain(realdata) -> None:
    """Its comment says so: DCS GAIN INDEX. Without a camera the gain is not known."""
    raw = daskcal.open_frames(realdata("lick_kast_2amp") / "b21.fits.gz", unit="adu")
    assert np.isnan(raw.gain.values).all()
    assert raw.readout_mode.values.tolist() == ["80, gain 1"]
    assert raw.hdr_gain.values.tolist() == [1]


def test_biases_join_without_a_step(opened) -> None:
    raw = opened(*BIASES)
    done = overscanned(raw)
    for i in range(3):
        assert 20 < halves(raw.image[i].values) < 23
        assert abs(halves(done.image[i].values)) <= 0.6
        others = done.isel(frame=[j for j in range(3) if j != i])
        master = daskcal.combine(others, reject="none")
        left = daskcal.subtract_bias(done.isel(frame=[i]), master)
        assert abs(halves(left.image[0].values)) < 0.1


def test_flats_and_science_join_without_a_step(opened) -> None:
    """What is left at the border is no more than what is left at any other column."""
    bias = daskcal.combine(overscanned(opened(*BIASES)))
    flats = daskcal.subtract_bias(overscanned(opened(*FLATS)), bias)
    science = daskcal.subtract_bias(overscanned(opened(*SCIENCE)), bias)
    pairs = [
        (flats.isel(frame=[i]), flats.isel(frame=[j for j in range(3) if j != i])) for i in range(3)
    ]
    pairs += [(science.isel(frame=[i]), flats) for i in range(2)]
    for frame, others in pairs:
        flat = daskcal.combine(others, scale="median")
        image = daskcal.flat_correct(frame, flat, min_value=0.05).image[0].values
        steps = column_steps(image[100:320, 900:1150])
        at, near = steps[124], np.r_[steps[4:120], steps[129:247]]
        assert abs(at - np.median(near)) < 3 * 1.4826 * np.median(np.abs(near - np.median(near)))


def column_steps(image: np.ndarray, reach: int = 4) -> np.ndarray:
    """At each column, how far the next few lie above the last few."""
    profile = np.median(image, axis=0)
    sums = np.convolve(profile, np.ones(reach) / reach, mode="valid")
    steps = np.full(image.shape[1], np.nan)
    steps[reach : reach + sums.size - reach] = sums[reach:] - sums[:-reach]
    return steps
