"""Headers of many cameras to the same values."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskcal.errors import ArgumentError
from daskcal.fits import DEFAULT_KEYWORDS, CardComments, Keywords, normalise, scan


def value(name, comments=None, keywords=DEFAULT_KEYWORDS, **header):
    cards = {key.replace("__", "-"): value for key, value in header.items()}
    return getattr(normalise(cards, keywords, comments), name)


@pytest.mark.parametrize(
    ("word", "kind", "flat_kind"),
    [
        ("zero", "bias", ""),
        ("Bias Frame", "bias", ""),
        ("BIAS", "bias", ""),
        ("Dark Frame", "dark", ""),
        ("dark", "dark", ""),
        ("FLATFIELD", "flat", ""),
        ("Flat Field", "flat", ""),
        ("dome flat", "flat", "dome"),
        ("FLAT,DOME", "flat", "dome"),
        ("SKYFLAT", "flat", "sky"),
        ("Twilight", "flat", "twilight"),
        ("Light Frame", "science", ""),
        ("object", "science", ""),
        ("sci", "science", ""),
        ("standard", "science", ""),
        ("ARC", "other", ""),
        ("comp", "other", ""),
        ("focus", "other", ""),
        ("whatever", "other", ""),
        ("", "other", ""),
        (5, "other", ""),
    ],
)
def test_types(word, kind, flat_kind):
    values = normalise({"IMAGETYP": word})
    assert (values.imagetyp, values.flat_kind) == (kind, flat_kind)
    assert normalise({"OBSTYPE": word}).imagetyp == kind


def test_the_first_type_keyword_that_says_something_counts():
    assert value("imagetyp", IMAGETYP=" ", OBSTYPE="flat") == "flat"
    assert value("imagetyp", IMAGETYP="dark", OBSTYPE="flat") == "dark"
    assert value("imagetyp") == "other"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"EXPTIME": 5}, 5.0),
        ({"EXPTIME": "6"}, 6.0),
        ({"EXPOSURE": 2.5, "INT_TIM": 0.66}, 2.5),
        ({"EXPOSED": 3}, 3.0),
        ({"INT_TIM": 0.66, "TSEC": 1432085758}, math.nan),
        ({"EXPTIME": -1}, math.nan),
        ({"EXPTIME": "long", "EXPOSURE": 4}, 4.0),
        ({"EXPTIME": math.inf}, math.nan),
        ({"EXPTIME": True}, math.nan),
    ],
)
def test_exposure_times(header, seconds):
    np.testing.assert_equal(normalise(header).exptime, seconds)
    np.testing.assert_equal(normalise(header).darktime, seconds)


def test_exposure_in_milliseconds_and_dark_time():
    assert value("exptime", {"EXPOSURE": "exposure [ms]"}, EXPOSURE=1500) == 1.5
    assert value("exptime", {"EXPTIME": "in microsecs"}, EXPTIME=2_000_000) == 2.0
    assert value("darktime", EXPTIME=5, DARKTIME=6.5) == 6.5
    assert value("darktime", EXPTIME=60, DARKTIME=0) == 60.0


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ({"FILTER": " R  "}, "R"),
        ({"FILTNAME": "VR"}, "VR"),
        ({"FILTER": "None", "FILTNAME": "V"}, "V"),
        ({"FILTER": "N/A"}, ""),
        ({"FILTER1": "J", "FILTER2": "None"}, "J"),
        ({"FILTER1": "Clear", "FILTER2": "V"}, "V"),
        ({"FILTER1": "ND", "FILTER2": "V"}, "ND+V"),
        ({"FILTER1": "Clear", "FILTER2": "open"}, "Clear"),
        ({"FILTER01": "g", "FILTER02": ""}, "g"),
        ({"FILTER": 3}, "3"),
        ({"INSFLNAM": "NB816"}, "NB816"),
        ({}, ""),
    ],
)
def test_filters(header, name):
    assert normalise(header).filter == name


@pytest.mark.parametrize(
    ("header", "moment"),
    [
        ({"DATE-OBS": "2017-12-19T18:33:43.317-0700"}, "2017-12-20T01:33:43.317"),
        ({"DATE-OBS": "2017-12-19T18:33:43+05:30"}, "2017-12-19T13:03:43"),
        ({"DATE-OBS": "2019-03-26T02:27:31Z"}, "2019-03-26T02:27:31"),
        ({"DATE-OBS": "2019-03-26", "UTCSTART": "02:27:31.13"}, "2019-03-26T02:27:31.13"),
        ({"DATE-OBS": "2013-07-13", "UT": "00:57:33", "MJD-OBS": 56486.0}, "2013-07-13T00:57:33"),
        ({"DATE-OBS": "2015-09-20", "UT": "2015-09-20T21:38:14.51"}, "2015-09-20T21:38:14.51"),
        ({"DATE-OBS": "2015-09-20", "MJD-OBS": 57285.5}, "2015-09-20T12:00:00"),
        ({"DATE-OBS": "2015-09-20"}, "2015-09-20T00:00:00"),
        ({"DATE-OBS": "25/12/98", "TIME-OBS": "23:59:60"}, "1998-12-26T00:00:00"),
        ({"DATE-OBS": "01/02/05"}, "2005-02-01"),
        ({"DATE-OBS": "2020/01/02 03:04:05"}, "2020-01-02T03:04:05"),
        ({"DATE-OBS": "yesterday", "MJD-OBS": 58107.5}, "2017-12-20T12:00:00"),
        ({"JD": 2458108.0}, "2017-12-20T12:00:00"),
        ({"DATE-OBS": "2020-13-45T00:00:00"}, "NaT"),
        ({"DATE-OBS": "2019-03-22T15:31:01.904", "TIMESYS": "TAI"}, "2019-03-22T15:30:24.904"),
        ({}, "NaT"),
    ],
)
def test_dates(header, moment):
    got = normalise(header).date_obs
    assert got.dtype == np.dtype("M8[us]")
    np.testing.assert_equal(got, np.datetime64(moment, "us"))


@pytest.mark.parametrize(
    ("header", "comment", "gain", "mode"),
    [
        ({"GAIN": 1.9}, "e-/ADU", 1.9, ""),
        ({"GAIN": "1.9"}, "", 1.9, ""),
        ({"GAIN": 1}, "DCS GAIN INDEX", math.nan, "gain 1"),
        ({"GAIN": 1.5}, "gain setting in e-/ADU", 1.5, ""),
        ({"GAIN": 100}, "", math.nan, "gain 100"),
        ({"GAIN": 0}, "", math.nan, "gain 0"),
        ({"GAIN": "HIGH"}, "", math.nan, "gain HIGH"),
        ({"GAIN": 120, "EGAIN": 0.25}, "", 0.25, "gain 120"),
        ({"GAIN": 2.0, "EGAIN": 2.5}, "", 2.5, ""),
        ({"AGAIN_01": 4.95, "AGAIN_02": 4.81}, "", 4.95, ""),
        ({"GAIN1": 1.2}, "", 1.2, ""),
        ({"GAIN1": 1.2, "GAIN2": 1.3}, "", math.nan, ""),
        ({"EGAIN": 0}, "", math.nan, ""),
        ({"GAIN": 1.0, "READOUTM": "Fast"}, "", 1.0, "Fast"),
        ({"GAIN": 3, "READ-SPD": 80}, "index", math.nan, "80, gain 3"),
        ({}, "", math.nan, ""),
    ],
)
def test_gains_and_settings(header, comment, gain, mode):
    values = normalise(header, comments={"GAIN": comment})
    np.testing.assert_equal(values.gain, gain)
    assert values.readout_mode == mode


def test_read_noise_and_temperature():
    assert value("rdnoise", RDNOISE=5) == 5.0
    assert value("rdnoise", ARDNS_01=9.3) == 9.3
    assert value("rdnoise", {"RON": "read noise [ADU]"}, RON=2.0, GAIN=1.5) == 3.0
    assert value("rdnoise", {"RON": "noise [electron]"}, RON=2.0, GAIN=1.5) == 2.0
    assert math.isnan(value("rdnoise", RDNOISE=0))
    assert value("ccd_temp", CCD__TEMP="-20.5") == -20.5
    assert value("ccd_temp", DETTEMP=-102.25) == -102.25


@pytest.mark.parametrize(
    ("header", "binning"),
    [
        ({"XBINNING": 2, "YBINNING": 1}, "2x1"),
        ({"CCDSUM": "3 3"}, "3x3"),
        ({"BINNING": "2x2"}, "2x2"),
        ({"BINNING": "1,2"}, "1x2"),
        ({"BINNING": 4}, "4x4"),
        ({"CCDBIN1": 2, "CCDBIN2": 4}, "2x4"),
        ({"CCDXBIN": 1, "CCDYBIN": 1}, "1x1"),
        ({"XBINNING": 2.0, "YBINNING": 2.0}, "2x2"),
        ({"XBINNING": 2}, ""),
        ({"CCDSUM": "none"}, ""),
        ({"XBINNING": 0, "YBINNING": 0}, ""),
    ],
)
def test_binning(header, binning):
    assert normalise(header).binning == binning


@pytest.mark.parametrize(
    ("bunit", "unit"),
    [
        ("ADU", "adu"),
        ("counts", "adu"),
        ("DN", "adu"),
        ("ELECTRONS", "electron"),
        ("e-", "electron"),
        ("electron", "electron"),
        ("ADU/s", "adu / s"),
        ("e-/sec", "electron / s"),
        ("electron s-1", "electron / s"),
        ("Jy", "Jy"),
        ("bananas", ""),
        ("", ""),
        (7, ""),
    ],
)
def test_units(bunit, unit):
    assert normalise({"BUNIT": bunit}).unit == unit


@pytest.mark.parametrize(
    ("header", "origin"),
    [
        ({"XORGSUBF": 10, "YORGSUBF": 20}, (20, 10)),
        ({"LTV1": -17, "LTV2": 0.0}, (0, 17)),
        ({"LTV1": -17, "LTV2": -3, "XORGSUBF": 10, "YORGSUBF": 20}, (3, 17)),
        ({"LTV1": 512, "LTV2": 4004, "LTM1_1": -1.0, "LTM2_2": -1.0}, None),
        ({"LTV1": -1.5, "LTV2": 0}, None),
        ({"LTV1": -17}, (0, 17)),
        ({"LTV2": "-3.0", "XORGSUBF": 10, "YORGSUBF": 20}, (3, 0)),
        ({"LTV1": "west"}, None),
        ({"LTV1": -17, "LTM1_2": 1.0, "LTM2_1": 1.0}, None),
        ({"LTV1": -4.75, "LTV2": 0.25, "LTM1_1": 0.5, "LTM2_2": 0.5}, (0, 5)),
        ({"LTV1": -4.75, "LTV2": 0.25, "LTM1_1": 0.5, "LTM2_2": 0.5, "CCDSUM": "2 2"}, (0, 5)),
        ({"LTV1": -7, "LTV2": 0.333, "LTM1_1": 1.0, "LTM2_2": 0.333}, (0, 7)),
        ({"LTV1": -4.75, "LTM1_1": 0.5, "LTM2_2": 0.5}, None),
        ({"LTV1": -4.5, "LTV2": 0.25, "LTM1_1": 0.5, "LTM2_2": 0.5}, None),
        ({"LTV1": 0, "LTV2": 0, "LTM1_1": 2.0, "LTM2_2": 2.0}, None),
        ({"LTV1": 0, "LTV2": 0, "LTM1_1": 0.0, "LTM2_2": 0.4}, None),
        ({"CCDSEC": "[101:200,51:100]", "NAXIS1": 100, "NAXIS2": 50}, (50, 100)),
        ({"CCDSEC": "[1:100,1:50]", "DATASEC": "[ 11:110, 1:50]"}, (0, -10)),
        ({"CCDSEC": "[1:200,1:100]", "DATASEC": "[5:104,1:50]", "CCDSUM": "2 2"}, (0, -4)),
        ({"CCDSEC": "[101:200,1:50]", "DATASEC": "[1:100,1:50]", "CCDSUM": "2 2"}, (0, 100)),
        ({"CCDSEC": "[1:300,1:50]", "DATASEC": "[1:100,1:50]"}, None),
        ({"DETSEC": "[512:1,1:2002]", "DATASEC": "[11:522,1:2002]"}, None),
        ({"XORGSUBF": 10}, None),
        ({}, None),
    ],
)
def test_origins(header, origin):
    values = normalise(header)
    assert values.origin_known == (origin is not None)
    assert (values.origin_y, values.origin_x) == (origin or (0, 0))


@given(
    st.tuples(st.integers(0, 9000), st.integers(0, 9000)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([3, 6, 15]),
)
def test_iraf_and_noao_say_the_same_of_binned_frames(first, binning, digits):
    """LTV and LTM against CCDSEC and CCDSUM, for frames that begin at any binned pixel."""
    words = {"CCDSUM": f"{binning[0]} {binning[1]}", "NAXIS1": 7, "NAXIS2": 5}
    sections, ltv = [], {}
    for axis, (pixel, factor, size) in enumerate(zip(first, binning, (7, 5), strict=True), 1):
        start = pixel * factor + 1
        sections.append(f"{start}:{start + size * factor - 1}")
        centre = start + (factor - 1) / 2  # of the first pixel, on the detector
        ltv[f"LTV{axis}"] = round(1 - centre / factor, digits)
        ltv[f"LTM{axis}_{axis}"] = round(1 / factor, digits)
    by_section = normalise({**words, "CCDSEC": f"[{sections[0]},{sections[1]}]"})
    assert (by_section.origin_x, by_section.origin_y) == first
    for header in (ltv, words | ltv):
        by_ltv = normalise(header)
        assert by_ltv.origin_known
        assert (by_ltv.origin_x, by_ltv.origin_y) == first


def test_a_config_extends_the_table():
    own = DEFAULT_KEYWORDS.extended(
        aliases={"filter": ["MYWHEEL"], "binning": "MYX+MYY"}, types={"Calib Ball": "dome-flat"}
    )
    assert value("filter", keywords=own, MYWHEEL="g", FILTER="r") == "g"
    assert value("filter", keywords=own, FILTER="r") == "r"
    assert value("binning", keywords=own, MYX=2, MYY=3) == "2x3"
    assert value("flat_kind", keywords=own, IMAGETYP="CALIB-BALL") == "dome"
    assert value("filter", MYWHEEL="g") == ""
    assert pickle.loads(pickle.dumps(own)) == own
    assert isinstance(own, Keywords)


def test_hierarch_is_no_part_of_a_keyword():
    own = DEFAULT_KEYWORDS.extended(
        {"exptime": ["HIERARCH ESO DET DIT"], "binning": "HIERARCH ESO BINX+HIERARCH  ESO BINY"}
    )
    header = {"ESO DET DIT": 12.5, "EXPTIME": 3.0, "ESO BINX": 2, "ESO BINY": 4}
    assert normalise(header, own).exptime == 12.5
    assert normalise(header, own).binning == "2x4"


def test_words_that_do_not_exist_are_refused_with_the_nearest():
    with pytest.raises(ArgumentError, match="did you mean 'filter'"):
        DEFAULT_KEYWORDS.extended(aliases={"filtre": ["X"]})
    with pytest.raises(ArgumentError, match="did you mean 'flat'"):
        DEFAULT_KEYWORDS.extended(types={"X": "flta"})


ODD = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=20))


@given(
    st.dictionaries(
        st.sampled_from(sorted({k for keys in DEFAULT_KEYWORDS.aliases.values() for k in keys})),
        ODD,
        max_size=12,
    )
)
def test_no_header_is_too_odd(header):
    values = normalise(header, comments=dict.fromkeys(header, "x"))
    assert values.imagetyp in ("bias", "dark", "flat", "science", "other")
    assert all(isinstance(getattr(values, name), str) for name in ("filter", "object", "unit"))


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        (
            "lowell_hall42_5945",
            "flat/20190326.0100.fits",
            {
                "imagetyp": "flat",
                "flat_kind": "sky",
                "exptime": 2.7,
                "filter": "V",
                "gain": 4.95,
                "rdnoise": 9.3,
                "binning": "3x3",
                "unit": "adu",
                "instrument": "nasa42",
                "ccd_temp": -101.75,
                "date_obs": np.datetime64("2019-03-26T02:02:50.58", "us"),
                "origin_known": False,
            },
        ),
        (
            "dot_tircam2_nir",
            "IC310_1.fits",
            {"imagetyp": "other", "exptime": 40.0, "filter": "J", "object": "", "unit": ""},
        ),
        (
            "uoft_st7_darks",
            "luka/Flat-003D600s.fit",
            {
                "imagetyp": "dark",
                "darktime": 600.0,
                "gain": 2.5499999523162842,
                "binning": "1x1",
                "origin_known": True,
                "origin_x": 0,
            },
        ),
        (
            "lick_kast_2amp",
            "b21.fits.gz",
            {"imagetyp": "dark", "exptime": 0.0, "readout_mode": "80, gain 1", "object": "Bias"},
        ),
        (
            "header_zoo",
            "exotic/HatP32Dec202017/HATP-32171220013343.FITS",
            {"exptime": 60.0, "date_obs": np.datetime64("2017-12-20T01:33:43.317", "us")},
        ),
    ],
)
def test_real_headers(name, path, expected, realdata):
    frame = scan(realdata(name) / path, index=False).frames[0]
    values = normalise(frame.header, comments=CardComments(frame.cards))
    assert {key: getattr(values, key) for key in expected} == expected
