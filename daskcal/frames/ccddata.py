"""Frames and masters from and to astropy's `CCDData`, for what other libraries do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, GeometryError, UnitError
from daskcal.fits import DEFAULT_KEYWORDS, normalise
from daskcal.fits.header import parse
from daskcal.fits.keywords import FrameValues
from daskcal.fits.product_header import product_cards, read_history
from daskcal.frames.detector import RawWindow, detector_coords, recorded_window
from daskcal.frames.masks import MASK_ATTRS, Flag
from daskcal.frames.recovery import DIMS
from daskcal.frames.sections import Section
from daskcal.frames.table import COORDINATES, header_column, header_name
from daskcal.frames.units import require_unit, unit_word
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData
    from astropy.wcs import WCS


@strict_keywords
def from_ccddata(ccds: CCDData | Sequence[CCDData]) -> xr.Dataset:
    """Frames from one `CCDData` or several of one shape.

    Parameters
    ----------
    ccds : CCDData or sequence of CCDData
        Each becomes a frame. Uncertainty of any kind becomes ``variance``, if all have one; a true
        mask the bit ``bad``, and a pixel that is not finite ``no_data``.

    Returns
    -------
    xarray.Dataset
        As `open_frames` gives, with the pixels in memory; ``path`` is ``""`` and ``hdu`` counts.

    Raises
    ------
    ArgumentError
        Not CCDData, or an uncertainty of which no variance can be made.
    GeometryError
        Of different shapes or places on the detector, or not images.
    UnitError
        Not in adu or electron, or not all alike.

    Examples
    --------
    >>> from astropy.nddata import CCDData
    >>> frames = daskcal.from_ccddata(CCDData.read("reduced/science/n0441.fits"))
    """
    from astropy.nddata import CCDData

    stack = [ccds] if isinstance(ccds, CCDData) else list(ccds)
    if not stack or not all(isinstance(ccd, CCDData) for ccd in stack):
        raise ArgumentError(f"expected CCDData or a list of them, found {ccds!r:.60}")
    units = [_unit(ccd) for ccd in stack]
    if len(set(units)) > 1:
        raise UnitError(f"CCDData of different units: {', '.join(sorted(set(units)))}")
    return _frames(stack, units[0])


def master_of_ccddata(ccd: CCDData) -> xr.Dataset:
    """A master (y, x) from a `CCDData`, which may be dimensionless: a flat, a mask."""
    from astropy.units import dimensionless_unscaled

    unit = "" if ccd.unit in (None, dimensionless_unscaled) else _unit(ccd)
    single = _frames([ccd], unit).isel(frame=0)
    single = single.assign_coords(_recorded(single))
    facts = {str(k): v.item() for k, v in single.coords.items() if v.ndim == 0}
    del single.attrs["steps"]  # who made it did not say what was done
    return single.assign_attrs(facts)


def _recorded(master: xr.Dataset) -> dict[str, Any]:
    """Coordinates with the raw window that the file of a master says, where daskcal wrote it."""
    records = [json.loads(line) for line in read_history(master["cards"].item())]
    record = next((r["master"] for r in records if "master" in r), None)
    if record is None:
        return {}
    rows, columns = (int(master[axis].values[0]) for axis in ("y", "x"))  # as LTV says
    here = Section(rows, rows + master.sizes["y"], columns, columns + master.sizes["x"])
    return dict(detector_coords(recorded_window(record, here), here))


def _frames(stack: Sequence[CCDData], unit: str) -> xr.Dataset:
    shapes = {ccd.data.shape for ccd in stack}
    if len(shapes) > 1 or len(stack[0].data.shape) != 2:
        raise GeometryError(f"CCDData of shapes {sorted(shapes)}; frames have one 2-D shape")
    image = np.stack([np.asarray(ccd.data) for ccd in stack])
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    planes: dict[str, Any] = {"image": (DIMS, image, {"units": unit} if unit else {})}
    if all(ccd.uncertainty is not None for ccd in stack):
        planes["variance"] = (DIMS, np.stack([_variance(ccd) for ccd in stack]), {})
    undefined = ~np.isfinite(image)
    if undefined.any() or any(ccd.mask is not None for ccd in stack):
        mask = np.stack([_mask(ccd) for ccd in stack])
        mask[undefined] |= Flag.NO_DATA
        planes["mask"] = (DIMS, mask, dict(MASK_ATTRS))
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
        pixel is masked where any bit is set. The header has the raw cards that still hold, with
        the reference pixels moved as the frame was trimmed; ``wcs`` is what it says.

    Raises
    ------
    UnitError
        The unit of the pixels is not known.

    Examples
    --------
    >>> ccds = daskcal.to_ccddata(science)
    >>> ccds[0].unit
    Unit("adu")
    """
    unit = require_unit(frames, "to_ccddata")
    pixels = [v for v in ("image", "variance", "variance_shared", "mask") if v in frames]
    computed = frames[pixels].compute()
    if "frame" not in frames["image"].dims:
        return _ccd(computed.transpose("y", "x"), unit, str(frames.attrs.get("cards", "")))
    computed = computed.transpose(*DIMS)
    cards = frames["cards"].values if "cards" in frames.coords else [""] * frames.sizes["frame"]
    return [_ccd(computed.isel(frame=i), unit, str(text)) for i, text in enumerate(cards)]


