"""Masters are subtracted once, with the noise that frames share through them."""

import numpy as np
import pytest
import xarray as xr
from amplified import with_amplifiers
from astropy.nddata import CCDData
from raw_fits import write_frames
from small_frames import GAINS, NX, NY, TIMES, make_master
from step_reference import BAD, HOT, NO_DATA, MasterPixels, Pixels, agree

import daskcal
from daskcal.errors import CalibrationError
from daskcal.frames.amplifiers import Amplifier
from daskcal.frames.sections import Section
from daskcal.frames.steps import MasterId, StepRecord, spelled_out, steps_of

RNG = np.random.default_rng(8)
PLANES = ("image", "mask", "variance_shared")
BIAS = StepRecord("subtract_bias", {}, (MasterId("bias.fits", "b1"),)).to_json()
OTHER = StepRecord("subtract_bias", {}, (MasterId("other.fits", "b2"),)).to_json()
OVERSCAN = StepRecord("subtract_overscan", {"method": "median", "pixels": 6}).to_json()


def noisy(level, **attrs):
    mask = np.zeros((NY, NX), np.uint16)
    mask[4, 5], mask[6, 7] = HOT, NO_DATA
    image = RNG.normal(level, 2, (NY, NX)).astype(np.float32)
    image[6, 7] = np.nan
    return make_master(
        image, variance=RNG.uniform(1, 2, (NY, NX)).astype(np.float32), mask=mask, **attrs
    )


def bias_master(**attrs):
    return noisy(1000, file="bias.fits", checksum="b1", steps=[], **attrs)


def dark_master(time, **attrs):
    return noisy(time, darktime=time, file=f"dark{time:g}", checksum=f"d{time:g}", **attrs)


# --- bias -----------------------------------------------------------------------------------------


def test_bias(frames, raw):
    bias = bias_master()
    bad = np.zeros((NY, NX))
    bad[4, 5] = bad[9, 9] = 1
    expected = Pixels(raw)
    expected.mask[:, bad != 0] |= BAD
    expected.take_master(MasterPixels(bias))
    expected.shared += bias.variance.values
    done = daskcal.subtract_bias(daskcal.flag_bad(frames, bad), bias)
    agree(done, expected, planes=PLANES)
    assert done.mask.values[0, 4, 5] == BAD | HOT
    assert steps_of(done)[-1] == StepRecord("subtract_bias", {}, (MasterId("bias.fits", "b1"),))
    assert "variance" not in done


def test_the_noise_that_a_bias_shares_with_others_is_shared_too(frames):
    bias = bias_master().assign(variance_shared=(("y", "x"), np.full((NY, NX), 0.5)))
    done = daskcal.subtract_bias(frames, bias)
    expected = np.broadcast_to(bias.variance.values + 0.5, (3, NY, NX))
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-6)


def test_a_bias_without_variance_makes_none(frames):
    assert "variance_shared" not in daskcal.subtract_bias(frames, make_master(1000))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_master_without_a_value_is_no_data_though_its_mask_is_silent(frames, value):
    image = np.full((NY, NX), 10.0)
    image[3, 3] = value
    for master in (
        make_master(image, darktime=60.0),
        make_master(image, darktime=60.0, mask=np.uint16(0)),
    ):
        for done in (
            daskcal.subtract_bias(frames, master),
            daskcal.subtract_dark(frames, master, tolerance=None),
        ):
            assert np.isnan(done.image.values[:, 3, 3]).all()
            assert (done.mask.values[:, 3, 3] == NO_DATA).all()
            assert done.mask.values.sum() == 3 * NO_DATA


def test_masters_from_files(tmp_path, frames, raw):
    bias = bias_master()
    daskcal.to_fits(bias, tmp_path / "bias.fits")
    done = daskcal.subtract_bias(frames, tmp_path / "bias.fits")
    expected = Pixels(raw)
    expected.take_master(MasterPixels(bias))
    expected.shared += bias.variance.values
    agree(done, expected, planes=PLANES)
    (record,) = steps_of(done)
    assert record.masters[0].file == "bias.fits"
    assert len(record.masters[0].checksum) == 64


def test_units_must_agree(frames):
    with pytest.raises(daskcal.UnitError, match="is in electron and the frames are in adu"):
        daskcal.subtract_bias(frames, make_master(1, units="electron"))
    with pytest.raises(daskcal.UnitError, match="is in adu and the frames are in electron"):
        daskcal.subtract_dark(daskcal.gain_correct(frames), make_master(1, darktime=60.0))


