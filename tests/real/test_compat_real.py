"""ccdproc's `combine` and daskcal's stand-in for it, on real frames: the same to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ccdproc
import numpy as np
import pytest

import daskcal.compat.ccdproc as compat

SETS = {
    "biases": ("lowell_hall42_5945", "zero/*"),
    "flats": ("lowell_hall42_5945", "flat/*"),
    "darks": ("uoft_st7_darks", "ast325/Lab 2/*"),
}
CLIPPING = {
    "unit": "adu",
    "sigma_clip": True,
    "sigma_clip_low_thresh": 5,
    "sigma_clip_high_thresh": 5,
    "sigma_clip_func": "median",
    "sigma_clip_dev_func": "mad_std",
}

pytestmark = [
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
    pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning"),
]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("scaled", [True, False])
def test_combine(realdata: Callable[[str], Path], name: str, scaled: bool) -> None:
    folder, files = SETS[name]
    paths = sorted(str(path) for path in realdata(folder).glob(files))[:5]
    assert len(paths) == 5
    options = CLIPPING | ({"scale": lambda image: 1 / np.mean(image)} if scaled else {})
    found = compat.combine(paths, mem_limit=50e6, **options)
    expected = ccdproc.combine(paths, **options)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-13)
    np.testing.assert_allclose(
        found.uncertainty.array, expected.uncertainty.array, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_array_equal(found.mask, expected.mask)
    cards = dict(found.meta)
    assert cards.pop("NCOMBINE") == 5
    assert cards == dict(expected.meta)
