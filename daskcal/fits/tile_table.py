"""Where the tiles of a compressed image lie, from its header: what decoding them needs to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from daskcal.fits.hdus import Hdu, integer
from daskcal.fits.header import Value

_FORM = re.compile(r"\s*(\d*)([LXBIJKAEDCMPQ])(.*)")
_BYTES = dict(zip("LBIJKAEDCMPQ", (1, 1, 2, 4, 8, 1, 4, 8, 8, 16, 8, 16), strict=True))

_DITHERS = {"NO_DITHER": 0, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}


@dataclass(frozen=True, slots=True)
class TileTable:
    """The binary table that holds the tiles of an image, each in a row, one row of tiles after
    the other.

    Attributes
    ----------
    tile : (int, int)
        Rows and columns of a tile; those at the last rows and columns may be smaller.
    row_bytes : int
        Bytes of a row of the table.
    wide : bool
        Whether descriptors (length and offset of an array) have numbers of 64 bits, not 32.
    coded : int
        Bytes from the start of a row to the descriptor of its coded tile.
    packed : int or None
        The same for a tile of floats that could not be quantised, packed by gzip.
    heap, end : int
        Bytes from the start of the data unit to where offsets count from, and to its end.
    block, bytepix : int
        Of Rice coding: pixels with one code; bytes of the integers that were coded.
    scale, zero : int or None
        Bytes from the start of a row to the scale and zero (float64) of its quantised tile.
    blank : int or None
        The integer that stands for an undefined float.
    dither : int
        How floats were quantised: 0 plainly, 1 or 2 for SUBTRACTIVE_DITHER_1 or _2.
    seed : int
        Where dithering begins.
    """

    tile: tuple[int, int]
    row_bytes: int
    wide: bool
    coded: int
    packed: int | None
    heap: int
    end: int
    block: int
    bytepix: int
    scale: int | None
    zero: int | None
    blank: int | None
    dither: int
    seed: int

    @classmethod
    def from_values(cls, values: list[Any]) -> TileTable:
        """The table of which ``dataclasses.astuple``, perhaps through JSON, has made `values`."""
        tile, *others = values
        return cls(tuple(tile), *others)


def tile_table(hdu: Hdu, shape: tuple[int, int], compression: str) -> TileTable | None:
    """The table of an image of `shape` whose keywords have been checked.

    None for what is astropy's to decode: codings other than Rice's and gzip's, and what is rare.
    """
    values = hdu.cards.values
    if compression not in ("RICE_1", "GZIP_1", "GZIP_2"):
        return None
    columns, row_bytes = _columns(values)
    coded, form = columns.get("COMPRESSED_DATA", (0, ""))
    packed, packed_form = columns.get("GZIP_COMPRESSED_DATA", (0, ""))
    if form not in ("P", "Q") or row_bytes != values["NAXIS1"] or "ZBLANK" in columns:
        return None
    bitpix, bytepix = integer(values["ZBITPIX"]) or 0, _parameter(values, "BYTEPIX", 4)
    scale, zero = (columns.get(name, (None, ""))[0] for name in ("ZSCALE", "ZZERO"))
    dither = _DITHERS.get(str(values.get("ZQUANTIZ", "NO_DITHER")).strip().upper())
    if scale is None:
        codes = zero is None and (compression != "RICE_1" or 0 < bitpix < 64)
    else:
        doubles = columns["ZSCALE"][1] == "D" and columns.get("ZZERO", (0, ""))[1] == "D"
        codes = doubles and bitpix < 0 and dither is not None
    if not codes or (compression == "RICE_1" and bytepix not in (1, 2, 4)):
        return None
    table = row_bytes * (integer(values["NAXIS2"]) or 0)
    tile = integer(values.get("ZTILE2", 1)) or 1, integer(values.get("ZTILE1", shape[1])) or 1
    return TileTable(
        tile=(min(tile[0], shape[0]), min(tile[1], shape[1])),
        row_bytes=row_bytes,
        wide=form == "Q",
        coded=coded,
        packed=packed if packed_form == form else None,
        heap=integer(values.get("THEAP", table)) or 0,
        end=hdu.data_size,
        block=_parameter(values, "BLOCKSIZE", 32),
        bytepix=bytepix,
        scale=scale,
        zero=zero,
        blank=None if scale is None else _code(values.get("ZBLANK", values.get("BLANK"))),
        dither=dither or 0,
        seed=integer(values.get("ZDITHER0")) or 0,
    )


def _columns(values: Mapping[str, Value]) -> tuple[dict[str, tuple[int, str]], int]:
    """Where in a row each column begins, with the letter of its format; and bytes of a row.

    The format of an array of variable length (of bytes) is ``P`` or ``Q``; that of any other kind,
    and of a column that does not hold one value, is ``""``.
    """
    columns: dict[str, tuple[int, str]] = {}
    at = 0
    for n in range(1, 1 + (integer(values.get("TFIELDS")) or 0)):
        found = _FORM.match(str(values.get(f"TFORM{n}", "")))
        if found is None:
            return {}, 0
        repeat, letter = int(found[1] or 1), found[2]
        single = repeat == 1 and (letter not in "PQ" or found[3].startswith("B"))
        name = str(values.get(f"TTYPE{n}", "")).strip().upper()
        columns.setdefault(name, (at, letter if single else ""))
        at += -(-repeat // 8) if letter == "X" else repeat * _BYTES[letter]
    return columns, at


def _code(value: Value | None) -> int | None:
    """`value` where it is an integer that can have been coded."""
    code = integer(value)
    return None if code is None or abs(code) > 1 << 31 else code


def _parameter(values: Mapping[str, Value], name: str, default: int) -> int:
    """A decoder's own parameter, given as a pair ZNAMEn = name, ZVALn = value."""
    for n in range(1, 1000):
        given = values.get(f"ZNAME{n}")
        if given is None:
            break
        if str(given).strip().upper() == name:
            return integer(values.get(f"ZVAL{n}")) or 0
    return default
