"""What every table of a night's configuration is made of: the types of values, and sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from daskcal.errors import nearest
from daskcal.fits.amplifiers import parse_section as amplifier_section
from daskcal.frames.sections import after_fits, fits_section, python_section
from daskcal.night.query import parse_query

_NO_LIMIT = (10**9, 10**9)  # shape against which a section's syntax alone is checked


def parse_section(text: str) -> tuple[Literal["header", "none", "python", "fits"], str]:
    """Split a section of the config into its form and its text.

    A bracket is read as Python reads it (rows first, 0-based, the end not included) unless the
    word ``fits`` stands before it (columns first, 1-based, the end included): ``[1:9,1:9]`` alone
    could be either, so it is never guessed.

    Returns
    -------
    form : str
        ``header`` or ``none`` (no text), ``python`` or ``fits``.
    text : str
        The bracket, for `daskcal.frames.sections`.
    """
    word = text.strip()
    if word in ("header", "none"):
        return word, ""  # type: ignore[return-value]
    bracket = after_fits(word)
    if bracket is not None:
        fits_section(bracket, _NO_LIMIT)
        return "fits", bracket
    if not word.startswith("["):
        raise ValueError(nearest(word, ("header", "none")))
    python_section(word, _NO_LIMIT)
    return "python", word


def _check_section(text: str) -> str:
    parse_section(text)
    return text


def _check_fits_section(text: str) -> str:
    if text and amplifier_section(after_fits(text) or text) is None:
        raise ValueError("a section of an amplifier looks like '[1:1024,*]'")
    return text


def query_is_sound(text: str) -> str:
    """A condition on frames as it stands; raises where it cannot be read."""
    if text:
        parse_query(text)
    return text


NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Words = Annotated[tuple[str, ...], Field(strict=False)]
Section = Annotated[str, AfterValidator(_check_section)]
FitsSection = Annotated[str, AfterValidator(_check_fits_section)]


class Table(BaseModel):
    """One table of the config: frozen, no unknown key, no silent change of type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
