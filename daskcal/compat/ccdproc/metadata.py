"""What ccdproc writes into headers: each step leaves a card, and a keyword knows its unit."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from astropy.units import Quantity, Unit

from daskcal.errors import ArgumentError
from daskcal.strict import refuse_unknown

R = TypeVar("R", bound=CCDData)

CARD_OF = {  # a FITS keyword has 8 letters
    "ccd_process": "ccdproc",
    "create_deviation": "creatvar",
    "flat_correct": "flatcor",
    "gain_correct": "gaincor",
    "subtract_bias": "subbias",
    "subtract_dark": "subdark",
    "subtract_overscan": "suboscan",
    "trim_image": "trimim",
}
LOGGING = "add_keyword"


@dataclass
class Conf:
    """Settings that hold for all calls.

    Attributes
    ----------
    auto_logging : bool
        Whether steps leave a card where ``add_keyword`` is not given.
    """

    auto_logging: bool = True


conf = Conf()


class Keyword:
    """A header keyword with the unit of its value.

    Parameters
    ----------
    name : str
        The keyword.
    unit : astropy.units.Unit, optional
        Of a value that is a number.
    value : str, number or Quantity, optional
        A Quantity brings its own unit.

    Raises
    ------
    ArgumentError
        A number without a unit, or a text with one.

    Examples
    --------
    >>> from astropy import units as u
    >>> exposure = Keyword("exptime", unit=u.s)
    >>> exposure.value_from({"exptime": 30.0})
    <Quantity 30. s>
    """

    def __init__(self, name: str, unit: Any = None, value: Any = None) -> None:
        self._name, self._unit = name, unit
        self.value = value

    @property
    def name(self) -> str:
        """The keyword."""
        return self._name

    @property
    def unit(self) -> Any:
        """The unit of its value, None where there is none."""
        return self._unit

    @property
    def value(self) -> Any:
        """Its value: a text, or a Quantity; None where it is not known."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(value, Quantity):
            self._unit = value.unit
        elif isinstance(value, str):
            if self._unit is not None:
                raise ArgumentError(
                    f"{self.name} is in {self._unit}, and its value is the text {value!r}"
                )
        elif value is not None:
            if self._unit is None:
                raise ArgumentError(
                    f"{self.name} = {value!r} has no unit; give Keyword(..., unit=) or a Quantity"
                )
            value = value * Unit(self._unit)
        self._value = value

    def value_from(self, header: Mapping[str, Any]) -> Any:
        """The value that a header gives, which becomes its own."""
        self.value = header[self.name]
        return self.value


def logged(step: Callable[..., R]) -> Callable[..., R]:
    """Give a step ``add_keyword=``, and refuse keywords that it does not have.

    The card says the arguments as they were given; True (the default) is that card, a str a card
    without a value, a `Keyword` or dict cards of their own, and False or None none.
    """
    signature = inspect.signature(step)
    names = list(signature.parameters)

    @functools.wraps(step)
    def with_card(*args: Any, **keywords: Any) -> R:
        refuse_unknown(f"{step.__name__}()", keywords, [*names, LOGGING])
        asked = keywords.pop(LOGGING, True)
        result = step(*args, **keywords)
        if asked is True:
            if conf.auto_logging:
                given = dict(zip(names, args, strict=False)) | keywords
                _add_step(result, step.__name__, given)
        elif asked:
            _add(result, asked)
        return result

    extra = inspect.Parameter(LOGGING, inspect.Parameter.KEYWORD_ONLY, default=True)
    parameters = [*signature.parameters.values(), extra]
    with_card.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_card


def _add(ccd: CCDData, asked: Any) -> None:
    cards = asked
    if isinstance(asked, str):
        cards = {asked: None}
    elif isinstance(asked, Keyword):
        cards = {asked.name: asked.value}
    if not isinstance(cards, Mapping):
        raise ArgumentError(
            f"{LOGGING}={asked!r:.80} should be True, False, a str, Keyword or dict"
        )
    for key, value in cards.items():
        _write(ccd, key, value)


def _add_step(ccd: CCDData, name: str, given: Mapping[str, Any]) -> None:
    text = ", ".join(f"{key}={_said(value)}" for key, value in given.items()).replace("\n", "")
    _write(ccd, name, text)


def _write(ccd: CCDData, name: str, value: Any) -> None:
    """A card; one that has the name of a step stands under its short name, as ccdproc has it."""
    short = CARD_OF.get(name)
    if short is None:
        ccd.meta[name] = value
        return
    comment = "Shortened name for ccdproc command"  # ccdproc's, which scripts may look for
    key = f"HIERARCH {name.upper()}" if isinstance(ccd.meta, fits.Header) else name
    ccd.meta[key] = (short, comment)
    ccd.meta[short] = value


def _said(value: Any) -> Any:
    """An argument as the card has it: images by their type alone."""
    if isinstance(value, Quantity):
        many = not value.isscalar
    elif isinstance(value, NDData | np.ndarray):
        many = np.ndim(value.data) > 0 and len(value.data) > 1
    else:
        many = False
    return f"<{type(value).__name__}>" if many else value
