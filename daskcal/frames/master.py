"""A master from its file: the planes that `to_fits` wrote, or those of another program's master."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from os import PathLike
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.layers import ArraySliceDep

from daskcal.errors import FrameError
from daskcal.fits.checksum import file_checksum
from daskcal.fits.content import COPIED, spool_whole
from daskcal.fits.frame import Frame, read_frame
from daskcal.fits.keywords import normalise
from daskcal.fits.open_file import Stamp
from daskcal.fits.product_header import read_history
from daskcal.fits.source import ImageSource, read_pixels
from daskcal.fits.urls import is_url
from daskcal.frames.detector import RawWindow, detector_coords, recorded_window
from daskcal.frames.masks import MASK_ATTRS, Flag
from daskcal.frames.sections import Section
from daskcal.strict import strict_keywords

_BAND = 1 << 20  # pixels of a block
_EXTENSIONS = ("UNCERT", "UNCSHARE", "MASK", "NUSED", "UNSTABLE")
UNSTABLE = "unstable"  # of a dark: pixels that vary unlike others from frame to frame
FACTS = ("imagetyp", "flat_kind", "exptime", "darktime", "filter", "gain", "rdnoise", "ccd_temp")


@strict_keywords
def open_master(path: str | PathLike[str]) -> xr.Dataset:
    """Open a master, daskcal's or another program's, without reading its pixels.

    Parameters
    ----------
    path : str or path
        A FITS file, or its URL: the image, and where they are there the extensions UNCERT,
        UNCSHARE (the part of UNCERT that comes from masters), MASK, NUSED and UNSTABLE. A CCDData
        file of ccdproc and a plain image will do.

    Returns
    -------
    xarray.Dataset
        Lazy ``image``, ``variance``, ``variance_shared``, ``mask``, ``n_used``, ``unstable``
        (y, x), as far as the file has them. ``attrs``: ``file``, ``checksum`` (SHA-256 of the
        file), ``cards``, ``steps`` and ``inputs`` where daskcal wrote it, ``imagetyp``,
        ``exptime`` and the like.

    Raises
    ------
    FrameError
        The file is missing, damaged or holds no image.

    Examples
    --------
    >>> flat = daskcal.open_master("reduced/masters/flat_V.fits")
    >>> flat.image.dims
    ('y', 'x')
    """
    path = os.fspath(path)
    image, extensions, content = _planes(path)
    own = "DASKCAL" in image.header
    planes = {"image": _lazy(_image, image.source.dtype, image.source)}
    if "UNCERT" in extensions:
        planes |= _variances(extensions)
    planes["mask"] = _mask(image.source, extensions.get("MASK"), own)
    if "NUSED" in extensions:
        planes["n_used"] = _lazy(_counts, np.dtype(np.uint16), extensions["NUSED"].source)

    values = normalise(image.header)
    if own and "UNSTABLE" in extensions:
        planes[UNSTABLE] = _lazy(_counts, np.dtype(np.uint16), extensions["UNSTABLE"].source)

    attrs = _attrs(path, image, values, own)
    attrs["checksum"] = _checksum(path, image.source.stamp, content)
    y0, x0 = attrs.pop("origin", (values.origin_y, values.origin_x))
    rows, columns = image.source.shape
    section = Section(y0, y0 + rows, x0, x0 + columns)
    window = RawWindow(section, known=values.origin_known)
    if own:
        window = recorded_window(attrs, section)
        attrs.pop("raw", None)
    master = xr.Dataset(
        {name: (("y", "x"), array) for name, array in planes.items()},
        coords=detector_coords(window, section),
        attrs=attrs,
    )
    if values.unit:
        master["image"].attrs["units"] = values.unit
    master["mask"].attrs = dict(MASK_ATTRS)
    if UNSTABLE in master:
        lines = read_history(extensions["UNSTABLE"].cards)  # those of the primary HDU follow
        master[UNSTABLE].attrs["steps"] = [
            line for line in lines if json.loads(line).get("step") == "unstable_pixels"
        ]
    return master


def _planes(path: str) -> tuple[Frame, dict[str, Frame], str]:
    """The planes of a master, and the file that has its content.

    Every frame needs all of a master: what is behind a URL is read from a copy on each host.
    """
    found = spool_whole(path) if is_url(path) else None
    if found is None:
        return *product_planes(path, *_EXTENSIONS), path
    copy, stamp = found

    def there(frame: Frame) -> Frame:
        source = replace(
            frame.source, path=path, wrapper=COPIED, size=stamp.size, mtime_ns=stamp.mtime_ns,
            tag=stamp.tag,
        )  # fmt: skip
        return replace(frame, source=source)

    image, extensions = product_planes(copy, *_EXTENSIONS)
    planes = {name: there(frame) for name, frame in extensions.items()}
    return there(image), planes, copy


def image_frame(path: str) -> Frame:
    """The image HDU of a product, or the one image of another program's file."""
    return _frame(path, 0) or _frame(path, "IMAGE") or read_frame(path)


def product_planes(path: str, *names: str) -> tuple[Frame, dict[str, Frame]]:
    """The image of a product or master, and those of its other planes that it has, by EXTNAME.

    Raises
    ------
    FrameError
        The file is missing, damaged, holds no image, or one of another shape than its planes.
    """
    image = image_frame(path)
    found = {name: _frame(path, name) for name in names}
    return image, {name: _same_shape(frame, image) for name, frame in found.items() if frame}


