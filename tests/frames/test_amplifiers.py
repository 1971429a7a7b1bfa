"""What is known of amplifiers goes into coordinates of a Dataset and comes back."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.frames.amplifiers import (
    VALUES,
    Amplifier,
    amplifier_coords,
    amplifier_values,
    amplifiers,
    common_value,
)
from daskcal.frames.sections import Section

TWO = (
    Amplifier("left", Section(0, 9, 0, 10), Section(0, 9, 20, 24), "bottom left"),
    Amplifier("right", Section(0, 9, 10, 20), None, "bottom right"),
)
NUMBERS = {name: np.array([[k, k + 0.5], [k, np.nan]]) for k, name in enumerate(VALUES, 1)}


def dataset() -> xr.Dataset:
    image = xr.DataArray(np.zeros((2, 9, 24)), dims=("frame", "y", "x"))
    return xr.Dataset({"image": image}, amplifier_coords(TWO, NUMBERS))


def test_amplifiers_come_back():
    frames = dataset()
    assert amplifiers(frames) == TWO
    for name in VALUES:
        np.testing.assert_array_equal(amplifier_values(frames, name), NUMBERS[name])
    assert amplifiers(frames.isel(y=slice(2, 5), x=slice(0, 20), frame=[1])) == TWO
    np.testing.assert_array_equal(
        amplifier_values(frames.isel(frame=[1]), "gain"), NUMBERS["gain"][1:]
    )


def test_frames_without_amplifiers_have_none():
    assert amplifiers(dataset().drop_dims("amplifier")) == ()


def test_values_that_nobody_said_are_unknown():
    frames = dataset().drop_vars("amp_gain")
    assert np.isnan(amplifier_values(frames, "gain")).all()
    assert amplifier_values(frames, "gain").shape == (2, 2)


def test_what_amplifiers_have_in_common():
    values = np.array([[2.0, 2.0], [1.0, 2.0], [1.0, np.nan]])
    np.testing.assert_array_equal(common_value(values), [2.0, 1.5, np.nan])
