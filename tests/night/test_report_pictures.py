"""What the report takes from pixels, and the charts that it draws, whatever the numbers are."""

from __future__ import annotations

import base64
import io
import math
import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from daskcal.errors import FrameError
from daskcal.night.ledger import FrameEntry
from daskcal.night.report.charts import Point, histogram, nice, series
from daskcal.night.report.pixels import look_at
from daskcal.night.report.strip import night_strip
from daskcal.night.report.times import places
from daskcal.plot import UNDEFINED_COLOUR

NUMBERS = st.floats(-1e299, 1e299)


def write(path, image, mask=None, unit="adu"):
    hdus = [fits.PrimaryHDU(image)]
    hdus[0].header["BUNIT"] = unit
    if mask is not None:
        hdus.append(fits.ImageHDU(mask, name="MASK"))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def pixels(look):
    kind, _, data = look.picture.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower()}"
    assert (image.width, image.height) == (look.width, look.height)
    return np.asarray(image.convert("RGB")).astype(int)


def test_row_0_is_at_the_bottom_and_masked_pixels_are_blue(tmp_path):
    image = np.zeros((20, 30), np.float32)
    image[:5] = np.linspace(1, 2, 30)
    mask = np.zeros(image.shape, np.uint8)
    mask[:, 0] = 2
    shown = pixels(look_at(write(tmp_path / "a.fits", image, mask), 480))
    assert shown.shape == (20, 30, 3)
    assert shown[-1, -1].min() > 250
    assert shown[0, -1].max() < 5
    assert (shown[:, 0] == UNDEFINED_COLOUR).all()


@pytest.mark.parametrize(("shape", "longest"), [((700, 300), 140), ((90, 1300), 48)])
def test_a_large_image_is_averaged_from_some_of_its_rows(tmp_path, shape, longest):
    image = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
    look = look_at(write(tmp_path / "a.fits", image), longest)
    shown = pixels(look)[..., 0]
    assert max(shown.shape) <= longest
    assert look.picture.startswith("data:image/jpeg")
    assert np.mean(np.diff(shown, axis=1) >= -3) > 0.95  # brighter to the right
    assert shown[0].mean() > shown[-1].mean() + (30 if shape[0] > shape[1] else 0)
    assert look.median == pytest.approx(np.median(image), rel=0.02)


def test_figures_of_the_good_pixels(tmp_path):
    rng = np.random.default_rng(3)
    image = rng.normal(1000, 4, (200, 300)).astype(np.float32)
    image[:50] = 60000
    mask = np.zeros(image.shape, np.int16)
    mask[:50] = 4
    mask[:25] |= 2
    image[199, 299] = np.nan
    look = look_at(write(tmp_path / "a.fits", image, mask, "electron"), 480)
    assert look.median == pytest.approx(1000, abs=0.2)
    assert look.sigma == pytest.approx(4, rel=0.05)
    assert (look.unit, look.shape) == ("electron", "300 × 200")
    assert look.masked_fraction == 0.25
    assert look.masked == {"hot": 0.125, "saturated": 0.25}
    assert sum(look.histogram.counts) == pytest.approx(150 * 300, rel=0.01)
    assert 1000 - 8 * look.sigma < look.histogram.low < 990


def test_a_compressed_product_is_shown(tmp_path):
    image = np.arange(6000, dtype=np.int16).reshape(60, 100)
    path = tmp_path / "a.fits"
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(image, name="IMAGE")]
    fits.HDUList(hdus).writeto(path)
    assert look_at(path, 480).median == pytest.approx(np.median(image), abs=1)


