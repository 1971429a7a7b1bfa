"""From files to frames: coordinates, types, missing values, windows, and what is refused."""

import bz2
import gzip
import warnings

import numpy as np
import pytest
from astropy.io import fits
from raw_fits import no_computing, write_frames

import daskcal

SHAPE = (12, 16)
RNG = np.random.default_rng(1)
IMAGES = [RNG.integers(0, 65536, SHAPE, np.uint16) for _ in range(3)]


def test_pixels_and_types_are_those_of_the_files(tmp_path):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES))
    assert frames.image.dims == ("frame", "y", "x")
    assert frames.image.dtype == frames.image.values.dtype == np.uint16
    np.testing.assert_array_equal(frames.image.values, IMAGES)
    assert "mask" not in frames
    assert frames.attrs["steps"] == []


def test_normalised_coordinates(tmp_path):
    cards = {
        "IMAGETYP": ["Bias Frame", "SKYFLAT", "Light Frame"],
        "EXPTIME": ["0.0", 7, 300.5],
        "DARKTIME": [None, None, 301.25],
        "FILTER": ["", "g'", "R"],
        "OBJECT": [None, "twilight", "M 31"],
        "DATE-OBS": ["2020-01-02T03:04:05.678", "2020-01-02", None],
        "UT": [None, "23:59:59.5", None],
        "GAIN": [1.5, 700.0, None],
        "RDNOISE": [None, 4, 5.5],
        "CCD-TEMP": [-100.5, None, None],
        "XBINNING": [2, None, 1],
        "YBINNING": [1, None, 1],
        "DETECTOR": "E2V",
        "INSTRUME": "cam",
    }
    with no_computing():
        frames = daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES, **cards))
    assert frames.imagetyp.values.tolist() == ["bias", "flat", "science"]
    assert frames.flat_kind.values.tolist() == ["", "sky", ""]
    np.testing.assert_array_equal(frames.exptime, [0, 7, 300.5])
    np.testing.assert_array_equal(frames.darktime, [0, 7, 301.25])
    assert frames["filter"].values.tolist() == ["", "g'", "R"]
    assert frames.object.values.tolist() == ["", "twilight", "M 31"]
    times = ["2020-01-02T03:04:05.678", "2020-01-02T23:59:59.5", "NaT"]
    np.testing.assert_array_equal(frames.date_obs.values, np.array(times, "datetime64[us]"))
    assert frames.date_obs.dtype.kind == "M"
    np.testing.assert_array_equal(frames.gain, [1.5, np.nan, np.nan])  # 700 is a setting
    np.testing.assert_array_equal(frames.rdnoise, [np.nan, 4, 5.5])
    np.testing.assert_array_equal(frames.ccd_temp, [-100.5, np.nan, np.nan])
    assert frames.binning.values.tolist() == ["2x1", "", "1x1"]
    assert set(frames.detector.values) == {"E2V"}
    assert set(frames.instrument.values) == {"cam"}
    assert frames.hdu.values.tolist() == [0, 0, 0]
    assert [path.rsplit("/", 1)[1] for path in frames.path.values] == [
        "f0.fits",
        "f1.fits",
        "f2.fits",
    ]
    for name, coordinate in frames.coords.items():
        assert not coordinate.chunks, name
        assert coordinate.dtype.kind != "O" or None not in coordinate.values.tolist(), name


def test_missing_values_lose_no_frame_in_groupby(tmp_path):
    paths = write_frames(tmp_path / "raw", IMAGES, FILTER=[None, "V", None])
    frames = daskcal.open_frames(paths)
    sizes = {name: group.sizes["frame"] for name, group in frames.groupby("filter")}
    assert sizes == {"": 2, "V": 1}
    assert frames.query(frame="filter == ''").sizes["frame"] == 2


def test_raw_cards_as_columns(tmp_path):
    cards = {
        "NINT": [1, 2, 3],
        "NREAL": [1, 2.5, None],
        "NBOOL": [True, False, True],
        "NSOME": [True, None, False],
        "NMIXED": [1, "two", None],
        "A-B": ["x", None, None],
        "A_B": [None, "y", None],
    }
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES, **cards))
    assert frames.hdr_nint.dtype == np.int64
    np.testing.assert_array_equal(frames.hdr_nreal, [1, 2.5, np.nan])
    assert frames.hdr_nbool.values.tolist() == [True, False, True]
    assert frames.hdr_nsome.values.tolist() == ["T", "", "F"]
    assert frames.hdr_nmixed.values.tolist() == ["1", "two", ""]
    assert frames.hdr_a_b.values.tolist() == ["x", "y", ""]
    header = fits.Header.fromstring(str(frames.cards.values[0]))
    assert (header["NINT"], header["A-B"], header["FILTER"]) == (1, "x", "V")


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("u2", "i2"), "i4"),
        (("u2", "f4"), "f4"),
        (("i2", "f8"), "f8"),
        (("i4", "f4"), "f8"),
        (("u1", "i2"), "i2"),
    ],
)
def test_mixed_types_take_one_that_holds_all(tmp_path, types, expected):
    images = [(IMAGES[0] % 100).astype(kind) for kind in types]
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", images))
    assert frames.image.dtype == frames.image.values.dtype == np.dtype(expected)
    np.testing.assert_array_equal(frames.image.values, images)


