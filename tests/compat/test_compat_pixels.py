"""Bad pixels and cosmic rays of `daskcal.compat.ccdproc` against ccdproc's."""

from __future__ import annotations

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.nddata import CCDData, StdDevUncertainty, VarianceUncertainty
from oracle_ccds import assert_same

import daskcal.compat.ccdproc as compat
from daskcal.errors import (
    ArgumentError,
    DaskcalWarning,
    GeometryError,
    UnitError,
    UnknownKeywordError,
)

SHAPE = (60, 70)
GAIN, NOISE = 1.5 * u.electron / u.adu, 6 * u.electron


def sky(seed: int = 1, *, dtype: str = "f8", mask: bool = False, unit: str = "adu") -> CCDData:
    """A sky with stars, cosmic rays and bad columns."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    data = np.full(SHAPE, 300.0)
    for at_y, at_x, peak in rng.uniform((5, 5, 100), (55, 65, 9000), (8, 3)):
        data += peak * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 4.5)
    data = rng.poisson(data) + rng.normal(0, 5, SHAPE)
    rays = rng.integers((0, 0), SHAPE, (40, 2))
    data[rays[:, 0], rays[:, 1]] += rng.uniform(500, 3000, 40)
    made = CCDData(data.clip(0).astype(dtype), unit=unit, header={"OBJECT": "sky"})
    made.uncertainty = StdDevUncertainty(np.sqrt(made.data + 25.0))
    if mask:
        made.mask = rng.random(SHAPE) < 0.03
    return made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"findbadcolumns": True},
        {"byblocks": True, "findbadcolumns": True},
        {"ncmed": 5, "nlmed": 9, "ncsig": 11, "nlsig": 13, "lsigma": 6, "hsigma": 5, "ngood": 7},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt:RuntimeWarning")
def test_ccdmask(options: dict) -> None:
    ratio = sky()
    ratio.data[10:40, 33] += 2000
    ratio.data[44:50, 33] += 2000
    found = compat.ccdmask(ratio, **options)
    assert found.dtype == bool
    assert found.sum() > 30
    np.testing.assert_array_equal(found, ccdproc.ccdmask(ratio, **options))
    for unit in (u.electron, u.dimensionless_unscaled):
        other = CCDData(ratio.data, unit=unit)
        np.testing.assert_array_equal(compat.ccdmask(other, **options), found)


def test_ccdmask_refuses() -> None:
    for ratio in (sky().data, 10, CCDData(np.ones(5), unit="adu")):
        with pytest.raises(ArgumentError, match="2-D CCDData"):
            compat.ccdmask(ratio)
    with pytest.raises(UnknownKeywordError, match="did you mean 'byblocks'"):
        compat.ccdmask(sky(), byblock=True)


MEDIAN = [{}, {"thresh": 8, "mbox": 7}, {"gbox": 3}, {"rbox": 5, "gbox": 3, "mbox": 9}]


@pytest.mark.parametrize("options", MEDIAN, ids=str)
@pytest.mark.parametrize("mask", [True, False])
def test_cosmicray_median(options: dict, mask: bool) -> None:
    image = sky(mask=mask)
    found = compat.cosmicray_median(image, **options)
    assert_same(found, ccdproc.cosmicray_median(image, **options))
    assert found.mask.sum() > 30
    error = np.full(SHAPE, 25.0)
    assert_same(
        compat.cosmicray_median(image, error_image=error, **options),
        ccdproc.cosmicray_median(image, error_image=error, **options),
    )


@pytest.mark.parametrize("error", [None, 25.0, np.full(SHAPE, 25.0)], ids=["scatter", "one", "all"])
def test_cosmicray_median_of_arrays(error: object) -> None:
    data = sky().data
    for options in MEDIAN:
        found, rays = compat.cosmicray_median(data, error_image=error, **options)
        cleaned, mask = ccdproc.cosmicray_median(data, error_image=error, **options)
        np.testing.assert_array_equal(rays, mask)
        np.testing.assert_array_equal(found, cleaned)


def test_cosmicray_median_where_ccdproc_fails() -> None:
    """Without an uncertainty; with a variance; of integers."""
    image = sky()
    with_sigma = compat.cosmicray_median(image)
    image.uncertainty = VarianceUncertainty(image.uncertainty.array**2)
    np.testing.assert_array_equal(compat.cosmicray_median(image).mask, with_sigma.mask)
    image.uncertainty = None
    found = compat.cosmicray_median(image)
    np.testing.assert_array_equal(found.mask, ccdproc.cosmicray_median(image.data)[1])
    image.data = image.data.astype(np.uint16)
    np.testing.assert_array_equal(compat.cosmicray_median(image).mask, found.mask)
    with pytest.raises(GeometryError, match="error_image is"):
        compat.cosmicray_median(image, error_image=np.ones(3))
    with pytest.raises(ArgumentError, match="expected CCDData or an array"):
        compat.cosmicray_median([1, 2])


LACOSMIC = [
    {},
    {"sigclip": 7, "sigfrac": 0.5, "objlim": 3, "niter": 2, "satlevel": 9000, "sepmed": False},
    {"fsmode": "convolve", "psffwhm": 3.0, "psfsize": 9, "cleantype": "idw"},
    {"fsmode": "convolve", "psfk": np.full((5, 5), 0.04, "f4")},
    {"inbkg": np.full(SHAPE, 100, "f4"), "invar": np.full(SHAPE, 300, "f4")},
]


@pytest.mark.parametrize("options", LACOSMIC, ids=lambda options: ", ".join(options) or "defaults")
@pytest.mark.parametrize(("mask", "dtype"), [(True, "f4"), (False, "f8")])
def test_cosmicray_lacosmic(options: dict, mask: bool, dtype: str) -> None:
    image = sky(mask=mask, dtype=dtype)
    image.uncertainty = None  # ccdproc 2.5 leaves it as it is: see below
    gains = {"gain": GAIN, "readnoise": NOISE}
    found = compat.cosmicray_lacosmic(image, **gains, **options)
    assert_same(found, ccdproc.cosmicray_lacosmic(image, **gains, **options))
    assert found.unit == u.electron
    assert found.mask.sum() > 20
    cleaned, rays = compat.cosmicray_lacosmic(image.data, gain=1.5, readnoise=6, **options)
    data, crs = ccdproc.cosmicray_lacosmic(image.data, gain=1.5, readnoise=6, **options)
    np.testing.assert_array_equal(cleaned, data)
    np.testing.assert_array_equal(rays, crs)


def test_gain_and_uncertainty() -> None:
    image = sky()
    applied = compat.cosmicray_lacosmic(image, gain=GAIN, readnoise=NOISE)
    np.testing.assert_allclose(applied.uncertainty.array, 1.5 * image.uncertainty.array)
    assert applied.unit == u.electron
    left = compat.cosmicray_lacosmic(image, gain=GAIN, readnoise=NOISE, gain_apply=False)
    expected = ccdproc.cosmicray_lacosmic(image, gain=GAIN, readnoise=NOISE, gain_apply=False)
    np.testing.assert_array_equal(left.data, expected.data)
    np.testing.assert_array_equal(left.uncertainty.array, image.uncertainty.array)
    assert left.unit == u.adu
    assert expected.unit == u.electron  # of values in adu


def test_units_of_gain_and_noise() -> None:
    electrons = sky(unit="electron")
    electrons.uncertainty = None
    assert_same(compat.cosmicray_lacosmic(electrons), ccdproc.cosmicray_lacosmic(electrons))
    with pytest.warns(DaskcalWarning, match="applied again"):
        compat.cosmicray_lacosmic(electrons, gain=2.0)
    with pytest.raises(UnitError, match="is not a read noise in"):
        compat.cosmicray_lacosmic(sky(), gain=2 * u.s)
    with pytest.raises(ArgumentError, match="pssl"):
        compat.cosmicray_lacosmic(sky(), pssl=3, inbkg=np.ones(SHAPE, "f4"))
    with pytest.raises(UnknownKeywordError, match="did you mean 'sigclip'"):
        compat.cosmicray_lacosmic(sky(), sigclipp=4)


@pytest.mark.filterwarnings("ignore:The keyword argument pssl:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*pssl.*")
def test_sky_that_was_subtracted() -> None:
    image = sky()
    image.uncertainty = None
    image.data -= 250
    options = {"gain": GAIN, "readnoise": NOISE, "pssl": 250.0}
    assert_same(
        compat.cosmicray_lacosmic(image, **options), ccdproc.cosmicray_lacosmic(image, **options)
    )
