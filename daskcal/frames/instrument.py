"""What is known of a camera beside its headers."""

from __future__ import annotations

from dataclasses import dataclass

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
        Bias, adu: only for the variance, where neither overscan nor bias is subtracted.
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