def _ccd(planes: xr.Dataset, unit: str, cards: str) -> CCDData:
    from astropy.nddata import CCDData, StdDevUncertainty

    uncertainty = None
    if "variance" in planes:
        total = planes["variance"].values
        if "variance_shared" in planes:
            total = total + planes["variance_shared"].values
        uncertainty = StdDevUncertainty(np.sqrt(total))
    header = _product_header(planes, unit, cards)
    return CCDData(
        planes["image"].values,
        unit=unit,
        uncertainty=uncertainty,
        mask=planes["mask"].values != 0 if "mask" in planes else None,
        meta=header,
        wcs=_wcs(header),
    )


def _product_header(planes: xr.Dataset, unit: str, cards: str) -> Header:
    """The raw cards that still hold, with reference pixels where the trim left them."""
    from astropy.io.fits import Header

    if not cards:
        return Header()
    raw = normalise(parse(cards.encode("ascii", "replace")).values)
    first = [int(planes[axis].values[0]) if axis in planes.coords else 0 for axis in ("y", "x")]
    shift = (first[0] - raw.origin_y, first[1] - raw.origin_x)
    text = product_cards(cards, bunit=unit, shift=shift, origin=(first[0], first[1]))
    return Header.fromstring(text)


def _wcs(header: Header) -> WCS | None:
    from astropy.wcs import WCS

    if "CTYPE1" not in header:
        return None
    with warnings.catch_warnings():  # of old keywords, which are right all the same
        warnings.simplefilter("ignore")
        try:
            return WCS(header)
        except (ValueError, KeyError, MemoryError):
            return None  # cards that contradict each other; they are in the header still


def _unit(ccd: CCDData) -> str:
    text = "dimensionless" if ccd.unit is None else str(ccd.unit)
    return unit_word(text or "dimensionless", "CCDData.unit")


def _variance(ccd: CCDData) -> np.ndarray:
    from astropy.nddata import VarianceUncertainty

    kind = type(ccd.uncertainty).__name__
    try:
        with np.errstate(divide="ignore"):  # an inverse variance of 0 is an infinite variance
            return np.asarray(ccd.uncertainty.represent_as(VarianceUncertainty).array)
    except TypeError:
        raise ArgumentError(
            f"no variance can be made of a {kind}; give a StdDevUncertainty, or None"
        ) from None


def _mask(ccd: CCDData) -> np.ndarray:
    mask = np.zeros(ccd.data.shape, np.uint16)
    if ccd.mask is not None:
        mask[np.broadcast_to(np.asarray(ccd.mask) != 0, mask.shape)] = Flag.BAD
    return mask


# --- headers --------------------------------------------------------------------------------------


def _header(ccd: CCDData) -> Header:
    header = _fits_header(ccd.header)
    if ccd.wcs is not None and hasattr(ccd.wcs, "to_header"):
        header.update(ccd.wcs.to_header(relax=True))
    return header


def _fits_header(given: Mapping[str, Any]) -> Header:
    """A FITS header; of a dict, what FITS can hold."""
    from astropy.io.fits import Header

    if isinstance(given, Header):
        return given.copy()
    header = Header()
    for key, value in given.items():
        with warnings.catch_warnings():  # that a long keyword becomes a HIERARCH card
            warnings.simplefilter("ignore")
            try:
                header[str(key)] = value
            except (ValueError, TypeError):
                continue  # lists, texts that are not ASCII
    return header


def _values(header: Header) -> dict[str, Any]:
    """Keywords and values as `open_frames` has them."""
    plain: dict[str, Any] = {}
    for card in header.cards:
        key, value = card.keyword, card.value
        value = value.item() if isinstance(value, np.generic) else value
        if key and key not in ("COMMENT", "HISTORY") and isinstance(value, str | int | float):
            plain.setdefault(key.upper(), value)
    return plain


def _coords(stack: Sequence[CCDData]) -> dict[str, Any]:
    headers = [_header(ccd) for ccd in stack]
    plain = [_values(header) for header in headers]
    comments = [{card.keyword: card.comment for card in header.cards} for header in headers]
    values = [
        normalise(header, DEFAULT_KEYWORDS, said)
        for header, said in zip(plain, comments, strict=True)
    ]
    n = len(stack)
    paths = np.array([""] * n, dtype=object)
    coords: dict[str, Any] = {"path": ("frame", paths), "hdu": ("frame", np.arange(n))}
    for name in COORDINATES:
        column = [getattr(value, name) for value in values]
        kind = object if isinstance(column[0], str) else None
        coords[name] = ("frame", np.array(column, dtype=kind))
    for key in dict.fromkeys(key for header in plain for key in header):
        coords[header_name(key)] = ("frame", header_column([h.get(key) for h in plain]))
    texts = [header.tostring(sep="", endcard=False, padding=False) for header in headers]
    coords["cards"] = ("frame", np.array(texts, dtype=object))
    return coords | detector_coords(_window(values, stack[0].data.shape))


def _window(values: Sequence[FrameValues], shape: tuple[int, int]) -> RawWindow:
    origins = {(value.origin_y, value.origin_x) for value in values}
    if len(origins) > 1:
        raise GeometryError(
            f"CCDData from different places on the detector: they begin at {sorted(origins)}"
        )
    whole = Section(0, shape[0], 0, shape[1]).shifted(values[0].origin_y, values[0].origin_x)
    return RawWindow(whole, all(value.origin_known for value in values))
