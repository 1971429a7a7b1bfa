"""The frames' own noise: what it is made of, in adu and in electron, and when it is refused."""

import numpy as np
import pytest
from raw_fits import write_frames
from small_frames import GAINS, NOISES, make_master
from step_reference import Pixels, agree

import daskcal
from daskcal.frames.steps import spelled_out, steps_of

PLANES = ("image", "mask", "variance")


@pytest.mark.parametrize("method", ["median", "mean"])
def test_photons_readout_quantisation_and_overscan(frames, raw, method):
    expected = Pixels(raw)
    expected.overscan(slice(None), slice(26, 32), "row", getattr(np, method))
    loss = np.pi / 2 if method == "median" else 1
    expected.noise(GAINS, NOISES, quantum=1, overscan=loss / 6)
    done = daskcal.subtract_overscan(frames, "[:, 26:]", method=method)
    done = daskcal.create_variance(done)
    agree(done, expected, planes=PLANES)
    assert spelled_out(done)[-1].parameters == {"gain": GAINS, "rdnoise": NOISES}


def test_a_fitted_overscan_adds_less(frames):
    by_row = daskcal.subtract_overscan(frames, "[:, 26:]").pipe(daskcal.create_variance)
    fitted = daskcal.subtract_overscan(frames, "[:, 26:]", model="polynomial", order=1)
    fitted = daskcal.create_variance(fitted)
    signal = np.maximum(fitted.image.values, 0) / np.array(GAINS)[:, None, None]
    readout = (np.array(NOISES) / GAINS)[:, None, None] ** 2
    np.testing.assert_allclose(
        fitted.variance.values, signal + readout * (1 + np.pi / 2 / 60) + 1 / 12, rtol=1e-5
    )
    assert by_row.variance.values.min() > fitted.variance.values.min()


def test_adu_and_electron_give_the_same(frames):
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    in_electron = daskcal.create_variance(daskcal.gain_correct(free))
    in_adu = daskcal.gain_correct(daskcal.create_variance(free))
    for quantity in ("image", "variance"):
        np.testing.assert_allclose(in_electron[quantity], in_adu[quantity], rtol=1e-5)
    one = daskcal.gain_correct(free).isel(frame=[2])
    np.testing.assert_allclose(
        daskcal.create_variance(one).variance, in_adu.variance[[2]], rtol=1e-5
    )


def test_a_negative_signal_has_the_read_noise(frames):
    done = daskcal.create_variance(daskcal.subtract_bias(frames, make_master(60000)))
    assert (done.image.values[1] < 0).all()
    np.testing.assert_allclose(done.variance.values[1], (6 / 1.5) ** 2 + 1 / 12, rtol=1e-6)


def test_undefined_pixels_have_no_variance(tmp_path, raw):
    images = raw.astype(np.float32)
    images[1, 2, 3] = np.nan
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(images)))
    done = daskcal.create_variance(frames, bias_level=1000)
    assert np.isnan(done.variance.values[1, 2, 3])
    assert np.isfinite(done.variance.values).sum() == images.size - 1
    readout = (5 / 1.5) ** 2  # floating raw values have no converter's step
    np.testing.assert_allclose(
        done.variance.values[0], np.maximum(images[0] - 1000, 0) / 1.5 + readout, rtol=1e-5
    )


def test_bias_frames_have_no_photon_noise(tmp_path, raw):
    kinds = ["zero", "object", "BIAS"]
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw), IMAGETYP=kinds))
    biases = daskcal.create_variance(frames.query(frame="imagetyp == 'bias'"))
    np.testing.assert_allclose(biases.variance.values, (5 / 1.5) ** 2 + 1 / 12, rtol=1e-6)
    done = daskcal.create_variance(daskcal.subtract_overscan(frames, "[:, 26:]"))
    expected = Pixels(raw)
    expected.overscan(slice(None), slice(26, 32), "row")
    expected.noise(1.5, 5, quantum=1, overscan=np.pi / 12, bias=[1, 0, 1])
    agree(done, expected, planes=PLANES)


def test_the_bias_level_where_the_bias_is_still_there(frames, raw):
    expected = Pixels(raw)
    expected.noise(GAINS, NOISES, quantum=1, bias_level=1000)
    done = daskcal.create_variance(frames, bias_level=1000)
    agree(done, expected, planes=PLANES)
    assert steps_of(done)[-1].parameters["bias_level"] == 1000
    # in raw values, whatever was done since
    electron = daskcal.create_variance(daskcal.gain_correct(frames), bias_level=1000)
    signal = np.maximum((raw - 1000.0) * np.array(GAINS)[:, None, None], 0)
    expected = signal + (np.square(NOISES) + np.square(GAINS) / 12)[:, None, None]
    np.testing.assert_allclose(electron.variance.values, expected, rtol=1e-5)
    chosen = daskcal.gain_correct(frames).isel(frame=[2, 0])
    chosen = daskcal.create_variance(chosen, bias_level=1000)
    np.testing.assert_allclose(chosen.variance.values, expected[[2, 0]], rtol=1e-5)


