"""`combine` against ccdproc.combine and astropy's sigma_clip, and where it differs on purpose.

Differences, each with a test that names it:

- ccdproc clips before it scales; daskcal scales first.
- ccdproc's clipping statistics and callable scales see masked values; daskcal's do not.
- ccdproc clips once; daskcal as often as `maxiters` says, like astropy.
- ccdproc's sum leaves rejected values out; daskcal's is n times the mean of the survivors.
- ccdproc's clip_extrema counts masked values among the extremes that go; daskcal takes the same
  fraction of what is left, like IRAF.
- ccdproc's uncertainty has ddof 0; daskcal's variance has ddof 1.
"""

from __future__ import annotations

from collections.abc import Callable

import ccdproc
import numpy as np
import pytest
import xarray as xr
from astropy.nddata import CCDData
from astropy.stats import mad_std, sigma_clip

import daskcal

# numpy's nan-functions, which ccdproc takes where bottleneck is absent, warn of all-NaN pixels
pytestmark = [
    pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Degrees of freedom <= 0 for slice:RuntimeWarning"),
]
SHAPE = (10, 24, 30)
NO_DATA = 16
RTOL = 2 * float(np.finfo(np.float32).eps)  # one rounding of a scaled value, one of the result
CENTERS = {"median": np.ma.median, "mean": np.ma.mean}
SPREADS = {"mad_std": mad_std, "std": np.ma.std}


def sample(spread: float) -> np.ndarray:
    """Values about 1000 with outliers on both sides."""
    rng = np.random.default_rng(5)
    stack = rng.normal(1000, spread, SHAPE)
    outliers = rng.random(SHAPE) < 0.04
    stack[outliers] += rng.choice([-1, 1], outliers.sum()) * rng.uniform(20, 500, outliers.sum())
    return stack.astype(np.float32)


@pytest.fixture(params=["floats", "integers"])
def values(request: pytest.FixtureRequest) -> np.ndarray:
    """Integers have ties, and often a MAD of 0."""
    return sample(3) if request.param == "floats" else np.rint(sample(0.7))


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.random.default_rng(6).random(SHAPE) < 0.1
    mask[:, 3, 4] = True  # nothing left here
    mask[1:, 5, 6] = True  # and one value here
    return mask


def ccds(values: np.ndarray, mask: np.ndarray | None = None) -> list[CCDData]:
    masks = [None] * len(values) if mask is None else list(mask)
    return [CCDData(v, mask=m, unit="adu") for v, m in zip(values, masks, strict=True)]


def ours(values: np.ndarray, mask: np.ndarray | None = None, **options: object) -> xr.Dataset:
    return daskcal.combine(daskcal.from_ccddata(ccds(values, mask)), **options).compute()


