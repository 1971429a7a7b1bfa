"""Detectors of several amplifiers open as one image, whatever the layout of their files."""

from __future__ import annotations

import re

import numpy as np
import pytest
from amplifier_files import Amp, quadrants, write_mef
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from raw_fits import counted_reads, no_computing, write_frames

import daskcal
from daskcal.errors import DaskcalWarning, FrameError, GeometryError
from daskcal.fits import scan
from daskcal.fits.amplifiers import Readout
from daskcal.frames.amplifier_geometry import lay_out
from daskcal.frames.amplifiers import amplifier_values, amplifiers
from daskcal.frames.assembled import assembled
from daskcal.frames.instrument import AmplifierSetup, Instrument
from daskcal.frames.sections import Section

NY, NX, OVER = 12, 20, 4
DETECTOR = np.arange(NY * NX, dtype="u2").reshape(NY, NX)
DARK = [np.full((NY, OVER), 1000 * (i + 1), "u2") + np.arange(NY, dtype="u2")[:, None]
        for i in range(4)]  # fmt: skip


def opened(path, **how):
    return daskcal.open_frames(path, **how)


# --- one HDU for each amplifier -------------------------------------------------------------------


def test_quadrants_with_flips_are_one_detector(tmp_path):
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK)
    with no_computing():
        frames = opened(path)
    assert frames.image.dtype == np.uint16
    assert "mask" not in frames
    image = frames.image.values[0]
    np.testing.assert_array_equal(image[:, :NX], DETECTOR)
    np.testing.assert_array_equal(image[: NY // 2, NX:], np.hstack(DARK[:2])[: NY // 2])
    np.testing.assert_array_equal(image[NY // 2 :, NX:], np.hstack(DARK[2:])[NY // 2 :])
    found = amplifiers(frames)
    assert [amp.name for amp in found] == ["SEG0", "SEG1", "SEG2", "SEG3"]
    assert found[3].section == Section(6, 12, 10, 20)
    assert found[3].overscan == Section(6, 12, 24, 28)
    assert [amp.readout for amp in found] == [
        "bottom left", "bottom right", "top left", "top right"
    ]  # fmt: skip
    assert frames.y.values.tolist() == list(range(NY))
    assert frames.x.attrs["origin"] == "known"


def test_the_cards_that_amplifiers_share_are_the_frame_s(tmp_path):
    each = [{"GAIN": 1.0 + i, "RDNOISE": 5.0, "SEGMENT": i, "LTV1": 3.0} for i in range(4)]
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK, cards=each,
                     OBJECT="M 31", SATURATE=60000.0)  # fmt: skip
    frames = opened(path)
    assert frames.object.values.tolist() == ["M 31"]
    for card in ("hdr_detsec", "hdr_datasec", "hdr_biassec", "hdr_segment", "hdr_ltv1"):
        assert card not in frames.coords
    cards = str(frames.cards.values[0])
    assert not re.search("(DET|DATA|BIAS)SEC|LTV", cards)
    np.testing.assert_array_equal(amplifier_values(frames, "gain"), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(amplifier_values(frames, "saturation"), [[60000] * 4])
    assert frames.gain.values.tolist() == [2.5]
    assert frames.rdnoise.values.tolist() == [5.0]


@given(
    flips=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6),
    window=st.tuples(*[st.integers(0, NY)] * 2, *[st.integers(0, NX + 3 * OVER)] * 2),
)
def test_any_window_of_any_flips(tmp_path_factory, flips, window):
    detector = np.arange(NY * 21, dtype="u2").reshape(NY, 21)
    amps = [
        Amp((6 * (i // 3), 6 * (i // 3) + 6), (x0, x0 + 7), *flips[i])
        for i, x0 in enumerate([0, 7, 14] * 2)
    ]
    folder = tmp_path_factory.mktemp("any")
    darks = [DARK[0] + 100 * i for i in range(6)]
    image = opened(write_mef(folder / "a.fits", detector, amps, darks)).image[0]
    expected = np.hstack(
        [detector, np.vstack([np.hstack(darks[:3])[:6], np.hstack(darks[3:])[6:]])]
    )
    y0, y1, x0, x1 = window
    rows, columns = slice(min(y0, y1), max(y0, y1)), slice(min(x0, x1), max(x0, x1))
    np.testing.assert_array_equal(image[rows, columns].values, expected[rows, columns])


def test_each_stored_pixel_is_read_once(tmp_path, monkeypatch):
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK, prescan=0)
    frames = daskcal.open_frames([path])
    whole = 2 * NY * (NX + 2 * OVER)
    with counted_reads(monkeypatch) as reads:
        daskcal.combine(frames, reject="none").compute()
    assert reads.bytes == whole
    with counted_reads(monkeypatch) as reads:
        daskcal.blocks(frames, rows=5).compute(scheduler="sync")
    assert reads.bytes == whole
    with counted_reads(monkeypatch) as reads:
        frames.image[:, :3].compute()  # of two amplifiers, three rows
    assert reads.bytes == whole // 4


def test_pieces_of_a_large_amplifier_are_read_a_few_rows_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("daskcal.fits.assembled._AT_ONCE", 100)
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK)
    np.testing.assert_array_equal(opened(path).image.values[0][:, :NX], DETECTOR)


def test_undefined_pixels_stay_undefined_where_they_go(tmp_path):
    image = DETECTOR.astype("i2")
    image[2, 13] = -1
    path = write_mef(tmp_path / "q.fits", image, quadrants(NY, NX), cards=[{"BLANK": -1}] * 4)
    frames = opened(path).compute()
    assert np.argwhere(frames.mask.values[0]).tolist() == [[2, 13]]


def test_pixels_of_no_amplifier_have_no_data(tmp_path):
    amps = [Amp((0, NY), (0, 8)), Amp((0, NY), (9, 20))]
    frames = opened(write_mef(tmp_path / "gap.fits", DETECTOR, amps)).compute()
    assert (frames.mask.values[0][:, 8] == 16).all()
    assert not np.delete(frames.mask.values[0], 8, axis=1).any()
    overscan = [DARK[0], DARK[1][:, :0], DARK[2], DARK[3]]
    cards = [{}, {"BIASSEC": None}, {}, {}]
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), overscan, cards=cards)
    frames = opened(path).compute()
    assert (frames.mask.values[0][:6, NX + OVER :] == 16).all()
    assert amplifiers(frames)[1].overscan is None
    with pytest.raises(GeometryError, match="SEG1 has no overscan"):
        daskcal.subtract_overscan(frames)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"DETSEC": "[11:20,1:"}, ["SEG1", "'\\[11:20,1:'", "should look like"]),
        ({"DETSEC": "[11:20,1:5]"}, ["SEG1", "5 rows", "data .* 6"]),
        ({"DETSEC": "[10:19,1:6]"}, ["several detectors"]),
        ({"DATASEC": "[4:40,1:6]"}, ["SEG1", "'\\[4:40,1:6\\]' leaves its image of 17 columns"]),
        ({"DATASEC": "[0:9,1:6]"}, ["SEG1", "data section '\\[0:9,1:6\\]'"]),
        ({"BIASSEC": "[10:17,1:6]"}, ["SEG1", "overlap"]),
        ({"DETSEC": "[90011:90020,1:6]"}, ["strewn"]),
        ({"DETSEC": None}, ["SEG1", "no CCDSEC or DETSEC"]),
    ],
)
def test_sections_that_make_no_sense_are_reported(tmp_path, change, words):
    cards = [{}, change, {}, {}]
    path = write_mef(tmp_path / "odd.fits", DETECTOR, quadrants(NY, NX), DARK, cards=cards)
    with pytest.raises(FrameError) as caught:
        opened(path)
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)
    write_mef(tmp_path / "sound.fits", DETECTOR, quadrants(NY, NX), DARK)
    with pytest.warns(DaskcalWarning, match="odd.fits"):
        assert opened(tmp_path).sizes["frame"] == 1


