"""Random images for ccdproc and for `daskcal.compat.ccdproc`, and what it means to be the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    NDUncertainty,
    StdDevUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS

SHAPE = (24, 30)
KINDS: dict[str, type[NDUncertainty]] = {
    "std": StdDevUncertainty,
    "variance": VarianceUncertainty,
    "inverse": InverseVariance,
}


def wcs() -> WCS:
    """A tangential projection."""
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crpix, made.wcs.crval, made.wcs.cdelt = [15, 12], [180, 30], [-1e-4, 1e-4]
    return made


def random_ccd(
    seed: int,
    level: float = 1000,
    *,
    uncertainty: str | None = "std",
    mask: bool = True,
    dtype: str = "f8",
    unit: Any = u.adu,
    with_wcs: bool = False,
    **cards: Any,
) -> CCDData:
    """Noise about a level, with a few outliers."""
    rng = np.random.default_rng(seed)
    data = rng.normal(level, 5, SHAPE)
    data[rng.random(SHAPE) < 0.03] += 200
    made = CCDData(data.astype(dtype), unit=unit)
    if uncertainty is not None:
        sigma = StdDevUncertainty(rng.uniform(3, 7, SHAPE).astype(dtype if dtype != "u2" else "f8"))
        made.uncertainty = sigma.represent_as(KINDS[uncertainty])
    if mask:
        made.mask = rng.random(SHAPE) < 0.05
    if with_wcs:
        made.wcs = wcs()
    made.header = fits.Header({"EXPTIME": 30.0, "FILTER": "r", **cards})
    return made


def assert_same(found: CCDData, expected: CCDData, *, rtol: float = 0, cards: bool = True) -> None:
    """Values, uncertainty, mask, unit, WCS and header."""
    np.testing.assert_allclose(found.data, expected.data, rtol=rtol, atol=0)
    assert found.data.dtype == expected.data.dtype
    assert found.unit == expected.unit
    if expected.uncertainty is None:
        assert found.uncertainty is None
    else:
        assert type(found.uncertainty) is type(expected.uncertainty)
        np.testing.assert_allclose(
            found.uncertainty.array, expected.uncertainty.array, rtol=rtol, atol=0
        )
    if expected.mask is None:
        assert found.mask is None
    else:
        np.testing.assert_array_equal(found.mask, expected.mask)
    assert (found.wcs is None) == (expected.wcs is None)
    if expected.wcs is not None:
        assert found.wcs.to_header_string() == expected.wcs.to_header_string()
    if cards:
        assert dict(found.meta) == dict(expected.meta)
