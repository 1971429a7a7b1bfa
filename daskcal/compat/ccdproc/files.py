"""The images that `combine` is given: CCDData in memory, or files that are read band by band."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty

from daskcal.compat.ccdproc.stacks import Planes
from daskcal.errors import ArgumentError, FrameError, GeometryError, UnitError
from daskcal.fits import Frame, scan
from daskcal.fits.source import read_pixels
from daskcal.frames.recipe import Files
from daskcal.frames.sections import Section
from daskcal.strict import refuse_unknown

READER = (  # keywords of astropy's fits_ccddata_reader, and of fits.open, to which it hands others
    "hdu", "unit", "hdu_uncertainty", "hdu_mask", "hdu_flags", "key_uncertainty_type", "hdu_psf",
    "memmap", "cache", "lazy_load_hdus", "ignore_missing_simple", "ignore_missing_end",
    "disable_image_compression", "character_as_bytes", "uint", "checksum", "use_fsspec",
    "fsspec_kwargs", "decompress_in_memory",
)  # fmt: skip


def as_list(images: Any) -> list[Any]:
    """The images of `combine`'s first argument: a list, or names with commas between."""
    if isinstance(images, str):
        images = [name.strip() for name in images.split(",")] if "," in images else [images]
    try:
        found = list(images)
    except TypeError:
        raise ArgumentError(
            f"combine: expected images or file names, found {images!r:.60}"
        ) from None
    kinds = {isinstance(image, CCDData) for image in found}
    if not found or len(kinds) > 1 or not all(_is_image(image) for image in found):
        raise ArgumentError(
            f"combine takes a list of CCDData, or of file names, and not {images!r:.80}"
        )
    return found


def _is_image(image: Any) -> bool:
    return isinstance(image, CCDData | str | os.PathLike)


class Held:
    """CCDData of one shape and unit."""

    def __init__(self, ccds: Sequence[CCDData]) -> None:
        for i, ccd in enumerate(ccds):
            if not isinstance(ccd, CCDData):
                raise ArgumentError(f"image {i} should be CCDData, found {type(ccd).__name__}")
        self.ccds = ccds
        first = ccds[0]
        for i, ccd in enumerate(ccds):
            if ccd.shape != first.shape:
                raise GeometryError(f"image {i} is {ccd.shape}, image 0 is {first.shape}")
            if ccd.unit != first.unit:
                raise UnitError(f"image {i} is in {ccd.unit}, image 0 in {first.unit}")
        self.dtype = np.result_type(*{ccd.data.dtype for ccd in ccds}).newbyteorder("=")
        self.masked = any(ccd.mask is not None for ccd in ccds)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows, columns."""
        if len(self.ccds[0].shape) != 2:
            raise GeometryError(f"combine takes rows × columns, not {self.ccds[0].shape}")
        rows, columns = self.ccds[0].shape
        return len(self.ccds), rows, columns

    def stack(self, dtype: np.dtype) -> np.ma.MaskedArray:
        """All of them, as one array of numbers of a type."""
        values = np.stack([ccd.data for ccd in self.ccds]).astype(dtype, copy=False)
        mask = np.zeros(values.shape, bool)
        for plane, ccd in zip(mask, self.ccds, strict=True):
            if ccd.mask is not None:
                plane[...] = ccd.mask
        return np.ma.array(values, mask=mask)

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.dtype.itemsize

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Values of a band, and where they are masked."""
        values = np.stack([ccd.data[rows] for ccd in self.ccds], dtype=self.dtype)
        if not self.masked:
            return values, None
        bad = np.zeros(values.shape, bool)
        for plane, ccd in zip(bad, self.ccds, strict=True):
            if ccd.mask is not None:
                plane[:] = np.broadcast_to(ccd.mask, ccd.shape)[rows]
        return values, bad

    def image(self, i: int) -> np.ndarray:
        """The values of one image."""
        return np.asarray(self.ccds[i].data)

    def first(self) -> CCDData:
        """What the result takes its header from."""
        return self.ccds[0]


