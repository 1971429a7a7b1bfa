"""Key figures of a product, for the ledger and the report."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskcal.calibration.robust import MAD_TO_SIGMA
from daskcal.fits.frame import read_frame
from daskcal.fits.whole import at_hand

_SAMPLE = 1_000_000  # pixels behind a median at least, where there are so many
_HUGE = 1e300  # differences of larger numbers are none


Seen = tuple[dict[str, float], str]


def figures_of(path: str) -> Seen:
    """Key figures and fingerprint of a product."""
    from daskcal.plot import read_image  # which workers need not hold to make a product

    with at_hand(path) as here:
        return key_figures(*read_image(here)), read_frame(here).fingerprint


def key_figures(image: NDArray[Any], mask: NDArray[Any] | None) -> dict[str, float]:
    """Median, robust σ and masked fraction of a product, from an even sample of its pixels."""
    figures = Figures(image.shape)
    figures.add(slice(0, len(image)), image, mask)
    return figures.found()


@dataclass
class Figures:
    """The same of a product of some `shape` that is seen band by band, first rows first."""

    shape: tuple[int, ...]
    _bad: int = 0
    _good: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, rows: slice, image: NDArray[Any], mask: NDArray[Any] | None) -> None:
        """Some rows, and their mask where the product has one."""
        bad = ~np.isfinite(image)
        if mask is not None:
            bad |= mask != 0
        self._bad += int(np.count_nonzero(bad))
        step = max(1, math.isqrt(math.prod(self.shape) // _SAMPLE))
        taken = slice(-rows.start % step, None, step), slice(None, None, step)
        values = image[taken].astype(np.float64)
        self._good.append(values[~bad[taken] & (np.abs(values) < _HUGE)])

    def found(self) -> dict[str, float]:
        """Of what was seen."""
        good = np.concatenate(self._good)
        median = float(np.median(good)) if good.size else math.nan
        spread = MAD_TO_SIGMA * float(np.median(np.abs(good - median))) if good.size else math.nan
        masked = self._bad / math.prod(self.shape)
        return {"median": median, "σ (MAD)": spread, "masked_fraction": masked}
