"""All of ccdproc's steps on one image, in its order."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData
from astropy.units import Quantity

from daskcal.compat.ccdproc.metadata import Keyword, logged
from daskcal.compat.ccdproc.steps import (
    create_deviation,
    flat_correct,
    gain_correct,
    subtract_bias,
    subtract_dark,
    subtract_overscan,
    trim_image,
)
from daskcal.errors import ArgumentError


@logged
def ccd_process(
    ccd: CCDData,
    oscan: CCDData | str | None = None,
    trim: str | None = None,
    error: bool = False,
    master_bias: CCDData | None = None,
    dark_frame: CCDData | None = None,
    master_flat: CCDData | None = None,
    bad_pixel_mask: np.ndarray | None = None,
    gain: Quantity | None = None,
    readnoise: Quantity | None = None,
    oscan_median: bool = True,
    oscan_model: Any = None,
    min_value: float | None = None,
    dark_exposure: Quantity | None = None,
    data_exposure: Quantity | None = None,
    exposure_key: str | Keyword | None = None,
    exposure_unit: u.Unit | None = None,
    dark_scale: bool = False,
    gain_corrected: bool = True,
) -> CCDData:
    """The steps that are given, in ccdproc's order.

    Overscan, trim, deviation, mask, gain, bias, dark, flat; the gain last where the masters are not
    in electron (``gain_corrected=False``).

    Parameters
    ----------
    ccd : CCDData
        The image.
    oscan : CCDData or str, optional
        `subtract_overscan`: its part that is overscan, or the section as FITS writes it, with
        ``median=oscan_median`` and ``model=oscan_model``.
    trim : str, optional
        `trim_image`: the section as FITS writes it.
    error : bool
        `create_deviation`, of `gain` and `readnoise`.
    master_bias, dark_frame, master_flat : CCDData, optional
        `subtract_bias`, `subtract_dark` and `flat_correct`.
    bad_pixel_mask : ndarray, optional
        Bad pixels are not 0. It is merged with the mask of the image, which ccdproc forgets.
    gain, readnoise : Quantity, optional
        In electron/adu and electron.
    oscan_median, oscan_model, min_value
        Arguments of the steps.
    dark_exposure, data_exposure, exposure_key, exposure_unit, dark_scale
        Of `subtract_dark`.
    gain_corrected : bool
        Whether the masters were multiplied by the gain.
    add_keyword : bool, str, Keyword or dict
        What is written into the header.

    Returns
    -------
    CCDData

    Raises
    ------
    ArgumentError
        An argument of the wrong kind; `error` without gain and read noise.
    """
    _require_kinds(
        oscan=(oscan, CCDData, str),
        trim=(trim, str),
        bad_pixel_mask=(bad_pixel_mask, np.ndarray),
        gain=(gain, Quantity),
        master_bias=(master_bias, CCDData),
        dark_frame=(dark_frame, CCDData),
        master_flat=(master_flat, CCDData),
    )
    if error and (gain is None or readnoise is None):
        raise ArgumentError("ccd_process: error=True needs gain and readnoise")
    done = ccd.copy()
    how = {"median": oscan_median, "model": oscan_model}
    if isinstance(oscan, CCDData):
        done = subtract_overscan(done, overscan=oscan, **how)
    elif oscan is not None:
        done = subtract_overscan(done, fits_section=oscan, **how)
    if trim is not None:
        done = trim_image(done, fits_section=trim)
    if error:
        done = create_deviation(done, gain=gain, readnoise=readnoise)
    if bad_pixel_mask is not None:
        bad = bad_pixel_mask != 0
        done.mask = bad if done.mask is None else bad | done.mask
    if gain is not None and gain_corrected:
        done = gain_correct(done, gain)
    if master_bias is not None:
        done = subtract_bias(done, master_bias)
    if dark_frame is not None:
        done = subtract_dark(
            done,
            dark_frame,
            dark_exposure=dark_exposure,
            data_exposure=data_exposure,
            exposure_time=exposure_key,
            exposure_unit=exposure_unit,
            scale=dark_scale,
        )
    if master_flat is not None:
        done = flat_correct(done, master_flat, min_value=min_value)
    if gain is not None and not gain_corrected:
        done = gain_correct(done, gain)
    return done


def _require_kinds(**given: tuple[Any, ...]) -> None:
    for name, (value, *kinds) in given.items():
        if value is not None and not isinstance(value, tuple(kinds)):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ArgumentError(f"ccd_process: {name} should be {names}, found {value!r:.60}")
