"""Bad pixels of a ratio of flats: what daskcal finds is what ccdproc finds."""

from __future__ import annotations

import warnings

import ccdproc
import numpy as np
import pytest
from astropy.nddata import CCDData
from raw_fits import no_computing

import daskcal


def ratio(scale, seed=3):
    """A ratio of flats with bad pixels, a bad column, one with gaps, and the edges among them."""
    rng = np.random.default_rng(seed)
    image = 1 + scale * rng.normal(0, 0.02, (72, 86))
    image[10, :3] = image[-1, -1] = image[0, 40] = 5 * scale
    image[20:50:3, 33] -= 10 * scale
    image[60:72:4, 12] += 3 * scale
    image[:, 50] += 0.3 * scale
    image[30, 60:64] = 0
    return image


@pytest.mark.parametrize("scale", [1.0, 0.01, 80.0])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("byblocks", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ncmed": 3, "nlmed": 5, "ncsig": 11, "nlsig": 20},
        {"lsigma": 4, "hsigma": 6.5, "ngood": 2},
        {"ngood": 9},
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_ccdmask_is_ccdprocs(scale, columns, byblocks, options, dtype):
    image = ratio(scale).astype(dtype)
    given = {"findbadcolumns": columns, "byblocks": byblocks, **options}
    ccd = CCDData(image, unit="")
    with warnings.catch_warnings():  # of ccdproc's own roots of negative numbers
        warnings.simplefilter("ignore")
        expected = ccdproc.ccdmask(ccd, **given)
    with no_computing():
        mask = daskcal.ccdmask(ccd, **given)
    np.testing.assert_array_equal(mask.image.values, np.where(expected, 1, 0))
    assert expected.sum() >= 10