def test_an_overscan_in_other_rows_is_not_used_and_said(tmp_path):
    cards = [{}, {"BIASSEC": "[14:17,1:3]"}, {}, {}]
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK, cards=cards)
    with pytest.warns(DaskcalWarning, match="lacks rows of its data .* it is not used in .*q.fits"):
        assert amplifiers(opened(path))[1].overscan is None
    (frame,) = assembled(scan(path, index=False), Instrument()).frames
    assert "SEG1: the overscan '[14:17,1:3]' lacks rows" in frame.problems[0]


def test_detectors_are_told_from_amplifiers(tmp_path):
    def refused(path):
        with pytest.raises(FrameError) as caught:
            opened(path)
        return caught.value.reason == "several-detectors"

    for i, keyword in enumerate(("CCDNAME", "CCDNUM", "EXTNAME")):
        cards = [{keyword: f"CCD{n}"} for n in range(4)]
        amps = quadrants(NY, NX)
        assert refused(write_mef(tmp_path / f"{i}.fits", DETECTOR, amps, cards=cards))
    none = [{"DETSEC": None}] * 4
    assert refused(write_mef(tmp_path / "no.fits", DETECTOR, quadrants(NY, NX), cards=none))
    same = [{"CCDNAME": "ccd one"}] * 4
    path = write_mef(tmp_path / "one.fits", DETECTOR, quadrants(NY, NX), cards=same)
    assert not scan(path, index=False).unreadable
    chosen = opened(path, hdu="SEG2")  # one amplifier, as it is stored
    assert amplifiers(chosen) == ()
    np.testing.assert_array_equal(
        chosen.image.values[0][:, 3:], DETECTOR[6:, :10][::-1], strict=False
    )


