"""The unit of pixel values: one word for each, and a clear error where none is known."""

from __future__ import annotations

import xarray as xr

from daskcal.errors import UnitError
from daskcal.fits.units import unit_of


def unit_word(text: str, where: str) -> str:
    """The unit of raw pixels, ``adu`` or ``electron``, that the argument `where` means."""
    word = unit_of(text)
    if word not in ("adu", "electron"):
        raise UnitError(
            f"{where}={text!r} is not a unit of raw pixels; expected 'adu' or 'electron'"
        )
    return word


def counted(unit: str) -> str:
    """``adu`` or ``electron`` where `unit` means one of them, which the noise of counts is for."""
    word = unit_of(unit)
    return word if word in ("adu", "electron") else ""


def require_unit(frames: xr.Dataset, action: str) -> str:
    """The unit of ``frames.image``; raises `UnitError` where nothing says what it is."""
    unit = str(frames["image"].attrs.get("units", ""))
    if unit:
        return unit
    example = ""
    if "path" in frames.coords and frames["path"].size:
        example = f" (the first is {frames['path'].values.flat[0]})"
    raise UnitError(
        f"{action} needs the unit of the pixel values, and the frames{example} have no BUNIT; "
        "give unit='adu' to open_frames, or unit = \"adu\" under [instrument] in the config"
    )
