"""What can be drawn, as a Dataset of one image: frames, masters, arrays, CCDData, FITS files."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, DaskcalError, FrameError
from daskcal.fits.keywords import normalise
from daskcal.fits.whole import at_hand

if TYPE_CHECKING:
    from astropy.nddata import CCDData

    Picture: TypeAlias = xr.Dataset | xr.DataArray | CCDData | np.ndarray | str | os.PathLike[str]

_DIMS = ("y", "x")
_BESIDE = ("UNCERT", "UNCSHARE", "MASK", "NUSED", "UNSTABLE")  # planes of an image, no images


def one_image(
    data: Picture | xr.DataTree, plane: str = "image", hdu: int | str | None = None
) -> xr.Dataset:
    """`data` as a Dataset of one image: the plane (y, x) and, where there are any, the others.

    Raises
    ------
    ArgumentError
        It holds several frames or detectors, no such plane, or is no image.
    FrameError
        A file that is not there, damaged, or without an image.
    """
    if isinstance(data, str | os.PathLike):
        data = opened(data, hdu)
    elif hdu is not None:
        raise ArgumentError(f"hdu={hdu!r} is for a file; {type(data).__name__} was given")
    if isinstance(data, xr.DataTree):
        names = list(data.children)
        raise ArgumentError(
            f"one image is drawn, and there are the detectors {', '.join(names)}: "
            f"mosaic(tree) draws them all, .[{names[0]!r}].to_dataset() is one of them"
            if names
            else "the DataTree holds no detector"
        )
    found = _dataset(data)
    if plane not in found:
        raise ArgumentError(f"there is no {plane!r} here, but {', '.join(map(str, found))}")
    if found.sizes.get("frame", 1) != 1:
        count = found.sizes["frame"]
        raise ArgumentError(f"one image is drawn, and there are {count} frames: .isel(frame=0)")
    found = found.isel(frame=0) if "frame" in found.dims else found
    if found[plane].dims != _DIMS:
        raise ArgumentError(f"{plane!r} has the dims {found[plane].dims}, expected {_DIMS}")
    shape, kind = found[plane].shape, found[plane].dtype
    if not all(shape) or kind.kind not in "buif":
        raise ArgumentError(f"an image is 2-D real numbers; this is {kind} of shape {shape}")
    return found


def _dataset(data: Any) -> xr.Dataset:
    """A Dataset of what is in memory, or lazy."""
    if isinstance(data, xr.Dataset):
        return data
    if isinstance(data, xr.DataArray):
        return data.to_dataset(name="image", promote_attrs=False)
    if hasattr(data, "unit") and hasattr(data, "mask"):  # CCDData and its like
        mask = None if data.mask is None else np.asarray(data.mask)
        return _of_arrays(np.asarray(data.data), mask, str(data.unit or ""))
    return _of_arrays(np.asarray(data), None, "")


def _of_arrays(image: np.ndarray, mask: np.ndarray | None, unit: str) -> xr.Dataset:
    if image.ndim != 2:
        raise ArgumentError(f"an array of shape {image.shape} is no image (rows, columns)")
    found = xr.Dataset({"image": (_DIMS, image, {"units": unit} if unit else {})})
    if mask is None:
        return found
    if mask.shape != image.shape:
        raise ArgumentError(f"the mask is {mask.shape}, the image {image.shape}")
    return found.assign(mask=(_DIMS, mask != 0 if mask.dtype.kind not in "bui" else mask))


def opened(path: str | os.PathLike[str], hdu: int | str | None = None) -> xr.Dataset | xr.DataTree:
    """What a picture of a file shows: its image and mask, or all its amplifiers or detectors.

    Returns
    -------
    Dataset (y, x) or DataTree
        The latter where the file holds several detectors, and no `hdu` was asked for.
    """
    image, mask, header, several = _read(os.fspath(path), hdu)
    if several:
        assembled = _assembled(os.fspath(path))
        if assembled is not None:
            return assembled
    found = normalise(header)
    rows, columns = (np.arange(length) for length in image.shape)
    detector = {"y": rows + found.origin_y, "x": columns + found.origin_x}
    return _of_arrays(image, mask, found.unit).assign_coords({**detector, "path": os.fspath(path)})


def _assembled(path: str) -> xr.Dataset | xr.DataTree | None:
    """A file of several images, as daskcal opens it; None where it cannot."""
    from daskcal.frames.mosaic import open_mosaic

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = open_mosaic([path])
    except DaskcalError:  # images that are no detectors: the first one is shown
        return None
    nodes = [node.to_dataset() for node in tree.children.values()]
    return nodes[0] if len(nodes) == 1 else tree


def read_image(
    path: str | os.PathLike[str], hdu: int | str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The first image of a FITS file, or that of `hdu`, and the mask that goes with it.

    Returns
    -------
    image : array (rows, columns)
    mask : array (rows, columns) or None
        The ``MASK`` extension where the file has one of this shape and no `hdu` was asked for.

    Raises
    ------
    FrameError
        Where there is no such file, it is damaged, or has no such image.
    """
    image, mask, _, _ = _read(os.fspath(path), hdu)
    return image, mask


def _read(
    name: str, hdu: int | str | None
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any], bool]:
    """An image, its mask and header, and whether the file holds several images like it."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture does not depend on an odd card
            with at_hand(name) as here, fits.open(here, memmap=False) as hdus:
                chosen = _chosen(hdus, hdu, name)
                image = _plane(chosen.data, name)
                mask = hdus["MASK"].data if hdu is None and "MASK" in hdus else None
                header = _values(chosen.header)
                several = hdu is None and len(_images(hdus)) > 1
    except FileNotFoundError as error:
        raise FrameError(name, "missing", "there is no such file") from error
    except (OSError, TypeError, ValueError, IndexError) as error:
        said = str(error).split(" If this")[0]  # astropy's advice to its own callers
        raise FrameError(name, "damaged", f"cannot be read as FITS: {said}") from error
    if mask is None or np.shape(mask) != image.shape:
        return image, None, header, several
    return image, np.asarray(mask), header, several


def _values(header: Any) -> dict[str, Any]:
    """What a header says, without cards that cannot be read."""
    from astropy.io.fits.verify import VerifyError

    values = {}
    for keyword in header:
        with contextlib.suppress(VerifyError, KeyError):
            values[keyword] = header[keyword]
    return values


def _images(hdus: Any) -> list[Any]:
    """The HDUs that hold an image of its own."""
    return [
        one
        for one in hdus
        if one.is_image and one.header.get("NAXIS", 0) >= 2 and one.name not in _BESIDE
    ]


def _chosen(hdus: Any, hdu: int | str | None, name: str) -> Any:
    """The HDU that was asked for, or the first that holds an image."""
    if hdu is None:
        images = _images(hdus)
        if not images:
            raise FrameError(name, "no-image", "has no HDU with an image")
        return images[0]
    try:
        chosen = hdus[hdu]
    except (KeyError, IndexError) as error:
        message = f"has no HDU {hdu!r}; it has {len(hdus)}, numbered from 0"
        raise FrameError(name, "no-image", message) from error
    if not chosen.is_image or chosen.data is None:
        raise FrameError(name, "no-image", f"HDU {hdu!r} holds no image")
    return chosen


def _plane(data: np.ndarray, name: str) -> np.ndarray:
    """`data` without axes of length 1 in front."""
    image = np.asarray(data)
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2:
        message = f"the image has shape {image.shape}, not (rows, columns)"
        raise FrameError(name, "shape", message)
    return image