def test_a_mask_of_another_shape_is_named(tmp_path):
    path = write(tmp_path / "a.fits", np.ones((4, 4), np.float32), np.ones((4, 5), np.uint8))
    with pytest.raises(FrameError, match="shape"):
        look_at(path, 480)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.int32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    ),
    st.integers(1, 8),
)  # fmt: skip
@example(np.array([[8e8] + [1e-284] * 9]), 4)
def test_any_image_can_be_looked_at(tmp_path, image, longest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy's, of NaN among integers
        path = write(tmp_path / "a.fits", image)
    look = look_at(path, longest)
    assert max(look.width, look.height) <= longest
    svg = histogram(look, "x")
    assert bool(svg) == math.isfinite(look.median)
    if svg:
        drawn_well(svg)


def drawn_well(svg):
    root = ET.fromstring(svg)
    for path in root.iter("path"):
        assert not re.search("nan|inf", path.get("d"))
    return root


@given(
    st.lists(
        st.tuples(NUMBERS, st.floats(), st.floats(), st.sampled_from(["pass", "warn", "reject"])),
        min_size=1, max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
@settings(deadline=None)
def test_any_numbers_can_be_drawn(values, by_time):
    points = [Point(float(i), *value, "t") for i, value in enumerate(values)]
    root = drawn_well(series(points, label="l", unit="u", by_time=by_time))
    assert len(list(root.iter("title"))) == len(points)


def test_limits_that_change_are_steps():
    points = [Point(i, 5.0, 4.0, 6.0 + 2 * i, "pass", "") for i in range(3)]
    root = drawn_well(series(points, label="", unit="", by_time=False))
    band = next(path.get("d") for path in root.iter("path") if path.get("class") == "band")
    assert len(set(re.findall(r"[\d.]+ ([\d.]+)", band))) == 4  # three upper limits, one lower


def test_a_far_outlier_is_an_arrow_at_the_edge():
    points = [Point(i, 100.0 + i, 90, 110, "pass", "") for i in range(5)]
    root = drawn_well(
        series([*points, Point(5, 1e6, 90, 110, "reject", "far")], label="", unit="", by_time=False)
    )
    marks = [p.get("d") for p in root.iter("path") if p.get("class") in ("pass", "reject")]
    heights = [float(d.split()[1].split("m")[0].split("h")[0]) for d in marks]
    assert heights[-1] == 12  # the top
    assert heights[0] - heights[4] > 5  # the others are still told apart


def test_many_good_points_are_one_path():
    points = [Point(i, 1.0, math.nan, math.nan, "pass", "") for i in range(5000)]
    svg = series([*points, Point(9999, 3, 0, 2, "warn", "w")], label="", unit="", by_time=False)
    root = drawn_well(svg)
    assert len(svg) < 120_000
    assert [title.text for title in root.iter("title")] == ["w"]


@given(NUMBERS, NUMBERS, st.integers(1, 6))
def test_round_numbers_lie_within(low, high, about):
    low, high = sorted((low, high))
    found = nice(low, high, about)
    room = 1e-6 * (high - low)
    assert all(low - room <= value <= high + room for value in found)
    assert len(found) <= 3 * about + 1


def test_round_numbers():
    assert nice(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert nice(-0.013, 0.014, 3) == [-0.01, 0, 0.01]
    assert nice(-8.5, 8.5, 3) == [-5, 0, 5]


def frame(date, i=0, status="used", imagetyp="bias"):
    return FrameEntry(f"{i}.fits", 0, status, "why", imagetyp=imagetyp, date_obs=date)


def test_times_are_hours_in_a_night_and_order_beyond_it():
    night = [frame("2024-01-01T23:00:00"), frame("2024-01-02T01:30:00.5+00:00")]
    assert places(night) == ([23.0, pytest.approx(25.5, abs=1e-3)], True)
    assert places([night[1], frame("2024-02-01"), night[0]]) == ([2.0, 3.0, 1.0], False)
    assert places([night[1], frame("never"), None]) == ([1.0, 2.0, 3.0], False)


def test_the_strip_shows_each_kind_and_what_was_left_out():
    kinds = ["bias", "bias", "flat", "science", "science"]
    some = [frame(f"2024-01-01T0{i}:00:00", i, "used", kind) for i, kind in enumerate(kinds)]
    some.append(frame("2024-01-01T06:00:00", 9, "failed", "flat"))
    root = drawn_well(night_strip(some))
    texts = [text.text for text in root.iter("text")]
    assert texts[:3] == ["bias", "flat", "science"]
    assert [title.text for title in root.iter("title")] == ["9.fits: why"]
    assert "04:00" in texts
    assert night_strip(some[:2]) == ""
