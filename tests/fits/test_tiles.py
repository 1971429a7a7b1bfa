"""Tile-compressed images against astropy, and tables that no decoder must see."""

import os
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from daskcal.errors import FrameError
from daskcal.fits import read_pixels, scan, tiles

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
    assert (source.tiles is not None) == kind.startswith(("RICE", "GZIP"))
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
    assert undefined is None


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


def by_astropy(source, rows, columns):
    return read_pixels(replace(source, tiles=None), rows, columns)


@pytest.fixture
def without_astropy(monkeypatch):
    def refuse(*_):
        raise AssertionError("these tiles are not for astropy to decode")

    monkeypatch.setattr(tiles, "_read_by_astropy", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiles")


@st.composite
def images(draw):
    """Integers that meet each way of the Rice coder: constant, smooth, noisy, extreme."""
    dtype = np.dtype(draw(st.sampled_from(["u1", "i2", "u2", "i4", "u4"])))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 130))
    level, slope = draw(st.integers(low, high)), draw(st.sampled_from([0, 0.01, 3]))
    noise = draw(st.sampled_from([0, 0.3, 5, 200, 5e3, 5e6, 1e9]))
    image = rng.normal(level, noise, shape) + slope * np.arange(shape[1])
    image = np.clip(image, low, high - 512).astype(dtype)
    flips = rng.integers(0, image.size, draw(st.integers(0, 9)))
    image.flat[flips] = rng.choice([low, high], flips.size)
    image[: draw(st.integers(0, shape[0]))] = draw(st.integers(low, high))
    return image


def part(draw, length):
    start = draw(st.integers(0, length - 1))
    return start, draw(st.integers(start + 1, length))


@given(st.data())
def test_any_integers_any_tiles_any_window(folder, data):
    image = data.draw(images())
    tile = tuple(data.draw(st.integers(1, length)) for length in image.shape)
    path = folder / "x.fits"
    path.unlink(missing_ok=True)
    compressed(path, image, data.draw(st.sampled_from(["RICE_1", "GZIP_2"])), tile_shape=tile)
    source = scanned(path).frames[0].source
    assert source.tiles is not None
    rows, columns = (part(data.draw, length) for length in image.shape)
    values, undefined = read_pixels(source, rows, columns)
    np.testing.assert_array_equal(values, image[slice(*rows), slice(*columns)])
    assert values.dtype == image.dtype
    assert undefined is None


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("tile", [(1, 700), (30, 700), (7, 111)])
@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2"])
def test_quantised_floats_are_those_of_astropy(
    kind, method, tile, dtype, tmp_path, without_astropy, monkeypatch
):
    image = np.random.default_rng(3).normal(50, 4, (41, 700)).astype(dtype)
    image[20:, 100:300] = 0  # kept exactly by the second way of dithering
    image[2, 3:50] = np.nan
    image[7:14] = 5.5  # has no noise to set the steps by: not quantised
    path = compressed(
        tmp_path / "x.fits",
        image,
        kind,
        tile_shape=tile,
        quantize_method=method,
        dither_seed=9999,
        quantize_level=4,
    )
    source = scanned(path).frames[0].source
    windows = [((0, 41), (0, 700)), ((3, 37), (13, 640)), ((11, 12), (699, 700))]
    found = [read_pixels(source, *window) for window in windows]
    monkeypatch.undo()
    for window, (values, undefined) in zip(windows, found, strict=True):
        expected, expected_undefined = by_astropy(source, *window)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(undefined, expected_undefined)
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(found[0][0], hdus[1].data)


