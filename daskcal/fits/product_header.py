"""The header of a product: the raw cards that still hold, and what daskcal did."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from daskcal.fits.cards import CARD, Card, Value, as_comment, legal, make_card, read_cards, wrapped

# layout of the raw HDU, tile compression included; sections and statistics of the raw array
_DROPPED = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BLOCKED|EXTNAME|EXTVER|EXTLEVEL"
    r"|INHERIT|BUNIT|BZERO|BSCALE|BLANK|DATAMIN|DATAMAX|CHECKSUM|DATASUM|LONGSTRN|END|DASKKEY"
    r"|BIASSEC\d*|BIAS\d+|TRIMSEC\d*|TRIM\d+|DATASEC\d*|[BTD]SEC\d+"
    r"|TFIELDS|THEAP|T(?:BCOL|FORM|SCAL|ZERO|NULL|TYPE|UNIT|DISP|DIM|CTYP|CUNI|CRVL|CDLT|CRPX|CROT)\d+"
    r"|P(?:TYPE|SCAL|ZERO)\d+"
    r"|ZIMAGE|ZTABLE|ZCMPTYPE|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZNAME\d+|ZVAL\d+|ZMASKCMP|ZQUANTIZ|ZDITHER0"
    r"|ZSCALE|ZZERO|ZBLANK|ZSIMPLE|ZTENSION|ZEXTEND|ZBLOCKED|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM"
)
_WHOLE_FRAME = re.compile(r"(?:CCD|DET|AMP)SEC\d*")
_GAIN = re.compile(r"E?GAIN|AGAIN_\d+")
_CRPIX = re.compile(r"CRPIX([12])[A-Z]?")
_WCS = re.compile(
    r"(?:CRPIX|CRVAL|CDELT|CROTA|CTYPE|CUNIT|CNAME|CRDER|CSYER|PV|PS)(\d+).*|(?:PC|CD)(\d+)_(\d+).*"
)
PREFIX = "daskcal: "
Fact = tuple[str, Value | None, str]


def product_cards(
    cards: str,
    *,
    bunit: str,
    shift: tuple[int, int] = (0, 0),
    origin: tuple[int, int] | None = None,
    facts: Sequence[Fact] = (),
    history: Sequence[str] = (),
    gain_factor: float | None = None,
) -> str:
    """Card images of a product's primary HDU, without those that describe its array.

    Parameters
    ----------
    cards : str
        Raw card images, 80 characters each. Those that still hold are kept byte for byte; illegal
        ones are mended, or kept as COMMENT.
    bunit : str
        Unit of the pixel values; no BUNIT where empty.
    shift : tuple of int
        How many rows and columns were cut before the first that was kept.
    origin : tuple of int, optional
        Detector coordinates (0-based) of the first row and column, written as LTV2 and LTV1 where
        the raw header has none; `shift` by default.
    facts : sequence of (keyword, value, comment)
        New cards; each replaces the raw cards of its keyword. None and NaN are left out.
    history : sequence of str
        Lines for HISTORY, each JSON; `read_history` gives them back.
    gain_factor : float, optional
        What the pixel values were multiplied by (electron/adu): gains become 1, SATURATE follows.

    Returns
    -------
    str
        Card images, joined.
    """
    known = [
        (key, value, comment)
        for key, value, comment in facts
        if value is not None and value == value  # NaN differs from itself
    ]
    replaced = {key for key, _, _ in known}
    kept = [
        legal(card)
        for card in read_cards(cards)
        if not _DROPPED.fullmatch(card.image[:8].rstrip().upper()) and card.key not in replaced
    ]
    if any(shift):
        kept = [card for card in kept if not _WHOLE_FRAME.fullmatch(card.key)]
    if gain_factor is not None:
        kept = [_gained(card, gain_factor) for card in kept]
    kept = _consistent_wcs(kept)
    images = [card.image for card in _shifted(kept, shift, origin or shift)]
    if bunit:
        images.append(make_card("BUNIT", bunit, "unit of the pixel values"))
    images += [make_card(key, value, comment) for key, value, comment in known]
    images += history_cards(history)
    if any(len(image) > CARD and "CONTINUE" in image for image in images):
        images.insert(0, make_card("LONGSTRN", "OGIP 1.0", "long texts use CONTINUE cards"))
    return "".join(images)


def moved_reference(cards: str, shift: tuple[int, int]) -> str:
    """Card images whose reference pixels (CRPIX) lie `shift` rows and columns further on."""
    cut = (-shift[0], -shift[1])
    moved = _shifted(list(read_cards(cards)), cut, (0, 0))
    return "".join(card.image for card in moved if not re.fullmatch("LT[VM].*", card.key))


def _gained(card: Card, factor: float) -> Card:
    number = card.number
    if number is None:
        return card
    old = float(number.replace("D", "E"))
    if _GAIN.fullmatch(card.key) and not _is_setting(old, card.comment):
        return _changed(card, "1.0", f"applied; was {number}")
    if card.key == "SATURATE":
        return _changed(card, repr(old * factor).upper(), card.comment)
    return card


def _is_setting(gain: float, comment: str) -> bool:
    """A camera's gain setting, not electron/adu."""
    return not 0.05 <= gain <= 50 or re.search(r"index|setting", comment, re.IGNORECASE) is not None