def test_frames_of_different_readouts_are_not_joined(tmp_path):
    write_mef(tmp_path / "four.fits", DETECTOR, quadrants(NY, NX))
    write_mef(tmp_path / "two.fits", DETECTOR, [Amp((0, NY), (0, 10)), Amp((0, NY), (10, NX))])
    with pytest.raises(GeometryError, match=r"(four|two).fits has the amplifiers SEG0 .*open them"):
        opened(tmp_path)


# --- several amplifiers in one HDU ----------------------------------------------------------------

TWO = (
    AmplifierSetup("left", "[1:10,*]", "[21:24,*]", "[1:10,*]", gain=1.5),
    AmplifierSetup("right", "[11:20,*]", "fits [25:28,*]", "[11:20,*]", gain=2.0, rdnoise=4.0),
)
IMAGE = np.hstack([DETECTOR, DARK[0], DARK[1]])


def test_a_camera_tells_the_amplifiers_of_one_hdu(tmp_path):
    (path,) = write_frames(tmp_path / "raw", [IMAGE], GAIN=3.0, RDNOISE=7.0)
    frames = opened(path, instrument=Instrument(amplifiers=TWO))
    np.testing.assert_array_equal(frames.image.values[0], IMAGE)
    assert [amp.overscan for amp in amplifiers(frames)] == [
        Section(0, NY, 20, 24), Section(0, NY, 24, 28)
    ]  # fmt: skip
    assert [amp.readout for amp in amplifiers(frames)] == ["bottom left", "bottom right"]
    assert amplifier_values(frames, "gain").tolist() == [[1.5, 2.0]]
    assert amplifier_values(frames, "rdnoise").tolist() == [[7.0, 4.0]]
    assert frames.x.attrs["origin"] == "assumed"  # of the rows nobody says where they are
    common = Instrument(amplifiers=TWO, rdnoise=9.0)
    assert amplifier_values(opened(path, instrument=common), "rdnoise").tolist() == [[9.0, 4.0]]


NUMBERED = {
    "DATASEC": {"DATASEC{}": "[5:14,1:12]", "BIASSEC{}": "[1:4,1:12]", "CCDSEC{}": "[1:10,1:12]"},
    "ARCON": {"DSEC1{}": "[5:14,1:12]", "BSEC1{}": "[1:4,1:12]", "CSEC1{}": "[1:10,1:12]"},
    "TRIMSEC": {"TRIMSEC{}": "[5:14,1:12]", "BIASSEC{}": "[1:4,1:12]"},
}  # fmt: skip
SECOND = {
    "[5:14,1:12]": "[15:24,1:12]",
    "[1:4,1:12]": "[25:28,1:12]",
    "[1:10,1:12]": "[11:20,1:12]",
}


@pytest.mark.parametrize("style", NUMBERED)
def test_numbered_keywords_tell_them_too(tmp_path, style):
    """Each half between its overscan and the other half, as a camera sorted them."""
    cards = {}
    for key, text in NUMBERED[style].items():
        cards |= {key.format(1): text, key.format(2): SECOND[text]}
    image = np.hstack([DARK[0], DETECTOR, DARK[1]])
    (path,) = write_frames(tmp_path / "raw", [image], GAIN=None, GAIN1=2.0, GAIN2=3.0,
                           CRPIX1=10.0, CRVAL1=5.0, CRPIX2="4.5", DATASEC="[5:24,1:12]",
                           **cards)  # fmt: skip
    frames = opened(path)
    np.testing.assert_array_equal(frames.image.values[0], np.hstack([DETECTOR, DARK[0], DARK[1]]))
    if style != "ARCON":
        assert amplifier_values(frames, "gain").tolist() == [[2.0, 3.0]]
    assert frames.hdr_crpix1.values.tolist() == [6.0]  # moved with the pixels
    assert "BIASSEC" not in str(frames.cards.values[0])
    assert frames.hdr_naxis1.values.tolist() == [28]
    trimmed = daskcal.trim_image(daskcal.subtract_overscan(frames))
    (written,) = daskcal.to_fits(trimmed, tmp_path / "out")
    assert fits.getheader(written.path)["CRPIX1"] == 6.0


