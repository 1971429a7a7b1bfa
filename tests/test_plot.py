"""Pictures: what they show, that they hold what is masked apart, and that odd images do no harm."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from daskcal import plot
from daskcal.errors import ArgumentError, FrameError, OutputError, UnknownKeywordError
from daskcal.plot import png, shrink

BLUE = plot.UNDEFINED_COLOUR


def pixels(png: bytes) -> np.ndarray:
    """RGB (rows, columns, 3) in the order of the file: first row at the top."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def ramp(rows=20, columns=30, dtype=np.float32):
    return np.arange(rows * columns).reshape(rows, columns).astype(dtype)


def test_row_0_is_at_the_bottom():
    image = np.zeros((4, 6))
    image[0, 1] = 1
    shown = pixels(plot.picture(image))
    assert shown.shape == (4, 6, 3)
    assert tuple(shown[3, 1]) == (255, 255, 255)
    assert (shown[:3] == 0).all()


def test_stretch_is_that_of_the_percentiles():
    image = ramp()
    shown = pixels(plot.picture(image, percent=90))[::-1, :, 0].astype(float)
    low, high = np.percentile(image, [5, 95])
    expected = 255 * np.clip((image - low) / (high - low), 0, 1)
    np.testing.assert_allclose(shown, expected, atol=1.1)


def test_asinh_lifts_the_faint():
    linear, asinh = (pixels(plot.picture(ramp(), stretch=s)) for s in ("linear", "asinh"))
    assert (asinh.astype(int) - linear).max() > 60


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_averages_whole_blocks(block):
    image = np.random.default_rng(1).normal(1000, 5, (31, 44))
    mask = np.random.default_rng(2).random(image.shape) < 0.2
    image[3, 4], image[9, 9] = np.nan, np.inf
    good = np.isfinite(image) & ~mask
    result = shrink.averaged(image, mask, block)
    for i, j in np.ndindex(result.shape):
        box = np.s_[i * block : (i + 1) * block, j * block : (j + 1) * block]
        kept = image[box][good[box]]
        assert np.isclose(result[i, j], kept.mean()) if kept.size else np.isnan(result[i, j])
    assert result.shape == (-(-31 // block), -(-44 // block))


def test_every_pixel_counts_when_made_small():
    image = np.zeros((64, 64))
    image[13, 21] = 6400.0  # stepping over pixels would lose it
    assert pixels(plot.picture(image, max_size=8))[8 - 1 - 1, 2, 0] == 255


@pytest.mark.parametrize(
    ("shape", "size"), [((100, 50), (10, 5)), ((7, 101), (1, 10)), ((9, 9), (9, 9))]
)
def test_is_no_larger_than_asked(shape, size):
    assert pixels(plot.picture(np.zeros(shape), max_size=10)).shape[:2] == size


def test_masked_pixels_do_not_drive_the_stretch_and_are_blue():
    image = ramp()
    mask = np.zeros(image.shape, np.uint16)
    wild, mask[2:4] = image.copy(), 4
    wild[2:4] = 1e9
    shown = pixels(plot.picture(wild, mask))
    np.testing.assert_array_equal(shown, pixels(plot.picture(image, mask)))
    assert (shown[::-1][2:4] == BLUE).all()
    assert (shown[::-1][4:, :, 0] == shown[::-1][4:, :, 1]).all()  # grey


def test_a_bad_row_does_not_drive_the_stretch():
    image = np.random.default_rng(3).normal(1000, 2, (60, 60))
    image[0] = 0
    inner = pixels(plot.picture(image))[:-1, :, 0]
    assert inner.std() > 40


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_defined_is_all_blue(value):
    assert (pixels(plot.picture(np.full((3, 5), value))) == BLUE).all()


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int32, np.float32, ">f4", ">i2", np.float64]
)
def test_a_constant_image_is_grey(dtype):
    shown = pixels(plot.picture(np.full((4, 5), 7, dtype)))
    assert shown.shape == (4, 5, 3)
    assert ((shown > 100) & (shown < 155)).all()


