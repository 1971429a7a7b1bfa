"""Which HDUs are images, how their pixels are stored, and which one of a file is meant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from daskcal.errors import FrameError
from daskcal.fits.hdus import Hdu, integer
from daskcal.fits.header import CARD, Value
from daskcal.fits.tile_table import TileTable, tile_table

# Planes that describe another image of the same file: never frames of their own.
_COMPANION = re.compile(
    r"(UNCERT|UNCERTAINTY|STD|STDDEV|SIGMA|ERR|ERROR|VAR|VARIANCE|IVAR|WEIGHT|WEIGHTS|WHT|WGT"
    r"|UNCSHARE|MASK|BPM|DQ|QUALITY|FLAGS|NUSED|UNSTABLE|NLOW|NHIGH|PSFIMAGE|CONTEXT|CTX|CON|EXPMAP|BKG|BACKGROUND"
    r"|CATALOG|THUMBNAIL|PREVIEW)[ _-]?\d*"
)
_COMPRESSIONS = {
    "RICE_1": "RICE_1",
    "RICE_ONE": "RICE_1",
    "GZIP_1": "GZIP_1",
    "GZIP_2": "GZIP_2",
    "HCOMPRESS_1": "HCOMPRESS_1",
    "PLIO_1": "PLIO_1",
    "NOCOMPRESS": "NOCOMPRESS",
}
_QUANTISED = ("NONE", "NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")

# A compressed image's cards hide behind a Z in its table's header.
_Z_TO_IMAGE = {
    "ZSIMPLE": "SIMPLE",
    "ZTENSION": "XTENSION",
    "ZBITPIX": "BITPIX",
    "ZNAXIS": "NAXIS",
    "ZPCOUNT": "PCOUNT",
    "ZGCOUNT": "GCOUNT",
    "ZEXTEND": "EXTEND",
    "ZBLOCKED": "BLOCKED",
    "ZHECKSUM": "CHECKSUM",
    "ZDATASUM": "DATASUM",
}
_OF_TABLE = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|EXTEND|BLOCKED|CHECKSUM|DATASUM"
    r"|TFIELDS|THEAP|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL|CTYP|CUNI|CRPX|CRVL|CDLT|RPOS)"
    r"[1-9]\d*"
    r"|ZIMAGE|ZCMPTYPE|ZMASKCMP|ZQUANTIZ|ZDITHER0|ZBLANK|ZSCALE|ZZERO|(ZTILE|ZNAME|ZVAL)\d+)"
)
_OF_PRIMARY = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|CHECKSUM|DATASUM|EXTNAME|EXTVER"
    r"|BSCALE|BZERO|BLANK|INHERIT"
)


@dataclass(frozen=True, slots=True)
class Image:
    """How the pixels of one image HDU are stored; see `daskcal.fits.source.ImageSource`."""

    hdu: Hdu
    shape: tuple[int, int]
    bitpix: int
    bscale: float
    bzero: float
    blank: int | None
    compression: str
    tiles: TileTable | None


def is_image(hdu: Hdu) -> bool:
    """Whether the HDU is of a kind that holds an image, of whatever number of axes."""
    values = hdu.cards.values
    if hdu.index == 0:
        return bool(values.get("NAXIS")) and values.get("GROUPS") is not True
    if values.get("XTENSION") in ("IMAGE", "IUEIMAGE"):
        return bool(values.get("NAXIS"))
    return is_compressed(hdu)


def is_compressed(hdu: Hdu) -> bool:
    """Whether the HDU is a table that holds a tile-compressed image."""
    values = hdu.cards.values
    return values.get("XTENSION") in ("BINTABLE", "A3DTABLE") and values.get("ZIMAGE") is True


def is_companion(hdu: Hdu) -> bool:
    """Whether the HDU describes another image (its uncertainty, its mask, ...)."""
    return hdu.index > 0 and _COMPANION.fullmatch(hdu.name) is not None


def flat_shape(hdu: Hdu) -> tuple[int, int] | None:
    """(rows, columns) where the image has two axes longer than 1 pixel; None for others."""
    values = hdu.cards.values
    z = "Z" if is_compressed(hdu) else ""
    naxis = integer(values.get(f"{z}NAXIS")) or 0
    if not 2 <= naxis <= 999:
        return None
    axes = [integer(values.get(f"{z}NAXIS{n}")) or 0 for n in range(1, naxis + 1)]
    if min(axes) < 1 or any(axis != 1 for axis in axes[2:]):
        return None
    return axes[1], axes[0]


def describe(path: str, hdu: Hdu) -> Image:
    """How the pixels of an image HDU are stored.

    Raises
    ------
    FrameError
        ``unsupported`` for images that are not two-dimensional and unknown compressions,
        ``damaged`` for keywords that make no sense.
    """
    values = hdu.cards.values
    compression = _compression(path, hdu) if is_compressed(hdu) else ""
    shape = flat_shape(hdu)
    z = "Z" if compression else ""
    if shape is None:
        axes = [values.get(f"{z}NAXIS{n}") for n in range(1, 1 + int(values.get(f"{z}NAXIS", 0)))]
        raise FrameError(
            path,
            "unsupported",
            f"the image has the axes {axes}; a frame has two (rows and columns)",
            hdu.index,
        )
    bitpix = integer(values[f"{z}BITPIX"]) or 0
    bscale, bzero = _real(values, "BSCALE", 1.0), _real(values, "BZERO", 0.0)
    if not (math.isfinite(bscale) and math.isfinite(bzero)) or bscale == 0:
        raise FrameError(
            path, "damaged", f"BSCALE {bscale} and BZERO {bzero} cannot be applied", hdu.index
        )
    tiles = tile_table(hdu, shape, compression)
    return Image(hdu, shape, bitpix, bscale, bzero, _blank(values, bitpix), compression, tiles)


def _real(values: Mapping[str, Value], key: str, default: float) -> float:
    value = values.get(key, default)
    try:
        return float(value)
    except ValueError:
        return math.nan


def _blank(values: Mapping[str, Value], bitpix: int) -> int | None:
    """The stored value of undefined pixels; one that cannot be stored marks none."""
    blank = integer(values.get("ZBLANK", values.get("BLANK")))
    if blank is None or bitpix < 0:
        return None
    low, high = (0, 255) if bitpix == 8 else (-(1 << bitpix - 1), (1 << bitpix - 1) - 1)
    return blank if low <= blank <= high else None


def _compression(path: str, hdu: Hdu) -> str:
    """The compression, after every keyword that a decoder would trust has been checked.

    Decoders have crashed the process, or given wrong pixels in silence, on each of these.
    """
    values = hdu.cards.values

    def bad(key: str, expected: str, reason: str = "damaged") -> FrameError:
        return FrameError(path, reason, f"{key} is {values.get(key)!r}, not {expected}", hdu.index)

    def whole(key: str, low: int, high: int, default: int | None = None) -> int:
        number = integer(values.get(key, default))
        if number is None or not low <= number <= high:
            raise bad(key, f"a whole number from {low} to {high}")
        return number

    name = str(values.get("ZCMPTYPE", "")).strip().upper()
    if name not in _COMPRESSIONS:
        raise bad("ZCMPTYPE", "one of " + ", ".join(_COMPRESSIONS), "unsupported")
    if integer(values.get("ZBITPIX")) not in (8, 16, 32, 64, -32, -64):
        raise bad("ZBITPIX", "one of 8, 16, 32, 64, -32, -64")
    largest = 1 << 31
    tiles = 1
    for n in range(1, whole("ZNAXIS", 1, 999) + 1):
        axis = whole(f"ZNAXIS{n}", 1, largest)
        tile = whole(f"ZTILE{n}", 1, largest, axis if n == 1 else 1)
        tiles *= -(-axis // tile)
    rows = integer(values.get("NAXIS2"))
    if rows != tiles:
        raise FrameError(path, "damaged", f"the table has {rows} rows for {tiles} tiles", hdu.index)
    whole("PCOUNT", 0, 1 << 62, 0)
    table = whole("NAXIS1", 1, largest) * tiles
    whole("THEAP", table, max(hdu.data_size, table), table)
    if str(values.get("ZQUANTIZ", "NONE")).strip().upper() not in _QUANTISED:
        raise bad("ZQUANTIZ", "one of " + ", ".join(_QUANTISED), "unsupported")
    if "ZDITHER0" in values:
        whole("ZDITHER0", 0, 10000)
    _check_parameters(values, bad)
    return _COMPRESSIONS[name]


def _check_parameters(values: Mapping[str, Value], bad: Callable[[str, str], FrameError]) -> None:
    """The decoders' own parameters, given as pairs ZNAMEn = name, ZVALn = value."""
    accepted = {"BLOCKSIZE": (16, 32), "BYTEPIX": (1, 2, 4, 8), "SMOOTH": (0, 1)}
    for n in range(1, 1000):
        name = values.get(f"ZNAME{n}")
        if name is None:
            return
        valid = accepted.get(str(name).strip().upper())
        if valid is not None and integer(values.get(f"ZVAL{n}")) not in valid:
            raise bad(f"ZVAL{n}", f"one of {', '.join(map(str, valid))} ({name})")


