"""All steps at once are the steps one by one in the right order; misspelled words are refused."""

import inspect

import numpy as np
import pytest
import xarray as xr
from raw_fits import write_frames
from small_frames import GAINS, NOISES, NX, NY, make_master
from step_reference import MasterPixels, Pixels, agree

import daskcal
from daskcal import plot
from daskcal.frames.steps import steps_of

RNG = np.random.default_rng(9)


def masters():
    def noise(scale):
        return RNG.uniform(0.5, 1, (NY, NX)).astype(np.float32) * np.float32(scale)

    overscan = '{"step": "subtract_overscan", "method": "median", "pixels": 6}'
    bias = make_master(
        noise(9), variance=noise(2), units="electron", file="b", checksum="b", steps=[overscan]
    )
    subtracted = '{"step": "subtract_bias", "masters": [{"file": "b", "checksum": "b"}]}'
    dark = make_master(noise(30), variance=noise(3), units="electron", darktime=60.0,
                       steps=[overscan, subtracted])  # fmt: skip
    dark.image.values[3, 9] = 5000
    flat = make_master(noise(40000), variance=noise(500), units="electron")
    return bias, dark, flat


def test_every_step_against_the_reference(frames, raw):
    bias, dark, flat = masters()
    bad = np.zeros((NY - 2, 26), bool)
    bad[4, 4] = True
    done = daskcal.calibrate(
        frames,
        saturation=60000,
        overscan={"fits_section": "BIASSEC", "method": "mean"},
        trim="[2:, :26]",
        gain=True,
        bias=bias,
        dark={"dark": [dark], "scale": True},
        flat={"flat": flat, "min_value": 0.1, "normalise": "median"},
        bad_pixel_mask=bad,
        hot=daskcal.hot_pixels(dark),
    )
    names = """flag_saturated subtract_overscan trim_image flag_bad gain_correct subtract_bias
               create_variance subtract_dark flag_hot flat_correct"""
    assert [record.step for record in steps_of(done)] == names.split()

    expected = Pixels(raw)
    expected.saturate(60000)
    expected.overscan(slice(None), slice(26, 32), "row", np.mean)
    expected.trim(slice(2, None), slice(0, 26))
    expected.mask[:, bad] |= 1
    expected.gain(GAINS)
    part = {"y": slice(2, None), "x": slice(0, 26)}
    b, d, f = (MasterPixels(master.isel(part)) for master in (bias, dark, flat))
    expected.take_master(b)
    gains = np.array(GAINS)
    expected.noise(1.0, NOISES, overscan=1 / 6)
    expected.variance += (gains**2 / 12)[:, None, None]
    k = np.array([60, 120, 61]) / 60
    expected.take_master(d, k)
    k = k[:, None, None]
    expected.shared = (1 - k) ** 2 * b.variance + k**2 * d.variance
    expected.mask[:, 1, 9] |= 2
    expected.flat(f, np.median(flat.image.values.astype(float)), 0.1)
    agree(done, expected, rtol=2e-5, planes=("image", "mask", "variance", "variance_shared"))
    assert done.image.attrs["units"] == "electron"


def test_the_steps_one_by_one_give_the_same_bits(frames):
    bias, dark, flat = masters()
    at_once = daskcal.calibrate(
        frames, saturation=True, overscan="[:, 26:]", trim="[:, :26]", gain=True, bias=bias,
        dark={"dark": dark, "tolerance": None}, flat=flat,
    )  # fmt: skip
    one_by_one = (
        frames.pipe(daskcal.flag_saturated)
        .pipe(daskcal.subtract_overscan, "[:, 26:]")
        .pipe(daskcal.trim_image, "[:, :26]")
        .pipe(daskcal.gain_correct)
        .pipe(daskcal.subtract_bias, bias)
        .pipe(daskcal.create_variance)
        .pipe(daskcal.subtract_dark, dark, tolerance=None)
        .pipe(daskcal.flat_correct, flat)
    )
    xr.testing.assert_identical(at_once.compute(), one_by_one.compute())


def test_nothing_asked_nothing_done(frames):
    xr.testing.assert_identical(daskcal.calibrate(frames), frames)


def test_frames_are_never_changed(frames):
    before = frames.copy(deep=True).compute()
    bias, dark, flat = masters()
    kept = [master.copy(deep=True) for master in (bias, dark, flat)]
    daskcal.calibrate(
        frames, saturation=True, overscan="[:, 26:]", gain=True, bias=bias,
        dark={"dark": dark, "scale": True}, flat=flat,
    ).compute()  # fmt: skip
    xr.testing.assert_identical(frames.compute(), before)
    for master, copy in zip((bias, dark, flat), kept, strict=True):
        xr.testing.assert_identical(master, copy)


