"""Bad pixels and cosmic rays: ccdproc's arguments for daskcal's functions and astroscrappy's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.units import Quantity

from daskcal.errors import ArgumentError, DaskcalWarning, GeometryError, UnitError
from daskcal.strict import strict_keywords


@strict_keywords
def ccdmask(
    ratio: CCDData,
    findbadcolumns: bool = False,
    byblocks: bool = False,
    ncmed: int = 7,
    nlmed: int = 7,
    ncsig: int = 15,
    nlsig: int = 15,
    lsigma: float = 9,
    hsigma: float = 9,
    ngood: int = 5,
) -> np.ndarray:
    """Find bad pixels in a ratio of two flats: `daskcal.ccdmask`.

    Parameters
    ----------
    ratio : CCDData
        Of rows and columns; its unit does not matter.
    findbadcolumns, byblocks, ncmed, nlmed, ncsig, nlsig, lsigma, hsigma, ngood
        As there.

    Returns
    -------
    ndarray of bool
        True where a pixel is bad. One that has no value is, with `byblocks` too.

    Raises
    ------
    ArgumentError
        Not an image, or a number that cannot be used.
    """
    from daskcal.calibration import ccdmask as find

    if not isinstance(ratio, CCDData) or np.ndim(ratio.data) != 2:
        raise ArgumentError(f"ccdmask: ratio should be 2-D CCDData, found {ratio!r:.60}")
    found = find(
        CCDData(ratio.data, unit=u.dimensionless_unscaled),
        findbadcolumns=findbadcolumns,
        byblocks=byblocks,
        ncmed=ncmed,
        nlmed=nlmed,
        ncsig=ncsig,
        nlsig=nlsig,
        lsigma=lsigma,
        hsigma=hsigma,
        ngood=ngood,
    )
    return np.asarray(found["image"].values != 0)


@strict_keywords
def cosmicray_median(
    ccd: CCDData | np.ndarray,
    error_image: float | np.ndarray | None = None,
    thresh: float = 5,
    mbox: int = 11,
    gbox: int = 0,
    rbox: int = 0,
) -> Any:
    """Find cosmic rays as pixels far above the median around them: `daskcal.cosmicray_median`.

    Parameters
    ----------
    ccd : CCDData or ndarray
        The image.
    error_image : float or ndarray, optional
        σ of its pixels; if not given the uncertainty of CCDData, or the scatter of all pixels where
        there is none (ccdproc fails for CCDData).
    thresh, mbox, gbox, rbox
        As there.

    Returns
    -------
    CCDData
        With the rays in its mask, and replaced if `rbox` is given; of an array the array and a mask
        of the rays.

    Raises
    ------
    ArgumentError, GeometryError
        Not an image, or an argument that cannot be used.
    """
    from daskcal.calibration import cosmicray_median as find
    from daskcal.frames.ccddata import from_ccddata

    data = _pixels(ccd)
    if error_image is None and isinstance(ccd, CCDData) and ccd.uncertainty is not None:
        error_image = ccd.uncertainty.represent_as(StdDevUncertainty).array
    plain = CCDData(data, unit="adu")
    error: float | None = None
    if isinstance(error_image, np.ndarray):
        if error_image.shape != data.shape:
            raise GeometryError(
                f"error_image is {error_image.shape}, and the image is {data.shape}"
            )
        plain.uncertainty = StdDevUncertainty(error_image)
    elif error_image is not None:
        error = float(error_image)
    found = find(
        from_ccddata(plain), error_image=error, thresh=thresh, mbox=mbox, gbox=gbox, rbox=rbox
    ).compute()
    rays = np.asarray(found["mask"].values[0] != 0)
    cleaned = np.where(rays, found["image"].values[0], data) if rbox else data.copy()
    if not isinstance(ccd, CCDData):
        return cleaned, rays
    return _with_rays(ccd, cleaned, rays)


@strict_keywords
def cosmicray_lacosmic(
    ccd: CCDData | np.ndarray,
    sigclip: float = 4.5,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
    gain: float | Quantity = 1.0,
    readnoise: float | Quantity = 6.5,
    satlevel: float = 65535.0,
    pssl: float = 0.0,
    niter: int = 4,
    sepmed: bool = True,
    cleantype: str = "meanmask",
    fsmode: str = "median",
    psfmodel: str = "gauss",
    psffwhm: float = 2.5,
    psfsize: int = 7,
    psfk: np.ndarray | None = None,
    psfbeta: float = 4.765,
    verbose: bool = False,
    gain_apply: bool = True,
    inbkg: np.ndarray | None = None,
    invar: np.ndarray | None = None,
) -> Any:
    """Find cosmic rays by L.A.Cosmic, as astroscrappy has it, and replace them.

    Parameters
    ----------
    ccd : CCDData or ndarray
        The image. What is masked is not looked at.
    gain, readnoise : float or Quantity
        Plain numbers are electron/adu and electron.
    pssl : float
        Sky that was subtracted; ccdproc gives it up in 3.0 for `inbkg`.
    gain_apply : bool
        Whether the result is multiplied by the gain.
    inbkg, invar : ndarray, optional
        A background to take off while looking, and the variance, in place of the noise model.
    sigclip, sigfrac, objlim, satlevel, niter, sepmed, cleantype, fsmode, psfmodel, psffwhm, \
