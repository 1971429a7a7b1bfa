"""Pixels of plain images against astropy, the bytes that reading costs, and files that change."""

import os

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits import read_pixels, scan
from daskcal.fits import source as source_module


def frame(path, **kwargs):
    result = scan(path, index=False, **kwargs)
    assert not result.unreadable, result.unreadable
    return result.frames[0]


def write(path, stored, **cards):
    """A file holding the numbers `stored` under these cards, with nothing scaled on the way."""
    hdu = fits.PrimaryHDU(stored)
    for key, value in cards.items():
        hdu.header[key] = value
    header = hdu.header.tostring().encode()
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(header + data + b"\0" * (-len(data) % 2880))
    return path


CASES = {
    "uint8": ("u1", {}, "u1"),
    "int8": ("u1", {"BZERO": -128}, "i1"),
    "int16": ("i2", {}, "i2"),
    "uint16": ("i2", {"BZERO": 32768}, "u2"),
    "uint16 as real": ("i2", {"BSCALE": 1.0, "BZERO": 32768.0}, "u2"),
    "int32": ("i4", {}, "i4"),
    "uint32": ("i4", {"BZERO": 2147483648}, "u4"),
    "int64": ("i8", {}, "i8"),
    "uint64": ("i8", {"BZERO": 9223372036854775808}, "u8"),
    "float32": ("f4", {}, "f4"),
    "float32 shifted": ("f4", {"BZERO": 32768.0}, "f4"),
    "float64": ("f8", {}, "f8"),
    "scaled 8": ("u1", {"BSCALE": 0.5}, "f4"),
    "scaled 16": ("i2", {"BSCALE": 0.25, "BZERO": 7.5}, "f4"),
    "shifted 16": ("i2", {"BZERO": 1000}, "f4"),
    "scaled 32": ("i4", {"BSCALE": 0.1}, "f8"),
}


