"""What the raw frames and masters of these tests are made of."""

from __future__ import annotations

import numpy as np
import xarray as xr

N, NY, NX = 3, 20, 32
GAINS, NOISES, TIMES = [1.5, 1.5, 2.0], [5.0, 6.0, 5.0], [60.0, 120.0, 61.0]


def raw_images() -> np.ndarray:
    rng = np.random.default_rng(11)
    level = 1000 + 3 * np.arange(NY)[:, None]
    images = rng.normal(level + 4000, 60, (N, NY, NX))
    images[:, :, 26:] = rng.normal(level, 4, (N, NY, 6))
    images[0, 3, 4] = images[2, 7, 8] = 65535
    return images.round().astype(np.uint16)


def make_master(image, shape=(NY, NX), origin=(0, 0), units="adu", **attrs) -> xr.Dataset:
    """A master from a number or an image, with variance and mask as keywords too."""
    planes = {"image": image}
    for plane in ("variance", "variance_shared", "mask"):
        if plane in attrs:
            planes[plane] = attrs.pop(plane)
    variables = {
        name: (("y", "x"), np.broadcast_to(value, shape).copy()) for name, value in planes.items()
    }
    coords = {"y": origin[0] + np.arange(shape[0]), "x": origin[1] + np.arange(shape[1])}
    ds = xr.Dataset(variables, coords, attrs)
    ds["image"].attrs["units"] = units
    return ds