psfsize, psfk, psfbeta, verbose
        As for ``astroscrappy.detect_cosmics``.

    Returns
    -------
    CCDData
        With the rays replaced, and in its mask; of an array the array and a mask of the rays.

    Raises
    ------
    ArgumentError
        `pssl` with `inbkg` or `invar`.
    UnitError
        Gain times image is not in the unit of the read noise.

    Notes
    -----
    With `gain_apply` the uncertainty is multiplied by the gain as well, and without it the unit
    stays; ccdproc 2.5 leaves the uncertainty, and names the unit as if the gain were applied.
    """
    from astroscrappy import detect_cosmics

    data = _pixels(ccd)
    gain = _quantity(gain, u.electron / u.adu)
    readnoise = _quantity(readnoise, u.electron)
    if isinstance(ccd, CCDData):
        gain = _checked_gain(ccd, gain, readnoise)
    if pssl and (inbkg is not None or invar is not None):
        raise ArgumentError("cosmicray_lacosmic takes pssl, or inbkg and invar, not both")
    rays, cleaned = detect_cosmics(
        data + pssl,
        inmask=ccd.mask if isinstance(ccd, CCDData) else None,
        gain=float(gain.value),
        readnoise=float(readnoise.value),
        sigclip=sigclip,
        sigfrac=sigfrac,
        objlim=objlim,
        satlevel=satlevel,
        niter=niter,
        sepmed=sepmed,
        cleantype=cleantype,
        fsmode=fsmode,
        psfmodel=psfmodel,
        psffwhm=psffwhm,
        psfsize=psfsize,
        psfk=psfk,
        psfbeta=psfbeta,
        verbose=verbose,
        inbkg=inbkg,
        invar=invar,
    )
    cleaned = cleaned - pssl
    scaled = gain_apply and gain.value != 1
    if scaled:
        cleaned = cleaned * gain.value
    if not isinstance(ccd, CCDData):
        return cleaned, rays
    found = _with_rays(ccd, cleaned, rays)
    if gain_apply:
        found.unit = ccd.unit * gain.unit
        if ccd.uncertainty is not None and scaled:
            sigma = ccd.multiply(gain).uncertainty
            sigma.unit = None  # that of the image
            found.uncertainty = sigma
    return found


def _checked_gain(ccd: CCDData, gain: Quantity, readnoise: Quantity) -> Quantity:
    """The gain in a unit that suits the image."""
    in_electron = ccd.unit.is_equivalent(u.electron)
    if in_electron and gain.value != 1:
        warnings.warn(
            f"cosmicray_lacosmic: the image is in electron, and gain={gain.value} is applied again",
            DaskcalWarning,
            stacklevel=4,
        )
        return gain
    if in_electron and readnoise.unit == u.electron:
        return gain.value * u.one
    if not (gain.unit * ccd.unit).is_equivalent(readnoise.unit):
        raise UnitError(
            f"cosmicray_lacosmic: a gain in {gain.unit} times an image in {ccd.unit} is not a read "
            f"noise in {readnoise.unit}"
        )
    return gain


def _quantity(value: float | Quantity, unit: u.Unit) -> Quantity:
    return value if isinstance(value, Quantity) else value * unit


def _pixels(ccd: Any) -> np.ndarray:
    if not isinstance(ccd, CCDData | np.ndarray):
        raise ArgumentError(f"expected CCDData or an array, found {type(ccd).__name__}")
    data = np.asarray(ccd.data if isinstance(ccd, CCDData) else ccd)
    return data if data.dtype.kind == "f" else data.astype(np.float64)


def _with_rays(ccd: CCDData, data: np.ndarray, rays: np.ndarray) -> CCDData:
    found = ccd.copy()
    found.data = data
    found.mask = rays if ccd.mask is None else rays | ccd.mask
    return found
