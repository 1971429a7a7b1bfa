"""Whether results are right: a benchmark of a wrong result is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits


def agreement(
    first: str, second: str, within: float, factor: float = 1.0, scaled: bool = False
) -> float:
    """Share of pixels whose values in two files differ by `within` at most.

    Those of the second are multiplied by `factor` first; `scaled`, by what makes the medians equal.
    """
    one, two = _image(first), _image(second) * factor
    if one.shape != two.shape:
        raise ValueError(f"{first} is {one.shape}, {second} is {two.shape}")
    if scaled:
        two *= np.median(one) / np.median(two)
    return float(np.mean(np.abs(one - two) <= within))


def flatness(folder: str, signal: float) -> float:
    """The largest distance, relative to `signal`, of the frames' medians from it."""
    paths = [Path(folder)] if Path(folder).is_file() else sorted(Path(folder).iterdir())
    return max(abs(float(np.nanmedian(_image(str(path)))) / signal - 1) for path in paths)


def _image(path: str) -> np.ndarray:
    """The first image of a file, float64."""
    with fits.open(path) as hdus:
        return next(hdu.data for hdu in hdus if hdu.data is not None).astype(np.float64)
