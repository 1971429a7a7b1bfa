"""What is said of a card that is not as it should be, and what such a line says, read again.

Lines, and not records, go with a frame: an index of scans keeps them, people read them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_UNREADABLE = re.compile(r"card \d+ \((.*?)\) cannot be read: (.*)", re.DOTALL)
_UNPRINTABLE = re.compile(r"card \d+ \((.*?)\) has bytes that are not printable ASCII", re.DOTALL)
_TWICE = re.compile(r"(.+?) is given twice: (.*) is used, (.*) is not", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CardProblem:
    """One line of `Frame.problems` that is about a card.

    Attributes
    ----------
    keyword : str
        As it stands in the card, which may be no keyword.
    found : str
        The card, or of one that is given twice the value that is used, as Python writes it.
    unused : bool, int, float, str or None
        The other value of a card that is given twice.
    """

    keyword: str
    kind: Literal["unreadable", "unprintable", "twice"]
    found: str = ""
    unused: bool | int | float | str | None = None


def unreadable(number: int, keyword: str, card: str) -> str:
    """Of a card that means nothing; `number` counts from 1."""
    return f"card {number} ({keyword or 'blank'}) cannot be read: {card!r}"


def unprintable(number: int, keyword: str) -> str:
    """Of a card that is read all the same, with other characters."""
    return f"card {number} ({keyword or 'blank'}) has bytes that are not printable ASCII"


def given_twice(keyword: str, used: object, unused: object) -> str:
    """Of a card that stands there again with another value."""
    return f"{keyword} is given twice: {used!r} is used, {unused!r} is not"


@lru_cache(maxsize=4096)  # a night's frames have the same ones
def card_problem(line: str) -> CardProblem | None:
    """What a line of `Frame.problems` says of a card; None for one about something else."""
    if found := _UNREADABLE.fullmatch(line):
        return CardProblem(found[1], "unreadable", found[2])
    if found := _UNPRINTABLE.fullmatch(line):
        return CardProblem(found[1], "unprintable")
    if found := _TWICE.fullmatch(line):
        try:
            return CardProblem(found[1], "twice", found[2], ast.literal_eval(found[3]))
        except (ValueError, SyntaxError):  # an infinite number, which is no value to use either
            return CardProblem(found[1], "twice", found[2])
    return None
