"""Card images to values: a fast parser that no single bad card can stop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from daskcal.fits.problems import given_twice, unprintable, unreadable

CARD = 80
BLOCK = 2880
Value = bool | int | float | str

COMMENTARY = frozenset(("", "COMMENT", "HISTORY", "END"))

# One card in fixed or free format; the look-ahead pins "= " to columns 9 and 10.
# Exactly one of groups 2 to 5 takes part, so `lastindex` says what the value is.
_VALUE = (
    r" *(?:'((?:[^']|'')*)'(?=[ /]|$)"
    r"|([+-]?\d+)(?![.\dEeDd])"
    r"|([+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?)"
    r"|([TF]))? *(?:/.*)?$"
)
_FAST = re.compile(r"(?=.{8}= )(?!CONTINUE)([A-Z0-9_-]+) *=" + _VALUE)
_FREE = re.compile(r"()" + _VALUE)
_SHIFTED = re.compile(r"([A-Za-z0-9_-]{1,8}) *=")
_STANDARD = re.compile(r"[A-Z0-9_-]*")

_PRINTABLE = bytes(range(0x20, 0x7F))
_SAFE = bytes(
    code if code in _PRINTABLE else (0x20 if code == 0 else ord("?")) for code in range(256)
)


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of one header.

    Attributes
    ----------
    text : str
        80-character card images, joined, without END. Printable ASCII; cards that no FITS reader
        could parse have become COMMENT cards, so that writing them again cannot fail.
    values : dict
        Upper-case keyword to value. The first of duplicates; no commentary, no undefined values.
    problems : tuple of str
        What was wrong, one line for each card.
    """

    text: str
    values: dict[str, Value]
    problems: tuple[str, ...]


def find_end(block: bytes, start: int = 0) -> int:
    """Position of the END card in `block`, searched from `start`; -1 where there is none."""
    at = block.find(b"END", start)
    while at >= 0:
        if at % CARD == 0 and not block[at + 3 : at + 8].strip(b" \0"):
            return at
        at = block.find(b"END", at + 1)
    return -1


