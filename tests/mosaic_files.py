"""Small files of several detectors, and what can be wrong with one of their extensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

SHAPE = (40, 60)
NAMES = ("NW", "NE", "SW", "SE")
BLOCK = 2880


def pixels(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Raw values (uint16) that belong to a seed."""
    return np.random.default_rng(seed).integers(900, 1100, shape).astype(np.uint16)


def write_mosaic(
    path: Path,
    images: Sequence[np.ndarray],
    names: Sequence[str] = NAMES,
    primary: dict[str, Any] | None = None,
    each: Sequence[dict[str, Any]] = (),
) -> Path:
    """A file with an extension for each image; `each` has cards of theirs."""
    first = {"IMAGETYP": "bias", "EXPTIME": 0.0, "BUNIT": "adu", "INSTRUME": "mosaic"}
    hdus: list[Any] = [fits.PrimaryHDU(header=fits.Header({**first, **(primary or {})}))]
    for i, image in enumerate(images):
        hdu = fits.ImageHDU(image, name=names[i] if i < len(names) else None)
        hdu.header.update(each[i] if each else {})
        hdus.append(hdu)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path)
    return path


def spoil_header(path: Path, hdu: int) -> None:
    """Make the size of the data of an HDU unknown."""
    raw = bytearray(path.read_bytes())
    card = raw.index(b"BITPIX  =", _starts(raw)[hdu])
    raw[card : card + 80] = b"BITPIX  =                   17".ljust(80)
    path.write_bytes(raw)


def cut_data(path: Path, hdu: int) -> None:
    """Take a block of the data of an HDU out of the file; what follows moves forward."""
    raw = path.read_bytes()
    end = (*_starts(raw), len(raw))[hdu + 1]
    path.write_bytes(raw[: end - BLOCK] + raw[end:])


def cut_file(path: Path, hdu: int) -> None:
    """End the file within the data of an HDU."""
    raw = path.read_bytes()
    end = (*_starts(raw), len(raw))[hdu + 1]
    path.write_bytes(raw[: end - BLOCK])


def _starts(raw: bytes | bytearray) -> list[int]:
    """Where the HDUs begin."""
    blocks = range(0, len(raw), BLOCK)
    return [at for at in blocks if raw[at : at + 8] in (b"SIMPLE  ", b"XTENSION")]