# --- undefined pixels -----------------------------------------------------------------------------


def test_blank_is_no_data_and_nan_once_there_are_floats(tmp_path):
    image = np.full(SHAPE, 100, np.int16)
    image[3, 4] = -32768
    paths = write_frames(tmp_path / "raw", [image, image + 1], BLANK=-32768)
    frames = daskcal.open_frames(paths)
    assert frames.image.dtype == np.int16
    assert frames.mask.dtype == np.uint16
    expected = np.zeros((2, *SHAPE), np.uint16)
    expected[0, 3, 4] = 16
    np.testing.assert_array_equal(frames.mask.values, expected)
    assert frames.mask.attrs["flag_meanings"].split()[4] == "no_data"
    electrons = daskcal.gain_correct(frames)
    assert electrons.image.dtype == np.float32
    assert np.isnan(electrons.image.values[0, 3, 4])
    assert np.isfinite(electrons.image.values).sum() == 2 * 12 * 16 - 1
    np.testing.assert_array_equal(electrons.mask.values, expected)


def test_nan_and_infinity_are_no_data(tmp_path):
    image = np.full(SHAPE, 2.0, np.float32)
    image[0, :3] = np.nan, np.inf, -np.inf
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", [image]))
    assert (frames.mask.values[0, 0, :3] == 16).all()
    assert frames.mask.values.sum() == 48
    assert np.isnan(frames.image.values[0, 0, :3]).all()


def test_blank_in_one_frame_of_mixed_types_is_nan(tmp_path):
    image = np.full(SHAPE, 7, np.int16)
    image[1, 1] = -1
    paths = write_frames(tmp_path / "raw", [image, np.ones(SHAPE, np.float32)], BLANK=[-1, None])
    frames = daskcal.open_frames(paths)
    assert np.isnan(frames.image.values[0, 1, 1])
    assert frames.mask.values[0, 1, 1] == 16
    assert frames.mask.values.sum() == 16


# --- containers -----------------------------------------------------------------------------------


def test_packed_and_compressed_files_are_known_by_content(tmp_path):
    plain = write_frames(tmp_path / "raw", IMAGES)
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "a.dat").write_bytes(gzip.compress(plain[0].read_bytes()))
    (folder / "b.fits").write_bytes(bz2.compress(plain[1].read_bytes()))
    with fits.open(plain[2]) as hdus:
        tiled = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1")
        tiled.writeto(folder / "c.fz")
    frames = daskcal.open_frames(folder)
    assert frames.image.dtype == np.uint16
    np.testing.assert_array_equal(frames.image.values, IMAGES)
    assert frames.exptime.values.tolist() == [60, 60, 60]
    assert frames.hdu.values.tolist() == [0, 0, 1]
    rows = daskcal.blocks(frames.isel(frame=[2, 0], y=slice(3, 8)))
    np.testing.assert_array_equal(rows.image.values, [IMAGES[2][3:8], IMAGES[0][3:8]])


# --- where frames lie on the detector -------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "y0", "x0"),
    [
        ({}, 0, 0),
        ({"LTV1": -10.0, "LTV2": -20.0}, 20, 10),
        ({"XORGSUBF": 3, "YORGSUBF": 4}, 4, 3),
        ({"CCDSEC": "[101:116,201:212]", "DATASEC": "[1:16,1:12]"}, 200, 100),
    ],
)
def test_coordinates_are_detector_pixels(tmp_path, cards, y0, x0):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES[:1], **cards))
    np.testing.assert_array_equal(frames.y, y0 + np.arange(12))
    np.testing.assert_array_equal(frames.x, x0 + np.arange(16))
    assert frames.y.dtype.kind == "i"
    assert frames.x.attrs["origin"] == ("known" if cards else "assumed")


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bunit", "given", "expected"),
    [
        ("ADU", None, "adu"),
        ("counts", None, "adu"),
        ("DN", "electron", "adu"),
        (" Electrons ", None, "electron"),
        ("e-", "adu", "electron"),
        (None, "adu", "adu"),
        (None, "DN", "adu"),
        ("gibberish", "e", "electron"),
        ("gibberish", None, None),
        (None, None, None),
    ],
)
def test_unit_from_bunit_then_the_argument(tmp_path, bunit, given, expected):
    paths = write_frames(tmp_path / "raw", IMAGES[:1], BUNIT=bunit)
    frames = daskcal.open_frames(paths, unit=given)
    assert frames.image.attrs.get("units") == expected


def test_a_unit_that_is_needed_and_missing(tmp_path):
    frames = daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES, BUNIT=None))
    with pytest.raises(daskcal.UnitError, match=r"f0\.fits\) have no BUNIT; give unit='adu'"):
        daskcal.gain_correct(frames)