def test_uint16_is_shown_as_its_values():
    image = np.array([[0, 65535], [40000, 20000]], np.uint16)
    np.testing.assert_array_equal(
        pixels(plot.picture(image, percent=100)),
        pixels(plot.picture(image.astype(float), percent=100)),
    )


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.uint16, np.int32]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    ),
    st.integers(1, 8),
)
def test_any_image_gives_a_picture(image, max_size):
    rows, columns, _ = pixels(plot.picture(image, max_size=max_size)).shape
    assert 1 <= rows <= max_size
    assert 1 <= columns <= max_size


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.picture(np.zeros((2, 2, 2))), r"\(2, 2, 2\)"),
        (lambda: plot.picture(np.zeros((0, 2))), r"\(0, 2\)"),
        (lambda: plot.picture(np.zeros((2, 2), complex)), "complex128"),
        (lambda: plot.picture(np.zeros((2, 2)), np.zeros((3, 2))), r"mask is \(3, 2\)"),
        (lambda: plot.picture(np.zeros((2, 2)), percent=0), "percent=0"),
        (lambda: plot.picture(np.zeros((2, 2)), max_size=0), "max_size=0"),
        (lambda: plot.picture(np.zeros((2, 2)), stretch="asin"), "did you mean 'asinh'"),
        (lambda: plot.write_png(np.zeros((2, 2)), "x.png", hdu=1), "hdu=1 is for a file"),
        (lambda: plot.side_by_side([], "x.png"), "at least one"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_misspelled_keyword_is_refused():
    with pytest.raises(UnknownKeywordError, match="did you mean 'percent'"):
        plot.picture(np.zeros((2, 2)), percnt=3)


def test_show_reads_the_first_image_and_its_mask(tmp_path):
    image, mask = ramp(), np.zeros((20, 30), np.uint8)
    mask[5] = 1
    path = tmp_path / "a.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI"), fits.ImageHDU(mask, name="MASK")]
    fits.HDUList(hdus).writeto(path)
    png = plot.write_png(path, tmp_path / "a.png").read_bytes()
    assert png == plot.picture(image, mask)
    assert plot.write_png(path, tmp_path / "b.png", hdu="MASK").read_bytes() == plot.picture(mask)
    assert plot.write_png(path, tmp_path / "c.png", hdu=1).read_bytes() == plot.picture(image)


def test_shows_compressed_and_unsigned_files(tmp_path):
    image = ramp(dtype=np.uint16) + np.uint16(40000)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(tmp_path / "a.fits.fz")
    fits.PrimaryHDU(image[None]).writeto(tmp_path / "a.fits.gz")
    for name in ("a.fits.fz", "a.fits.gz"):
        np.testing.assert_array_equal(plot.read_image(tmp_path / name)[0], image)


def write_table(path):
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]).writeto(path)


def write_truncated(path):
    fits.PrimaryHDU(np.zeros((100, 100))).writeto(path)
    path.write_bytes(path.read_bytes()[:20000])


@pytest.mark.parametrize(
    ("write", "hdu", "reason"),
    [
        (lambda path: None, None, "missing"),
        (lambda path: path.write_bytes(b"no FITS" * 999), None, "damaged"),
        (lambda path: path.write_bytes(b""), None, "damaged"),
        (write_truncated, None, "damaged"),
        (write_table, None, "no-image"),
        (write_table, 1, "no-image"),
        (write_table, 7, "no-image"),
        (write_table, "SCI", "no-image"),
        (lambda path: fits.PrimaryHDU(np.zeros((2, 3, 4))).writeto(path), None, "shape"),
    ],
)
def test_files_without_a_picture_are_named(tmp_path, write, hdu, reason):
    path = tmp_path / "a.fits"
    write(path)
    with pytest.raises(FrameError, match=re.escape(str(path))) as caught:
        plot.write_png(path, tmp_path / "a.png", hdu=hdu)
    assert caught.value.reason == reason
    assert not (tmp_path / "a.png").exists()


def test_no_place_to_write_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.png"):
        plot.write_png(np.zeros((2, 2)), tmp_path / "file" / "a.png")


def test_side_by_side_keeps_scale_and_writes_titles(tmp_path):
    wide, narrow = ramp(100, 120), ramp(100, 60)
    out = plot.side_by_side([(wide, "Raw"), (narrow, "")], tmp_path / "a.png", max_size=60)
    shown = pixels(out.read_bytes())
    assert shown.shape == (16 + 18 + 10 + 50 + 16, 16 + 60 + 16 + 30 + 16, 3)
    titles = shown[:44]
    assert titles[:, :76].min() < 60
    assert (titles[:, 90:] == 255).all()
    body = shown[44:94]
    assert (body[:, 76:92] == 255).all()
    assert (body[:, 92:122].std(axis=(0, 1)) > 30).all()


def test_sample_is_of_good_pixels_only():
    image = ramp(dtype=float)
    image[0, 0] = np.nan
    mask = image % 2 == 1
    np.testing.assert_array_equal(plot.good_sample(image, mask), image[image % 2 == 0])


def test_large_images_are_sampled(monkeypatch):
    monkeypatch.setattr(png, "_HISTOGRAM_SAMPLE", 100)
    assert plot.good_sample(ramp(100, 100)).size == 100


def test_real_bias_shows_its_noise_beside_a_bad_row(realdata):
    path = realdata("lowell_hall42_5945") / "zero" / "20190326.0001.fits"
    grey = pixels(plot.picture(plot.read_image(path)[0], max_size=256))[:-4, :-20, 0]
    assert 40 < np.median(grey) < 215
    assert grey.std() > 25
