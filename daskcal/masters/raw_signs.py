"""Tells a raw frame of another program from a master: a library must not take one for the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from daskcal.errors import GeometryError
from daskcal.fits import Frame, is_product
from daskcal.fits.keywords import as_number
from daskcal.frames.sections import Section, fits_section

_COMBINED = ("NCOMBINE", "STACKCNT")  # of IRAF and ccdproc; of Siril


def raw_signs(image: Frame) -> str:
    """What says that an image is a raw frame, for people; "" where it may well be a master.

    A master of another program has a header that says of how many frames it is made, or pixels
    that no camera writes: floating-point ones, without an overscan.
    """
    header = image.header
    if is_product(header) or any(as_number(header.get(key, "")) >= 1 for key in _COMBINED):
        return ""
    return " and ".join(_signs(image))


def _signs(image: Frame) -> Iterator[str]:
    source = image.source
    if source.bitpix > 0 and source.bscale == 1:
        yield f"its pixels are integers (BITPIX = {source.bitpix})"
    whole = Section(0, source.shape[0], 0, source.shape[1])
    overscan, kept = (_area(image, key) for key in ("BIASSEC", "TRIMSEC"))
    if "TRIMSEC" in image.header and kept is None:
        return  # of the frame before it was trimmed, and so is what BIASSEC says
    if overscan is not None and overscan != whole:
        yield f"its overscan is still there (BIASSEC = {image.header['BIASSEC']!r})"
    elif kept is not None and kept != whole:
        yield f"it is not trimmed (TRIMSEC = {image.header['TRIMSEC']!r})"


def _area(image: Frame, key: str) -> Section | None:
    """What a card says, where that lies in the image."""
    with contextlib.suppress(GeometryError):
        if (text := image.header.get(key)) is not None:
            return fits_section(str(text), image.source.shape)
    return None
