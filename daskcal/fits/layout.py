"""How images lie in the FITS file that they are to be written to, and whether it can be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dask.array as da
import numpy as np

from daskcal.errors import ArgumentError, OutputError, UnfitOutputError
from daskcal.fits.cards import CARD, make_card
from daskcal.fits.checksum import file_checksum, padded
from daskcal.temporaries import new_temporary

_BITPIX = {"u1": 8, "i2": 16, "i4": 32, "f4": -32, "f8": -64, "u2": 16}


@dataclass(frozen=True, slots=True)
class Plane:
    """One image HDU to write.

    Attributes
    ----------
    name : str
        EXTNAME; empty for the primary HDU, which comes first.
    cards : str
        Card images (80 characters each) without those that describe the array.
    data : dask.array.Array
        (y, x) or (1, y, x), in bands of rows; float32, float64, uint8, uint16, int16 or int32.
    """

    name: str
    cards: str
    data: da.Array


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file.

    Attributes
    ----------
    path : str
    size : int
        Bytes.
    datasums : tuple of int
        DATASUM of each plane, before compression.
    sha256 : str
        Empty where it was not asked for in the making: it takes as long as all the rest.
    """

    path: str
    size: int
    datasums: tuple[int, ...] = ()
    sha256: str = ""

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, as ``sha256sum`` prints it; else read when it is asked for."""
        return self.sha256 or file_checksum(self.path)

    def hashed(self) -> Written:
        """The same, which knows its SHA-256."""
        return replace(self, sha256=self.checksum)


@dataclass(frozen=True, slots=True)
class Unit:
    """Where one HDU lies: its header (without checksums), its data, its pixel type."""

    head: str
    header_at: int
    data_at: int
    shape: tuple[int, int]
    dtype: str

    @property
    def n_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class FileJob:
    """One file to be: all that its tasks need."""

    path: str
    part: str
    size: int
    units: tuple[Unit, ...]
    overwrite: bool
    compress: str


def laid_out(planes: Sequence[Plane]) -> tuple[Unit, ...]:
    if not planes:
        raise ArgumentError("planes is empty; a FITS file needs at least its primary image")
    units: list[Unit] = []
    at = 0
    for plane in planes:
        dtype, shape = plane.data.dtype, plane.data.shape[-2:]
        if dtype.str[1:] not in _BITPIX:
            raise ArgumentError(
                f"plane {plane.name or 'primary'!r} has dtype {dtype}; FITS products hold "
                "float32, float64, uint8, uint16, int16 and int32"
            )
        if plane.data.ndim not in (2, 3) or plane.data.shape[:-2] not in ((), (1,)):
            raise ArgumentError(
                f"plane {plane.name or 'primary'!r} has shape {plane.data.shape}; "
                "expected (y, x) or (1, y, x)"
            )
        if shape != planes[0].data.shape[-2:]:
            raise ArgumentError(
                f"plane {plane.name!r} has shape {shape}, the first {planes[0].data.shape[-2:]}"
            )
        head = _mandatory(plane, primary=not units, extended=len(planes) > 1) + plane.cards
        length = padded(len(head) + 3 * CARD)  # CHECKSUM, DATASUM, END
        units.append(Unit(head, at, at + length, shape, dtype.str[1:]))
        at = end_of(units[-1])
    return tuple(units)


def _mandatory(plane: Plane, primary: bool, extended: bool) -> str:
    rows, columns = plane.data.shape[-2:]
    kind = plane.data.dtype.str[1:]
    cards = [
        make_card("SIMPLE", True, "conforms to the FITS standard")
        if primary
        else make_card("XTENSION", "IMAGE", "image extension"),
        make_card("BITPIX", _BITPIX[kind], "bits per pixel; negative for floats"),
        make_card("NAXIS", 2, "number of axes"),
        make_card("NAXIS1", columns, "columns"),
        make_card("NAXIS2", rows, "rows"),
    ]
    if primary and extended:
        cards.append(make_card("EXTEND", True, "extensions follow"))
    if not primary:
        cards.append(make_card("PCOUNT", 0, "no parameters"))
        cards.append(make_card("GCOUNT", 1, "one group"))
        cards.append(make_card("EXTNAME", plane.name, "name of this extension"))
    if kind == "u2":
        cards.append(make_card("BSCALE", 1, "no scaling"))
        cards.append(make_card("BZERO", 32768, "unsigned 16-bit integers"))
    return "".join(cards)


def end_of(unit: Unit) -> int:
    return unit.data_at + padded(unit.n_bytes)


def file_job(path: Path, units: tuple[Unit, ...], overwrite: bool, compress: str) -> FileJob:
    size = end_of(units[-1])
    refuse_early(path, size * (2 if compress == "rice" else 1), overwrite)
    return FileJob(str(path), new_temporary(path), size, units, overwrite, compress)


def refuse_early(path: Path, size: int, overwrite: bool) -> None:
    """Refuse, before any pixel, a file of `size` bytes that cannot be written."""
    folder = path.parent
    if not folder.is_dir():
        raise UnfitOutputError(
            f"{path} cannot be written: there is no folder {folder}; make it first"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: no permission to write in {folder}")
    if path.is_dir():
        raise UnfitOutputError(f"{path} cannot be written: it is a folder")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; pass overwrite=True to replace it")
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OutputError(f"{path} needs {size} bytes, and {folder} has {free} bytes free")
