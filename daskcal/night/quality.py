"""What a night's own frames say of the camera, held against the headers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.plot import good_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = 3  # of bias frames that are compared: more would only repeat what they say
DISAGREES = 0.15  # fraction by which a measured read noise may differ from the header's
_SIGMA = 1.482602218505602  # σ of a normal distribution over its median absolute deviation


def clipped_std(values: NDArray[np.floating], sigmas: float = 5.0) -> float:
    """Standard deviation of what lies within `sigmas` of the median, until nothing changes."""
    kept = values[np.isfinite(values)].astype(np.float64)
    centre = float(np.median(kept)) if kept.size else math.nan
    spread = _SIGMA * float(np.median(np.abs(kept - centre))) if kept.size else math.nan
    while kept.size:
        inside = kept[np.abs(kept - centre) <= sigmas * spread]
        centre, spread = float(np.median(inside)), float(inside.std())
        if inside.size == kept.size:
            return spread
        kept = inside
    return math.nan


def pair_noise(frames: xr.Dataset) -> float:
    """Read noise of calibrated bias frames, in their unit: std of pairs' differences over √2.

    Parameters
    ----------
    frames : xarray.Dataset
        Bias frames (frame, y, x) without overscan; NaN comes back for fewer than two.
    """
    pairs = min(PAIRS, frames.sizes["frame"] // 2)
    found = []
    for i in range(pairs):
        pair = frames["image"].isel(frame=slice(2 * i, 2 * i + 2)).values.astype(np.float64)
        found.append(clipped_std(pair[1] - pair[0]) / math.sqrt(2))
    return float(np.median(found)) if found else math.nan


def noise_message(frames: xr.Dataset, name: str) -> str | None:
    """A line on the read noise that bias frames show, where it is not what their headers say."""
    measured = pair_noise(frames)
    unit = str(frames["image"].attrs.get("units", ""))
    gain = 1.0 if unit == "electron" else float(frames["gain"].values[0])
    said = float(frames["rdnoise"].values[0])
    expected = said / gain
    if not (math.isfinite(measured) and math.isfinite(expected)):
        return None
    if abs(measured - expected) <= DISAGREES * expected:
        return None
    says = f"{said:g} electron" + ("" if unit == "electron" else f" / {gain:g} electron/adu")
    return (
        f"{name}: the read noise measured from pairs is {measured:.2f} {unit}; "
        f"the header (or config) says {says} = {expected:.2f} {unit}, which disagrees: "
        "uncertainties follow the header; [instrument] gain and rdnoise in the config mend it"
    )


def key_figures(image: NDArray[np.floating], mask: NDArray[np.uint16] | None) -> dict[str, float]:
    """Median, robust σ and masked fraction of a product, from an even sample of its pixels."""
    good = good_sample(image, mask).astype(np.float64)
    bad = ~np.isfinite(image) if mask is None else (mask != 0) | ~np.isfinite(image)
    median = float(np.median(good)) if good.size else math.nan
    spread = _SIGMA * float(np.median(np.abs(good - median))) if good.size else math.nan
    return {"median": median, "σ (MAD)": spread, "masked_fraction": float(bad.mean())}
