"""numpy and astropy alone: the whole stack in float64, as many write it themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip


def combine(folder: str, out: str) -> None:
    """Average with a 5σ median/MAD clip until nothing changes, of the stack in memory."""
    stack = np.stack([fits.getdata(path).astype(np.float64) for path in sorted_files(folder)])
    clipped = sigma_clip(
        stack, sigma=5, cenfunc="median", stdfunc="mad_std", maxiters=None, axis=0,
        masked=False, copy=False,
    )  # fmt: skip
    fits.writeto(out, np.nanmean(clipped, axis=0), overwrite=True)


def headers(folder: str) -> None:
    """Parse all headers, one file after the other."""
    for path in sorted_files(folder):
        dict(fits.getheader(path))


def unpack(folder: str, hdu: int) -> None:
    """Decompress all images, one after the other."""
    for path in sorted_files(folder):
        fits.getdata(path, hdu)


def sorted_files(folder: str) -> list[Path]:
    """The files of a folder by name."""
    return sorted(Path(folder).iterdir())
