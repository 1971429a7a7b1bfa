"""What a camera, or other software, has done to frames already: they say so in their headers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from daskcal.fits import Frame, is_product
from daskcal.fits.keywords import as_text

STEPS = ("bias", "dark", "flat")
_LETTERS = dict(zip("BDF", STEPS, strict=True))  # of MaxIm DL's CALSTAT
_CARDS = {  # of IRAF's ccdproc, and switches of cameras
    "ZEROCOR": "bias",
    "BIASCOR": "bias",
    "BIASSUB": "bias",
    "DARKCOR": "dark",
    "DARKSUB": "dark",
    "AUTODARK": "dark",
    "FLATCOR": "flat",
    "FLATDIV": "flat",
}
_NO = frozenset(("", "f", "false", "no", "off", "0", "none", "omit", "perform", "skipped"))
_WAS = r"(?: frame| level| current)?(?: has been| was)? ?"
_TOLD = {
    "bias": re.compile(rf"\b(?:bias|zero){_WAS}subtract(?:ed|ion)", re.IGNORECASE),
    "dark": re.compile(
        rf"\bdark{_WAS}subtract(?:ed|ion)|\bauto ?dark\b(?!.*\boff\b)", re.IGNORECASE
    ),
    "flat": re.compile(
        r"\bflat[- ]?fielded|\bflat(?:[- ]?field)?.{0,10}\b(?:applied|corrected|divided)",
        re.IGNORECASE,
    ),
}


def processed(frame: Frame) -> str:
    """The steps that the header of a raw frame says were done to it, such as ``"bias, dark"``.

    From CALSTAT (MaxIm DL), the cards of IRAF's ccdproc and the like, and HISTORY and COMMENT.
    """
    if is_product(frame.header):
        return ""
    found = set(_of_cards(frame))
    if "HISTORY" in frame.cards or "COMMENT" in frame.cards:
        found |= set(_of_history(frame.cards))
    return ", ".join(step for step in STEPS if step in found)


def _of_cards(frame: Frame) -> Iterator[str]:
    header = frame.header
    if "CALSTAT" in header:
        for letter in as_text(header["CALSTAT"]).upper():
            if letter in _LETTERS:
                yield _LETTERS[letter]
    for keyword, step in _CARDS.items():
        if keyword in header:
            value = header[keyword]
            text = ("yes" if value else "no") if isinstance(value, bool) else as_text(value)
            if text.lower() not in _NO:
                yield step


def _of_history(cards: str) -> Iterator[str]:
    for at in range(0, len(cards), 80):
        if cards.startswith(("HISTORY", "COMMENT"), at):
            line = cards[at + 8 : at + 80]
            for step, pattern in _TOLD.items():
                if pattern.search(line):
                    yield step