def test_what_is_no_master(frames):
    for thing in (3, np.zeros((NY, NX)), None, xr.Dataset()):
        with pytest.raises(daskcal.ArgumentError, match="master bias should be a Dataset"):
            daskcal.subtract_bias(frames, thing)
    with pytest.raises(daskcal.ArgumentError, match="combine the frames first"):
        daskcal.subtract_bias(frames, frames)
    with pytest.raises(daskcal.FrameError, match="no such file"):
        daskcal.subtract_bias(frames, "missing.fits")


def test_once_only_and_before_the_flat(frames):
    done = daskcal.subtract_bias(frames, make_master(1000))
    with pytest.raises(daskcal.CalibrationError, match="once only"):
        daskcal.subtract_bias(done, make_master(1000))
    dark = make_master(1, darktime=60.0)
    with pytest.raises(daskcal.CalibrationError, match="once only"):
        daskcal.subtract_dark(daskcal.subtract_dark(done, dark, tolerance=None), dark)
    flat = daskcal.flat_correct(frames, make_master(2.0))
    for step in (
        lambda: daskcal.subtract_bias(flat, dark),
        lambda: daskcal.subtract_dark(flat, dark),
    ):
        with pytest.raises(daskcal.CalibrationError, match="before flat_correct"):
            step()


# --- darks ----------------------------------------------------------------------------------------


def test_each_frame_gets_the_nearest_dark(frames, raw):
    darks = [dark_master(t) for t in (10.0, 60.5, 119.0, 300.0)]
    nearest = [darks[1], darks[2], darks[1]]
    expected = Pixels(raw)
    for i, dark in enumerate(nearest):
        one = Pixels(raw[i : i + 1])
        one.take_master(MasterPixels(dark))
        expected.image[i], expected.mask[i] = one.image[0], one.mask[0]
        expected.shared[i] = dark.variance.values
    done = daskcal.subtract_dark(frames, darks, tolerance=1.0)
    agree(done, expected, planes=PLANES)
    record = steps_of(done)[-1]
    assert record.parameters == {"scale": False, "tolerance": 1.0, "factor": 1.0}
    assert [m.checksum for m in record.masters] == ["d60.5", "d119"]
    chosen = daskcal.blocks(done.isel(frame=[2, 1, 1]))
    np.testing.assert_array_equal(chosen.image.values, done.image.values[[2, 1, 1]])


def test_of_two_as_near_the_longer(frames):
    darks = [dark_master(t) for t in (59.0, 61.0)]
    done = daskcal.subtract_dark(frames.isel(frame=[0]), darks, tolerance=1.0)
    assert steps_of(done)[-1].masters[0].checksum == "d61"


def test_darks_that_no_frame_uses_are_not_read(frames):
    used, other = dark_master(60.0).chunk(), dark_master(120.0).chunk()
    fails = other.image.data.map_blocks(
        lambda block: 1 / 0, dtype=np.float32, meta=np.empty((0, 0), "f4")
    )
    other["image"] = ("y", "x"), fails, other.image.attrs
    done = daskcal.subtract_dark(frames.isel(frame=[0, 2]), [other, used], tolerance=2.0)
    assert np.isfinite(done.image.values).any()


def test_out_of_tolerance(frames):
    with pytest.raises(
        daskcal.CalibrationError, match=r"no dark within 0.5 s of 120 s for .*; the nearest is 61 s"
    ):
        daskcal.subtract_dark(frames, [dark_master(60.0), dark_master(61.0)])
    done = daskcal.subtract_dark(frames, dark_master(60.0), tolerance=None)
    assert steps_of(done)[-1].parameters["tolerance"] is None


def with_bias(frames):
    return daskcal.subtract_bias(frames, bias_master())


def test_scaled_darks_with_the_same_bias(frames, raw):
    """(1 − k)²·V_bias + k²·V_dark: what the bias left in the frame and took in the dark is one."""
    bias = bias_master()
    shared = np.full(
        (NY, NX), 0.75, np.float32
    )  # the bias's noise in the dark counts with the bias
    dark = dark_master(60.0, steps=[BIAS], variance_shared=shared)
    k = np.array(TIMES) / 60
    expected = Pixels(raw)
    expected.take_master(MasterPixels(bias))
    expected.take_master(MasterPixels(dark), k)
    k = k[:, None, None]
    expected.shared = (1 - k) ** 2 * bias.variance.values + k**2 * dark.variance.values
    done = daskcal.subtract_dark(daskcal.subtract_bias(frames, bias), dark, scale=True)
    agree(done, expected, planes=PLANES)
    parameters = spelled_out(done)[-1].parameters
    assert parameters["factor"] == pytest.approx([1, 2, 61 / 60])
    assert parameters["scale"] is True
    assert parameters["max_scale"] == 3