def rewritten(path, target, form="PB", order=None, gap=0, **cards):
    """The same tiles, kept otherwise; a card of None is left out."""
    with fits.open(path, disable_image_compression=True) as hdus:
        table = hdus[1]
        raw = path.read_bytes()
        heap = table._data_offset + table._theap
        places = np.frombuffer(raw, ">i4", 2 * len(table.data), table._data_offset).reshape(-1, 2)
        header = table.header.copy()
    sizes, starts = places[:, 0], heap + places[:, 1]
    pieces = [raw[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    offsets, data = np.zeros(len(pieces), int), b"\xaa" * gap
    for n in range(len(pieces)) if order is None else order:
        offsets[n] = len(data) - gap
        data += pieces[n] + b"\xbb" * gap
    kind = ">i8" if form.startswith("Q") else ">i4"
    rows = np.stack([sizes, offsets], axis=1).astype(kind).tobytes()
    header["NAXIS1"] = len(rows) // len(pieces)
    header["TFORM1"] = f"1{form}({sizes.max()})"
    header["PCOUNT"] = len(data)
    if gap:
        header["THEAP"] = len(rows) + gap
    for key, value in cards.items():
        header[key] = value
        if value is None:
            header.remove(key)
    unit = rows + data
    unit += bytes(-len(unit) % 2880)
    target.write_bytes(raw[:2880] + header.tostring().encode() + unit)
    return target


@pytest.mark.parametrize(
    "kept",
    [
        {"form": "QB"},
        {"order": range(11, -1, -1)},
        {"gap": 7},
        {"form": "QB", "gap": 3, "order": [*range(1, 12, 2), *range(0, 12, 2)]},
        {"ZCMPTYPE": "RICE_ONE"},
        {"TTYPE1": "compressed_data"},
        {"ZNAME1": "BYTEPIX", "ZVAL1": 4, "ZNAME2": "BLOCKSIZE", "ZVAL2": 32},
        {"ZNAME1": None, "ZVAL1": None, "ZNAME2": None, "ZVAL2": None},
    ],
    ids=str,
)
def test_tables_as_others_write_them(kept, tmp_path, without_astropy):
    image = (SKY * 1e4).astype("i4")
    path = compressed(tmp_path / "x.fits", image, tile_shape=(16, 16))
    source = scanned(rewritten(path, tmp_path / "y.fits", **kept)).frames[0].source
    np.testing.assert_array_equal(whole(source)[0], image)
    values, _ = read_pixels(source, (20, 21), (17, 40))
    np.testing.assert_array_equal(values, image[20:21, 17:40])


def test_coded_integers_may_be_wider_than_the_pixels(tmp_path, without_astropy):
    image = SKY.astype("i4")
    path = compressed(tmp_path / "x.fits", image)
    source = scanned(rewritten(path, tmp_path / "y.fits", ZBITPIX=16)).frames[0].source
    values, _ = whole(source)
    assert values.dtype == np.dtype("i2")
    np.testing.assert_array_equal(values, image)


@pytest.mark.parametrize("extra", ["ZBLANK", "ZSCALE"])
def test_tables_with_columns_that_change_the_integers_are_left_to_astropy(extra, tmp_path):
    path = compressed(tmp_path / "x.fits", SKY.astype("i2"))
    with fits.open(path, disable_image_compression=True) as hdus:
        column = fits.Column(extra, "1J", array=np.arange(len(hdus[1].data)))
        table = fits.BinTableHDU.from_columns(hdus[1].columns + column, hdus[1].header)
        table.writeto(tmp_path / "y.fits")
    assert scanned(tmp_path / "y.fits").frames[0].source.tiles is None


def test_a_band_is_two_reads_of_its_own_tiles(tmp_path, monkeypatch):
    source = scanned(compressed(tmp_path / "x.fits", SKY.astype("u2"))).frames[0].source
    reads, real = [], os.preadv

    def counting(handle, buffers, offset):
        reads.append(len(buffers[0]))
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    read_pixels(source, (8, 16), (0, 60))
    assert reads[0] == 8 * source.tiles.row_bytes
    assert len(reads) == 2
    assert reads[1] < 8 * 60 * 2


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2"])
@given(data=st.data())
def test_damage_stays_in_its_tile_and_never_crashes(kind, folder, data):
    path = folder / f"{kind}.fits"
    if not path.exists():
        compressed(path, SKY.astype("i2"), kind, tile_shape=(8, 30))
    source = scanned(path).frames[0].source
    raw = bytearray(path.read_bytes())
    tile = data.draw(st.integers(0, 11))
    row = source.offset + tile * source.tiles.row_bytes
    size, start = np.frombuffer(raw, ">i4", 2, row)
    start += source.offset + source.tiles.heap
    places = [*range(row, row + 8)] if data.draw(st.booleans()) else [*range(start, start + size)]
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.sampled_from(places))] = data.draw(st.integers(0, 255))
    broken = folder / "broken.fits"
    broken.write_bytes(raw)
    source = scanned(broken).frames[0].source
    for n in range(12):
        top, left = 8 * (n // 2), 30 * (n % 2)
        window = (top, top + 8), (left, left + 30)
        fault = None
        try:
            values, _ = read_pixels(source, *window)
        except FrameError as error:
            fault = error
        if n != tile:
            assert fault is None
            np.testing.assert_array_equal(values, SKY.astype("i2")[top : top + 8, left:][:, :30])
        elif fault is not None:
            assert (fault.reason, fault.path, fault.hdu) == ("damaged", str(broken), 1)
        else:
            assert values.shape == (8, 30)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"\x00\x00\x00\x01", "bytes end early"),
        (b"\x7f\xff\xff\xff", "outside the data"),
        (b"\x00\x00\x00\x00", "cannot be decoded"),
    ],
)
def test_damaged_tiles_are_named(damage, message, tmp_path):
    path = compressed(tmp_path / "x.fits", SKY.astype("i4"))
    source = scanned(path).frames[0].source
    raw = bytearray(path.read_bytes())
    raw[source.offset + 5 * 8 : source.offset + 5 * 8 + 4] = damage
    path.write_bytes(raw)
    source = scanned(path).frames[0].source
    with pytest.raises(FrameError, match=message) as caught:
        read_pixels(source, (3, 9), (0, 60))
    assert caught.value.reason == "damaged"
    assert "row 5" in str(caught.value) or "decoded" in message


def test_a_code_that_does_not_exist_is_damage(tmp_path):
    path = compressed(tmp_path / "x.fits", SKY.astype("i4"))
    source = scanned(path).frames[0].source
    raw = bytearray(path.read_bytes())
    raw[source.offset + source.tiles.heap + 4] = 0xFF  # the first code: 31
    path.write_bytes(raw)
    with pytest.raises(FrameError, match="code that does not exist"):
        read_pixels(scanned(path).frames[0].source, (0, 1), (0, 60))
