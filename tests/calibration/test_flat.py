"""Dividing by a flat: its normalisation, its noise, and pixels that it cannot tell anything of."""

import numpy as np
import pytest
from small_frames import NX, NY, make_master
from step_reference import HOT, LOW_FLAT, NO_DATA, MasterPixels, Pixels, agree

import daskcal
from daskcal.frames.steps import steps_of

PLANES = ("image", "mask", "variance", "variance_shared")


def flat_master(**attrs):
    """Of level 20,000 with dead, negative, undefined, dim and masked pixels."""
    rng = np.random.default_rng(4)
    image = rng.normal(20000, 500, (NY, NX)).astype(np.float32)
    image[2, 3], image[2, 4], image[2, 5], image[2, 6], image[2, 7] = 0, -50, np.nan, 0.0001, 900
    mask = np.zeros((NY, NX), np.uint16)
    mask[5, 5], mask[2, 5] = HOT, NO_DATA
    image[5, 5] = 1e9  # masked, and so no part of the norm
    return make_master(image, mask=mask, **attrs)


def norm_of(flat, statistic=np.mean):
    pixels = MasterPixels(flat)
    good = np.isfinite(pixels.image) & (pixels.image > 0) & (pixels.mask == 0)
    return statistic(pixels.image[good])


def free_of_bias(frames, raw):
    expected = Pixels(raw)
    expected.image -= 1000
    expected.noise([1.5, 1.5, 2.0], [5, 6, 5], quantum=1)
    return daskcal.create_variance(daskcal.subtract_bias(frames, make_master(1000))), expected


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("min_value", [None, 0.2])
def test_flat(frames, raw, statistic, min_value):
    """V/f² + S²·V_f/f⁴, and every odd pixel low_flat and NaN, never infinite."""
    flat = flat_master(variance=np.float32(1600), variance_shared=np.float32(400))
    done, expected = free_of_bias(frames, raw)
    expected.flat(MasterPixels(flat), norm_of(flat, getattr(np, statistic)), min_value or 1e-6)
    done = daskcal.flat_correct(done, flat, min_value=min_value, normalise=statistic)
    agree(done, expected, rtol=1e-5, planes=PLANES)
    low = (done.mask.values & LOW_FLAT != 0).all(axis=0)
    assert np.flatnonzero(low[2]).tolist() == (
        [3, 4, 5, 6] if min_value is None else [3, 4, 5, 6, 7]
    )
    assert np.isnan(done.image.values[:, low]).all()
    assert not np.isinf(done.image.values).any()
    assert done.mask.values[0, 5, 5] == HOT
    assert steps_of(done)[-1].parameters == {"min_value": min_value, "normalise": statistic}


def test_the_noise_that_is_shared_already_is_divided_too(frames, raw):
    bias = make_master(1000, variance=np.float32(2.0))
    flat = make_master(np.full((NY, NX), 4.0, np.float32))
    done = daskcal.flat_correct(daskcal.subtract_bias(frames, bias), flat, normalise=2.0)
    np.testing.assert_allclose(done.image.values, (raw - 1000.0) / 2)
    np.testing.assert_allclose(done.variance_shared.values, 0.5)


def test_the_norm_is_of_the_whole_detector_not_of_the_window(frames):
    image = np.full((NY, NX), 1.0)
    image[:, :8] = 3.0
    whole = daskcal.flat_correct(frames, make_master(image)).isel(x=slice(0, 8))
    window = daskcal.flat_correct(daskcal.trim_image(frames, "[:, :8]"), make_master(image))
    np.testing.assert_array_equal(window.image.values, whole.image.values)
    np.testing.assert_allclose(window.image.values, frames.image.values[:, :, :8] / (3 / 1.5))


@pytest.mark.parametrize("chunks", [{"y": 1}, {"y": 7, "x": 5}, {"y": NY, "x": NX}])
def test_the_norm_does_not_depend_on_the_chunks_of_the_flat(frames, chunks):
    flat = flat_master()
    for statistic in ("mean", "median"):
        expected = daskcal.flat_correct(frames, flat, normalise=statistic).image.values
        done = daskcal.flat_correct(frames, flat.chunk(chunks), normalise=statistic).image.values
        np.testing.assert_array_equal(done, expected)


def test_a_flat_of_integers_and_of_float64(frames, raw):
    levels = np.arange(NY * NX).reshape(NY, NX) + 100
    expected = raw / (levels / levels.mean())
    for kind in (np.uint16, np.int32, np.float64):
        done = daskcal.flat_correct(frames, make_master(levels.astype(kind)))
        assert done.image.dtype == np.float32
        np.testing.assert_allclose(done.image.values, expected, rtol=1e-6)


def test_any_unit_of_the_flat_will_do(frames, raw):
    done = daskcal.flat_correct(frames, make_master(2.0, units="electron"))
    np.testing.assert_array_equal(done.image.values, raw)
    assert done.image.attrs["units"] == "adu"


def test_a_flat_without_a_good_pixel_is_an_error(frames):
    dark = make_master(-1.0, file="flat_V.fits", checksum="x")
    for statistic in ("mean", "median"):
        done = daskcal.flat_correct(frames, dark, normalise=statistic)
        with pytest.raises(
            daskcal.CalibrationError, match=r"no pixel of the master flat \(flat_V.fits\)"
        ):
            done.compute()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_value": 1.0}, "min_value=1.0"),
        ({"min_value": -0.1}, "min_value=-0.1"),
        ({"min_value": 4000}, "compared with the normalised flat"),
        ({"normalise": "mode"}, "normalise='mode' is not one of mean, median"),
        ({"normalise": "medium"}, "did you mean 'median'"),
        ({"normalise": 0.0}, "normalise=0.0"),
        ({"normalise": float("nan")}, "normalise=nan"),
    ],
)
def test_arguments(frames, arguments, message):
    with pytest.raises(daskcal.ArgumentError, match=message):
        daskcal.flat_correct(frames, make_master(1.0), **arguments)