def image_cards(image_hdu: Hdu, primary: Hdu) -> tuple[str, dict[str, Value]]:
    """Card images and values of an image: its own, then what it inherits of the primary HDU."""
    if is_compressed(image_hdu):
        text, values = _uncompressed_cards(image_hdu)
    else:
        text, values = image_hdu.cards.text, dict(image_hdu.cards.values)
    if primary.index == image_hdu.index or values.get("INHERIT") is False:
        return text, values
    own = {_keyword(text[at : at + CARD]) for at in range(0, len(text), CARD)} - {""}
    own -= {"COMMENT", "HISTORY", "CONTINUE"}
    inherited, keep = [], True
    for at in range(0, len(primary.cards.text), CARD):
        card = primary.cards.text[at : at + CARD]
        key = _keyword(card)
        if key != "CONTINUE":
            keep = key not in own and not _OF_PRIMARY.fullmatch(key)
        if keep:
            inherited.append(card)
    for key, value in primary.cards.values.items():
        if key not in own and not _OF_PRIMARY.fullmatch(key):
            values.setdefault(key, value)
    return text + "".join(inherited), values


def _keyword(card: str) -> str:
    if card.startswith("HIERARCH ") and "=" in card:
        return card[9:].partition("=")[0].strip().upper()
    return card[:8].rstrip()


def _uncompressed_cards(hdu: Hdu) -> tuple[str, dict[str, Value]]:
    """The header of the image that a table of compressed tiles holds."""
    cards: list[str] = []
    values: dict[str, Value] = {}
    keep = True
    for at in range(0, len(hdu.cards.text), CARD):
        card = hdu.cards.text[at : at + CARD]
        key = _keyword(card)
        if key != "CONTINUE":
            renamed = _image_keyword(key)
            made_up = key == "EXTNAME" and hdu.name == "COMPRESSED_IMAGE"
            keep = renamed is not None and not made_up
            if keep and renamed != key:
                card = f"{renamed:<8}{card[8:]}"
            if keep and renamed is not None and key in hdu.cards.values:
                values.setdefault(renamed, hdu.cards.values[key])
        if keep:
            cards.append(card)
    return "".join(cards), values


def _image_keyword(key: str) -> str | None:
    """The keyword of the image that `key` of the table stands for; None for the table's own."""
    if key in _Z_TO_IMAGE:
        return _Z_TO_IMAGE[key]
    if key.startswith("ZNAXIS") and key[6:].isdigit():
        return key[1:]
    return None if _OF_TABLE.fullmatch(key) else key