def _frame(path: str, hdu: int | str) -> Frame | None:
    try:
        return read_frame(path, hdu)
    except FrameError as error:
        if error.reason == "no-image":
            return None
        raise


def _same_shape(frame: Frame, image: Frame) -> Frame:
    if frame.source.shape != image.source.shape:
        raise FrameError(
            frame.source.path,
            "shape",
            f"has shape {frame.source.shape}, and the image {image.source.shape}",
            frame.source.hdu,
        )
    return frame


def _attrs(path: str, image: Frame, values: Any, own: bool) -> dict[str, Any]:
    attrs: dict[str, Any] = {name: getattr(values, name) for name in FACTS}
    if isinstance(count := image.header.get("NCOMBINE"), int):
        attrs["n_combined"] = count
    for name, key in (("date_beg", "DATE-BEG"), ("date_end", "DATE-END"), ("mjd_avg", "MJD-AVG")):
        if key in image.header:
            attrs[name] = image.header[key]
    if own:
        lines = read_history(image.cards)
        for line in lines:
            record = json.loads(line)
            attrs |= record.get("master", {})
            if "frames" in record and "step" not in record:
                attrs["inputs"] = record["frames"]["path"]
        attrs["steps"] = [line for line in lines if "step" in json.loads(line)]
    attrs["cards"] = image.cards
    attrs["file"] = os.path.basename(path)
    return attrs


@functools.lru_cache(maxsize=4096)
def _checksum(path: str, stamp: Stamp, content: str) -> str:
    return file_checksum(content)


# --- planes -------------------------------------------------------------------------------------


def _lazy(read: Any, dtype: np.dtype, *sources: ImageSource, **options: Any) -> da.Array:
    rows, columns = sources[0].shape
    step = 1 << (max(1, _BAND // columns).bit_length() - 1)  # bands are cut from few blocks so
    bands = (*[step] * (rows // step), *([rows % step] if rows % step else []))
    name = f"master-{read.__name__.strip('_')}-"
    return da.blockwise(
        read,
        "yx",
        ArraySliceDep((bands, (columns,))),
        "yx",
        name=name + tokenize([repr(source) for source in sources], options),
        sources=sources,
        **options,
        dtype=dtype,
        align_arrays=False,
        meta=np.empty((0, 0), dtype),
    )


def _window(
    source: ImageSource, where: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray | None]:
    rows, columns = where
    return read_pixels(source, (rows.start, rows.stop), (columns.start, columns.stop))


def _image(where: tuple[slice, slice], sources: tuple[ImageSource, ...]) -> np.ndarray:
    return _window(sources[0], where)[0]


def _counts(where: tuple[slice, slice], sources: tuple[ImageSource, ...]) -> np.ndarray:
    return _window(sources[0], where)[0].astype(np.uint16, copy=False)


def _variances(extensions: dict[str, Frame]) -> dict[str, da.Array]:
    uncert, shared = extensions["UNCERT"], extensions.get("UNCSHARE")
    kind = str(uncert.header.get("UTYPE", "StdDevUncertainty")).strip()
    dtype = np.result_type(uncert.source.dtype, np.float32)
    sources = [frame.source for frame in (uncert, shared) if frame]
    planes = {"variance": _lazy(_variance, dtype, *sources, kind=kind)}
    if shared:
        planes["variance_shared"] = _lazy(_variance, dtype, shared.source, kind="StdDevUncertainty")
    return planes


def _variance(
    where: tuple[slice, slice], sources: tuple[ImageSource, ...], kind: str
) -> np.ndarray:
    """Variance of the first source, less that of the second: the part that frames do not share."""
    stored = _window(sources[0], where)[0]
    if kind not in ("InverseVariance", "VarianceUncertainty") and not sources[1:]:
        return np.square(stored, dtype=np.result_type(stored.dtype, np.float32))
    values = stored.astype(np.float64)
    if kind == "InverseVariance":
        with np.errstate(divide="ignore"):
            values = 1 / values
    elif kind != "VarianceUncertainty":
        values *= values
    for source in sources[1:]:
        values -= np.square(_window(source, where)[0], dtype=np.float64)
        np.maximum(values, 0, out=values)
    return values.astype(np.result_type(stored.dtype, np.float32))


def _mask(image: ImageSource, mask: Frame | None, own: bool) -> da.Array:
    if mask and own:
        return _lazy(_counts, np.dtype(np.uint16), mask.source)
    sources = [image, mask.source] if mask else [image]
    return _lazy(_foreign_mask, np.dtype(np.uint16), *sources)


def _foreign_mask(where: tuple[slice, slice], sources: tuple[ImageSource, ...]) -> np.ndarray:
    """``no_data`` where the image is undefined, ``bad`` where another program's mask is set."""
    values, undefined = _window(sources[0], where)
    mask = np.zeros(values.shape, np.uint16)
    if undefined is not None:
        mask[undefined] |= Flag.NO_DATA
    for source in sources[1:]:
        mask[_window(source, where)[0] != 0] |= Flag.BAD
    return mask
