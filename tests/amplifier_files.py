"""Files of detectors with several amplifiers, cut out of an image of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits


@dataclass(frozen=True)
class Amp:
    """Rows and columns of a detector, 0-based, and how its HDU holds them."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def detector_section(self) -> str:
        def text(span: tuple[int, int], flip: bool) -> str:
            first, last = span[0] + 1, span[1]
            return f"{last}:{first}" if flip else f"{first}:{last}"

        columns, rows = text(self.columns, self.flip_columns), text(self.rows, self.flip_rows)
        return f"[{columns},{rows}]"

    def cut(self, detector: np.ndarray) -> np.ndarray:
        light = detector[slice(*self.rows), slice(*self.columns)]
        turn = slice(None, None, -1 if self.flip_rows else 1)
        return light[turn, :: -1 if self.flip_columns else 1]


def quadrants(ny: int, nx: int) -> list[Amp]:
    """Four amplifiers, each read from its corner."""
    h, w = ny // 2, nx // 2
    return [
        Amp((0, h), (0, w)),
        Amp((0, h), (w, nx), flip_columns=True),
        Amp((h, ny), (0, w), flip_rows=True),
        Amp((h, ny), (w, nx), flip_rows=True, flip_columns=True),
    ]


def write_mef(
    path: Path,
    detector: np.ndarray,
    amps: Sequence[Amp],
    dark: Sequence[np.ndarray] | None = None,
    prescan: int = 3,
    cards: Sequence[dict[str, Any]] = (),
    **primary: Any,
) -> Path:
    """One HDU for each amplifier: prescan columns, its pixels, its overscan `dark` (rows, n)."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update({"IMAGETYP": "object", "BUNIT": "adu", "EXPTIME": 1.0, **primary})
    for i, amp in enumerate(amps):
        light = amp.cut(detector)
        ny, nx = light.shape
        parts = [np.full((ny, prescan), 7, detector.dtype), light]
        if dark is not None:
            over = dark[i][slice(*amp.rows)]
            parts.append(over[::-1] if amp.flip_rows else over)
        hdu = fits.ImageHDU(np.hstack(parts).astype(detector.dtype), name=f"SEG{i}")
        hdu.header["DATASEC"] = f"[{prescan + 1}:{prescan + nx},1:{ny}]"
        if dark is not None:
            width = prescan + nx + parts[-1].shape[1]
            hdu.header["BIASSEC"] = f"[{prescan + nx + 1}:{width}, 1 : {ny}]"
        hdu.header["DETSEC"] = amp.detector_section
        for key, value in (cards[i] if cards else {}).items():
            if value is None:
                hdu.header.remove(key)
            else:
                hdu.header[key] = value
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
    return path