def numbers(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        return rng.normal(1000, 300, shape).astype(dtype)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values.flat[:2] = info.min, info.max
    return values


@pytest.mark.parametrize("case", CASES)
def test_every_stored_type_is_read_as_astropy_reads_it(case, tmp_path):
    dtype, cards, expected = CASES[case]
    path = write(tmp_path / "x.fits", numbers(np.dtype(dtype), (23, 31)), **cards)
    source = frame(path).source
    values, undefined = read_pixels(source, (0, 23), (0, 31))
    with fits.open(path) as hdus:
        reference = hdus[0].data
    assert values.dtype == source.dtype == np.dtype(expected)
    assert values.flags.c_contiguous
    assert values.flags.writeable
    np.testing.assert_array_equal(values, reference)
    assert source.can_be_undefined == (np.dtype(expected).kind == "f")
    assert undefined is None


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_windows_types_and_blanks_round_trip(data, tmp_path):
    bits = data.draw(st.sampled_from([8, 16, 32, 64]))
    stored_type = np.dtype("u1" if bits == 8 else f"i{bits // 8}")
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    stored = numbers(stored_type, shape, data.draw(st.integers(0, 99)))
    unsigned = {8: -128, 16: 1 << 15, 32: 1 << 31, 64: 1 << 63}[bits]
    scaling = data.draw(st.sampled_from([(1, 0), (1, unsigned), (0.5, 0), (2, 3)]))
    cards = {"BSCALE": scaling[0], "BZERO": scaling[1]}
    blank = data.draw(st.one_of(st.none(), st.sampled_from(stored.ravel().tolist())))
    if blank is not None:
        cards["BLANK"] = blank
    rows = sorted(data.draw(st.tuples(*[st.integers(0, shape[0])] * 2)))
    columns = sorted(data.draw(st.tuples(*[st.integers(0, shape[1])] * 2)))
    source = frame(write(tmp_path / "x.fits", stored, **cards)).source
    values, undefined = read_pixels(source, tuple(rows), tuple(columns))

    window = stored[rows[0] : rows[1], columns[0] : columns[1]]
    is_blank = np.zeros(window.shape, bool) if blank is None else window == blank
    if values.dtype.kind == "f":
        expected = window.astype(values.dtype) * values.dtype.type(scaling[0])
        expected += values.dtype.type(scaling[1])
        expected[is_blank] = np.nan
        np.testing.assert_array_equal(values, expected)
    else:
        exact = window.astype(object) + scaling[1]
        assert values.tolist() == exact.tolist()
    assert source.can_be_undefined or not is_blank.any()
    assert (undefined is not None) == is_blank.any()
    np.testing.assert_array_equal(is_blank if undefined is None else undefined, is_blank)
    stack = np.full((3, *window.shape), 7, values.dtype)  # the frames around it are left alone
    inside, same = read_pixels(source, tuple(rows), tuple(columns), stack[1])
    assert np.shares_memory(inside, stack) or not inside.size
    np.testing.assert_array_equal(stack[1], values)
    assert (stack[[0, 2]] == 7).all()
    assert (same is None) == (undefined is None)


def test_nan_and_infinity_are_undefined_and_no_number(tmp_path):
    image = np.array([[1, np.nan, 3], [np.inf, -np.inf, 6]], "f4")
    path = write(tmp_path / "x.fits", image)
    values, undefined = read_pixels(frame(path).source, (0, 2), (0, 3))
    np.testing.assert_array_equal(undefined, ~np.isfinite(image))
    np.testing.assert_array_equal(np.isnan(values), undefined)


def test_blank_is_compared_with_stored_numbers_and_one_out_of_range_marks_none(tmp_path):
    stored = np.array([[-32768, 0, 5]], "i2")
    path = write(tmp_path / "x.fits", stored, BZERO=32768, BLANK=-32768)
    values, undefined = read_pixels(frame(path).source, (0, 1), (0, 3))
    assert values.tolist() == [[0, 32768, 32773]]
    assert undefined.tolist() == [[True, False, False]]
    path = write(tmp_path / "y.fits", stored, BZERO=32768, BLANK=65535)
    assert not frame(path).source.can_be_undefined


@pytest.fixture
def counted(monkeypatch):
    """Counts the calls and bytes of the one function that reads plain pixels."""
    calls = []
    real = source_module.fill

    def fill(source, handle, target, offset):
        calls.append(target.nbytes)
        real(source, handle, target, offset)

    monkeypatch.setattr(source_module, "fill", fill)
    return calls


def test_a_band_is_one_read_of_its_rows(counted, tmp_path):
    source = frame(write(tmp_path / "x.fits", numbers(np.dtype("i2"), (40, 300)))).source
    read_pixels(source, (8, 24), (0, 300))
    assert counted == [16 * 600]
    counted.clear()
    read_pixels(source, (8, 24), (10, 290))
    assert counted == [15 * 600 + 560]  # no row's edge is worth a call


def test_columns_far_apart_are_read_row_by_row(counted, tmp_path):
    image = numbers(np.dtype("i2"), (10, 4000))
    source = frame(write(tmp_path / "x.fits", image)).source
    values, _ = read_pixels(source, (2, 7), (3900, 4000))
    assert counted == [200] * 5
    np.testing.assert_array_equal(values, image[2:7, 3900:])


def test_an_empty_window_reads_nothing(counted, tmp_path):
    source = frame(write(tmp_path / "x.fits", numbers(np.dtype("i2"), (10, 10)))).source
    values, _ = read_pixels(source, (3, 3), (0, 10))
    assert values.shape == (0, 10)
    assert not counted


@pytest.mark.parametrize("window", [((-1, 2), (0, 2)), ((0, 11), (0, 2)), ((0, 2), (3, 2))])
def test_a_window_outside_the_frame_is_refused(window, tmp_path):
    source = frame(write(tmp_path / "x.fits", numbers(np.dtype("i2"), (10, 10)))).source
    with pytest.raises(ArgumentError, match="do not lie within"):
        read_pixels(source, *window)


def test_a_file_that_changed_or_went_is_refused(tmp_path):
    path = write(tmp_path / "x.fits", numbers(np.dtype("i2"), (10, 10)))
    source = frame(path).source
    os.utime(path, ns=(1, 1))
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 10), (0, 10))
    assert caught.value.reason == "changed"
    path.unlink()
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 10), (0, 10))
    assert caught.value.reason == "missing"


def test_a_read_that_comes_back_short_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.fits", numbers(np.dtype("i2"), (10, 10)))
    source = frame(path).source
    real = os.preadv
    monkeypatch.setattr(  # what a file cut between fstat and read gives
        os, "preadv", lambda fd, buffers, at: 0 if at > source.offset else real(fd, buffers, at)
    )
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (5, 10), (0, 10))
    assert caught.value.reason == "truncated"
    assert "100 bytes" in str(caught.value)


def test_no_handle_outlives_a_read(tmp_path):
    source = frame(write(tmp_path / "x.fits", numbers(np.dtype("i2"), (10, 10)))).source
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read_pixels(source, (0, 10), (0, 10))
    assert len(os.listdir("/proc/self/fd")) == before
