"""Key figures of a product, for the ledger and the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from daskcal.calibration.robust import MAD_TO_SIGMA
from daskcal.plot import good_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


def key_figures(image: NDArray[np.floating], mask: NDArray[np.uint16] | None) -> dict[str, float]:
    """Median, robust σ and masked fraction of a product, from an even sample of its pixels."""
    good = good_sample(image, mask).astype(np.float64)
    bad = ~np.isfinite(image) if mask is None else (mask != 0) | ~np.isfinite(image)
    median = float(np.median(good)) if good.size else math.nan
    spread = MAD_TO_SIGMA * float(np.median(np.abs(good - median))) if good.size else math.nan
    return {"median": median, "σ (MAD)": spread, "masked_fraction": float(bad.mean())}
