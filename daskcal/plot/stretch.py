"""From value to grey: the same for a PNG and for Axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from daskcal.errors import ArgumentError, choose

STRETCHES = ("linear", "sqrt", "asinh", "log")
UNDEFINED_COLOUR = (74, 106, 142)  # where no good pixel lies; a muted blue, never a grey
_OUTLIER = 10.0  # median absolute deviations from the median: not part of the stretch


def check_stretch(stretch: str, percent: float, max_size: int) -> None:
    """Refuse what a picture cannot be drawn with, before a pixel is read."""
    choose("stretch", stretch, STRETCHES)
    if not 0 < percent <= 100:
        raise ArgumentError(f"percent={percent} is not above 0 and at most 100")
    if max_size < 1:
        raise ArgumentError(f"max_size={max_size} is not at least 1 pixel")


def grey_limits(values: np.ndarray, percent: float) -> tuple[float, float]:
    """The values shown black and white."""
    from astropy.visualization import PercentileInterval

    # a bad row or a field of bright stars is often more than 1 % of a picture
    distance = np.abs(values - np.median(values))
    near = values[distance <= _OUTLIER * np.median(distance)]
    for chosen, share in ((near, percent), (values, percent), (values, 100.0)):
        low, high = PercentileInterval(share).get_limits(chosen)
        if high > low:
            break
    return float(low), float(high)


def curve(stretch: str) -> Any:
    """astropy's function from 0 … 1 to 0 … 1."""
    from astropy.visualization import AsinhStretch, LinearStretch, LogStretch, SqrtStretch

    return {
        "linear": LinearStretch,
        "sqrt": SqrtStretch,
        "asinh": AsinhStretch,
        "log": LogStretch,
    }[stretch]()
