"""Where on its detector a frame lies, from its header."""

from __future__ import annotations

import re
from collections.abc import Mapping

from daskcal.fits.header import Value

_SECTION = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")

_FINEST = 0.01  # LTM: no camera bins more than a hundred pixels
_ROUNDED = 2e-3  # a third is often written as 0.333


def frame_origin(
    header: Mapping[str, Value], binning: tuple[int, int] | None
) -> tuple[int, int] | None:
    """0-based detector coordinates (row, column) of the pixel [0, 0], in pixels of the frame.

    Parameters
    ----------
    header : Mapping
        Keyword to value.
    binning : (int, int) or None
        Of columns and rows.

    Returns
    -------
    (int, int) or None
        None where the header does not say, or contradicts itself.
    """
    # LTV first: what trimmed a frame kept it right, and left the camera's own keywords alone
    for pair in (_from_ltv(header), _from_subframe(header), _from_sections(header, binning)):
        if pair is not None:
            return pair[1], pair[0]
    return None


def _number(value: Value | None) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if value is None or isinstance(value, bool) or value != value or abs(value) > 1e6:
        return None
    return value


def _whole(value: Value | None) -> int | None:
    number = _number(value)
    if number is None or abs(number - round(number)) > 1e-6:
        return None
    return round(number)


def _from_ltv(header: Mapping[str, Value]) -> tuple[int, int] | None:
    """IRAF's logical = LTM * physical + LTV, 1-based both, of pixel centres.

    A pixel of a binned frame covers 1 / LTM of the detector's: its centre is theirs. IRAF leaves
    out what is 0, or 1 on the diagonal.
    """
    if "LTV1" not in header and "LTV2" not in header:
        return None
    if any(_number(header.get(key, 0)) != 0 for key in ("LTM1_2", "LTM2_1")):
        return None  # turned
    x, y = (
        _first_pixel(
            _number(header.get(f"LTV{axis}", 0)), _number(header.get(f"LTM{axis}_{axis}", 1))
        )
        for axis in (1, 2)
    )
    return None if x is None or y is None else (x, y)


def _first_pixel(shift: float | None, scale: float | None) -> int | None:
    """The first pixel of an axis, in pixels of the frame; None where it is no whole one."""
    if shift is None or scale is None or not _FINEST <= scale < 1.5:
        return None
    factor = round(1 / scale)
    exact = 1e-6 if factor == 1 else _ROUNDED
    if abs(scale * factor - 1) > exact:
        return None
    first = 0.5 - shift - 0.5 / factor
    return round(first) if abs(first - round(first)) < exact else None


def _from_subframe(header: Mapping[str, Value]) -> tuple[int, int] | None:
    """MaxIm and its like: XORGSUBF and YORGSUBF, 0-based, in binned pixels."""
    x, y = _whole(header.get("XORGSUBF")), _whole(header.get("YORGSUBF"))
    return None if x is None or y is None else (x, y)


def _from_sections(
    header: Mapping[str, Value], binning: tuple[int, int] | None
) -> tuple[int, int] | None:
    """NOAO: the pixels DATASEC of the image are the pixels CCDSEC (unbinned) of the detector."""
    ccd = _section(header.get("CCDSEC", header.get("DETSEC")))
    whole = f"[1:{header.get('NAXIS1', 0)},1:{header.get('NAXIS2', 0)}]"
    data = _section(header.get("DATASEC", whole))
    if ccd is None or data is None:
        return None
    origin = []
    for (first, last), (start, stop), factor in zip(ccd, data, binning or (1, 1), strict=True):
        length = stop - start + 1
        if last - first + 1 == length:
            factor = 1  # the section counts binned pixels
        if last < first or stop < start or not covers(last - first + 1, length, factor):
            return None
        if (first - 1) % factor:
            return None
        origin.append((first - 1) // factor - (start - 1))
    return origin[0], origin[1]


def covers(unbinned: int, length: int, factor: int) -> bool:
    """Whether `length` pixels of `factor` each are `unbinned` ones, but for a last, partial one."""
    return length in (unbinned // factor, -(-unbinned // factor))


def _section(value: Value | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
    found = _SECTION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    return (int(found[1]), int(found[2])), (int(found[3]), int(found[4]))
