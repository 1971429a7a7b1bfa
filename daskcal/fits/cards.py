"""One header card at a time: take it apart, make it legal FITS, put it together.

Section numbers are those of the FITS Standard 4.0. What is asked of reserved keywords beyond their
syntax is what the verifier of the FITS Support Office asks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

CARD = 80
COMMENTARY = ("COMMENT", "HISTORY", "")
Value = bool | int | float | str

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?"
NUMBER = re.compile(rf"\s*({_NUMBER})\s*", re.IGNORECASE)
_STRING = r"'(?:[^']|'')*'"
_FIELD = re.compile(
    rf" *(?:(?P<text>{_STRING})|(?P<logical>[TF])(?=[ /]|$)|(?P<number>{_NUMBER})(?=[ /]|$)"
    rf"|(?P<complex>\( *{_NUMBER} *, *{_NUMBER} *\)))? *(?:/(?P<comment>.*))?$"
)
_CONTINUED = re.compile(rf"CONTINUE  +(?P<text>{_STRING}) *(?:/(?P<comment>.*))?$")
_KEY = re.compile(r"[A-Z0-9_-]{1,8} *$")

_WCS_NUMBER = r"(?:CRPIX|CRVAL|CDELT|CROTA|CRDER|CSYER|PV)\d.*|(?:PC|CD)\d+_.*"
_RESERVED = {
    "number": re.compile(
        rf"EQUINOX|EPOCH|MJD-OBS|MJD-AVG|{_WCS_NUMBER}|(?:RESTFRE?Q|RESTWAV|OBSGEO-[XYZ]|VELOSYS"
        r"|ZSOURCE|VELANGL|LONPOLE|LATPOLE).*"
    ),
    "integer": re.compile(r"WCSAXES.?"),
    "text": re.compile(
        r"ORIGIN|AUTHOR|CREATOR|REFERENC|TELESCOP|INSTRUME|OBSERVER|OBJECT|(?:CTYPE|CUNIT|PS|CNAME)\d.*"
        r"|(?:RADESYS|RADECSYS|SPECSYS|SSYSOBS|SSYSSRC|DATE).*"
    ),
    "logical": re.compile(r"BLOCKED"),
}
# what cfitsio takes for a date: ISO (anything may follow the seconds), dd/mm/yy, or a time alone
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)"
_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"\d{{4}}-{_MONTH}-{_DAY}(?:T{_CLOCK}.*)?$|{_DAY}/{_MONTH}/\d\d$|{_CLOCK}(?:\.\d*)?$"
)


@dataclass(frozen=True, slots=True)
class Card:
    """A card and the CONTINUE cards of its text.

    `kind` is ``text``, ``number``, ``logical``, ``complex``, ``undefined``, ``commentary``, or
    ``illegal`` where the card breaks the standard. `value` is the text without its quotes, or the
    literal as it stands.
    """

    image: str
    key: str
    kind: str
    value: str
    comment: str

    @property
    def number(self) -> str | None:
        """The value as a FITS number, also where it is written as text; None where it is none."""
        if self.kind not in ("number", "text"):
            return None
        found = NUMBER.fullmatch(self.value)
        return found[1].upper() if found else None


def read_cards(cards: str) -> Iterator[Card]:
    """Take card images (80 characters each, joined) apart."""
    cards = printable(cards)
    images = [cards[i : i + CARD].ljust(CARD) for i in range(0, len(cards), CARD)]
    at = 0
    while at < len(images):
        card = _parse(images[at])
        at += 1
        while card.kind == "text" and card.value.endswith("&") and at < len(images):
            more = _CONTINUED.match(images[at])
            if not more:
                break
            text = card.value[:-1] + _unquoted(more["text"])
            comment = card.comment + (more["comment"] or "").strip()
            card = Card(card.image + images[at], card.key, "text", text, comment)
            at += 1
        yield card


def _parse(image: str) -> Card:
    key = image[:8].rstrip()
    if key in COMMENTARY:
        return Card(image, key, "commentary", image[8:].rstrip(), "")
    if key == "HIERARCH" and image[8] == " ":
        name, equals, field = image.partition("=")
        found = _FIELD.match(field)
        if equals and found and name[9:].strip():
            return _valued(image, " ".join(name.split()), found)
        return Card(image, key, "illegal", "", "")
    if key in ("CONTINUE", "END") or not _KEY.match(image[:8]):
        return Card(image, key, "illegal", "", "")
    # without "= " the standard takes it for commentary, and astropy warns at every opening
    found = _FIELD.match(image[10:]) if image[8:10] == "= " else None
    return _valued(image, key, found) if found else Card(image, key, "illegal", "", "")


def _valued(image: str, key: str, found: re.Match[str]) -> Card:
    kind = next((k for k in ("text", "logical", "number", "complex") if found[k]), "undefined")
    value = found[kind] if kind != "undefined" else ""
    comment = (found["comment"] or "").strip()
    return Card(image, key, kind, _unquoted(value) if kind == "text" else value, comment)


def _unquoted(text: str) -> str:
    # trailing blanks are not significant, leading ones are (4.2.1.1)
    return text[1:-1].replace("''", "'").rstrip()


def printable(text: str) -> str:
    """`text` with a question mark for each character that no FITS header may hold (4.1.2.2)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def legal(card: Card) -> Card:
    """The card unchanged where it is legal, else mended, else a COMMENT with its text."""
    if card.kind == "illegal":
        card = _mended(card)
    if card.kind == "commentary":
        return card
    return _typed(card)