def test_the_bias_level_does_not_count_where_the_bias_is_gone(frames):
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    given, without = daskcal.create_variance(free, bias_level=1000), daskcal.create_variance(free)
    np.testing.assert_array_equal(given.variance.values, without.variance.values)
    assert "bias_level" not in steps_of(given)[-1].parameters


def test_gain_and_read_noise_as_arguments(frames, raw):
    expected = Pixels(raw)
    expected.noise(3.0, 7.0, quantum=1, bias_level=1000)
    agree(
        daskcal.create_variance(frames, gain=3, rdnoise=7, bias_level=1000), expected, planes=PLANES
    )


def test_the_converters_step_of_scaled_integers(tmp_path):
    from astropy.io import fits

    hdu = fits.PrimaryHDU(np.full((4, 5), 100, np.int16))
    hdu.header["BSCALE"], hdu.header["GAIN"], hdu.header["RDNOISE"] = 3.0, 2.0, 4.0
    folder = tmp_path / "scaled.fits"
    data = np.full((4, 5), 100, ">i2").tobytes()
    folder.write_bytes(hdu.header.tostring().encode() + data + b"\0" * (2880 - len(data)))
    frames = daskcal.open_frames(folder, unit="adu")
    done = daskcal.create_variance(frames, bias_level=100)
    np.testing.assert_allclose(done.variance.values, 200 / 2 + 4 + 9 / 12, rtol=1e-6)


# --- what is refused ------------------------------------------------------------------------------


def test_the_bias_must_be_gone_or_known(frames):
    with pytest.raises(daskcal.CalibrationError, match="subtract the overscan or the bias first"):
        daskcal.create_variance(frames)


@pytest.mark.parametrize("what", ["GAIN", "RDNOISE"])
def test_what_must_be_known(tmp_path, raw, what):
    paths = write_frames(tmp_path / "raw", list(raw), **{what: [1.5, None, 1.5]})
    frames = daskcal.open_frames(paths)
    with pytest.raises(daskcal.CalibrationError, match=rf"the {what.lower()} of .*f1\.fits is nan"):
        daskcal.create_variance(frames, bias_level=1000)
    given = {what.lower(): 2.0}
    assert np.isfinite(daskcal.create_variance(frames, bias_level=1000, **given).variance).all()


@pytest.mark.parametrize("given", [{"gain": 0.0}, {"gain": np.inf}, {"rdnoise": -1.0}])
def test_impossible_numbers(frames, given):
    with pytest.raises(daskcal.CalibrationError, match=r"of .* is (0\.0|inf|-1\.0); give"):
        daskcal.create_variance(frames, bias_level=1000, **given)


def test_a_gain_for_electron_is_refused(frames):
    with pytest.raises(daskcal.ArgumentError, match="the frames are in electron"):
        daskcal.create_variance(daskcal.gain_correct(frames), gain=2.0, bias_level=1000)


def test_it_comes_before_dark_and_flat(frames):
    dark = make_master(5, darktime=60.0)
    done = daskcal.subtract_dark(frames, dark, tolerance=None)
    with pytest.raises(daskcal.CalibrationError, match="create_variance before subtract_dark"):
        daskcal.create_variance(done, bias_level=1000)
    done = daskcal.flat_correct(daskcal.subtract_bias(frames, make_master(1000)), make_master(1.0))
    with pytest.raises(daskcal.CalibrationError, match="create_variance before flat_correct"):
        daskcal.create_variance(done)


def test_after_arithmetic_and_selection_the_gain_is_still_each_frames_own(frames, raw):
    electron = daskcal.gain_correct(frames)
    changed = electron.assign(image=(electron.image + 1.0).assign_attrs(electron.image.attrs))
    done = daskcal.create_variance(changed.isel(frame=[2, 0]), bias_level=1000)
    gains, noises = np.array(GAINS)[[2, 0], None, None], np.array(NOISES)[[2, 0], None, None]
    signal = np.maximum(raw[[2, 0]] * gains + 1 - 1000 * gains, 0)
    np.testing.assert_allclose(done.variance, signal + noises**2 + gains**2 / 12, rtol=1e-5)


@pytest.mark.parametrize("unit", ["Jy", "electron/s", "count/s"])
def test_the_noise_model_is_for_counts_alone(tmp_path, raw, unit):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw), BUNIT=unit))
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    with pytest.raises(daskcal.UnitError, match=f"the frames are in {frames.image.units}, "):
        daskcal.create_variance(free, gain=1.5, rdnoise=5)
    free = free.assign_coords(gain=("frame", GAINS), rdnoise=("frame", NOISES))
    assert not daskcal.calibration.noise_is_known(free)
    assert "variance" not in daskcal.calibrate(free)
    with pytest.raises(daskcal.UnitError):
        daskcal.calibrate(free, variance=True)


@pytest.mark.parametrize(("alias", "unit"), [("ADU", "adu"), ("count", "adu"), ("e-", "electron")])
def test_other_words_for_counts(frames, alias, unit):
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    found, expected = (
        daskcal.create_variance(free.assign(image=free.image.assign_attrs(units=word))).variance
        for word in (alias, unit)
    )
    np.testing.assert_array_equal(found, expected)