# --- variance="auto" ------------------------------------------------------------------------------


def test_auto_variance_where_everything_is_known(tmp_path, frames, raw):
    assert "variance" in daskcal.calibrate(frames, overscan="[:, 26:]")
    assert "variance" in daskcal.calibrate(frames, bias=make_master(1000))
    assert "variance" not in daskcal.calibrate(frames, flat=make_master(1.0))  # bias in it still
    assert "variance" not in daskcal.calibrate(frames, bias=make_master(1000), variance=False)
    assert "variance" in daskcal.calibrate(frames, variance={"bias_level": 1000.0})
    free = daskcal.subtract_overscan(frames, "[:, 26:]")
    assert "variance" in daskcal.calibrate(free, trim="[:, :26]")
    for name, cards in (("gain", {"GAIN": [1.5, None, 1.5]}), ("noise", {"RDNOISE": None})):
        unknown = daskcal.open_frames(write_frames(tmp_path / name, list(raw), **cards))
        assert "variance" not in daskcal.calibrate(unknown, overscan="[:, 26:]")
        with pytest.raises(daskcal.CalibrationError):
            daskcal.calibrate(unknown, overscan="[:, 26:]", variance=True)
    biases = daskcal.open_frames(write_frames(tmp_path / "zero", list(raw), IMAGETYP="zero"))
    assert "variance" in daskcal.calibrate(biases)
    camera = daskcal.Instrument(bias_level=1000.0)
    known = daskcal.open_frames(write_frames(tmp_path / "level", list(raw)), instrument=camera)
    assert "variance" in daskcal.calibrate(known, flat=make_master(1.0))


def test_false_is_no_argument_of_a_step(frames):
    with pytest.raises(daskcal.ArgumentError, match="False is no argument of gain_correct"):
        daskcal.calibrate(frames, gain=False)


# --- misspelled words -----------------------------------------------------------------------------

FUNCTIONS = [name for name in daskcal.__all__ if inspect.isfunction(getattr(daskcal, name))]
MINE = """blocks calibrate create_variance flag_bad flag_hot flag_saturated flat_correct
          from_ccddata gain_correct hot_pixels open_frames open_master subtract_bias
          subtract_dark subtract_overscan to_ccddata trim_image"""


@pytest.mark.parametrize("name", MINE.split())
def test_every_keyword_misspelled_names_the_word(name):
    assert name in FUNCTIONS
    function = getattr(daskcal, name)
    for parameter in inspect.signature(function).parameters:
        wrong = parameter + "x"
        with pytest.raises(
            TypeError, match=rf"{name}\(\) has no keyword '{wrong}'; did you mean '{parameter}'"
        ) as e:
            function(**{wrong: 1})
        assert isinstance(e.value, daskcal.UnknownKeywordError)


def test_a_word_in_a_step_of_calibrate(frames):
    with pytest.raises(TypeError, match="did you mean 'overscan'"):
        daskcal.calibrate(frames, overscn="[:, 26:]")
    with pytest.raises(TypeError, match=r"subtract_overscan.* did you mean 'method'"):
        daskcal.calibrate(frames, overscan={"overscan": "[:, 26:]", "metod": "mean"})


@pytest.mark.parametrize(
    "use",
    [
        daskcal.calibrate,
        daskcal.blocks,
        daskcal.combine,
        daskcal.flag_saturated,
        plot.levels,
        lambda frames: daskcal.subtract_overscan(frames, "[:, 26:]"),
        lambda frames: daskcal.subtract_bias(frames, make_master(9)),
        lambda frames: daskcal.to_zarr(frames, "nothing.zarr"),
        lambda frames: daskcal.to_fits(frames, "nothing"),
    ],
    ids=["calibrate", "blocks", "combine", "flag_saturated", "levels", "subtract_overscan",
         "subtract_bias", "to_zarr", "to_fits"],
)  # fmt: skip
def test_where_no_frame_is_selected(frames, tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(daskcal.ArgumentError, match="no frame is selected"):
        use(frames.query(frame="filter == 'Q'"))
    assert sorted(tmp_path.iterdir()) == before


def test_true_and_words_where_a_value_is_needed(frames):
    with pytest.raises(daskcal.ArgumentError, match="True is no argument of subtract_bias"):
        daskcal.calibrate(frames, bias=True)
    with pytest.raises(daskcal.ArgumentError, match="level='x' should be a number"):
        daskcal.calibrate(frames, saturation="x")
