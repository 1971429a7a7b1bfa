"""The unit of pixel values: one word for each, and a clear error where none is known."""

from __future__ import annotations

import xarray as xr

from daskcal.errors import UnitError

_ADU, _ELECTRON = "adu", "electron"
ALIASES = {
    **dict.fromkeys(("adu", "adus", "dn", "count", "counts", "ct", "cts"), _ADU),
    **dict.fromkeys(("electron", "electrons", "e", "e-", "el", "elec", "photoelectron"), _ELECTRON),
}


def unit_word(text: str, where: str) -> str:
    """The word that daskcal uses for a unit, ``adu`` or ``electron``; `where` names the argument."""
    word = ALIASES.get(text.strip().lower())
    if word is None:
        raise UnitError(f"{where}={text!r} is not a unit of raw pixels; expected 'adu' or 'electron'")
    return word


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
