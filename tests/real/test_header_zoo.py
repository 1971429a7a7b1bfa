"""Odd frames of many cameras: each opens with the right pixels, or is refused with the reason."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

import daskcal
from daskcal.fits import scan
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.sections import Section

LSST = {
    "ts3": "ts3/raw/2018-11-15/201811151255111-R433-S00-det433.fits",
    "e2v": "lsstCam/raw/2021-12-12/30211212000310/30211212000310-R22-S22-det098.fits",
    "itl": "lsstCam/raw/2019-03-22/3019032200002/3019032200002-R10-S22-det035.fits",
}


@pytest.fixture
def lsst(realdata: Callable[[str], Path]) -> Callable[[str], Path]:
    return lambda name: realdata("header_zoo") / "obs_lsst/tests/data/input" / LSST[name]


def test_every_frame_opens_with_the_pixels_that_astropy_reads(realdata) -> None:
    found = scan(realdata("header_zoo"), index=False)
    assert len(found.frames) == 19
    assert not found.unreadable
    for frame in found.frames:
        path = frame.source.path
        raw = daskcal.open_frames(path, unit="adu")
        image = raw.image.values[0]
        if frame.parts:
            assert (image[:, :4072] == 0).all()  # all of these are
            continue
        with warnings.catch_warnings(action="ignore"), fits.open(path) as hdus:  # of odd cards
            expected = hdus[frame.source.hdu].data
        np.testing.assert_array_equal(image, expected, path)
        assert image.dtype == expected.dtype.newbyteorder("="), path
        assert raw.hdr_naxis1.values[0] == image.shape[1]


def span(text: str) -> np.ndarray:
    """0-based pixels of one range of a section, in its order."""
    first, last = (int(number) for number in text.split(":"))
    return np.arange(first, last + 1) - 1 if last >= first else np.arange(first, last - 1, -1) - 1


def axes(section: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a section."""
    columns, rows = re.sub(r"[\[\] ]", "", section).split(",")
    return span(rows), span(columns)


@pytest.mark.parametrize(("name", "ny", "nx"), [("ts3", 4004, 4096), ("e2v", 4004, 4096),
                                                ("itl", 4000, 4072)])  # fmt: skip
def test_lsst_headers_give_the_geometry(lsst, tmp_path, name: str, ny: int, nx: int) -> None:
    """The files' own headers over pixels that say where on the detector they belong."""
    pattern = np.arange(ny * nx, dtype="i4").reshape(ny, nx)
    dark = {}
    with fits.open(lsst(name)) as real:
        out = fits.HDUList([fits.PrimaryHDU(header=real[0].header)])
        for number, hdu in enumerate(real[1:17], 1):
            image = np.full(hdu.shape, -1, "i4")
            header = hdu.header.copy()
            image[np.ix_(*axes(header["DATASEC"]))] = pattern[np.ix_(*axes(header["DETSEC"]))]
            if "BIASSEC" in header:
                over = -1000 * number - np.arange(2002 * 50, dtype="i4").reshape(2002, 50) % 999
                image[np.ix_(*axes(header["BIASSEC"]))] = over
                dark[header["EXTNAME"]] = over
            for key in ("BZERO", "BSCALE"):
                header.remove(key, ignore_missing=True)
            out.append(fits.ImageHDU(image, header))
        path = tmp_path / f"{name}.fits"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyUserWarning)
            out.writeto(path)
    raw = daskcal.open_frames(path, unit="adu")
    image = raw.image.values[0]
    np.testing.assert_array_equal(image[:, :nx], pattern)
    assert raw.sizes["x"] == nx + (400 if dark else 0)  # eight amplifiers beside each other
    assert raw.y.attrs["origin"] == "known"
    found = amplifiers(raw)
    assert len(found) == 16
    for amp in found:
        rows = amp.section.y0, amp.section.y1
        if amp.overscan is None:
            assert not dark
            continue
        assert (amp.overscan.y0, amp.overscan.y1) == rows
        over = dark[amp.name][::-1] if amp.readout.startswith("top") else dark[amp.name]
        np.testing.assert_array_equal(image[amp.overscan.within(whole(raw))], over)


def whole(raw):

    return Section(0, raw.sizes["y"], 0, raw.sizes["x"])
