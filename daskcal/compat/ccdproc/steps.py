"""ccdproc's steps on one image: arithmetic of `CCDData`, with its units, masks and uncertainties.

Where daskcal's own steps work lazily on all frames of a night, these take one image that is in
memory. Integers are counted as float64, so that none wraps around.
"""

from __future__ import annotations

import logging
import numbers
import re
import warnings
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.units import Quantity

from daskcal.compat.ccdproc.metadata import Keyword, logged
from daskcal.errors import ArgumentError, DaskcalWarning, GeometryError, UnitError

log = logging.getLogger(__name__)

_RANGE = re.compile(r"(-?\d*)(?::(-?\d*))?(?::(-?\d+))?$")
_EXPOSURES_AGREE = 0.5  # s; more than that, and an unscaled dark is worth a warning


@logged
def subtract_overscan(
    ccd: CCDData,
    overscan: CCDData | None = None,
    overscan_axis: int | None = 1,
    fits_section: str | None = None,
    median: bool = False,
    model: Any = None,
) -> CCDData:
    """Subtract the level of the overscan, line by line.

    Parameters
    ----------
    ccd : CCDData
        The image.
    overscan : CCDData, optional
        The part of it that is overscan, such as ``ccd[:, 2055:]``.
    overscan_axis : {1, 0, None}
        1 is a level for each row, 0 one for each column; None goes along the shorter side.
    fits_section : str, optional
        The same as FITS writes it: ``"[2056:2080, :]"``.
    median : bool
        The median of each line, not the mean.
    model : astropy.modeling.Model, optional
        A linear model that is fitted to the levels.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData

    Raises
    ------
    ArgumentError, GeometryError
        Not images, neither or both of the sections, or one that is not along all lines.

    Notes
    -----
    Masked pixels of the overscan do not count, where ccdproc takes them in. The noise of the level
    is not added, as in ccdproc; ``daskcal.subtract_overscan`` adds it.
    """
    _require_ccd(ccd=ccd)
    if (overscan is None) == (fits_section is None):
        raise ArgumentError("subtract_overscan takes overscan or fits_section, and one of them")
    if fits_section is not None:
        overscan = ccd[python_slices(fits_section)]
    _require_ccd(overscan=overscan)
    assert overscan is not None
    if overscan_axis is None:
        overscan_axis = 0 if overscan.shape[1] > overscan.shape[0] else 1
    if overscan.shape[1 - overscan_axis] != ccd.shape[1 - overscan_axis]:
        raise GeometryError(
            f"subtract_overscan: an overscan of {overscan.shape} has not a level for each "
            f"{'row' if overscan_axis else 'column'} of an image of {ccd.shape}"
        )
    level = _level(overscan, overscan_axis, median)
    if model is not None:
        from astropy.modeling.fitting import LinearLSQFitter

        lines = np.arange(len(level))
        level = LinearLSQFitter()(model, lines, level)(lines)
    result = ccd.copy()
    result.data = ccd.data - np.expand_dims(level, overscan_axis)
    return result


def _level(overscan: CCDData, axis: int, median: bool) -> np.ndarray:
    if overscan.mask is None or not np.any(overscan.mask):
        return np.asarray((np.median if median else np.mean)(overscan.data, axis=axis))
    good = np.ma.array(overscan.data, mask=overscan.mask)
    return np.ma.filled((np.ma.median if median else np.ma.mean)(good, axis=axis), np.nan)


@logged
def trim_image(ccd: CCDData, fits_section: str | None = None) -> CCDData:
    """A copy of an image, or of a section of it.

    Parameters
    ----------
    ccd : CCDData
        The image, sliced already if wished: ``trim_image(ccd[:, :2048])``.
    fits_section : str, optional
        As FITS writes it: ``"[1:2048, :]"``; a reversed range (``-*``) turns the image around.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData

    Raises
    ------
    ArgumentError, GeometryError
        Not a section.
    """
    if fits_section is not None and not isinstance(fits_section, str):
        raise ArgumentError(f"fits_section={fits_section!r} should be a str")
    part = ccd[python_slices(fits_section)] if fits_section else ccd
    return part.copy()


def python_slices(text: str) -> tuple[slice, ...]:
    """The slices of a section as FITS writes it, steps and reversed ranges included."""
    inside = text.replace(" ", "")
    if not (inside.startswith("[") and inside.endswith("]")):
        raise GeometryError(f"FITS section {text!r} should look like '[1:2048, :]'")
    parts = inside[1:-1].replace("-*", "::-1").replace("*", ":").replace("::-1:", "::-").split(",")
    return tuple(_python_slice(part, text) for part in reversed(parts))


