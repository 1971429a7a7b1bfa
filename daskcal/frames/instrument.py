"""What is known of a camera beside its headers."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from daskcal.errors import choose
from daskcal.fits import DEFAULT_KEYWORDS, Keywords


@dataclass(frozen=True, slots=True)
class Instrument:
    """A camera. What is given here goes before what a header says; None leaves it to the header.

    Attributes
    ----------
    name : str
        For people.
    unit : str or None
        Unit of raw pixels, where BUNIT does not say: ``adu`` or ``electron``.
    gain : float or None
        electron/adu.
    rdnoise : float or None
        Read noise, electron.
    saturation : float or None
        Raw pixels at or above it are saturated, adu.
    bias_level : float or None
        Bias in raw adu: only for the variance, where neither overscan nor bias is subtracted.
    hdu : int, str or None
        Which HDU holds the image; None is the first image.
    keywords : Keywords
        Which header keywords and values mean what.
    """

    name: str = ""
    unit: str | None = None
    gain: float | None = None
    rdnoise: float | None = None
    saturation: float | None = None
    bias_level: float | None = None
    hdu: int | str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS


def shipped_instruments() -> tuple[str, ...]:
    """Names of the cameras that daskcal ships, sorted."""
    files = resources.files("daskcal").joinpath("instruments").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def shipped_instrument(name: str) -> Instrument:
    """A camera that daskcal ships: ``[instrument]``, ``[keywords]`` and ``[types]`` of its config.

    Raises
    ------
    ArgumentError
        There is none of that name; the message has the nearest one.
    """
    choose("instrument", name, shipped_instruments())
    file = resources.files("daskcal").joinpath("instruments").joinpath(f"{name}.toml")
    config = tomllib.loads(file.read_text(encoding="utf-8"))
    known = {field.name for field in dataclasses.fields(Instrument)}
    values: dict[str, Any] = config.get("instrument", {})
    keywords = DEFAULT_KEYWORDS.extended(config.get("keywords"), config.get("types"))
    return Instrument(**{k: v for k, v in values.items() if k in known}, keywords=keywords)
