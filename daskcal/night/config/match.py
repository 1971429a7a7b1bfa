"""Config tables that decide which master serves a frame: rules, pins, and what is marked bad."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from daskcal.errors import nearest
from daskcal.fits.keywords import DEFAULT_KEYWORDS, bare_keyword
from daskcal.masters.rules import KINDS, KeywordRule, Kind
from daskcal.night.config.errors import Unset
from daskcal.night.config.table import NotNegative, Table, query_is_sound

FlatKind = Literal["dome", "sky", "twilight", ""]
NORMALISED_NAMES = tuple(DEFAULT_KEYWORDS.aliases)
_KEYWORD = r"[A-Za-z0-9_ +-]{1,68}"


def checked_keyword(name: str, card: str) -> str:
    """A header keyword given at `name`, without the HIERARCH that FITS tools print before it."""
    if not re.fullmatch(_KEYWORD, card):
        raise ValueError(f"{name} lists {card!r}, which is no header keyword")
    return bare_keyword(card) if card.upper().startswith("HIERARCH ") else card


class MatchKeyword(Table):
    """A header keyword that masters must share with frames, such as the angle of a rotator."""

    keyword: str = Field(
        description="Header keyword (upper case), or a normalised name (lower case).",
        examples=["ROTANGLE"],
    )
    tolerance: NotNegative = Field(
        default=0.0, description="Largest difference of its number; 0: the same number or text."
    )
    masters: Annotated[tuple[Kind, ...], Field(strict=False, min_length=1)] = Field(
        default=KINDS, description="Kinds of master that it holds for."
    )

    @field_validator("keyword")
    @classmethod
    def _keyword_can_be(cls, word: str) -> str:
        word = checked_keyword("match.keywords", word)
        if word != word.upper() and word not in NORMALISED_NAMES:
            raise ValueError(nearest(word, NORMALISED_NAMES) + "; headers' own are in upper case")
        return word

    def rule(self) -> KeywordRule:
        """The same as a rule."""
        return KeywordRule(self.keyword, self.tolerance, self.masters)


class MatchTable(Table):
    """Which properties a master must share with a frame; false switches a rule off."""

    detector: bool = Field(default=True, description="Same detector.")
    binning: bool = Field(default=True, description="Same binning.")
    shape: bool = Field(
        default=True, description="Same raw shape and window, or a master that covers it."
    )
    gain: bool = Field(default=True, description="Same gain.")
    readout_mode: bool = Field(default=True, description="Same readout mode.")
    amplifiers: bool = Field(default=True, description="Same amplifiers, in the same places.")
    filter: bool = Field(default=True, description="Flats: same filter.")
    flat_kind: Annotated[tuple[FlatKind, ...], Field(strict=False)] = Field(
        default=("dome", "sky", "twilight", ""),
        description="Flats: kinds allowed, the preferred first; '' is a flat of unknown kind.",
    )
    temperature: Annotated[NotNegative | None, Unset("none")] = Field(
        default=None,
        description="Largest difference in CCD temperature, in K, to a master, and within one.",
    )
    days: Annotated[NotNegative | None, Unset("none")] = Field(
        default=None, description="Largest difference in time, in days."
    )
    not_after: bool = Field(default=False, description="Masters no later than the frame.")
    keywords: Annotated[tuple[MatchKeyword, ...], Field(strict=False)] = Field(
        default=(), description=""
    )

    @field_validator("keywords")
    @classmethod
    def _each_once(cls, given: tuple[MatchKeyword, ...]) -> tuple[MatchKeyword, ...]:
        words = [(one.keyword, kind) for one in given for kind in one.masters]
        twice = next((word for word in words if words.count(word) > 1), None)
        if twice:
            raise ValueError(f"{twice[0]} is given twice for master {twice[1]} frames")
        return given


class Pin(Table):
    """Masters for some frames, whatever the rules say: the first that fits a frame decides."""

    when: str = Field(
        default="",
        description="Condition for the frames, written like [[classify]] when; '' fits all.",
        examples=["object == 'M67'"],
    )
    bias: str = Field(default="", description="Name of a master bias, as `daskcal plan` says it.")
    dark: str = Field(default="", description="Name of a master dark.")
    flat: str = Field(
        default="", description="Name of a master flat.", examples=["masters/flat_V.fits"]
    )

    _when_is_sound = field_validator("when")(query_is_sound)

    @model_validator(mode="after")
    def _names_a_master(self) -> Pin:
        if not (self.bias or self.dark or self.flat):
            raise ValueError("a pin needs a master: give 'bias', 'dark' or 'flat'")
        return self

    def said(self, kind: Kind) -> str:
        """The pin of one kind of master as the user wrote it."""
        when = f"when = {self.when!r}, " if self.when else ""
        return f"[[pin]] {when}{kind} = {getattr(self, kind)!r}"


class Bad(Table):
    """Frames or masters that are not to be used."""

    file: str = Field(
        description="Glob of file names, or of paths within the night; of masters, with the "
        "folder: 'masters/dark_*'.",
        examples=["bias_007.fits"],
    )
    reason: str = Field(description="Why.", examples=["light leak"])

    @model_validator(mode="after")
    def _says_why(self) -> Bad:
        for name in ("file", "reason"):
            if not getattr(self, name).strip():
                raise ValueError(f"'{name}' is empty")
        return self

    @property
    def said(self) -> str:
        """As the user wrote it."""
        return f"[[bad]] file = {self.file!r}"