class Stored:
    """Images in FITS files, and their masks: each pixel is read when its band is worked on.

    `keywords` are those of astropy's ``fits_ccddata_reader``, which reads the header of the first.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], keywords: dict[str, Any]) -> None:
        refuse_unknown("combine()", keywords, READER)
        self.paths = [os.path.abspath(os.path.expanduser(path)) for path in paths]
        self.keywords = keywords
        found = _scanned(self.paths, keywords.get("hdu", 0))
        frames = [found[path] for path in self.paths]
        shape = frames[0].pixels.shape
        for frame in frames:
            if frame.pixels.shape != shape:
                raise GeometryError(
                    f"{frame.source.path} is {frame.pixels.shape}, {self.paths[0]} is {shape}"
                )
        if keywords.get("unit") is None:
            _require_one_unit(frames)
        self.section = Section(0, shape[0], 0, shape[1])
        self.files = Files(tuple(frame.pixels for frame in frames), self.section, token="")
        self.masks = self._masks(keywords.get("hdu_mask", "MASK"))

    def _masks(self, name: str | None) -> dict[int, Any]:
        """Where the masks lie of those files that have one, by the number of the file."""
        if name is None:
            return {}
        found = {
            frame.source.path: frame
            for frame in scan(set(self.paths), hdu=name, index=False).frames
        }
        return {i: found[path].source for i, path in enumerate(self.paths) if path in found}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, rows, columns."""
        return len(self.paths), *self.section.shape

    @property
    def itemsize(self) -> int:
        """Bytes of a value."""
        return self.files.dtype.itemsize

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Values of a band, and where they are masked or undefined."""
        return self._read(slice(None), rows)

    def _read(self, which: slice, rows: slice) -> tuple[np.ndarray, np.ndarray | None]:
        part = Section(rows.start, rows.stop, 0, self.section.shape[1])
        block = self.files.read(which, part, ())
        numbers = range(len(self.paths))[which]
        for place, i in enumerate(numbers):
            if i in self.masks:
                if block.mask is None:
                    block.mask = np.zeros(block.image.shape, np.uint16)
                flags, _ = read_pixels(self.masks[i], (part.y0, part.y1), (part.x0, part.x1))
                block.mask[place] |= flags != 0
        return block.image, block.mask

    def image(self, i: int) -> np.ndarray:
        """The values of one image."""
        return self._read(slice(i, i + 1), slice(0, self.section.shape[0]))[0][0]

    def first(self) -> CCDData:
        """What the result takes its header from: the first file, once more, as astropy reads it."""
        return CCDData.read(self.paths[0], format="fits", **self.keywords)


def _scanned(paths: Iterable[str], hdu: int | str) -> dict[str, Frame]:
    """The image of each file; without one in the primary HDU the first that it has, as astropy."""
    found = scan(set(paths), hdu=hdu, index=False)
    frames = {frame.source.path: frame for frame in found.frames}
    left = [bad for bad in found.unreadable if hdu == 0 and bad.reason == "no-image"]
    if left:
        again = scan([bad.path for bad in left], index=False)
        frames |= {frame.source.path: frame for frame in again.frames}
    for path in paths:
        if path not in frames:
            bad = next((b for b in found.unreadable if b.path == path), None)
            if bad is None:
                raise FrameError(path, "not-fits", "is no FITS file")
            raise FrameError(bad.path, bad.reason, bad.message, bad.hdu)
    return frames


def _require_one_unit(frames: Sequence[Frame]) -> None:
    units = [str(frame.header.get("BUNIT", "")).strip().lower() for frame in frames]
    for unit, frame in zip(units, frames, strict=True):
        if unit != units[0]:
            raise UnitError(
                f"{frame.source.path} has BUNIT {unit!r} and {frames[0].source.path} {units[0]!r}; "
                "give unit= if they are the same"
            )


def combined_ccd(first: CCDData, planes: Planes, n: int) -> CCDData:
    """A combined image with what it has of the first of its `n` images."""
    image, sigma, mask = planes
    made = CCDData(
        image,
        unit=first.unit,
        uncertainty=StdDevUncertainty(sigma),
        mask=mask,
        meta=deepcopy(first.meta),
        wcs=deepcopy(first.wcs),
        flags=deepcopy(first.flags),
        psf=deepcopy(first.psf),
    )
    made.meta["NCOMBINE"] = n
    return made
