"""Tile-compressed images against astropy, and tables that no decoder must see."""

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import FrameError
from daskcal.fits import read_pixels, scan

RNG = np.random.default_rng(5)
SKY = RNG.normal(1000, 30, (48, 60))


def scanned(path, **kwargs):
    return scan(path, index=False, **kwargs)


def compressed(path, image, kind="RICE_1", **kwargs):
    fits.CompImageHDU(image, compression_type=kind, name="IMG", **kwargs).writeto(path)
    return path


def whole(source):
    return read_pixels(source, (0, source.shape[0]), (0, source.shape[1]))


CASES = [
    ("RICE_1", "i2"),
    ("RICE_1", "u2"),
    ("RICE_1", "i4"),
    ("RICE_1", "u1"),
    ("GZIP_1", "u2"),
    ("GZIP_1", "i4"),
    ("GZIP_2", "i2"),
    ("GZIP_2", "u4"),
    ("HCOMPRESS_1", "i2"),
    ("HCOMPRESS_1", "u2"),
    ("PLIO_1", "i2"),
    ("NOCOMPRESS", "u2"),
]


@pytest.mark.parametrize("tiles", [None, (16, 20)])
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_integers_are_read_exactly(kind, dtype, tiles, tmp_path):
    if kind == "HCOMPRESS_1":
        tiles = tiles or (16, 60)
    image = np.clip(SKY, 0, 200 if dtype == "u1" else 1e9).astype(dtype)
    path = compressed(tmp_path / "x.fits", image, kind, tile_shape=tiles)
    source = scanned(path).frames[0].source
    assert source.compression == kind
    assert source.shape == image.shape
    values, undefined = whole(source)
    assert values.dtype == source.dtype == np.dtype(dtype)
    assert undefined is None
    np.testing.assert_array_equal(values, image)
    window, _ = read_pixels(source, (13, 35), (7, 33))
    assert window.flags.c_contiguous
    np.testing.assert_array_equal(window, image[13:35, 7:33])


@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2"])
def test_quantised_floats_with_undefined_pixels(kind, method, tmp_path):
    image = SKY.astype("f4")
    image[3, 4:9] = np.nan
    path = compressed(
        tmp_path / "x.fits", image, kind, quantize_method=method, dither_seed=42, quantize_level=8
    )
    source = scanned(path).frames[0].source
    values, undefined = whole(source)
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(values, hdus[1].data)
    assert values.dtype == np.dtype("f4")
    np.testing.assert_array_equal(undefined, np.isnan(image))


def test_lossless_floats(tmp_path):
    path = compressed(tmp_path / "x.fits", SKY, "GZIP_2", quantize_level=0)
    values, undefined = whole(scanned(path).frames[0].source)
    np.testing.assert_array_equal(values, SKY)
    assert not undefined.any()


def test_blank_integers_are_undefined_whatever_bzero(tmp_path):
    image = SKY.astype("u2")
    path = compressed(tmp_path / "x.fits", image)
    with fits.open(path, disable_image_compression=True) as hdus:
        hdus[1].header["ZBLANK"] = int(image[5, 6]) - 32768
        hdus.writeto(tmp_path / "y.fits")
    values, undefined = whole(scanned(tmp_path / "y.fits").frames[0].source)
    assert values.dtype == np.dtype("u2")
    np.testing.assert_array_equal(undefined, image == image[5, 6])
    np.testing.assert_array_equal(values, image)


def test_cards_are_those_of_the_image_and_of_the_primary(tmp_path):
    header = fits.Header([("EXPTIME", 5.0), ("OBJECT", "own"), ("HISTORY", "of it")])
    hdu = fits.CompImageHDU(SKY.astype("u2"), header, compression_type="RICE_1")
    primary = fits.PrimaryHDU()
    primary.header["OBJECT"], primary.header["TELESCOP"] = "primary", "one"
    path = tmp_path / "x.fits"
    fits.HDUList([primary, hdu]).writeto(path)
    frame = scanned(path).frames[0]
    with fits.open(path) as hdus:
        reference = {k: v for k, v in hdus[1].header.items() if k != "HISTORY"}
    got = dict(frame.header)
    assert got.pop("TELESCOP") == "one"
    for key in ("PCOUNT", "GCOUNT", "XTENSION"):  # of either, by version of astropy
        got.pop(key, None), reference.pop(key, None)
    assert got == reference
    assert "ZCMPTYPE" not in frame.cards
    assert "HISTORY of it" in frame.cards
    assert fits.Header.fromstring(frame.cards)["OBJECT"] == "own"


def test_a_third_axis_of_one_pixel_is_none(tmp_path):
    image = SKY.astype("u2")
    source = scanned(compressed(tmp_path / "x.fits", image[None])).frames[0].source
    assert source.shape == image.shape
    np.testing.assert_array_equal(read_pixels(source, (3, 9), (5, 50))[0], image[3:9, 5:50])


BAD = [
    ("ZNAXIS1", -64),
    ("ZNAXIS1", 0),
    ("ZNAXIS2", 1 << 40),
    ("ZNAXIS", -1),
    ("ZBITPIX", 17),
    ("ZTILE1", 0),
    ("ZTILE2", -3),
    ("ZTILE1", 7),
    ("ZCMPTYPE", "RICE_9"),
    ("ZVAL1", 2**31 - 1),
    ("ZVAL2", 3),
    ("ZQUANTIZ", "DICE"),
    ("THEAP", 1),
    ("PCOUNT", -5),
    ("PCOUNT", 1 << 60),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_keywords_that_crash_decoders_are_refused_at_the_scan(key, value, tmp_path):
    good = compressed(tmp_path / "good.fits", SKY.astype("i2"))
    raw = bytearray(good.read_bytes())
    card = fits.Card(key, value).image.encode()
    at = raw.find(f"{key:<8}=".encode(), 2880)
    if at < 0:
        at = raw.find(b"EXTNAME =", 2880)
    raw[at : at + 80] = card
    path = tmp_path / "bad.fits"
    path.write_bytes(raw)
    result = scanned(path)
    assert not result.frames
    assert result.unreadable[0].reason in ("damaged", "unsupported", "truncated")
    assert (
        key in result.unreadable[0].message
        or result.unreadable[0].reason == "truncated"
        or ("tiles" in result.unreadable[0].message)
    )


def test_tiles_that_cannot_be_decoded_are_damaged(tmp_path):
    path = compressed(tmp_path / "x.fits", SKY.astype("i2"), "GZIP_1")
    source = scanned(path).frames[0].source
    raw = bytearray(path.read_bytes())
    raw[source.offset + 48 * 8 : source.offset + 48 * 8 + 4000] = b"\xff" * 4000
    path.write_bytes(raw)
    source = scanned(path).frames[0].source
    with pytest.raises(FrameError) as caught:
        whole(source)
    assert caught.value.reason == "damaged"
    assert caught.value.hdu == 1