def test_flips_within_one_hdu(tmp_path):
    image = np.hstack([DETECTOR[:, :10], DETECTOR[:, :9:-1]])
    cards = {"DATASEC1": "[1:10,1:12]", "DATASEC2": "[11:20,1:12]", "DETSEC1": "[1:10,1:12]",
             "DETSEC2": "[20:11,1:12]", "CRVAL1": 3.0, "CTYPE1": "RA---TAN"}  # fmt: skip
    (path,) = write_frames(tmp_path / "raw", [image], **cards)
    frames = opened(path)
    np.testing.assert_array_equal(frames.image.values[0], DETECTOR)
    assert amplifiers(frames)[1].readout == "bottom right"
    assert "hdr_crval1" not in frames.coords  # true of one half only


def test_frames_that_iraf_trimmed_are_images_already(tmp_path):
    cards = {"DATASEC1": "[5:14,1:12]", "DATASEC2": "[15:24,1:12]",
             "CCDPROC": "Apr 14 CCD processing done"}  # fmt: skip
    (path,) = write_frames(tmp_path / "raw", [DETECTOR], **cards)
    frames = opened(path)
    assert amplifiers(frames) == ()
    np.testing.assert_array_equal(frames.image.values[0], DETECTOR)


def test_a_camera_changes_what_headers_say(tmp_path):
    path = write_mef(tmp_path / "q.fits", DETECTOR, quadrants(NY, NX), DARK, prescan=2)
    camera = Instrument(
        amplifiers=(
            AmplifierSetup("*", overscan_section="[13:14,*]", saturation=50000.0),
            AmplifierSetup("SEG[23]", readout="bottom left"),
        )
    )
    frames = opened(path, instrument=camera)
    assert frames.sizes["x"] == NX + 4
    assert amplifiers(frames)[3].readout == "bottom left"
    np.testing.assert_array_equal(amplifier_values(frames, "saturation"), [[50000.0] * 4])
    with pytest.raises(FrameError, match="'SEG9' has no data_section, and the headers describe"):
        opened(path, instrument=Instrument(amplifiers=(AmplifierSetup("SEG9", gain=2.0),)))


# --- windows and binning --------------------------------------------------------------------------


def one(section: str, detector: str, binning=(1, 1), shape=(6, 10), origin=None, overscan=""):
    return lay_out([Readout("a", 0, section, overscan, detector)], [shape], binning, origin)


def test_a_binned_frame_lies_in_binned_pixels():
    assert one("[1:10,1:6]", "[101:120,11:22]", (2, 2)).section == Section(5, 11, 50, 60)
    assert one("[1:10,1:6]", "[101:110,11:16]", (2, 2)).section == Section(10, 16, 100, 110)
    assert one("[1:10,1:6]", "[1:21,1:11]", (2, 2)).section == Section(0, 6, 0, 10)
    with pytest.raises(GeometryError, match="within a column that is binned by 2"):
        one("[1:10,1:6]", "[102:121,11:22]", (2, 2))
    with pytest.raises(GeometryError, match=r"has 25 columns.* 10, which are binned by 2"):
        one("[1:10,1:6]", "[101:125,11:22]", (2, 2))


def test_whole_axes_take_the_place_of_their_data():
    found = one("[3:10,*]", "[*,-*]", origin=(100, 50))
    assert found.section == Section(100, 106, 52, 60)
    assert found.placed[0].flipped == (True, False)
    assert found.known
    assert not one("[3:10,*]", "[3:10,*]").known


@pytest.mark.parametrize(
    ("amp", "detector", "corner"),
    [
        ("[1:10,1:6]", "[1:10,1:6]", "bottom left"),
        ("[10:1,1:6]", "[1:10,1:6]", "bottom right"),
        ("[10:1,6:1]", "[10:1,6:1]", "bottom left"),
        ("[1:10,6:1]", "[10:1,1:6]", "top right"),
    ],
)
def test_ampsec_tells_the_corner_that_is_read_first(amp, detector, corner):
    readout = Readout("a", 0, "[1:10,1:6]", "", detector, amp)
    (placed,) = lay_out([readout], [(6, 10)], (1, 1), None).placed
    assert placed.amplifier.readout == corner


def test_windows_line_up_with_a_master_of_the_whole_detector(tmp_path):
    (tmp_path / "full").mkdir()
    full = opened(write_mef(tmp_path / "full" / "b.fits", DETECTOR, quadrants(NY, NX), DARK))
    master = daskcal.combine(daskcal.trim_image(full), reject="none")
    amps = [Amp((2, 8), (4, 10)), Amp((2, 8), (10, 16), flip_columns=True)]
    windowed = opened(write_mef(tmp_path / "w.fits", DETECTOR, amps, DARK))
    assert windowed.x.values[0] == 4
    assert windowed.y.values[0] == 2
    done = daskcal.subtract_bias(daskcal.trim_image(windowed), master)
    assert not done.image.values.any()