def _changed(card: Card, literal: str, comment: str) -> Card:
    image = f"{card.key:8}= {literal:>20}" + (f" / {comment}" if comment else "")
    return Card(image[:CARD].ljust(CARD), card.key, "number", literal, comment)


# --- world coordinates --------------------------------------------------------------------------


def _consistent_wcs(cards: list[Card]) -> list[Card]:
    """Drop what contradicts the rest, and put WCSAXES where it must stand.

    PCi_j stands before CDi_j and CROTA2, as in WCSLIB (wcs.h: altlin); indices end at WCSAXES, and
    WCSAXES comes before the other keywords (FITS Standard 4.0, 8.2).
    """
    has_pc = any(re.fullmatch(r"PC\d+_\d+", card.key) for card in cards)
    beaten = re.compile(r"CD\d+_\d+|CROTA2") if has_pc else None
    counts = [int(card.value) for card in cards if card.key.startswith("WCSAXES")]
    axes = range(1, max(counts) + 1) if counts else None
    kept = []
    for card in cards:
        found = _WCS.fullmatch(card.key)
        outside = (
            axes is not None and found and any(int(i) not in axes for i in found.groups() if i)
        )
        lost = outside or (beaten and beaten.fullmatch(card.key))
        kept.append(as_comment(card) if lost else card)
    first = next((i for i, card in enumerate(kept) if _WCS.fullmatch(card.key)), len(kept))
    for i in range(first, len(kept)):
        if kept[i].key.startswith("WCSAXES"):
            kept.insert(first, kept.pop(i))
    return kept


def _shifted(cards: list[Card], shift: tuple[int, int], origin: tuple[int, int]) -> Iterator[Card]:
    """Move the reference pixels, so that each pixel keeps its place on the sky and the detector."""
    by_axis = {"1": shift[1], "2": shift[0]}
    seen = {card.key: card for card in cards}
    for card in cards:
        number = card.number
        axis = card.key[3:4] if card.key in ("LTV1", "LTV2") else ""
        if found := _CRPIX.fullmatch(card.key):
            axis = found[1]
        if number is None:
            yield card
        elif axis and (by_axis[axis] or card.kind == "text"):
            yield _changed(card, _minus(number, by_axis[axis]), card.comment)
        elif card.key in ("XORGSUBF", "YORGSUBF") and by_axis["12"["XY".index(card.key[0])]]:
            yield _changed(
                card, _minus(number, -by_axis["12"["XY".index(card.key[0])]]), card.comment
            )
        else:
            yield card
    yield from _new_references(seen, by_axis, origin)


def _new_references(
    seen: Mapping[str, Card], by_axis: dict[str, int], origin: tuple[int, int]
) -> Iterator[Card]:
    for axis, cut in by_axis.items():
        # a WCS without CRPIX has it at 0 (FITS Standard 4.0, 8.2)
        if cut and f"CRPIX{axis}" not in seen and f"CRVAL{axis}" in seen:
            yield from read_cards(make_card(f"CRPIX{axis}", float(-cut), "reference pixel"))
        if f"LTV{axis}" not in seen:
            text = "minus the detector pixel of the first"
            word, first = ("column", origin[1]) if axis == "1" else ("row", origin[0])
            shift = _binned_centre(seen.get(f"LTM{axis}_{axis}")) - first
            yield from read_cards(make_card(f"LTV{axis}", shift, f"{text} {word}"))
        if f"LTM{axis}_{axis}" not in seen:
            yield from read_cards(make_card(f"LTM{axis}_{axis}", 1.0, "pixels per detector pixel"))


def _binned_centre(scale: Card | None) -> float:
    """LTV of pixels that begin with the detector's: their centre is not that of a binned one."""
    number = None if scale is None else scale.number
    factor = 1.0 if number is None else float(number.replace("D", "E"))
    return 0.5 - 0.5 * factor if factor > 0 else 0.0


def _minus(number: str, cut: int) -> str:
    """Exact decimal arithmetic: no digit of the raw value changes but by the cut."""
    value = Decimal(number.replace("D", "E")) - cut
    text = str(value).upper()
    return text if any(c in text for c in ".E") else f"{text}.0" if "." in number else text


# --- what was done ------------------------------------------------------------------------------


def history_cards(lines: Sequence[str]) -> list[str]:
    """HISTORY cards, each starting ``daskcal: ``, of lines of JSON."""
    cards = []
    for line in lines:
        text = line if line.isascii() and line.isprintable() else json.dumps(json.loads(line))
        cards += [
            f"HISTORY {PREFIX}{piece}".ljust(CARD) for piece in wrapped(text, 72 - len(PREFIX))
        ]
    return cards


def read_history(cards: str) -> list[str]:
    """The lines of JSON that `history_cards` wrote, in order."""
    mark = f"HISTORY {PREFIX}"
    images = (cards[i : i + CARD] for i in range(0, len(cards), CARD))
    text = "".join(i[len(mark) :].rstrip() for i in images if i.startswith(mark))
    lines, decode = [], json.JSONDecoder().raw_decode
    while text:
        try:
            _, end = decode(text)
        except json.JSONDecodeError:
            break  # someone else's line: what follows cannot be told apart
        lines.append(text[:end])
        text = text[end:].lstrip()
    return lines
