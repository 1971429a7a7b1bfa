"""The overscan level, by row, by column and fitted, from its own pixels only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_fits import write_frames
from scipy.interpolate import make_lsq_spline
from small_frames import NY, make_master
from step_reference import NO_DATA, SATURATED, Pixels, agree

import daskcal
from daskcal.calibration.overscan import LineLevel
from daskcal.frames.steps import steps_of

ALL, OVER = slice(None), slice(26, 32)
RNG = np.random.default_rng(5)


@pytest.mark.parametrize("method", ["median", "mean"])
@pytest.mark.parametrize("clip", [None, 1.5])
def test_a_level_for_each_row(frames, raw, method, clip):
    expected = Pixels(raw)
    expected.overscan(ALL, OVER, "row", getattr(np, method), clip)
    done = daskcal.subtract_overscan(frames, "[:, 26:]", method=method, clip=clip)
    agree(done, expected)
    assert done.image.dtype == np.float32
    parameters = {
        "section": "[0:20, 26:32]",
        "axis": "row",
        "method": method,
        "clip": clip,
        "pixels": 6,
    }
    assert [(s.step, s.parameters) for s in steps_of(done)] == [("subtract_overscan", parameters)]


@pytest.mark.parametrize("method", ["median", "mean"])
def test_a_level_for_each_column(frames, raw, method):
    expected = Pixels(raw)
    expected.overscan(slice(14, 20), ALL, "column", getattr(np, method))
    done = daskcal.subtract_overscan(frames, np.s_[14:, :], method=method)
    agree(done, expected)
    assert steps_of(done)[0].parameters["axis"] == "column"


@pytest.mark.parametrize(
    ("section", "shape", "axis"),
    [
        ("[:, 3:]", (4, 32), "row"),
        ("[2:, :]", (32, 4), "column"),
        ("[:, 30:]", (20, 32), "row"),
        ("[18:, :]", (20, 32), "column"),
    ],
)
def test_the_axis_is_what_the_section_spans(tmp_path, section, shape, axis):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [np.ones(shape, np.uint16)]))
    done = daskcal.subtract_overscan(frames, section)
    assert steps_of(done)[0].parameters["axis"] == axis


FITS = ["[27:32,1:20]", "[ 27 : 32 , 1 : 20 ]", "[32:27,20:1]", "[27:32,*]", "BIASSEC", "biassec"]


@pytest.mark.parametrize("text", FITS)
def test_the_fits_form_and_the_header(frames, raw, text):
    expected = Pixels(raw)
    expected.overscan(ALL, OVER, "row")
    agree(daskcal.subtract_overscan(frames, fits_section=text), expected)


def test_the_overscan_may_have_been_cut_off_already(frames, raw):
    """Files still have it; arrays do not, and say so."""
    cut = daskcal.trim_image(frames, "[4:, :26]").isel(frame=[2, 0])
    if "numpy" in str(type(frames.image.data)):
        with pytest.raises(daskcal.GeometryError, match=r"outside of the frames, which are"):
            daskcal.subtract_overscan(cut, fits_section="BIASSEC")
        return
    expected = Pixels(raw[[2, 0]])
    expected.overscan(ALL, OVER, "row")
    expected.trim(slice(4, None), slice(0, 26))
    agree(daskcal.subtract_overscan(cut, fits_section="BIASSEC"), expected)


def test_masked_and_undefined_overscan_pixels_do_not_count(tmp_path, raw):
    images = raw.astype(np.float32)
    images[0, 3, 27] = np.nan
    images[1, 4, 26:] = np.nan  # a whole row without overscan
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(images)))
    flagged = daskcal.flag_saturated(frames, 1050)
    for method in ("median", "mean"):
        expected = Pixels(images)
        expected.saturate(1050)
        assert (expected.mask[:, :, 26:] == SATURATED).any()
        expected.overscan(ALL, OVER, "row", getattr(np, method))
        done = daskcal.subtract_overscan(flagged, "[:, 26:]", method=method)
        agree(done, expected)
        assert (done.mask.values[1, 4] & NO_DATA).all()
        assert np.isnan(done.image.values[1, 4]).all()
        assert np.isfinite(done.image.values[1, 5]).all()


@pytest.mark.parametrize("row", [0, 9, 19])
def test_a_bad_row_does_not_leak(frames, raw, row):
    """By rows, only the bad row itself changes; a fit ignores it."""
    spoiled = frames.compute().copy(deep=True)
    spoiled["image"][1, row] = 65000
    for model, order in ((None, 1), ("polynomial", 1), ("legendre", 3), ("spline", 2)):
        how = {"overscan": "[:, 26:]", "model": model, "order": order}
        clean = daskcal.subtract_overscan(frames, **how).image.values
        done = daskcal.subtract_overscan(spoiled, **how).image.values
        np.testing.assert_array_equal(done[[0, 2]], clean[[0, 2]])
        others = np.arange(NY) != row
        leak = 0 if model is None else 4  # a fit with a level less; the noise of one is 2
        np.testing.assert_allclose(done[:, others], clean[:, others], atol=leak)


# --- fits -----------------------------------------------------------------------------------------


def levels(raw, rows=ALL, columns=OVER):
    return np.median(raw[:, rows, columns].astype(float), axis=2)


@pytest.mark.parametrize("model", ["polynomial", "legendre"])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_polynomials(frames, raw, model, order):
    done = daskcal.subtract_overscan(frames, "[:, 26:]", model=model, order=order)
    lines = np.arange(NY)
    fits = [np.polyval(np.polyfit(lines, level, order), lines) for level in levels(raw)]
    np.testing.assert_allclose(
        done.image.values, raw - np.array(fits)[:, :, None], rtol=1e-6, atol=2e-3
    )
    parameters = steps_of(done)[0].parameters
    assert (parameters["model"], parameters["order"]) == (model, order)


def test_splines(frames, raw):
    done = daskcal.subtract_overscan(frames, "[:, 26:]", model="spline", order=3)
    lines = np.arange(NY, dtype=float)
    knots = np.r_[[0.0] * 4, 19 / 3, 38 / 3, [19.0] * 4]
    fits = [make_lsq_spline(lines, level, knots)(lines) for level in levels(raw)]
    np.testing.assert_allclose(
        done.image.values, raw - np.array(fits)[:, :, None], rtol=1e-6, atol=2e-3
    )


@pytest.mark.parametrize("model", ["polynomial", "spline"])
def test_a_fit_along_the_columns(tmp_path, frames, raw, model):
    paths = write_frames(tmp_path / "turned", [image.T for image in raw])
    turned = daskcal.subtract_overscan(
        daskcal.open_frames(paths), "[26:, :]", model=model, order=2
    ).isel(x=slice(3, 17))
    done = daskcal.subtract_overscan(frames, "[:, 26:]", model=model, order=2)
    np.testing.assert_array_equal(turned.image.values.swapaxes(1, 2), done.image.values[:, 3:17])


def test_a_fit_reaches_rows_without_overscan(frames, raw):
    done = daskcal.subtract_overscan(frames, "[2:15, 26:]", model="polynomial", order=1)
    lines = np.arange(2, 15)
    fits = [np.polyval(np.polyfit(lines, one[2:15], 1), np.arange(NY)) for one in levels(raw)]
    np.testing.assert_allclose(
        done.image.values, raw - np.array(fits)[:, :, None], rtol=1e-6, atol=2e-3
    )


def test_a_fit_of_selected_frames_and_rows(frames, raw):
    whole = daskcal.subtract_overscan(frames, "[:, 26:]", model="legendre").image.values
    chosen = daskcal.subtract_overscan(frames, "[:, 26:]", model="legendre")
    chosen = chosen.isel(frame=[2, 0, 0], y=slice(5, 12), x=slice(0, 20))
    done = daskcal.gain_correct(chosen, 1.0).image.values
    np.testing.assert_array_equal(done, whole[[2, 0, 0], 5:12, :20])


def test_too_few_levels_for_a_fit_are_no_data(tmp_path):
    image = np.ones((7, 9), np.float32)
    image[3, 6:] = np.nan
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [image]))
    done = daskcal.subtract_overscan(frames, "[:, 6:]", model="polynomial", order=3)
    assert np.isnan(done.image.values).all()
    assert (done.mask.values == NO_DATA).all()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "order", "section", "message"),
    [
        ("legendre", 3, "[:, 6:]", "needs 7 rows of overscan, .* has 6; give order=2 or less"),
        ("polynomial", 5, "[4:, :]", "needs 9 columns of overscan, .* has 8; give order=4 or less"),
        ("spline", 3, "[:, 6:]", "needs 7 rows of overscan, .* has 6; give order=2 or less"),
        ("polynomial", 0, "[2:5, 6:]", "needs 4 rows of overscan, .* has 3; give a longer"),
    ],
)
def test_a_fit_needs_more_lines_than_its_order(tmp_path, model, order, section, message):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [np.ones((6, 8), np.uint16)]))
    axis = "column" if section.startswith("[4") else "row"
    with pytest.raises(daskcal.GeometryError, match=f"order={order} {message}"):
        daskcal.subtract_overscan(frames, section, axis=axis, model=model, order=order)


def test_a_row_without_overscan_pixels_is_refused(frames):
    with pytest.raises(daskcal.GeometryError, match="no pixels in some rows"):
        daskcal.subtract_overscan(frames, "[2:15, 26:]")
    with pytest.raises(daskcal.GeometryError, match="no pixels in some columns"):
        daskcal.subtract_overscan(frames, "[14:, 3:9]", axis="column")


def test_sections_are_checked_at_once(frames):
    with pytest.raises(daskcal.GeometryError, match="leaves the image"):
        daskcal.subtract_overscan(frames, "[:, 26:33]")
    with pytest.raises(daskcal.GeometryError, match="32 columns × 20 rows"):
        daskcal.subtract_overscan(frames, fits_section="[27:33,1:20]")
    with pytest.raises(daskcal.CalibrationError, match="no OVERSEC in their headers"):
        daskcal.subtract_overscan(frames, fits_section="OVERSEC")
    for wrong in ({}, {"overscan": "[:, 26:]", "fits_section": "BIASSEC"}):
        with pytest.raises(daskcal.ArgumentError, match="one of them"):
            daskcal.subtract_overscan(frames, **wrong)


def test_a_header_that_differs_between_frames(tmp_path, raw):
    sections = ["[27:32,1:20]", "[28:32,1:20]", "[27:32,1:20]"]
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", list(raw), BIASSEC=sections))
    with pytest.raises(daskcal.CalibrationError, match="BIASSEC differs between the frames"):
        daskcal.subtract_overscan(frames, fits_section="BIASSEC")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "mode"}, "method='mode' is not one of median, mean"),
        ({"method": "meen"}, "did you mean 'mean'"),
        ({"axis": "rows"}, "did you mean 'row'"),
        ({"model": "polinomial"}, "did you mean 'polynomial'"),
        ({"model": "polynomial", "order": -1}, "order=-1"),
        ({"model": "spline", "order": 0}, "order=0"),
        ({"clip": 0}, "clip=0"),
        ({"clip": -2.5}, "clip=-2.5"),
    ],
)
def test_words_and_numbers(frames, arguments, message):
    with pytest.raises(daskcal.ArgumentError, match=message):
        daskcal.subtract_overscan(frames, "[:, 26:]", **arguments)


def test_the_overscan_comes_before_masters(frames):
    done = daskcal.subtract_bias(frames, make_master(1000))
    with pytest.raises(daskcal.CalibrationError, match="before subtract_bias"):
        daskcal.subtract_overscan(done, "[:, 26:]")
    flagged = daskcal.trim_image(frames, "[:, :26]").pipe(daskcal.flag_bad, np.zeros((NY, 26)))
    with pytest.raises(daskcal.GeometryError):
        daskcal.subtract_overscan(flagged, fits_section="BIASSEC")


# --- the level of a line --------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_levels_of_lines_are_those_of_the_formula(data):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40)))
    values = st.integers(0, 30) | st.just(65535) | st.just(np.nan) | st.just(np.inf)
    size = shape[0] * shape[1]
    pixels = np.array(data.draw(st.lists(values, min_size=size, max_size=size)), float)
    pixels = pixels.reshape(shape).astype(data.draw(st.sampled_from(["f4", "f8"])))
    method = data.draw(st.sampled_from(["median", "mean"]))
    clip = data.draw(st.sampled_from([None, 0.5, 2.0, 5.0]))
    before = pixels.copy()
    found = LineLevel(method, clip)(pixels)
    np.testing.assert_array_equal(pixels, before)
    for line, level in zip(pixels.astype(float), found, strict=True):
        good = line[np.isfinite(line)]
        if clip is not None and good.size:
            offset = np.abs(good - np.median(good))
            good = good[~(offset > clip * max(1.482602218505602 * np.median(offset), 0.5))]
        if good.size:
            assert level == (np.median(good) if method == "median" else good.sum() / good.size)
        else:
            assert np.isnan(level)