def test_a_bias_that_cancels_adds_nothing(frames):
    dark = dark_master(60.0, steps=[BIAS], variance_shared=np.float32(0.75))
    done = daskcal.subtract_dark(with_bias(frames.isel(frame=[0])), dark)
    np.testing.assert_allclose(done.variance_shared.values[0], dark.variance.values, rtol=1e-6)


def test_a_dark_with_another_bias(frames):
    bias = bias_master()
    shared = np.full((NY, NX), 0.75, np.float32)
    dark = dark_master(60.0, steps=[OTHER], variance_shared=shared)
    done = daskcal.subtract_dark(daskcal.subtract_bias(frames, bias), dark, scale=True)
    k = (np.array(TIMES) / 60)[:, None, None]
    expected = bias.variance.values + k**2 * (dark.variance.values + 0.75)
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-5)


def test_a_gain_between_bias_and_dark_scales_the_noise_of_the_bias(frames):
    bias = bias_master()
    dark = dark_master(60.0, steps=[BIAS], units="electron", variance_shared=np.float32(0.75))
    done = daskcal.gain_correct(daskcal.subtract_bias(frames, bias))
    done = daskcal.subtract_dark(done.isel(frame=[2, 1]), dark, scale=True, max_scale=None)
    k, gain = np.array([61 / 60, 2])[:, None, None], np.array(GAINS)[[2, 1]][:, None, None]
    expected = (1 - k) ** 2 * gain**2 * bias.variance.values + k**2 * dark.variance.values
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-4)
    assert steps_of(done)[-1].parameters["max_scale"] is None


def test_gains_of_amplifiers_between_bias_and_dark(frames):
    halves = [Section(0, NY, 0, NX // 2), Section(0, NY, NX // 2, NX)]
    amps = [
        Amplifier(name, half, None, "bottom left") for name, half in zip("ab", halves, strict=True)
    ]
    gains = np.array([1.5, 2.0])
    known = with_amplifiers(frames, amps, gain=gains)
    bias = bias_master()
    dark = dark_master(60.0, steps=[BIAS], units="electron", variance_shared=np.float32(0.75))
    done = daskcal.gain_correct(daskcal.subtract_bias(known, bias))
    done = daskcal.subtract_dark(done, dark, scale=True, max_scale=None)
    k, gain = np.array([1, 2, 61 / 60])[:, None, None], np.repeat(gains, NX // 2)
    expected = (1 - k) ** 2 * gain**2 * bias.variance.values + k**2 * dark.variance.values
    np.testing.assert_allclose(done.variance_shared.values, expected, rtol=1e-4)


def test_dropped_shared_noise_does_not_come_back_negative(frames):
    bare = with_bias(frames).drop_vars("variance_shared")
    dark = dark_master(60.0, steps=[BIAS])
    done = daskcal.subtract_dark(bare, dark, tolerance=None)
    np.testing.assert_allclose(
        done.variance_shared.values, np.broadcast_to(dark.variance.values, (3, NY, NX)), rtol=1e-6
    )


def test_scaling_too_far(frames):
    free, dark = with_bias(frames), dark_master(30.0, steps=[BIAS])
    with pytest.raises(
        daskcal.CalibrationError, match=r"of 120 s needs the 30 s dark times 4, and max_scale is 3"
    ):
        daskcal.subtract_dark(free, dark, scale=True)
    assert daskcal.subtract_dark(free, dark, scale=True, max_scale=4.0).image.shape == (3, NY, NX)
    waived = daskcal.subtract_dark(free, dark, scale=True, max_scale=None)
    assert steps_of(waived)[-1].parameters["max_scale"] is None
    with pytest.raises(daskcal.CalibrationError, match="a dark of 0 s cannot be scaled"):
        daskcal.subtract_dark(free, dark_master(0.0, steps=[BIAS]), scale=True)


def test_scaling_needs_frames_and_dark_without_bias(frames):
    for steps in ([], None):
        dark = dark_master(60.0) if steps is None else dark_master(60.0, steps=steps)
        with pytest.raises(daskcal.CalibrationError, match="scaling a dark scales the bias in it"):
            daskcal.subtract_dark(frames, dark, scale=True)
    with pytest.raises(
        daskcal.CalibrationError, match="the frames had the bias subtracted and the dark had"
    ):
        daskcal.subtract_dark(with_bias(frames), dark_master(60.0, steps=[]), scale=True)


def test_bias_and_overscan_alike(frames):
    dark = dark_master(60.0, steps=[BIAS])
    with pytest.raises(
        daskcal.CalibrationError, match="the dark had the bias subtracted and the frames had"
    ):
        daskcal.subtract_dark(frames, dark, tolerance=None)
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    with pytest.raises(daskcal.CalibrationError, match="the frames had the overscan subtracted"):
        daskcal.subtract_dark(free, dark_master(60.0, steps=[]), tolerance=None)
    with pytest.raises(daskcal.CalibrationError, match="the dark had the overscan subtracted"):
        daskcal.subtract_dark(frames, dark_master(60.0, steps=[OVERSCAN]), tolerance=None)
    alike = daskcal.subtract_dark(free, dark_master(60.0, steps=[OVERSCAN]), tolerance=None)
    unknown = daskcal.subtract_dark(free, dark_master(60.0), tolerance=None)  # nobody said
    assert alike.sizes == unknown.sizes


def test_an_unknown_exposure(tmp_path, raw):
    paths = write_frames(tmp_path / "raw", list(raw), EXPTIME=[60.0, None, 60.0])
    frames = daskcal.open_frames(paths)
    dark = dark_master(60.0)
    with pytest.raises(daskcal.CalibrationError, match=r"exposure of .*f1\.fits is not known"):
        daskcal.subtract_dark(frames, dark)
    with pytest.raises(daskcal.CalibrationError, match="exposure of the master dark is not known"):
        daskcal.subtract_dark(frames.isel(frame=[0]), make_master(1.0))
    assert daskcal.subtract_dark(frames, dark, tolerance=None).image.shape == (3, NY, NX)
    with pytest.raises(daskcal.CalibrationError, match="is not known"):
        daskcal.subtract_dark(frames, [dark, dark], tolerance=None)


def test_dark_time_before_exposure(tmp_path, raw):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw), DARKTIME=70.0))
    dark = make_master(1.0, exptime=60.0, darktime=70.2)
    assert steps_of(daskcal.subtract_dark(frames, dark))[-1].parameters["factor"] == 1
    by_exposure = make_master(1.0, exptime=70.2)
    assert steps_of(daskcal.subtract_dark(frames, by_exposure))


