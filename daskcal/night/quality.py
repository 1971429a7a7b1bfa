"""What a night's own frames say of the camera, held against the headers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.calibration import measure_noise
from daskcal.calibration.robust import MAD_TO_SIGMA
from daskcal.frames.amplifiers import amplifiers, own_values
from daskcal.plot import good_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = 3  # of bias frames that are compared: more would only repeat what they say
DISAGREES = 0.15  # fraction by which a measured read noise may differ from the header's


def noise_messages(raw: xr.Dataset, name: str) -> Iterator[str]:
    """A line for each amplifier whose read noise is not what headers or config say.

    Parameters
    ----------
    raw : xarray.Dataset
        The raw bias frames of the master called `name`; a few of them are read.
    """
    some = raw.isel(frame=slice(2 * PAIRS))
    unit = str(some["image"].attrs.get("units", ""))
    if some.sizes["frame"] < 2 or unit not in ("adu", "electron"):
        return
    in_adu = some.assign(image=some["image"].assign_attrs(units="adu"))  # electron: of gain 1
    measured = np.atleast_1d(measure_noise(in_adu).compute()["rdnoise_adu"].values)
    found = amplifiers(raw)
    gains = np.ones(len(measured)) if unit == "electron" else own_values(some, "gain")[0]
    noises = own_values(some, "rdnoise")[0]
    names = [f", amplifier {amp.name}" for amp in found] or [""]
    for amp, seen, gain, said in zip(names, measured, gains, noises, strict=True):
        expected = said / gain
        if abs(seen - expected) > DISAGREES * expected:  # never where one is not known
            over = "" if unit == "electron" else f" / {gain:g} electron/adu"
            yield (
                f"{name}{amp}: the read noise measured from pairs is {seen:.2f} {unit}; the header "
                f"(or config) says {said:g} electron{over} = {expected:.2f} {unit}, which "
                "disagrees: uncertainties follow the header; [instrument] gain and rdnoise in the "
                "config mend it"
            )


def key_figures(image: NDArray[np.floating], mask: NDArray[np.uint16] | None) -> dict[str, float]:
    """Median, robust σ and masked fraction of a product, from an even sample of its pixels."""
    good = good_sample(image, mask).astype(np.float64)
    bad = ~np.isfinite(image) if mask is None else (mask != 0) | ~np.isfinite(image)
    median = float(np.median(good)) if good.size else math.nan
    spread = MAD_TO_SIGMA * float(np.median(np.abs(good - median))) if good.size else math.nan
    return {"median": median, "σ (MAD)": spread, "masked_fraction": float(bad.mean())}
