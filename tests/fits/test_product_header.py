"""Product headers: what is kept, mended, moved, and what the verifiers say."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from daskcal.fits.cards import make_card, read_cards
from daskcal.fits.product_header import history_cards, product_cards, read_history
from daskcal.fits.scan import scan

TAN = [
    ("CTYPE1", "RA---TAN"),
    ("CTYPE2", "DEC--TAN"),
    ("CRVAL1", 150.1),
    ("CRVAL2", -30.2),
    ("CRPIX1", 512.5),
    ("CRPIX2", 511.25),
    ("CD1_1", -1.1e-4),
    ("CD1_2", 2e-6),
    ("CD2_1", 2e-6),
    ("CD2_2", 1.1e-4),
]


def images(cards: str) -> list[str]:
    assert len(cards) % 80 == 0
    return [cards[i : i + 80] for i in range(0, len(cards), 80)]


def card(text: str) -> str:
    return text.ljust(80)


def header(cards: str) -> fits.Header:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fits.Header.fromstring(cards)
        for one in found.cards:
            one.verify("exception")
    return found


def verify(tmp_path: Path, cards: str) -> list[str]:
    """What fitsverify says of a file with these cards."""
    if shutil.which("fitsverify") is None:
        pytest.skip("fitsverify is not installed")
    head = [
        make_card("SIMPLE", True),
        make_card("BITPIX", 8),
        make_card("NAXIS", 2),
        make_card("NAXIS1", 2),
        make_card("NAXIS2", 2),
    ]
    text = "".join(head) + cards + card("END")
    path = tmp_path / "one.fits"
    path.write_bytes(text.ljust(-(-len(text) // 2880) * 2880).encode("ascii") + bytes(2880))
    said = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False)
    return [line for line in said.stdout.splitlines() if line.startswith("*** ")]


def test_cards_that_hold_stay_byte_for_byte() -> None:
    kept = [
        card("OBJECT  = 'M 31    '           / the galaxy"),
        card("EXPTIME =   120.00000000000000 /Exposure time in seconds"),
        card("WEATHER =                  099 / leading zero"),
        card("ALTITUDE=                2206. / metres"),
        card("COMMENT = 'in the form of a value'"),
        card("HISTORY made by hand"),
        card("HIERARCH ESO DET OUT1 NAME = 'left'"),
        card("        a card without keyword"),
        card("OBSTYPE = 'OBJECT'"),
        card("OBSTYPE =                    1 / a second time"),
        card("LONG    = 'a text that goes on and on, over the end of its card and into th&'"),
        card("CONTINUE  'e next one' / and its comment"),
        card("NOTHING =                      / undefined"),
    ]
    out = images(product_cards("".join(kept), bunit="adu"))
    assert [c for c in out if c in kept] == kept


def test_cards_of_the_raw_array_go() -> None:
    keys = (
        "BZERO BSCALE BLANK DATAMIN DATAMAX BIASSEC TRIMSEC DATASEC BIAS01 TRIM01 CHECKSUM DATASUM "
        "NAXIS1 SIMPLE EXTEND PCOUNT EXTNAME INHERIT BUNIT ZCMPTYPE TFORM1 ZBITPIX ZNAXIS2"
    )
    raw = "".join(make_card(key, "7") for key in keys.split()) + make_card("KEPT", 1)
    assert list(header(product_cards(raw, bunit=""))) == [
        "KEPT",
        "LTV1",
        "LTM1_1",
        "LTV2",
        "LTM2_2",
    ]


@pytest.mark.parametrize(
    ("bad", "key", "value"),
    [
        ("exptime = 12.5 / small letters", "EXPTIME", 12.5),
        ("GAMMA   =2.5 / no blank", "GAMMA", 2.5),
        ("NAME    = 'never closed / comment", "NAME", "never closed"),
        ("NOTE    = 'said' without a slash", "NOTE", "said"),
        ("WORD    = Clear / no quotes", "WORD", "Clear"),
        ("BAD     = NaN / not a number", "BAD", "NaN"),
        ("SMALL   = 1.5e-3", "SMALL", 1.5e-3),
        ("FLAG    = True", "FLAG", "True"),
        ("EQUINOX = '2000.0  '           / as text", "EQUINOX", 2000.0),
        ("OBJECT  = 1234 / as a number", "OBJECT", "1234"),
        ("TELESCOP=  / empty", "TELESCOP", ""),
        ("CRVAL1  = '12.5D-1'", "CRVAL1", 1.25),
    ],
)
def test_illegal_cards_are_mended(tmp_path: Path, bad: str, key: str, value: object) -> None:
    out = product_cards(card(bad), bunit="adu")
    assert header(out)[key] == value
    assert [
        line for line in verify(tmp_path, out) if "CRPIX" not in line and "CTYPE" not in line
    ] == []


@pytest.mark.parametrize(
    "bad",
    [
        "CCD.TEMP= -10.0 / a dot in the keyword",
        "GAINDL                         / a keyword without a value",
        "EXPOSURE_TIME= 12.0",
        "CONTINUE  'of nothing'",
        "DATE-OBS= '10/29/2019' / a date that is none",
        "CDELT1  = 0.0",
        "CRVAL2  = 'None'",
        "HIERARCH no equals sign",
    ],
)
def test_what_cannot_be_mended_is_kept_as_comment(tmp_path: Path, bad: str) -> None:
    out = product_cards(card(bad), bunit="adu")
    text = "".join(str(line) for line in header(out)["COMMENT"])
    assert " ".join(bad.split()) in text
    assert verify(tmp_path, out) == []


def test_unprintable_text_becomes_question_marks() -> None:
    out = product_cards(card("OBSERVER= 'J\xfcrgen\n'"), bunit="")
    assert header(out)["OBSERVER"] == "J?rgen?"


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(max_codepoint=255), min_size=1, max_size=240))
def test_any_text_gives_a_legal_header(text: str) -> None:
    padded = text.ljust(-(-len(text) // 80) * 80)
    found = header(product_cards(padded, bunit="adu", shift=(3, 5), gain_factor=2.0))
    assert found["BUNIT"] == "adu"
    fits.PrimaryHDU(np.zeros((2, 2)), found).verify("exception")


def test_the_sky_stays_where_it_is() -> None:
    raw = "".join(make_card(k, v) for k, v in TAN)
    raw += make_card("CRPIX1A", 512.5) + make_card("CRPIX2A", 511.25)
    found = header(product_cards(raw, bunit="adu", shift=(7, 17)))
    before = WCS(header(raw)).pixel_to_world_values([100.0, 900.0], [200.0, 31.5])
    after = WCS(found).pixel_to_world_values([83.0, 883.0], [193.0, 24.5])
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-11)
    assert (found["CRPIX1A"], found["CRPIX2A"]) == (495.5, 504.25)


def test_text_valued_reference_pixels_become_numbers() -> None:
    raw = card("CRPIX1  = '716.0   '           / as SCAMP leaves it") + make_card(
        "CRPIX2", "685.125"
    )
    found = header(product_cards(raw, bunit="", shift=(0, 17)))
    assert (found["CRPIX1"], found["CRPIX2"]) == (699.0, 685.125)


def test_decimals_of_a_reference_pixel_are_exact() -> None:
    raw = card("CRPIX1  =        1578.49999352 / X reference pixel")
    assert "1561.49999352 / X reference pixel" in product_cards(raw, bunit="", shift=(0, 17))


def test_a_missing_reference_pixel_is_zero() -> None:
    raw = "".join(make_card(k, v) for k, v in TAN if k != "CRPIX1")
    assert header(product_cards(raw, bunit="", shift=(0, 4)))["CRPIX1"] == -4.0


def test_ltv_follows_the_trim() -> None:
    fresh = header(product_cards("", bunit="", shift=(7, 17)))
    assert (fresh["LTV1"], fresh["LTV2"], fresh["LTM1_1"]) == (-17.0, -7.0, 1.0)
    placed = header(product_cards("", bunit="", shift=(7, 17), origin=(107, 217)))
    assert (placed["LTV1"], placed["LTV2"]) == (-217.0, -107.0)
    raw = make_card("LTV1", -100.5) + make_card("LTM1_1", 0.5)
    old = header(product_cards(raw, bunit="", shift=(0, 17)))
    assert (old["LTV1"], old["LTM1_1"]) == (-117.5, 0.5)
    binned = header(product_cards(make_card("LTM1_1", 0.5), bunit="", shift=(0, 17)))
    assert (binned["LTV1"], binned["LTM1_1"]) == (-16.75, 0.5)


def test_sections_of_the_whole_frame_go_when_rows_were_cut() -> None:
    raw = make_card("CCDSEC", "[1:100,1:100]") + make_card("XORGSUBF", 10)
    assert header(product_cards(raw, bunit=""))["CCDSEC"] == "[1:100,1:100]"
    cut = header(product_cards(raw, bunit="", shift=(0, 3)))
    assert "CCDSEC" not in cut
    assert cut["XORGSUBF"] == 13


def test_gain_is_one_after_gain_correct() -> None:
    raw = make_card("GAIN", 1.5) + make_card("AGAIN_01", 4.95) + make_card("SATURATE", 65535)
    raw += make_card("EGAIN", 120, "gain setting") + make_card("RDNOISE", 9.3)
    found = header(product_cards(raw, bunit="electron", gain_factor=1.5))
    assert (found["GAIN"], found["AGAIN_01"], found["EGAIN"]) == (1.0, 1.0, 120)
    assert (found["SATURATE"], found["RDNOISE"]) == (98302.5, 9.3)
    assert "1.5" in found.comments["GAIN"]


def test_facts_replace_raw_cards_and_unknown_ones_are_left_out() -> None:
    raw = make_card("EXPTIME", 3.0) + make_card("FILTER", "V") + make_card("EXPTIME", 4.0)
    facts = [("EXPTIME", 7.0, "mean"), ("MJD-AVG", float("nan"), ""), ("FILTER", None, "")]
    found = header(product_cards(raw, bunit="adu", facts=facts))
    assert found.count("EXPTIME") == 1
    assert found["EXPTIME"] == 7.0
    assert "MJD-AVG" not in found
    assert found["FILTER"] == "V"


def test_contradicting_world_coordinates(tmp_path: Path) -> None:
    raw = "".join(make_card(k, v) for k, v in TAN)
    raw += make_card("PC1_1", 1.0) + make_card("PC2_2", 1.0) + make_card("CROTA2", 5.0)
    raw += make_card("WCSAXES", 2) + make_card("CRVAL3", 1.0)
    out = product_cards(raw, bunit="adu")
    assert verify(tmp_path, out) == []
    assert "CD1_1" not in header(out)


@given(st.lists(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False), max_size=3)))
@settings(max_examples=100, deadline=None)
def test_history_comes_back(records: list[dict[str, object]]) -> None:
    lines = [json.dumps(record) for record in records]
    cards = "".join(history_cards(lines))
    assert [json.loads(line) for line in read_history(cards)] == records
    through = header(cards).tostring(sep="", endcard=False, padding=False)
    assert [json.loads(line) for line in read_history(through)] == records


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300), st.text(max_size=60)
)
def test_texts_of_any_length_come_back(text: str, comment: str) -> None:
    image = make_card("TEXT", text, comment)
    (read,) = read_cards(image)
    assert read.value == text.rstrip()
    if "'" not in text:  # astropy takes '/ within a text for its end
        assert fits.Card.fromstring(image).value == text.rstrip()


def test_equal_inputs_give_equal_bytes() -> None:
    raw = "".join(make_card(k, v) for k, v in TAN)
    assert product_cards(raw, bunit="adu") == product_cards(raw, bunit="adu")


@pytest.mark.parametrize(
    "name",
    ["dot_tircam2_nir", "header_zoo", "lick_kast_2amp", "lowell_hall42_5945", "uoft_st7_darks"],
)
def test_real_headers(name: str, tmp_path: Path, realdata: Callable[[str], Path]) -> None:
    seen = set()
    for frame in scan(realdata(name)).frames:
        shape = tuple(sorted(frame.header))
        if shape in seen:
            continue  # the same camera software
        seen.add(shape)
        fact = [("COMBINED", True, "")]
        out = product_cards(frame.cards, bunit="adu", shift=(2, 17), facts=fact, gain_factor=1.5)
        found = header(out)
        lost = {
            k for k in frame.header if k not in found and not k.startswith(("NAXIS", "HIERARCH"))
        }
        allowed = (
            "SIMPLE BITPIX EXTEND BZERO BSCALE BIASSEC TRIMSEC DATASEC DATAMIN DATAMAX CHECKSUM"
        )
        allowed += " DATASUM BIAS01 TRIM01 CD1_1 CD1_2 CD2_1 CD2_2 CROTA2 LONGSTRN BLANK"
        allowed += " XTENSION PCOUNT GCOUNT INHERIT"  # of extensions
        assert lost <= set(allowed.split()), frame.source.path
        said = verify(tmp_path, out)
        assert not [line for line in said if line.startswith("*** Error")], (
            frame.source.path,
            said,
        )
        left = [
            line for line in said if "EPOCH is deprecated" not in line and "duplicated" not in line
        ]
        assert left == [], frame.source.path


def test_real_sky_positions(realdata: Callable[[str], Path]) -> None:
    paths = [
        realdata("header_zoo") / "ccdproc/ccdproc/tests/data/sip-wcs.fit",
        realdata("header_zoo") / "msum/msumastro/tests/data/maximdl_6_18_header.fit",
    ]
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            raw = fits.getheader(path)
            out = product_cards(scan(path).frames[0].cards, bunit="adu", shift=(2, 17))
            before = WCS(raw).pixel_to_world_values(50.0, 30.0)
            after = WCS(header(out)).pixel_to_world_values(33.0, 28.0)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-9)
