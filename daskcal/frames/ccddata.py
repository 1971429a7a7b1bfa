"""Frames and masters from and to astropy's `CCDData`, for what other libraries do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, GeometryError
from daskcal.fits import DEFAULT_KEYWORDS, normalise
from daskcal.frames.masks import MASK_ATTRS, Flag
from daskcal.frames.table import COORDINATES, header_column, header_name
from daskcal.frames.units import require_unit, unit_word
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData


@strict_keywords
def from_ccddata(ccds: CCDData | Sequence[CCDData]) -> xr.Dataset:
    """Frames from one `CCDData` or several of one shape.

    Parameters
    ----------
    ccds : CCDData or sequence of CCDData
        Each becomes a frame; uncertainty becomes ``variance``, a true mask the bit ``bad``.

    Returns
    -------
    xarray.Dataset
        As `open_frames` gives, with the pixels in memory; ``path`` is ``""`` and ``hdu`` counts.

    Raises
    ------
    ArgumentError, GeometryError
        Not CCDData, or of different shapes.
    """
    from astropy.nddata import CCDData

    stack = [ccds] if isinstance(ccds, CCDData) else list(ccds)
    if not stack or not all(isinstance(ccd, CCDData) for ccd in stack):
        raise ArgumentError(f"expected CCDData or a list of them, found {ccds!r:.60}")
    shapes = {ccd.data.shape for ccd in stack}
    if len(shapes) > 1 or len(stack[0].data.shape) != 2:
        raise GeometryError(f"CCDData of shapes {sorted(shapes)}; frames have one 2-D shape")
    units = {unit_word(str(ccd.unit), "CCDData.unit") for ccd in stack}
    if len(units) > 1:
        raise ArgumentError(f"CCDData of different units: {', '.join(sorted(units))}")
    dims = ("frame", "y", "x")
    image = np.stack([ccd.data for ccd in stack])
    attrs = {"units": units.pop()}
    planes = {"image": (dims, image, attrs)}
    if all(ccd.uncertainty is not None for ccd in stack):
        planes["variance"] = (dims, np.stack([_variance(ccd) for ccd in stack]), {})
    if any(ccd.mask is not None for ccd in stack):
        planes["mask"] = (dims, np.stack([_mask(ccd) for ccd in stack]), dict(MASK_ATTRS))
    return xr.Dataset(planes, coords=_coords(stack), attrs={"steps": []})


@strict_keywords
def to_ccddata(frames: xr.Dataset) -> CCDData | list[CCDData]:
    """Frames as a list of `CCDData`, or a master as one; the pixels are computed.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` or ``image (y, x)``, of a known unit.

    Returns
    -------
    CCDData or list of CCDData
        Uncertainty is a `StdDevUncertainty` of ``variance`` and ``variance_shared`` together; a
        pixel is masked where any bit is set.

    Raises
    ------
    UnitError
        The unit of the pixels is not known.
    """
    unit = require_unit(frames, "to_ccddata")
    pixels = [v for v in ("image", "variance", "variance_shared", "mask") if v in frames]
    computed = frames[pixels].compute()
    if "frame" not in frames["image"].dims:
        return _ccd(computed, unit, str(frames.attrs.get("cards", "")))
    cards = frames["cards"].values if "cards" in frames.coords else [""] * frames.sizes["frame"]
    return [_ccd(computed.isel(frame=i), unit, str(text)) for i, text in enumerate(cards)]


def _ccd(planes: xr.Dataset, unit: str, cards: str) -> CCDData:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData, StdDevUncertainty

    uncertainty = None
    if "variance" in planes:
        total = planes["variance"].values
        if "variance_shared" in planes:
            total = total + planes["variance_shared"].values
        uncertainty = StdDevUncertainty(np.sqrt(total))
    mask = planes["mask"].values != 0 if "mask" in planes else None
    header = Header.fromstring(cards) if cards else Header()
    return CCDData(
        planes["image"].values, unit=unit, uncertainty=uncertainty, mask=mask, meta=header
    )


def _variance(ccd: CCDData) -> np.ndarray:
    from astropy.nddata import VarianceUncertainty

    return np.asarray(ccd.uncertainty.represent_as(VarianceUncertainty).array)


def _mask(ccd: CCDData) -> np.ndarray:
    mask = np.zeros(ccd.data.shape, np.uint16)
    if ccd.mask is not None:
        mask[np.broadcast_to(ccd.mask, mask.shape)] = Flag.BAD
    return mask


def _header(ccd: CCDData) -> Header:
    from astropy.io.fits import Header

    header = ccd.header if isinstance(ccd.header, Header) else Header(dict(ccd.header).items())
    header = header.copy()
    if ccd.wcs is not None:
        header.update(ccd.wcs.to_header(relax=True))
    return header


def _coords(stack: Sequence[CCDData]) -> dict[str, object]:
    headers = [_header(ccd) for ccd in stack]
    plain = [{key: value for key, value in h.items() if _plain(key, value)} for h in headers]
    values = [normalise(header, DEFAULT_KEYWORDS) for header in plain]
    n = len(stack)
    paths = np.array([""] * n, dtype=object)
    coords: dict[str, object] = {"path": ("frame", paths), "hdu": ("frame", np.arange(n))}
    for name in COORDINATES:
        column = [getattr(value, name) for value in values]
        kind = object if isinstance(column[0], str) else None
        coords[name] = ("frame", np.array(column, dtype=kind))
    for key in dict.fromkeys(key for header in plain for key in header):
        column = header_column([header.get(key) for header in plain])
        coords[header_name(key)] = ("frame", column)
    texts = [header.tostring(sep="", endcard=False, padding=False) for header in headers]
    coords["cards"] = ("frame", np.array(texts, dtype=object))
    ny, nx = stack[0].data.shape
    y0, x0 = values[0].origin_y, values[0].origin_x
    return coords | {"y": np.arange(y0, y0 + ny), "x": np.arange(x0, x0 + nx)}


def _plain(key: str, value: object) -> bool:
    return bool(key) and key not in ("COMMENT", "HISTORY") and isinstance(value, str | int | float)