def parse(raw: bytes) -> Cards:
    """Parse the card images in `raw`, whose length is a multiple of 80 and which hold no END."""
    if not raw.translate(None, delete=_PRINTABLE):
        return _Parser(raw.decode("ascii")).run()
    problems = []
    for at in range(0, len(raw), CARD):
        card = raw[at : at + CARD]
        if card.translate(None, delete=_PRINTABLE):
            name = card[:8].translate(_SAFE).decode("ascii").strip()
            problems.append(unprintable(at // CARD + 1, name))
    return _Parser(raw.translate(_SAFE).decode("ascii"), problems).run()


class _Parser:
    def __init__(self, text: str, problems: list[str] | None = None) -> None:
        self.text = text
        self.values: dict[str, Value] = {}
        self.problems = problems or []
        self.replaced: dict[int, str] = {}
        self.last = ""  # the keyword that a CONTINUE card would continue

    def run(self) -> Cards:
        text, values, match = self.text, self.values, _FAST.match
        for at in range(0, len(text), CARD):
            found = match(text, at, at + CARD)
            if found is None:
                self._odd(at)
                continue
            kind = found.lastindex
            if kind == 1:
                self.last = ""
                continue
            key = found[1]
            value: Value
            if kind == 2:
                value = found[2].rstrip()
                if "'" in value:
                    value = value.replace("''", "'")
            elif kind == 3:
                value = int(found[3])
            elif kind == 4:
                value = self._float(found[4], at)
            else:
                value = found[5] == "T"
            self.last = key
            if values.setdefault(key, value) is not value:
                self._repeated(key, value)
        for key in COMMENTARY:
            values.pop(key, None)  # COMMENT cards in the form of a value
        return Cards(self._safe_text(), values, tuple(self.problems))

    def _float(self, digits: str, at: int) -> float:
        upper = digits.upper()
        if upper != digits:  # the standard knows E and D only
            card = self.text[at : at + CARD]
            self.replaced[at] = card[:10] + card[10:].replace(digits, upper, 1)
        return float(upper.replace("D", "E"))

    def _repeated(self, key: str, value: Value) -> None:
        self.last = ""
        first = self.values[key]
        if first != value and key not in COMMENTARY:
            self.problems.append(given_twice(key, first, value))

    def _odd(self, at: int) -> None:
        """A card that the fast pattern does not know."""
        card = self.text[at : at + CARD]
        name = card[:8].rstrip().upper()
        if name == "CONTINUE":
            self._continue(at, card)
            return
        last, self.last = self.last, ""
        if name in COMMENTARY:
            return
        if name == "HIERARCH" and card[8] == " " and "=" in card:
            key, _, rest = card[9:].partition("=")
            self._free(at, key.strip().upper(), rest, card[: card.index("=") + 1])
        elif shifted := _SHIFTED.match(card):
            key, rest = shifted[1].upper(), card[shifted.end() :]
            self._free(at, key, rest, f"{key:<8}= ")
        elif _STANDARD.fullmatch(name) and name == card[:8].rstrip() and name != "HIERARCH":
            self.last = last  # legal: without "= " a card is commentary, whatever its keyword
        else:
            self._bury(at, name)

    def _free(self, at: int, key: str, rest: str, start: str) -> None:
        """A card in a form of its own, put right as `start` (keyword and sign) and `rest`."""
        rest = rest.rstrip()
        found = _FREE.match(rest)
        card = (start + rest)[:CARD].ljust(CARD)
        value: Value | None
        writable = True
        if found is None:
            value, writable = _astropy_value(card)
        elif found.lastindex == 1:
            value = None  # undefined
        elif found.lastindex == 2:
            value = found[2].rstrip().replace("''", "'")
        elif found.lastindex == 5:
            value = found[5] == "T"
        else:
            digits = found[3] or found[4]
            value = _number(digits)
            card = card[: len(start)] + card[len(start) :].replace(digits, digits.upper(), 1)
        if not key or not writable:
            self._bury(at, key)
        elif card != self.text[at : at + CARD]:
            self.replaced[at] = card
        if value is None or not key:
            return
        self.last = key
        if self.values.setdefault(key, value) is not value:
            self._repeated(key, value)

    def _continue(self, at: int, card: str) -> None:
        found = _FREE.match(card[8:].rstrip())
        before = self.replaced.get(at - CARD, self.text[max(at - CARD, 0) : at])
        text = before[8:] if before.startswith("CONTINUE") else before.partition("=")[2]
        follows = text.lstrip().startswith("'") and before[:8].strip() not in COMMENTARY
        if found is None or found.lastindex != 2 or card[8:10] != "  " or not follows:
            self.last = ""
            self._bury(at, "CONTINUE")
            return
        value = self.values.get(self.last)
        if not isinstance(value, str):
            return
        joined = value.removesuffix("&") + found[2].rstrip().replace("''", "'")
        self.values[self.last] = joined.rstrip()

    def _bury(self, at: int, name: str) -> None:
        """Keep the text of a card that means nothing as COMMENT: writing it would fail."""
        card = self.text[at : at + CARD].rstrip()
        self.problems.append(unreadable(at // CARD + 1, name, card))
        pieces = [card[i : i + CARD - 8] for i in range(0, len(card), CARD - 8)]
        self.replaced[at] = "".join(f"COMMENT {piece}".ljust(CARD) for piece in pieces)

    def _safe_text(self) -> str:
        if not self.replaced:
            return self.text
        return "".join(
            self.replaced.get(at, self.text[at : at + CARD])
            for at in range(0, len(self.text), CARD)
        )


def _number(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return float(digits.upper().replace("D", "E"))


def _astropy_value(card: str) -> tuple[Value | None, bool]:
    """What astropy makes of an odd card (None where it cannot), and whether it would write it."""
    from astropy.io.fits import Card
    from astropy.io.fits.verify import VerifyError

    try:
        value = Card.fromstring(card).value
    except (VerifyError, ValueError, TypeError, IndexError, AttributeError):
        return None, False
    try:
        Card.fromstring(card).verify("exception")
        writable = True
    except VerifyError:
        writable = False
    if isinstance(value, bool | int | float):
        return value, writable
    if isinstance(value, str | complex):
        return str(value).rstrip(), writable
    return None, False


class CardComments(Mapping[str, str]):
    """The comments of cards, by keyword; of duplicates that of the first, whose value counts.

    A card is looked for when it is asked for: of a night's headers a few are.

    Parameters
    ----------
    text : str
        Card images.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get(self, key: str, default: Any = "") -> Any:
        start = f"{key:<8}="
        at = self._text.find(start)
        while at % CARD and at > 0:
            at = self._text.find(start, at + 1)
        return (at >= 0 and _commented(self._text[at : at + CARD])[1]) or default

    def __getitem__(self, key: str) -> str:
        found = self.get(key)
        if not found:
            raise KeyError(key)
        return str(found)

    def __iter__(self) -> Iterator[str]:
        cards = (self._text[at : at + CARD] for at in range(0, len(self._text), CARD))
        names = dict.fromkeys(_commented(card)[0] for card in cards)
        return (name for name in names if name and self.get(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@lru_cache(maxsize=4096)  # most cards of a night are the same in all its headers
def _commented(card: str) -> tuple[str, str]:
    """Keyword and comment of a card image; the comment is "" where there is none."""
    if card[8:10] != "= ":
        return "", ""
    rest = card[10:].lstrip()
    if rest[:1] == "'":
        end = re.match(r"'(?:[^']|'')*'", rest)
        rest = rest[end.end() :] if end else ""
    return card[:8].rstrip(), rest.partition("/")[2].strip()