def test_unit_that_is_none(tmp_path):
    paths = write_frames(tmp_path / "raw", IMAGES, BUNIT=None)
    with pytest.raises(daskcal.UnitError, match="unit='Jy' is not a unit of raw pixels"):
        daskcal.open_frames(paths, unit="Jy")


@pytest.mark.parametrize("units", [["adu", "electron", "adu"], ["adu", None, "adu"]])
def test_different_units_name_the_odd_file(tmp_path, units):
    paths = write_frames(tmp_path / "raw", IMAGES, BUNIT=units)
    with pytest.raises(daskcal.UnitError, match=r"adu and electron .*f1\.fits"):
        daskcal.open_frames(paths, unit="electron")


# --- what does not fit, and what cannot be read ---------------------------------------------------


def test_another_shape_names_the_odd_file(tmp_path):
    images = [IMAGES[0], IMAGES[1][:5], IMAGES[2]]
    paths = write_frames(tmp_path / "raw", images)
    with pytest.raises(daskcal.GeometryError, match=r"f1\.fits is 5 rows × 16 columns, and 2 "):
        daskcal.open_frames(paths)


def test_another_window_names_the_odd_file(tmp_path):
    paths = write_frames(tmp_path / "raw", IMAGES, LTV1=[0, 0, -4], LTV2=0)
    with pytest.raises(daskcal.GeometryError, match=r"f2\.fits .* from row 0, column 4"):
        daskcal.open_frames(paths)


def test_mirrored_windows_are_opened_apart(tmp_path):
    """Of one shape, and nowhere on the detector: only their sections tell them apart."""
    sections = ["[16:1,1:12]", "[ 16:1 , 1:12 ]", "[36:21,1:12]"]
    paths = write_frames(tmp_path / "raw", IMAGES, CCDSEC=sections)
    found = r"f0\.fits is a mirrored .*f2\.fits of \[36:21,1:12\]"
    with pytest.raises(daskcal.GeometryError, match=found):
        daskcal.open_frames(paths)
    frames = daskcal.open_frames(paths[:2])
    assert frames.x.attrs["origin"] == "assumed"
    np.testing.assert_array_equal(frames.x, np.arange(16))


def test_an_unreadable_file_that_was_named_is_an_error(tmp_path, monkeypatch):
    paths = write_frames(tmp_path / "raw", IMAGES)
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    with pytest.raises(daskcal.FrameError, match="cut short") as caught:
        daskcal.open_frames(paths)
    assert caught.value.reason == "truncated"
    monkeypatch.chdir(tmp_path / "raw")
    with pytest.raises(daskcal.FrameError, match="cut short"):
        daskcal.open_frames(["../raw/f0.fits", "../raw/f1.fits"])


def test_an_unreadable_file_in_a_folder_is_left_out_and_named(tmp_path):
    paths = write_frames(tmp_path / "raw", IMAGES)
    paths[1].write_bytes(paths[1].read_bytes()[:3000])
    with pytest.warns(
        daskcal.DaskcalWarning, match=r"left out: .*f1\.fits \[HDU 0\]: .*cut short"
    ) as caught:
        frames = daskcal.open_frames(tmp_path / "raw")
    assert caught[0].filename == __file__
    assert frames.sizes["frame"] == 2
    with pytest.warns(daskcal.DaskcalWarning, match="left out"):
        daskcal.open_frames(tmp_path / "raw" / "*.fits")


def test_nothing_to_open(tmp_path):
    with pytest.raises(daskcal.FrameError, match="holds no FITS image"):
        daskcal.open_frames(tmp_path)
    with pytest.raises(daskcal.FrameError, match="no such file") as caught:
        daskcal.open_frames(tmp_path / "missing")
    assert caught.value.reason == "missing"


def test_several_detectors_are_refused(tmp_path):
    chips = [fits.ImageHDU(IMAGES[0], name=f"CHIP{i}") for i in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *chips]).writeto(tmp_path / "m.fits")
    with pytest.raises(daskcal.FrameError, match="several detectors") as caught:
        daskcal.open_frames(tmp_path / "m.fits")
    assert caught.value.reason == "several-detectors"


def test_a_file_changed_after_the_scan_is_not_read(tmp_path):
    paths = write_frames(tmp_path / "raw", IMAGES)
    frames = daskcal.open_frames(paths)
    write_frames(tmp_path / "other", [IMAGES[0][:, :8]])[0].replace(paths[0])
    with pytest.raises(daskcal.FrameError) as caught:
        frames.compute()
    assert caught.value.reason == "changed"


def test_odd_cards_do_not_lose_the_frame(tmp_path):
    (path,) = write_frames(tmp_path / "raw", IMAGES[:1])
    text = path.read_bytes()
    card = b"FILTER  = 'V       '"
    assert card in text
    path.write_bytes(text.replace(card, b"FILTER  = 'V        "))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", daskcal.DaskcalWarning)
        frames = daskcal.open_frames(path)
    np.testing.assert_array_equal(frames.image.values[0], IMAGES[0])