def test_arguments(frames):
    with pytest.raises(daskcal.ArgumentError, match="empty list"):
        daskcal.subtract_dark(frames, [])
    for given in ({"tolerance": -1}, {"max_scale": -1}, {"tolerance": np.nan}):
        with pytest.raises(daskcal.ArgumentError, match="should be 0 or more"):
            daskcal.subtract_dark(frames, dark_master(60.0), **given)


def test_only_what_the_frames_share_survives_a_combine(frames):
    """V_shared of a master is that of its frames, however many; V_frames goes down with them."""
    bias = bias_master()
    free = daskcal.create_variance(daskcal.subtract_bias(frames.isel(frame=[0, 0, 0, 0]), bias))
    one = daskcal.combine(free.isel(frame=[0]), reject="none")
    four = daskcal.combine(free, reject="none")
    good = bias.mask.values == 0
    np.testing.assert_allclose(four.variance.values[good], one.variance.values[good] / 4, rtol=1e-5)
    np.testing.assert_allclose(
        four.variance_shared.values[good], bias.variance.values[good], rtol=1e-5
    )


def test_a_master_of_unknown_origin_and_the_shape_of_trimmed_frames_lies_on_them(frames) -> None:
    trimmed = daskcal.trim_image(frames, "[2:, 3:]")
    level = CCDData(np.full((trimmed.sizes["y"], trimmed.sizes["x"]), 7.0), unit="adu")
    done = daskcal.subtract_bias(trimmed, level)
    np.testing.assert_allclose(
        done.image.values, trimmed.image.values.astype(float) - 7, rtol=1e-6, equal_nan=True
    )


def test_a_bias_with_its_pedestal_is_refused_for_frames_without(frames) -> None:
    bias = daskcal.combine(frames, reject="none")
    level = daskcal.subtract_overscan(frames, "[:, -4:]")
    with pytest.raises(CalibrationError, match="the frames had the overscan subtracted and the bi"):
        daskcal.subtract_bias(level, bias)