def _mended(card: Card) -> Card:
    key, rest = card.image[:8].rstrip().upper(), card.image[8:]
    if not _KEY.match(key) or key in ("CONTINUE", "END", "HIERARCH") or not rest.startswith("="):
        return as_comment(card)
    if key in COMMENTARY:
        return _parse(key.ljust(8) + rest)
    field = rest[1:].strip()
    again = _FIELD.match(field) or _FIELD.match(field.upper() if NUMBER.match(field) else field)
    if again:  # only the keyword, the blank after "=" or a small exponent was wrong
        fresh = _valued(card.image, key, again)
        comment = field.partition("/")[2].strip() if fresh.kind != "text" else fresh.comment
        literal = fresh.value if fresh.kind != "text" else _quoted(fresh.value)
        return _rebuilt(key, literal, comment)
    if field.startswith("'"):
        closed = re.match(_STRING, field)
        if closed:  # a comment without its slash
            return _rebuilt(key, closed[0], field[closed.end() :].strip())
        field = field[1:]
    value, _, comment = field.partition(" /")
    return _rebuilt(key, _quoted(value.rstrip().rstrip("'")), comment.strip())


def _rebuilt(key: str, literal: str, comment: str) -> Card:
    (card,) = read_cards(_assembled(key, literal, comment))
    return card


def _typed(card: Card) -> Card:
    """A card of the type that its reserved keyword must have."""
    wanted = next((k for k, keys in _RESERVED.items() if keys.fullmatch(card.key)), None)
    if wanted is None:
        return card
    if wanted == "text" and card.kind != "text":
        card = _rebuilt(card.key, _quoted(card.value), card.comment)
    elif wanted in ("number", "integer"):
        number = card.number
        if number is None or (wanted == "integer" and not number.lstrip("+-").isdigit()):
            return as_comment(card)
        if card.kind != "number":
            card = _rebuilt(card.key, number, card.comment)
    elif wanted == "logical" and card.kind != "logical":
        return as_comment(card)
    return as_comment(card) if _impossible(card) else card


def _impossible(card: Card) -> bool:
    """Values that the standard forbids for the keyword."""
    if card.key.startswith("DATE"):
        return not _DATE.match(card.value)
    if card.key.startswith("CDELT") and card.number is not None:
        return float(card.number.replace("D", "E")) == 0
    if card.key.startswith(("CRDER", "CSYER")) and card.number is not None:
        return card.number.startswith("-")
    return False


def as_comment(card: Card) -> Card:
    """COMMENT cards with the text of a card that cannot stay."""
    lines = wrapped("raw card: " + " ".join(card.image.split()))
    image = "".join(f"COMMENT {line}".ljust(CARD) for line in lines)
    return Card(image, "COMMENT", "commentary", "", "")


def wrapped(text: str, width: int = 72) -> list[str]:
    """Cut text into pieces that a commentary card keeps: none but the last ends in a blank."""
    lines = []
    while len(text) > width:
        end = len(text[:width].rstrip()) or width
        lines.append(text[:end])
        text = text[end:]
    return [*lines, text]


def make_card(key: str, value: Value, comment: str = "") -> str:
    """Card image (80 characters, or more where a long text needs CONTINUE cards).

    Raises
    ------
    ValueError
        A number that is not finite: FITS cannot hold it.
    """
    if isinstance(value, str):
        return _assembled(key, _quoted(value), printable(comment))
    if isinstance(value, bool):
        return _assembled(key, "T" if value else "F", comment)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"header keyword {key} cannot hold {value}")
        return _assembled(key, repr(value).upper(), comment)
    return _assembled(key, str(value), comment)


def _quoted(text: str) -> str:
    return "'" + printable(text).replace("'", "''").ljust(8) + "'"


def _assembled(key: str, literal: str, comment: str) -> str:
    field = literal.ljust(20) if literal.startswith("'") else literal.rjust(20)
    image = f"{key:8}= {field}"
    if len(image) > CARD:
        return _continued(key, literal, comment)
    if comment:
        # a comment is shortened rather than the value
        image = f"{image} / {comment}"[:CARD] if len(image) + 3 < CARD else image
    return image.ljust(CARD)


def _continued(key: str, literal: str, comment: str) -> str:
    """A long text over several cards (4.2.1.2)."""
    text, pieces = literal[1:-1].rstrip(), []
    while text:
        end = 67
        if text[:end].replace("''", "").endswith("'"):  # not between the two of a doubled quote
            end -= 1
        pieces.append(text[:end])
        text = text[end:]
    heads = [f"{key:8}= ", *["CONTINUE  "] * (len(pieces) - 1)]
    images = [f"{h}'{p}&'" for h, p in zip(heads, pieces, strict=True)]
    images[-1] = f"{heads[-1]}'{pieces[-1]}'"
    if comment:
        images[-1] = f"{images[-1]} / {comment}"[:CARD]
    return "".join(image.ljust(CARD) for image in images)