def _python_slice(part: str, text: str) -> slice:
    found = _RANGE.match(part)
    if not found:
        raise GeometryError(f"FITS section {text!r} should look like '[1:2048, :]'")
    first, last, step = (int(n) if n else None for n in found.groups())
    if found[2] is None and first is not None:  # one row or column
        last = first
    if (first is not None and first < 1) or (last is not None and last < 0):
        raise GeometryError(f"FITS section {text!r}: the first pixel of FITS is 1")
    start = None if first is None else first - 1
    if first is None or last is None or first <= last:
        return slice(start, last, step)
    return slice(start, last - 2 if last > 1 else None, -(step or 1))


@logged
def subtract_bias(ccd: CCDData, master: CCDData) -> CCDData:
    """Subtract a master bias.

    Parameters
    ----------
    ccd, master : CCDData
        Of one shape, in units of one kind.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData
        Masks are merged and uncertainties added in quadrature. One that has none counts as exact,
        as in ccdproc: `daskcal.subtract_bias` keeps the master's noise apart, as frames share it.

    Raises
    ------
    UnitError
        The units do not agree.
    """
    return _like(_minus(ccd, master, "master bias"), ccd)


@logged
def subtract_dark(
    ccd: CCDData,
    master: CCDData,
    dark_exposure: Quantity | None = None,
    data_exposure: Quantity | None = None,
    exposure_time: str | Keyword | None = None,
    exposure_unit: u.Unit | None = None,
    scale: bool = False,
) -> CCDData:
    """Subtract a master dark, scaled to the exposure of the image if wished.

    Parameters
    ----------
    ccd, master : CCDData
        Of one shape, in units of one kind.
    dark_exposure, data_exposure : Quantity, optional
        The exposures, both or none.
    exposure_time : str or Keyword, optional
        The header keyword of both, where they are not given.
    exposure_unit : Unit, optional
        Of a header keyword that is a plain number.
    scale : bool
        Whether to multiply the dark, and its uncertainty, by data over dark exposure.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData

    Raises
    ------
    ArgumentError
        Exposures that are not known, or known twice, or without a unit.
    GeometryError, UnitError
        Shapes or units do not agree.

    Warns
    -----
    DaskcalWarning
        An unscaled dark whose exposure is another by more than half a second; ccdproc is silent.
    """
    _require_ccd(ccd=ccd, master=master)
    if ccd.shape != master.shape:
        raise GeometryError(f"subtract_dark: the image is {ccd.shape}, the dark {master.shape}")
    data, dark = _exposures(ccd, master, data_exposure, dark_exposure, exposure_time, exposure_unit)
    if scale:
        return _like(_minus(ccd, master.multiply(data / dark), "master dark"), ccd)
    apart = data - dark
    if apart.unit.is_equivalent(u.s) and abs(apart) > _EXPOSURES_AGREE * u.s:
        warnings.warn(
            f"subtract_dark: a dark of {dark} is taken off an image of {data} as it is; "
            "scale=True scales it",
            DaskcalWarning,
            stacklevel=3,
        )
    return _like(_minus(ccd, master, "master dark"), ccd)


def _exposures(
    ccd: CCDData,
    master: CCDData,
    data: Quantity | None,
    dark: Quantity | None,
    keyword: str | Keyword | None,
    unit: u.Unit | None,
) -> tuple[Quantity, Quantity]:
    if keyword is not None:
        if data is not None or dark is not None:
            raise ArgumentError("subtract_dark takes exposure_time or both exposures, not both")
        data = _exposure("image", ccd, keyword, unit)
        dark = _exposure("dark", master, keyword, unit)
    if not isinstance(data, Quantity) or not isinstance(dark, Quantity):
        raise ArgumentError(
            "subtract_dark needs data_exposure and dark_exposure as Quantities, or exposure_time"
        )
    return data, dark


def _exposure(who: str, image: CCDData, keyword: str | Keyword, unit: u.Unit | None) -> Quantity:
    name = keyword.name if isinstance(keyword, Keyword) else keyword
    if name not in image.header:
        raise ArgumentError(f"subtract_dark: the {who} has no {name} in its header")
    if isinstance(keyword, Keyword):
        return keyword.value_from(image.header)
    value = image.header[name]
    if isinstance(value, Quantity):
        return value
    if unit is None:
        raise ArgumentError(f"subtract_dark: {name} has no unit; give exposure_unit")
    return value * unit


@logged
def gain_correct(ccd: CCDData, gain: Any, gain_unit: Any = None) -> CCDData:
    """Multiply an image by the gain.

    Parameters
    ----------
    ccd : CCDData
        The image.
    gain : Quantity, Keyword or float
        A Quantity in electron/adu makes electron of adu; a plain number leaves the unit.
    gain_unit : Unit, optional
        Of a plain number.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData
        Its uncertainty is multiplied too.
    """
    factor = gain
    if isinstance(gain, Keyword):
        factor = gain.value_from(ccd.header)
    elif isinstance(gain, numbers.Number) and gain_unit is not None:
        factor = gain * u.Unit(gain_unit)
    return _like(_floating(ccd).multiply(factor), ccd)