def theirs(values: np.ndarray, mask: np.ndarray | None = None, **options: object) -> CCDData:
    stack = [CCDData(c.data.astype(float), mask=c.mask, unit="adu") for c in ccds(values, mask)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ccdproc.combine(stack, **options)


def assert_image(image: xr.DataArray | np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(image), expected, rtol=RTOL, atol=0)


def clipped(
    stack: np.ndarray, mask: np.ndarray | None, **options: object
) -> tuple[np.ma.MaskedArray, np.ndarray, np.ndarray]:
    """The survivors by astropy, in float64, and the bounds they lie in."""
    data = np.ma.array(stack.astype(float), mask=mask)
    return sigma_clip(data, axis=0, return_bounds=True, **options)


# --- methods and masks --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning")
@pytest.mark.parametrize("method", ["average", "median"])
def test_methods_and_masks(values: np.ndarray, mask: np.ndarray, method: str) -> None:
    combined = ours(values, mask, method=method, reject=None)
    expected = theirs(values, mask, method=method)
    empty = mask.all(axis=0)
    np.testing.assert_array_equal(expected.mask, empty)
    np.testing.assert_array_equal((combined["mask"].values & NO_DATA) != 0, empty)
    assert np.isnan(combined["image"].values[empty]).all()
    assert_image(combined["image"].values[~empty], expected.data[~empty])
    np.testing.assert_array_equal(combined["n_used"], (~mask).sum(axis=0))


@pytest.mark.parametrize("method", ["average", "median", "sum"])
def test_methods_without_masks(values: np.ndarray, method: str) -> None:
    combined = ours(values, method=method, reject=None)
    assert_image(combined["image"], theirs(values, method=method).data)


def test_sum_makes_up_for_what_is_left_out(values: np.ndarray, mask: np.ndarray) -> None:
    mask = mask & ~mask.all(axis=0)
    combined = ours(values, mask, method="sum", reject=None)
    short = theirs(values, mask, method="sum").data
    assert_image(combined["image"], short * len(values) / (~mask).sum(axis=0))


def test_variance_has_ddof_1(values: np.ndarray) -> None:
    combined = ours(values, reject=None)
    n = len(values)
    expected = np.square(theirs(values).uncertainty.array) * n / (n - 1)
    np.testing.assert_allclose(combined["variance"], expected, rtol=1e-5)


# --- scales -------------------------------------------------------------------------------------


def inv_median(image: np.ndarray) -> float:
    return 1 / float(np.median(image))


@pytest.mark.parametrize(
    ("scale", "their_scale"),
    [
        ("median", inv_median),
        (inv_median, inv_median),
        ("mean", lambda image: 1 / np.mean(image)),
        (np.linspace(0.5, 2, SHAPE[0]), np.linspace(0.5, 2, SHAPE[0])),
    ],
    ids=["median", "callable", "mean", "numbers"],
)
@pytest.mark.parametrize("method", ["average", "median"])
def test_scales(
    values: np.ndarray,
    scale: str | Callable[[np.ndarray], float] | np.ndarray,
    their_scale: Callable[[np.ndarray], float] | np.ndarray,
    method: str,
) -> None:
    levels = values * np.linspace(0.2, 3, len(values), dtype=np.float32)[:, None, None]
    combined = ours(levels, method=method, reject=None, scale=scale)
    assert_image(combined["image"], theirs(levels, method=method, scale=their_scale).data)


def test_scales_do_not_see_masked_values(values: np.ndarray, mask: np.ndarray) -> None:
    mask = mask & ~mask.all(axis=0)
    wild = np.where(mask, np.float32(1e6), values)
    factors = [1 / np.median(v[~m].astype(float)) for v, m in zip(values, mask, strict=True)]
    for scale in ("median", inv_median, factors):
        combined = ours(wild, mask, reject=None, scale=scale)
        assert_image(combined["image"], theirs(wild, mask, scale=factors).data)


# --- sigma clipping -----------------------------------------------------------------------------


def their_clip(
    low: float, high: float, center: str = "median", spread: str = "mad_std"
) -> dict[str, object]:
    return {
        "sigma_clip": True,
        "sigma_clip_low_thresh": low,
        "sigma_clip_high_thresh": high,
        "sigma_clip_func": CENTERS[center],
        "sigma_clip_dev_func": SPREADS[spread],
    }


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize(("low", "high"), [(5.0, 5.0), (2.0, 3.0)])
@pytest.mark.parametrize("method", ["average", "median"])
def test_sigma_clipping_once(
    values: np.ndarray, method: str, low: float, high: float, center: str, spread: str
) -> None:
    combined = ours(
        values, method=method, low=low, high=high, center=center, spread=spread, maxiters=1,
        sigma_floor=0,
    )  # fmt: skip
    expected = theirs(values, method=method, **their_clip(low, high, center, spread))
    assert_image(combined["image"], expected.data)


@pytest.mark.parametrize("maxiters", [1, 2, None])
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("center", CENTERS)
def test_sigma_clipping_with_masks(
    values: np.ndarray, mask: np.ndarray, center: str, spread: str, maxiters: int | None
) -> None:
    """Against astropy, which can iterate, and whose masked arrays keep masked values out."""
    options = {"center": center, "spread": spread, "maxiters": maxiters, "sigma_floor": 0}
    combined = ours(values, mask, low=3, high=2.5, **options)
    kept, lower, upper = clipped(
        values, mask, sigma_lower=3, sigma_upper=2.5, maxiters=maxiters, cenfunc=center,
        stdfunc=spread,
    )  # fmt: skip
    lost = np.ma.getmaskarray(kept) & ~mask
    assert lost.sum() > 100
    np.testing.assert_array_equal(combined["n_used"], (~np.ma.getmaskarray(kept)).sum(axis=0))
    np.testing.assert_array_equal(combined["n_low"], (lost & (values < lower)).sum(axis=0))
    np.testing.assert_array_equal(combined["n_high"], (lost & (values > upper)).sum(axis=0))
    assert_image(combined["image"], kept.mean(axis=0).filled(np.nan))


def test_a_side_can_be_off(values: np.ndarray) -> None:
    combined = ours(values, low=None, high=3, maxiters=1, sigma_floor=0)
    stack = values.astype(float)
    bound = np.median(stack, axis=0) + 3 * mad_std(stack, axis=0)
    kept = np.ma.array(stack, mask=stack > bound)
    assert_image(combined["image"], kept.mean(axis=0).data)
    assert not combined["n_low"].any()
    np.testing.assert_array_equal(combined["n_high"], kept.mask.sum(axis=0))


def test_clipping_does_not_see_masked_values() -> None:
    """Ten values and two wild masked ones: ccdproc's standard deviation takes them in."""
    stack = np.full((12, 4, 4), 10, np.float32)
    stack[:10] += np.arange(10, dtype=np.float32)[:, None, None] / 10
    stack[9] = 30  # an outlier among them
    stack[10:] = 1e6
    mask = np.zeros(stack.shape, bool)
    mask[10:] = True
    options = {"low": 2.5, "high": 2.5, "center": "mean", "spread": "std", "maxiters": 1}
    combined = ours(stack, mask, sigma_floor=0, **options)
    assert (combined["n_used"].values == 9).all()
    assert_image(combined["image"], stack[:9].mean(axis=0, dtype=float))
    left_in = theirs(stack, mask, **their_clip(2.5, 2.5, "mean", "std")).data
    assert_image(left_in, stack[:10].mean(axis=0, dtype=float))


def test_scaled_before_clipping() -> None:
    """Flats of different level: ccdproc clips good values of the brightest and the faintest."""
    values = sample(3)
    scales = 1 / np.linspace(0.1, 3, len(values)) ** 2
    levels = (values / scales[:, None, None]).astype(np.float32)
    combined = ours(levels, low=5, high=5, maxiters=1, sigma_floor=0, scale=scales)
    scaled = levels.astype(float) * scales[:, None, None]
    kept, _, _ = clipped(scaled, None, sigma=5, maxiters=1, cenfunc="median", stdfunc="mad_std")
    lost = np.ma.getmaskarray(kept)
    np.testing.assert_array_equal(combined["n_used"], (~lost).sum(axis=0))
    assert_image(combined["image"], kept.mean(axis=0).data)
    unscaled = theirs(levels, scale=scales, **their_clip(5, 5)).data
    assert (np.abs(unscaled / kept.mean(axis=0).data - 1) > 0.005).mean() > 0.2


# --- minmax -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_low", "n_high"), [(1, 1), (0, 2), (3, 0), (4, 5)])
@pytest.mark.parametrize("method", ["average", "median"])
def test_minmax(values: np.ndarray, method: str, n_low: int, n_high: int) -> None:
    combined = ours(values, method=method, reject="minmax", n_low=n_low, n_high=n_high)
    expected = theirs(values, method=method, clip_extrema=True, nlow=n_low, nhigh=n_high)
    assert_image(combined["image"], expected.data)
    assert (combined["n_used"].values == len(values) - n_low - n_high).all()
    assert (combined["n_low"].values == n_low).all()
    assert (combined["n_high"].values == n_high).all()


def test_minmax_takes_masked_values_out_first() -> None:
    """The masked value is the highest: ccdproc counts it as the one that goes."""
    stack = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 3, 3), np.float32)
    mask = np.zeros(stack.shape, bool)
    mask[9] = True
    combined = ours(stack, mask, reject="minmax", n_low=1, n_high=1)
    assert_image(combined["image"], np.full((3, 3), np.mean(np.arange(1, 8))))  # 0 and 8 are gone
    counted = theirs(stack, mask, clip_extrema=True, nlow=1, nhigh=1).data
    assert_image(counted, np.full((3, 3), np.mean(np.arange(1, 9))))  # 8 stays
