"""Cosmic rays in single frames: found by their sharp edges, or against a median, and flagged.

Both look at a frame as a whole. Frames go through them one by one, and are kept in scratch storage
(`daskcal.frames.scratch`) for what comes next: nothing is rechunked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, CalibrationError, GeometryError, UnitError, choose
from daskcal.frames.amplifiers import Amplifier, amplifiers, own_values, said_place
from daskcal.frames.block import Block, promoted
from daskcal.frames.blocks import assign, recover
from daskcal.frames.masks import Flag
from daskcal.frames.recipe import with_plane
from daskcal.frames.scratch import WholeFrameStep, through_scratch
from daskcal.frames.sections import Section
from daskcal.frames.steps import StepRecord, keep_each, with_step
from daskcal.frames.units import counted, require_unit
from daskcal.strict import strict_keywords

CLEANING = ("median", "medmask", "meanmask", "idw")
PSF_MODELS = ("gauss", "gaussx", "gaussy", "moffat")
SMALLEST = 4  # rows and columns: astroscrappy's median of 9 copies four at each edge, unchecked


class _Finding(WholeFrameStep):
    """A step that sets ``cosmic_ray``, and changes the image where it is asked to."""

    clean: bool

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")


@dataclass(frozen=True, eq=False, kw_only=True)
class LACosmic(_Finding):
    """L.A.Cosmic, of van Dokkum (2001), as astroscrappy has it.

    `gain` (electron per unit of the image) and `noise` (electron) are (frame, amplifier), of one
    column where there are no amplifiers.
    """

    gain: np.ndarray
    noise: np.ndarray
    amplifiers: tuple[Amplifier, ...]
    options: dict[str, Any]
    grow: float
    clean: bool

    working_bytes: ClassVar[int] = 84  # measured: 57 of astroscrappy's own

    def apply(self, block: Block, i: int) -> Block:
        image, masked = _filled(block)
        image = image.astype(np.float32, copy=False)
        if masked.all():
            return _flagged(block, np.zeros(image.shape, bool), None)
        found, cleaned = self._detect(image, masked, block.section, i)
        found &= ~masked  # those have a reason already
        grown = grown_by(found, self.grow) & ~masked
        return _flagged(block, grown, (found, cleaned) if self.clean else None)

    def _detect(
        self, image: np.ndarray, masked: np.ndarray, section: Section, i: int
    ) -> tuple[np.ndarray, np.ndarray]:
        from astroscrappy import detect_cosmics

        gains, noises = np.unique(self.gain[i]), np.unique(self.noise[i])
        if len(gains) == len(noises) == 1:
            found, cleaned = detect_cosmics(
                image,
                inmask=masked,
                gain=float(gains[0]),
                readnoise=float(noises[0]),
                **self.options,
            )
            return found, cleaned
        gain, noise = (self._plane(of[i], section) for of in (self.gain, self.noise))
        electrons = image * gain
        found, cleaned = detect_cosmics(  # with the variance that it takes for one read noise
            electrons, inmask=masked, gain=1.0, invar=electrons + noise * noise, **self.options
        )
        return found, cleaned / gain

    def _plane(self, values: np.ndarray, section: Section) -> np.ndarray:
        """A number of each amplifier, at its pixels."""
        plane = np.full(section.shape, values[0], np.float32)
        for amp, value in zip(self.amplifiers, values, strict=True):
            for area in amp.areas:
                plane[area.common(section).within(section)] = value
        return plane


@dataclass(frozen=True, eq=False, kw_only=True)
class MedianRays(_Finding):
    """Pixels above the median of the box around them."""

    error: float | None
    thresh: float
    mbox: int
    gbox: int
    rbox: int

    working_bytes: ClassVar[int] = 32

    @property
    def clean(self) -> bool:  # type: ignore[override]
        return self.rbox > 0

    def apply(self, block: Block, i: int) -> Block:
        from scipy import ndimage

        image, masked = _filled(block)
        residual = image - ndimage.median_filter(image, size=(self.mbox, self.mbox))
        with np.errstate(divide="ignore", invalid="ignore"):  # no noise, no data: never above
            found = residual / self._error(block, image, masked) > self.thresh
        found &= ~masked
        if self.gbox > 0:
            found = ndimage.maximum_filter(found, self.gbox) & ~masked
        cleaned = ndimage.median_filter(image, self.rbox) if self.clean else None
        return _flagged(block, found, None if cleaned is None else (found, cleaned))

    def _error(self, block: Block, image: np.ndarray, masked: np.ndarray) -> Any:
        if self.error is not None:
            return self.error
        if block.variance is None:
            return image[~masked].std() if not masked.all() else np.nan
        shared = 0 if block.variance_shared is None else block.variance_shared[0]
        return np.sqrt(block.variance[0] + shared)


@strict_keywords
def cosmicray_lacosmic(
    frames: xr.Dataset,
    *,
    sigclip: float = 4.5,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
    gain: float | None = None,
    readnoise: float | None = None,
    satlevel: float = 65535.0,
    niter: int = 4,
    sepmed: bool = True,
    cleantype: str = "meanmask",
    fsmode: str = "median",
    psfmodel: str = "gauss",
    psffwhm: float = 2.5,
    psfsize: int = 7,
    psfbeta: float = 4.765,
    grow: float = 0,
    clean: bool = False,
) -> xr.Dataset:
    """Find cosmic rays by L.A.Cosmic and set ``cosmic_ray``.

    A step that sees frames as a whole: each is worked on by itself, as many at once as the memory
    budget allows, and its planes are kept in scratch storage (``DASKCAL_SCRATCH``) until the frames
    are forgotten. The sky belongs in the image, and the step behind the flat.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` in adu or electron. Masked pixels are neither looked at nor
        flagged; the variance stays as it is.
    sigclip, sigfrac, objlim : float
        Limit in σ of the Laplacian; its share for the neighbours of a cosmic ray; least contrast
        between the Laplacian and the fine structure: more where cores of stars are flagged.
    gain : float, optional
        electron/adu. If not given, that of each frame or amplifier; 1 for frames in electron.
    readnoise : float, optional
        In electron. If not given, the ``rdnoise`` of each frame or amplifier.
    satlevel : float
        In electron; what is saturated over a wide area is a star.
    niter : int
        Most iterations.
    sepmed : bool
        Separable medians, which are quicker.
    cleantype : {"meanmask", "medmask", "median", "idw"}
        By what cosmic rays are replaced, between iterations and with `clean`.
    fsmode : {"median", "convolve"}
        How the fine structure is made: by a median, or by convolution with the PSF.
    psfmodel, psffwhm, psfsize, psfbeta : str, float, int, float
        That PSF: ``gauss``, ``gaussx``, ``gaussy`` or ``moffat``, its width and size in pixels
        (odd), and the exponent of a Moffat profile.
    grow : float
        Pixels within so many pixels of a cosmic ray are flagged too (a disc, its edge included).
    clean : bool
        Replace the image under what was found; what only growth flagged stays as it is.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``.

    Raises
    ------
    ArgumentError
        A number or word that cannot be used.
    CalibrationError
        Gain or read noise of a frame are not known.
    GeometryError
        The frames have fewer than 4 rows or columns.
    UnitError
        The unit of the frames is not known, or is neither adu nor electron and `gain` is not given.

    Notes
    -----
    The method is that of van Dokkum (2001, PASP 113, 1420) in the implementation of McCully
    (astroscrappy, doi 10.5281/zenodo.1482019); cite both. The result is that of
    ``ccdproc.cosmicray_lacosmic(..., gain_apply=False)`` with the same arguments.

    Examples
    --------
    >>> science = daskcal.cosmicray_lacosmic(science, sigclip=5, grow=1)
    """
    choose("cleantype", cleantype, CLEANING)
    choose("fsmode", fsmode, ("median", "convolve"))
    choose("psfmodel", psfmodel, PSF_MODELS)
    _require_positive(sigclip=sigclip, sigfrac=sigfrac, objlim=objlim, satlevel=satlevel,
                      niter=niter, psffwhm=psffwhm, psfbeta=psfbeta)  # fmt: skip
    _require_size("psfsize", psfsize, odd=True)
    _require_growth(grow)
    stack = recover(frames)
    _require_room(stack.section)
    found = require_unit(frames, "cosmicray_lacosmic")
    unit = counted(found)
    if not unit and gain is None:
        raise UnitError(
            f"cosmicray_lacosmic: the frames are in {found}, and a gain in electron/adu is not for "
            "them; give gain=, in electron per unit of the image"
        )
    if unit == "electron" and gain is not None:
        raise ArgumentError(f"gain={gain}: the frames are in electron already; leave it out")
    noise = _of_amplifiers(frames, "rdnoise", "readnoise", readnoise)
    gains = np.ones_like(noise)
    if unit != "electron":
        gains = _of_amplifiers(frames, "gain", "gain", gain)
    amps = amplifiers(frames)
    options = {
        "sigclip": sigclip,
        "sigfrac": sigfrac,
        "objlim": objlim,
        "satlevel": satlevel,
        "niter": niter,
        "sepmed": sepmed,
        "cleantype": cleantype,
        "fsmode": fsmode,
    }
    if fsmode == "convolve":
        options |= {"psfmodel": psfmodel, "psffwhm": psffwhm, "psfsize": psfsize}
        options |= {"psfbeta": psfbeta} if psfmodel == "moffat" else {}
    step = LACosmic(
        gain=gains,
        noise=noise,
        amplifiers=amps,
        options=options,
        grow=float(grow),
        clean=clean,
    )
    out = assign(frames, through_scratch(stack, step))
    out, said_gain = keep_each(out, "lacosmic_gain", gains if amps else gains[:, 0])
    out, said_noise = keep_each(out, "lacosmic_rdnoise", noise if amps else noise[:, 0])
    parameters = {"gain": said_gain, "readnoise": said_noise, **options, "grow": float(grow)}
    return with_step(out, StepRecord("cosmicray_lacosmic", {**parameters, "clean": clean}))


@strict_keywords
def cosmicray_median(
    frames: xr.Dataset,
    *,
    error_image: float | None = None,
    thresh: float = 5,
    mbox: int = 11,
    gbox: int = 0,
    rbox: int = 0,
) -> xr.Dataset:
    """Find cosmic rays as pixels far above the median around them, and set ``cosmic_ray``.

    A step that sees frames as a whole, like `cosmicray_lacosmic`. It takes the cores of stars for
    cosmic rays: it is for frames without any, such as spectra of faint objects and darks.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``. Masked pixels are not flagged.
    error_image : float, optional
        σ of a pixel, in the unit of the frames. If not given, that of ``variance`` and
        ``variance_shared``, or the standard deviation of the frame's good pixels where there is
        no variance.
    thresh : float
        Limit in σ.
    mbox : int
        Side of the box of the median.
    gbox : int
        Side of a box around each cosmic ray that is flagged too; 0 for none.
    rbox : int
        Side of the box by whose median cosmic rays are replaced; 0 leaves the image as it is.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``.

    Raises
    ------
    ArgumentError
        A number that cannot be used.

    Notes
    -----
    The method is that of IRAF's crmedian; the result is that of ``ccdproc.cosmicray_median`` with
    the same arguments where no pixel was masked before.

    Examples
    --------
    >>> darks = daskcal.cosmicray_median(darks, thresh=8, gbox=3)
    """
    _require_positive(thresh=thresh)
    if error_image is not None:
        _require_positive(error_image=error_image)
    _require_size("mbox", mbox, least=1)
    _require_size("gbox", gbox)
    _require_size("rbox", rbox)
    stack = recover(frames)
    error = None if error_image is None else float(error_image)
    step = MedianRays(error=error, thresh=float(thresh), mbox=mbox, gbox=gbox, rbox=rbox)
    parameters = {"error_image": error, "thresh": thresh, "mbox": mbox, "gbox": gbox, "rbox": rbox}
    out = assign(frames, through_scratch(stack, step))
    return with_step(out, StepRecord("cosmicray_median", parameters))


def find_rays(frames: xr.Dataset, method: str = "lacosmic", **arguments: Any) -> xr.Dataset:
    """Cosmic rays by ``lacosmic`` or ``median``, with the arguments of its function."""
    choose("method", method, ("lacosmic", "median"))
    find: Any = cosmicray_lacosmic if method == "lacosmic" else cosmicray_median
    found: xr.Dataset = find(frames, **arguments)
    return found


def working_bytes(method: str) -> int:
    """Bytes for each pixel of a frame while its cosmic rays are looked for."""
    return (LACosmic if method == "lacosmic" else MedianRays).working_bytes


# --- one frame ------------------------------------------------------------------------------------


def _filled(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """The image of a block of one frame, a number everywhere, and where it is masked.

    Filters see masked values too; for what is undefined stands the median of the good pixels.
    """
    image = block.image[0].astype(promoted(block.image.dtype), copy=False)
    undefined = ~np.isfinite(image)
    masked = undefined if block.mask is None else undefined | (block.mask[0] != 0)
    if undefined.any():
        good = image[~masked]
        level = np.median(good) if good.size else image.dtype.type(0)
        image = np.where(undefined, level, image)
    return image, masked


def _flagged(
    block: Block, found: np.ndarray, replaced: tuple[np.ndarray, np.ndarray] | None
) -> Block:
    """The block with ``cosmic_ray`` where it was found, and the values that replace the image's."""
    bits = np.where(found, Flag.COSMIC_RAY, np.uint16(0))
    mask = bits if block.mask is None else block.mask[0] | bits
    image = block.image.astype(promoted(block.image.dtype), copy=False)
    if replaced is not None:
        where, values = replaced
        image = np.where(where, values, image[0]).astype(image.dtype, copy=False)[None]
    return Block(block.section, image, block.variance, block.variance_shared, mask[None])


def grown_by(found: np.ndarray, radius: float) -> np.ndarray:
    """What lies within `radius` pixels of what was found: a disc, its edge included."""
    if radius < 1:
        return found
    from scipy import ndimage

    reach = np.arange(-math.floor(radius), math.floor(radius) + 1)
    disc = reach[:, None] ** 2 + reach**2 <= radius**2
    return np.asarray(ndimage.binary_dilation(found, disc))


# --- arguments ------------------------------------------------------------------------------------


def _of_amplifiers(frames: xr.Dataset, name: str, argument: str, given: float | None) -> np.ndarray:
    """Gain or read noise, (frame, amplifier)."""
    values = own_values(frames, name)
    if given is not None:
        _require_positive(**{argument: given})
        return np.full_like(values, float(given))
    for i, k in np.argwhere(~(np.isfinite(values) & (values > 0))):
        raise CalibrationError(
            f"cosmicray_lacosmic: {said_place(frames, i, k)} has {name} = {values[i, k]}; "
            f"give {argument}=, or {name} = ... under [instrument] in the config"
        )
    return values


def _require_room(section: Section) -> None:
    rows, columns = section.shape
    if min(rows, columns) < SMALLEST:
        raise GeometryError(
            f"cosmicray_lacosmic: the frames have {rows} rows × {columns} columns, and its filters "
            f"need {SMALLEST} of each; leave the step out, or use cosmicray_median"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _require_positive(**numbers: Any) -> None:
    for name, value in numbers.items():
        if not (_is_number(value) and value > 0):
            raise ArgumentError(f"{name}={value!r} should be a positive number")


def _require_size(name: str, value: int, least: int = 0, odd: bool = False) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (odd and value % 2 == 0):
        kind = "an odd number" if odd else f"a whole number, {least} or more,"
        raise ArgumentError(f"{name}={value!r} should be {kind} of pixels")


def _require_growth(grow: Any) -> None:
    if not (_is_number(grow) and 0 <= grow < np.inf):
        raise ArgumentError(f"grow={grow!r} should be a radius in pixels, 0 or more")
