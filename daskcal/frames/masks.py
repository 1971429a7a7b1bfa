"""The bit planes of a mask: names, numbers and the attributes that tell others what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr


class Flag:
    """Why a pixel is not to be used; 0 is good."""

    BAD: Final = np.uint16(1)
    HOT: Final = np.uint16(2)
    SATURATED: Final = np.uint16(4)
    NONLINEAR: Final = np.uint16(8)
    NO_DATA: Final = np.uint16(16)
    COSMIC_RAY: Final = np.uint16(32)
    LOW_FLAT: Final = np.uint16(64)
    CLIPPED: Final = np.uint16(128)


FLAGS = {name.lower(): value for name, value in vars(Flag).items() if name.isupper()}
MASK_ATTRS = {  # CF conventions, section 3.5
    "long_name": "bad pixels, 0 = good",
    "flag_masks": np.array(list(FLAGS.values()), dtype=np.uint16),
    "flag_meanings": " ".join(FLAGS),
}


def mask_dataset(
    bits: Any, coords: Any, file: str, checksum: str, steps: Sequence[str] = ()
) -> xr.Dataset:
    """A mask of a detector: ``image (y, x)`` of bit planes; `file` is its name in records."""
    image = xr.Variable(("y", "x"), bits, {**MASK_ATTRS, "long_name": "bad pixels of a detector"})
    attrs = {"file": file, "checksum": checksum, "steps": list(steps)}
    return xr.Dataset({"image": image}, coords, attrs)


def has_reasons(mask: xr.Dataset) -> bool:
    """Whether a mask is of bit planes, and not just 0 where a pixel is good."""
    return "flag_meanings" in mask["image"].attrs
