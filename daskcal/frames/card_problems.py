"""Cards that cannot be read, or contradict each other: what to say of them, once for all frames.

What is unreadable is said of every card. Of a card that is given twice it is said where the value
that is not used would have meant something else: real headers repeat cards that mean nothing here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from daskcal.errors import DaskcalWarning
from daskcal.fits import DEFAULT_KEYWORDS, CardComments, Frame, FrameValues, Keywords, normalise
from daskcal.fits.header import COMMENTARY
from daskcal.fits.problems import CardProblem, card_problem
from daskcal.frames.assembled import COORDINATES_LEFT_OUT
from daskcal.frames.instrument import Instrument
from daskcal.frames.table import header_name
from daskcal.printable import few, one_line

if TYPE_CHECKING:
    import pandas as pd

MOST = 12  # messages: one damaged file can hold hundreds of cards that mean nothing
_WORDS = {
    "imagetyp": "type",
    "exptime": "exposure time",
    "darktime": "dark time",
    "filter": "filter",
    "object": "object",
    "date_obs": "date",
    "time_obs": "date",
    "mjd_obs": "date",
    "gain": "gain",
    "rdnoise": "read noise",
    "ccd_temp": "temperature",
    "binning": "binning",
    "detector": "detector",
    "instrument": "instrument",
    "readout_mode": "readout mode",
    "unit": "unit",
}
_COLUMNS = {"time_obs": "date_obs", "mjd_obs": "date_obs"}
_PLACES = re.compile(
    r"(?:BIAS|TRIM|DATA|CCD|DET|AMP|[BCDT])SEC\w{0,2}|LTV[12]|LTM\d_\d|[XY]ORGSUBF"
)
_LEVELS = re.compile(r"SATUR\w*|SATLEVEL|(?:GT|E)?GAIN\w{1,2}|GTRON\w{1,2}|R(?:D|EA)D?NOI\w*")
_OF_PIXELS = "it says what pixels are, or where"
_ASKED = "conditions or rules of the config ask for it"
_KEYWORD = re.compile(r"[A-Z0-9_.$-]+(?: [A-Z0-9_.$-]+)*")


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said at once of all frames of which it holds."""

    what: str
    meaning: str

    def text(self, files: Sequence[str], example: str) -> str:
        where = f"{len(files)} files ({few(files)})" if len(files) > 1 else files[0]
        found = f": {example}{' in the first' if len(files) > 1 else ''}" if example else ""
        return f"{self.what} in {where}{found}{self.meaning}"


def card_messages(
    frames: Sequence[Frame],
    table: pd.DataFrame,
    names: Sequence[str],
    keywords: Keywords = DEFAULT_KEYWORDS,
    asked: Collection[str] = (),
) -> list[str]:
    """A line for each problem of cards, with the files that have it; what matters most first.

    Parameters
    ----------
    frames, table, names : sequence of Frame, DataFrame, sequence of str
        What was scanned, what is known of each (`frame_table`), and what to call its file.
    keywords : Keywords
        What the cards mean.
    asked : collection of str
        Columns of cards that count beside those (``hdr_airmass``), as conditions name them.
    """
    roles = _roles(keywords)
    found: dict[_Said, dict[str, str]] = {}
    for i, frame in enumerate(frames):
        for line in frame.problems:
            problem = card_problem(line)
            if problem is None and line != COORDINATES_LEFT_OUT:  # which is so of whole cameras
                found.setdefault(_Said(line, ""), {})[one_line(names[i])] = ""
            elif problem is not None:
                for said, example in _said(frame, table, i, problem, roles, keywords, asked):
                    found.setdefault(said, {}).setdefault(one_line(names[i]), example)
    order = sorted(found, key=lambda said: not said.meaning)
    lines = [said.text(list(found[said]), next(iter(found[said].values()))) for said in order]
    more = len(lines) - MOST
    return [*lines[:MOST], f"and {more} more cards have problems"] if more > 0 else lines


def warn_of_cards(frames: Sequence[Frame], table: pd.DataFrame, camera: Instrument) -> None:
    """One `DaskcalWarning` of all that `card_messages` says; none where that is nothing."""
    given = {name: getattr(camera, name) for name in ("gain", "rdnoise", "unit")}
    table = table.assign(**{name: value for name, value in given.items() if value is not None})
    messages = card_messages(frames, table, list(table["path"]), camera.keywords)
    if messages:
        warnings.warn("; ".join(messages), DaskcalWarning, stacklevel=4)


def lacks_card(frame: Frame, keyword: str) -> bool:
    """Whether a frame has a card that cannot be read, and so no value for its keyword."""
    found = filter(None, map(card_problem, frame.problems))
    broken = any(one.kind == "unreadable" and one.keyword == keyword for one in found)
    return broken and keyword not in frame.header


def _said(
    frame: Frame,
    table: pd.DataFrame,
    i: int,
    problem: CardProblem,
    roles: Mapping[str, str],
    keywords: Keywords,
    asked: Collection[str],
) -> Iterator[tuple[_Said, str]]:
    """What to say of one problem of frame `i`, with the card or the values; nothing of most."""
    key, role = problem.keyword, roles.get(problem.keyword, "")
    of_pixels = bool(_PLACES.fullmatch(key) or _LEVELS.fullmatch(key))
    counts = bool(role) or of_pixels or header_name(key) in asked
    if problem.kind == "unreadable":
        proper = bool(_KEYWORD.fullmatch(key)) and key != "blank"
        what = f"{key} cannot be read" if proper else "a card without a keyword cannot be read"
        meaning = _lost(frame, table, i, key, role)
        if not meaning and counts:
            meaning = f"; {_OF_PIXELS if of_pixels else _ASKED}"
        yield _Said(what, meaning), problem.found
    elif key in COMMENTARY:
        return
    elif problem.kind == "unprintable":
        value = frame.header.get(key)
        if counts and isinstance(value, str) and "?" in value:
            what = f"{key} has bytes that are not printable ASCII"
            yield _Said(what, ""), f"read as {value!r}"
    elif problem.unused is not None:
        matters = _means_more(frame, keywords, problem) if role else counts
        if matters:
            example = f"{problem.found} is used, {problem.unused!r} is not"
            yield _Said(f"{key} is given twice, with other values,", ""), example


def _lost(frame: Frame, table: pd.DataFrame, i: int, key: str, role: str) -> str:
    """Whether what a card that cannot be read would have said is known all the same."""
    if key in frame.header:
        return "; what could be read of it, or of another card of that name, is used"
    if not role:
        return ""
    value, word = table[_COLUMNS.get(role, role)].iloc[i], _WORDS[role]
    if value != value or value == "" or (role, value) == ("imagetyp", "other"):
        return f"; the {word} is not known"
    return f"; the {word} is known from elsewhere"


def _roles(keywords: Keywords) -> dict[str, str]:
    """Which value a keyword can give."""
    aliases = ((name, word) for name, words in keywords.aliases.items() for word in words)
    return {key: name for name, word in aliases for key in word.split("+")}


def _means_more(frame: Frame, keywords: Keywords, problem: CardProblem) -> bool:
    """Whether the value that is not used would have given something else than the one that is."""
    if problem.unused is None:
        return False
    comments = CardComments(frame.cards)
    used, other = (
        normalise(header, keywords, comments)
        for header in (frame.header, {**frame.header, problem.keyword: problem.unused})
    )
    return any(
        (value := getattr(other, field.name)) != getattr(used, field.name) and not _nothing(value)
        for field in fields(FrameValues)
    )


def _nothing(value: object) -> bool:
    return bool(value != value) or value in ("", "other")
