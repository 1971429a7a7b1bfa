"""What is known of a camera beside its headers."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from daskcal.errors import ArgumentError, choose
from daskcal.fits import DEFAULT_KEYWORDS, Keywords


@dataclass(frozen=True, slots=True)
class AmplifierSetup:
    """One amplifier of a detector, or several alike; what is not given the headers say.

    Attributes
    ----------
    name : str
        The amplifier's: EXTNAME of an HDU of its own, ``amp1`` for ``DATASEC1`` and the like. A
        glob (``"*"``, ``"Segment1?"``) stands for all that it fits. Names that no header has are
        amplifiers of their own, with a `data_section` in the one HDU.
    data_section, overscan_section : str
        The amplifier's pixels that see light and its overscan, as FITS headers write sections:
        ``"[1:1024,*]"`` is columns 1 to 1024 of all rows.
    detector_section : str
        Where the light falls on the detector, in unbinned pixels; a range that runs backwards is a
        flip, ``*`` takes the data section's own. If no amplifier has one, they lie side by side in
        the order of their data.
    readout : str
        The corner that is read first: ``"bottom left"`` and so on.
    gain, rdnoise, saturation : float or None
        electron/adu, electron, adu.
    """

    name: str
    data_section: str = ""
    overscan_section: str = ""
    detector_section: str = ""
    readout: str = ""
    gain: float | None = None
    rdnoise: float | None = None
    saturation: float | None = None


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
    amplifiers : tuple of AmplifierSetup
        What is known of each amplifier, beside the headers.
    """

    name: str = ""
    unit: str | None = None
    gain: float | None = None
    rdnoise: float | None = None
    saturation: float | None = None
    bias_level: float | None = None
    hdu: int | str | None = None
    keywords: Keywords = DEFAULT_KEYWORDS
    amplifiers: tuple[AmplifierSetup, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.keywords, Keywords):
            raise ArgumentError(
                f"Instrument: keywords={self.keywords!r} should be Keywords; "
                "daskcal.fits.DEFAULT_KEYWORDS.extended(...) makes them of such a table"
            )


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
    amplifiers = tuple(AmplifierSetup(**each) for each in values.pop("amplifiers", ()))
    chosen = {k: v for k, v in values.items() if k in known}
    return Instrument(**chosen, keywords=keywords, amplifiers=amplifiers)
