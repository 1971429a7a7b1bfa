"""Linearity: polynomials and tables against plain numpy, and a detector of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from amplified import AMPS, NX, NY, WIDTH, with_amplifiers
from raw_fits import no_computing, write_frames

import daskcal
from daskcal.frames.steps import steps_of

NONLINEAR = 8
FACTORS = [2e-6, -3e-12, 1e-17]
KNOTS = np.array([[0, 0], [10_000, 10_100], [30_000, 30_900], [50_000, 52_500]], float)


def polynomial(u, factors, limit=np.inf):
    within = np.minimum(u, limit)
    return u * (1 + sum(c * within ** (j + 1) for j, c in enumerate(factors)))


def table(u, knots):
    ends = np.interp(u, knots[:, 0], knots[:, 1])
    beyond = np.clip(u, knots[0, 0], knots[-1, 0])
    return ends + (u - beyond)


@pytest.fixture
def images():
    return np.linspace(900, 65_000, 3 * NY * WIDTH).reshape(3, NY, WIDTH).astype(np.uint16)


@pytest.fixture
def frames(tmp_path, images):
    return daskcal.open_frames(
        write_frames(tmp_path / "raw", list(images), EXPTIME=[1.0, 2.0, 3.0])
    )


@pytest.mark.parametrize("limit", [None, 40_000.0])
def test_polynomial(frames, images, limit):
    done = daskcal.correct_linearity(frames, FACTORS, limit=limit, bias_level=1000)
    u = images.astype(float) - 1000
    top = np.inf if limit is None else limit
    np.testing.assert_allclose(done.image.values, polynomial(u, FACTORS, top) + 1000, rtol=3e-7)
    np.testing.assert_array_equal(done.mask.values == NONLINEAR, u > top)
    record = steps_of(done)[-1].parameters
    assert record == {"coefficients": [FACTORS], "limit": [top], "bias_level": 1000.0}


@pytest.mark.parametrize("limit", [None, 45_000.0])
def test_table(frames, images, limit):
    done = daskcal.correct_linearity(frames, table=KNOTS, limit=limit, bias_level=1000)
    u = images.astype(float) - 1000
    np.testing.assert_allclose(done.image.values, table(u, KNOTS) + 1000, rtol=3e-7)
    np.testing.assert_array_equal(done.mask.values == NONLINEAR, u > (limit or 50_000))
    assert "4 knots, sha256" in steps_of(done)[-1].parameters["table"][0]


def test_truth_comes_back(tmp_path):
    """A detector whose answer falls behind by 4 % at 60,000 adu, to half an adu."""
    truth = np.linspace(0, 60_000, NY * NX).reshape(NY, NX)
    measured = np.copy(truth)
    for _ in range(50):  # invert the correction
        measured -= (polynomial(measured, FACTORS) - truth) / (1 + 2 * FACTORS[0] * measured)
    images = [(measured + 800).round().astype(np.uint16)]
    images[0] = np.concatenate([images[0], np.full((NY, 4), 800, np.uint16)], axis=1)
    frames = daskcal.open_frames(write_frames(tmp_path, images))
    frames = daskcal.subtract_overscan(frames, f"[:, {NX}:]")
    done = daskcal.correct_linearity(frames, FACTORS).isel(x=slice(0, NX))
    assert np.abs(measured - truth).max() > 2000
    assert np.abs(done.image.values[0] - truth).max() < 0.7


@pytest.mark.parametrize("kind", ["coefficients", "table"])
def test_variances_by_the_square_of_the_slope(images, kind):
    """Own and shared, the second not the same for all frames any more."""
    raw = images.astype(np.float64)
    variance = np.sqrt(raw)
    bias = np.full(raw.shape[1:], 100.0)
    frames = daskcal.from_ccddata(_ccds(raw, variance))
    master = _master(bias, np.full(bias.shape, 4.0))
    done = daskcal.subtract_bias(frames, master)
    argument = {"coefficients": FACTORS} if kind == "coefficients" else {"table": KNOTS}
    done = daskcal.correct_linearity(done, **argument, limit=40_000)
    u = raw - 100
    if kind == "coefficients":
        powers = [(j + 2) * c * u ** (j + 1) for j, c in enumerate(FACTORS)]
        slope = 1 + sum(powers)
        held = 1 + sum(c * 40_000.0 ** (j + 1) for j, c in enumerate(FACTORS))
        slope = np.where(u > 40_000, held, slope)
    else:
        steep = np.append(np.diff(KNOTS[:, 1]) / np.diff(KNOTS[:, 0]), 1.0)
        slope = steep[np.searchsorted(KNOTS[:, 0], u, side="right") - 1]
    np.testing.assert_allclose(done.variance.values, variance * slope**2, rtol=1e-6)
    np.testing.assert_allclose(done.variance_shared.values, 4 * slope**2, rtol=1e-6)


def _ccds(images, variances):
    from astropy.nddata import CCDData, VarianceUncertainty

    return [
        CCDData(image, unit="adu", uncertainty=VarianceUncertainty(variance))
        for image, variance in zip(images, variances, strict=True)
    ]


def _master(image, variance):
    import xarray as xr

    planes = {"image": (("y", "x"), image), "variance": (("y", "x"), variance)}
    master = xr.Dataset(planes)
    master["image"].attrs["units"] = "adu"
    return master


def test_each_amplifier_has_its_own(frames, images):
    factors = {"A": [1e-6], "B": [2e-6], "C": [3e-6, -1e-12], "D": [0.0]}
    limits = {"A": 30_000, "B": 40_000, "C": 50_000, "D": 60_000}
    raw = with_amplifiers(frames)
    done = daskcal.correct_linearity(raw, factors, limit=limits, bias_level=1000)
    u, expected = images.astype(float) - 1000, images.astype(float)
    flags = np.zeros(images.shape, bool)
    for amp in AMPS:
        where = np.s_[:, amp.section.y0 : amp.section.y1, amp.section.x0 : amp.section.x1]
        expected[where] = polynomial(u[where], factors[amp.name], limits[amp.name]) + 1000
        flags[where] = u[where] > limits[amp.name]
    np.testing.assert_allclose(done.image.values, expected, rtol=3e-7)
    np.testing.assert_array_equal(done.mask.values == NONLINEAR, flags)
    for rows in (1, 7, 64, -1):
        cut = daskcal.blocks(done, rows=rows)
        np.testing.assert_array_equal(cut.image.values, done.image.values)
    tables = {amp.name: KNOTS * [1, 1 + 0.01 * i] for i, amp in enumerate(AMPS)}
    done = daskcal.correct_linearity(raw, table=tables, bias_level=1000)
    where = np.s_[:, NY // 2 :, NX // 2 : NX]
    np.testing.assert_allclose(
        done.image.values[where], table(u[where], tables["D"]) + 1000, rtol=3e-7
    )


def test_undefined_pixels_stay_undefined(tmp_path):
    image = np.full((1, NY, NX), 5000.0, np.float32)
    image[0, 1, 2], image[0, 3, 4] = np.nan, np.inf
    frames = daskcal.open_frames(write_frames(tmp_path, list(image)))
    for argument in ({"coefficients": FACTORS}, {"table": KNOTS}):
        done = daskcal.correct_linearity(frames, **argument, bias_level=0.0)
        assert np.isnan(done.image.values).sum() == 2
        assert (done.mask.values != 0).sum() == 2


def test_nothing_is_opened(frames):
    with no_computing():
        daskcal.correct_linearity(frames, FACTORS, bias_level=1000)


def test_errors(frames):
    def refused(error, message, *args, **kwargs):
        with pytest.raises(error, match=message):
            daskcal.correct_linearity(kwargs.pop("given", frames), *args, **kwargs)

    argument = daskcal.ArgumentError
    refused(argument, "one of them", bias_level=0)
    refused(argument, "one of them", FACTORS, table=KNOTS, bias_level=0)
    refused(argument, "falls above", [-1e-5], bias_level=0)
    refused(argument, "should be numbers", ["a"], bias_level=0)
    refused(argument, "limit=-3", FACTORS, limit=-3, bias_level=0)
    refused(argument, "the table ends at 50000", table=KNOTS, limit=60_000, bias_level=0)
    refused(argument, "rise from knot", table=KNOTS[::-1], bias_level=0)
    refused(argument, "two or more pairs", table=[[1, 2]], bias_level=0)
    refused(argument, "a detector with one", {"A": [0.0]}, bias_level=0)
    amplified = with_amplifiers(frames)
    refused(argument, "no amplifier 'Z'", {"Z": [0.0]}, given=amplified, bias_level=0)
    refused(argument, "nothing of amplifier B, C, D", {"A": [0.0]}, given=amplified, bias_level=0)
    refused(daskcal.CalibrationError, "counts the signal from the bias", FACTORS)
    done = daskcal.correct_linearity(frames, FACTORS, bias_level=0)
    refused(daskcal.CalibrationError, "once only", FACTORS, given=done, bias_level=0)
    gained = daskcal.gain_correct(frames)
    refused(daskcal.UnitError, "these are in electron", FACTORS, given=gained, bias_level=0)