@logged
def flat_correct(
    ccd: CCDData,
    flat: CCDData,
    min_value: float | None = None,
    norm_value: float | None = None,
) -> CCDData:
    """Divide an image by a flat over its mean.

    Parameters
    ----------
    ccd, flat : CCDData
        Of one shape.
    min_value : float, optional
        Smaller values of the flat become this one, in the unit of the flat as it is given, before
        it is normalised. (`daskcal.flat_correct` compares the normalised flat.)
    norm_value : float, optional
        What of the flat becomes 1; its mean if not given.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData
        Masks are merged and uncertainties propagated.

    Raises
    ------
    ArgumentError
        `norm_value` is not positive.

    Notes
    -----
    The mean is that of pixels that are neither masked nor undefined; ccdproc takes all in, so that
    a single NaN makes all of the result NaN. Values of 0 or below divide as in ccdproc, which
    scripts take statistics of; `daskcal.flat_correct` masks them.
    """
    if norm_value is not None and not norm_value > 0:
        raise ArgumentError(f"norm_value={norm_value!r} should be positive")
    used = _floating(flat)
    if min_value is not None:
        used = used.copy()
        used.data[used.data < min_value] = min_value
    if norm_value is None:
        norm_value = _mean_of_good(used)
    if not hasattr(norm_value, "unit"):
        norm_value = norm_value * used.unit
    normed = used.divide(norm_value)
    if normed.mask is not None and np.any(normed.mask):
        normed.data[normed.mask] = 1  # masked: the value does not matter, but should not be 0
    return _like(_floating(ccd).divide(normed), ccd)


def _mean_of_good(flat: CCDData) -> Any:
    good = np.isfinite(flat.data)
    if flat.mask is not None:
        good &= ~np.asarray(flat.mask, bool)
    if good.all():
        return flat.data.mean()
    if not good.any():
        raise ArgumentError("flat_correct: no pixel of the flat is good; all are masked or NaN")
    return flat.data[good].mean()


@logged
def create_deviation(
    ccd_data: CCDData,
    gain: Quantity | None = None,
    readnoise: Quantity | None = None,
    disregard_nan: bool = False,
) -> CCDData:
    """Give an image the noise that its values have: √(gain·value + readnoise²) / gain.

    Parameters
    ----------
    ccd_data : CCDData
        The image.
    gain : Quantity, optional
        electron/adu, for an image in adu.
    readnoise : Quantity
        In electron.
    disregard_nan : bool
        Negative values have the read noise; otherwise NaN, as ccdproc has it.
        (`daskcal.create_variance` gives them the read noise.)
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData
        With a `StdDevUncertainty` in the unit of the image.

    Raises
    ------
    ArgumentError
        Not Quantities, or no read noise.
    UnitError
        Gain times image is not in the unit of the read noise.
    """
    for name, value in (("gain", gain), ("readnoise", readnoise)):
        if not isinstance(value, Quantity) and (value is not None or name == "readnoise"):
            raise ArgumentError(f"create_deviation: {name} should be a Quantity, found {value!r}")
    assert readnoise is not None
    gain = 1 * u.dimensionless_unscaled if gain is None else gain
    if gain.unit * ccd_data.unit != readnoise.unit:
        raise UnitError(
            f"create_deviation: gain in {gain.unit or 1} times an image in {ccd_data.unit} is not "
            f"a read noise in {readnoise.unit}"
        )
    signal = np.asarray(ccd_data.data * float(gain.value), dtype=np.result_type(ccd_data.data, 1.0))
    negative = signal < 0
    signal[negative] = 0 if disregard_nan else np.nan
    if negative.any() and not disregard_nan:
        log.warning("create_deviation: negative values have no deviation; disregard_nan=True")
    result = ccd_data.copy()
    deviation = np.sqrt(signal + float(readnoise.value) ** 2) / float(gain.value)
    result.uncertainty = StdDevUncertainty(deviation)
    return result


# --- what the steps share -------------------------------------------------------------------------


def _floating(ccd: CCDData) -> CCDData:
    """The image itself, or one of float64 for integers, which would wrap around."""
    if ccd.data.dtype.kind == "f":
        return ccd
    floating = ccd.copy()
    floating.data = ccd.data.astype(np.float64)
    return floating


def _minus(ccd: CCDData, master: CCDData, what: str) -> CCDData:
    _require_ccd(ccd=ccd, master=master)
    if not master.unit.is_equivalent(ccd.unit):
        raise UnitError(f"the {what} is in {master.unit} and the image in {ccd.unit}")
    return _floating(ccd).subtract(_floating(master))


def _like(result: CCDData, ccd: CCDData) -> CCDData:
    """The result with the header of the image, which arithmetic leaves out."""
    result.meta = ccd.meta.copy()
    return result


def _require_ccd(**images: Any) -> None:
    for name, image in images.items():
        if not isinstance(image, CCDData):
            raise ArgumentError(f"{name} should be CCDData, found {type(image).__name__}")
