"""combine() as its users call it, against float64 numpy; and what it refuses."""

from __future__ import annotations

import json
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_reference import combine_reference

import daskcal
from daskcal.combination import MinMax, NoRejection, SigmaClip, combine, reject
from daskcal.combination.kernels import Reject, working_dtype
from daskcal.errors import (
    ArgumentError,
    CalibrationError,
    UnitError,
    UnknownKeywordError,
)

RNG = np.random.default_rng(11)
DTYPES = ["u1", "u2", "i2", "i1", "f4", "u4", "i4", "f8", ">i2", ">f4", ">f8"]


@contextmanager
def nothing_is_read():
    """Fail when anything is computed."""

    def scheduler(*_, **__):
        raise AssertionError("pixels were computed")

    with dask.config.set(scheduler=scheduler):
        yield


def frames_of(image, unit="adu", quantum=None, chunks=None, **planes):
    """Frames of arrays, as a user would make them."""
    names = {"image": image, "variance_shared": planes.pop("shared", None), **planes}
    kept = {
        name: (("frame", "y", "x"), array if chunks is None else da.from_array(array, chunks))
        for name, array in names.items()
        if array is not None
    }
    n = len(image)
    coords = {
        "path": ("frame", np.array([f"/raw/f{i}.fits" for i in range(n)], dtype=object)),
        "hdu": ("frame", np.zeros(n, int)),
        "y": np.arange(image.shape[1]),
        "x": np.arange(image.shape[2]),
    }
    frames = xr.Dataset(kept, coords=coords, attrs={"steps": []})
    if unit:
        frames["image"].attrs["units"] = unit
    if quantum is not None:
        frames["image"].attrs["quantum"] = quantum
    return frames


def noisy(n=6, rows=3, columns=5, dtype="f4", seed=0):
    return np.random.default_rng(seed).normal(100, 3, (n, rows, columns)).astype(dtype)


@pytest.fixture
def frames():
    return frames_of(noisy())


# --- values ---------------------------------------------------------------------------------------


@st.composite
def stacks(draw):
    n, rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 12))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n, rows, columns)
    image = np.round(rng.normal(60, draw(st.sampled_from([0, 2, 15])), shape))
    image[rng.random(shape) < 0.05] = 120
    planes = {}
    if dtype.kind == "f" and draw(st.booleans()):
        image[rng.random(shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    if draw(st.booleans()):
        bits = rng.choice([1, 4, 36], shape)
        planes["mask"] = np.where(rng.random(shape) < 0.3, bits, 0).astype("u2")
    if draw(st.booleans()):
        planes["variance"] = rng.uniform(1, 9, shape).astype(draw(st.sampled_from(["f4", "f8"])))
    if draw(st.booleans()):
        planes["shared"] = rng.uniform(0, 1, shape).astype("f4")
    return image.astype(dtype), planes


@st.composite
def rejections(draw, n):
    name = draw(st.sampled_from(["none", None, "sigma", "sigma", "minmax"]))
    if name in ("none", None):
        return {"reject": name}, Reject("none")
    if name == "minmax":
        n_low = draw(st.integers(0, n - 1))
        n_high = draw(st.integers(0, n - 1 - n_low))
        counts = {"n_low": n_low, "n_high": n_high}
        return {"reject": name, **counts}, Reject("minmax", **counts)
    sides = {side: draw(st.sampled_from([None, 0, 1.5, 3.0, np.inf])) for side in ("low", "high")}
    words = {
        "center": draw(st.sampled_from(["median", "mean"])),
        "spread": draw(st.sampled_from(["mad_std", "std"])),
    }
    iterations = draw(st.sampled_from([None, 1, 2]))
    floor = draw(st.sampled_from(["auto", 0, 2.5]))
    off = {side: np.inf if value is None else value for side, value in sides.items()}
    return (
        {"reject": "sigma", **sides, **words, "maxiters": iterations, "sigma_floor": floor},
        Reject("sigma", **off, **words, maxiters=iterations or -1),
    )


def good_values(image, mask, i):
    """A frame's good pixels, float64."""
    good = np.isfinite(image[i]) if mask is None else np.isfinite(image[i]) & (mask[i] == 0)
    return image[i][good].astype(float)


def expected_factors(scale, image, mask):
    """One factor for each frame, from its good pixels alone; NaN where there is none."""
    if scale is None:
        return None
    if not isinstance(scale, str):
        return np.asarray(scale(image, mask), dtype=float)
    values = [good_values(image, mask, i) for i in range(len(image))]
    statistic = {"median": np.median, "mean": np.mean}[scale]
    return np.array([1 / statistic(v) if v.size else np.nan for v in values])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_combination_of_inputs_matches_the_docstring(data):
    image, planes = data.draw(stacks())
    n, mask = len(image), planes.get("mask")
    options, rules = data.draw(rejections(n))
    method = data.draw(st.sampled_from(["average", "median", "lower_median", "sum"]))
    scale = data.draw(st.sampled_from([None, "median", "mean", "numbers"]))
    quantum = data.draw(st.sampled_from([None, 1.7]))
    chunks = data.draw(st.sampled_from([None, (1, 1, -1), (2, -1, 3)]))

    given_scale, factors = scale, None
    if scale == "numbers":
        given_scale = factors = np.linspace(0.5, 1.5, n)
    elif scale:
        factors = expected_factors(scale, image, mask)
    frames = frames_of(image, quantum=quantum, chunks=chunks, **planes)
    lazy = combine(frames, method=method, scale=given_scale, **options)
    if factors is not None and not (np.isfinite(factors) & (factors > 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(factors) & (factors > 0)))[0])
        with pytest.raises(CalibrationError, match=f"/raw/f{bad}.fits"):
            lazy.compute(scheduler="sync")
        return
    found = lazy.compute(scheduler="sync")

    floor = options.get("sigma_floor")
    if floor == "auto":
        steps = 0.5 * (1 if quantum is None else quantum)
        floor = "variance" if "variance" in planes else steps
        if floor == steps and factors is not None:
            floor *= factors.mean()
    work = working_dtype(image.dtype)
    for plane in ("variance", "shared"):  # kept in the type of the pixels
        if plane in planes:
            planes[plane] = planes[plane].astype(work)
    native = image.astype(image.dtype.newbyteorder("="))
    truth = combine_reference(
        native, **planes, method=method, reject=rules, scale=factors, floor=floor
    )
    expected = {
        "image": truth.image,
        "variance": truth.variance,
        "mask": truth.mask,
        "n_used": truth.n_used,
    }
    if "variance" not in planes:  # equal values: the variance of rounding, or not known
        times = quantum and quantum * (1 if factors is None else factors.mean())
        rounding = np.nan if quantum is None else (times * (n if method == "sum" else 1)) ** 2 / 12
        equal = (truth.variance < 1e-12) & ~((found.variance.values > 0) & (truth.variance > 0))
        with np.errstate(divide="ignore"):
            expected["variance"] = np.where(equal, rounding / truth.n_used, truth.variance)
    if "shared" in planes:
        expected["variance_shared"] = truth.shared
    if rules.kind != "none":
        expected |= {"n_low": truth.n_low, "n_high": truth.n_high}
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dims == ("y", "x")
        assert found[name].dtype == lazy[name].dtype, name
        assert lazy[name].dtype == (values.dtype if values.dtype == np.uint16 else work), name
        tolerance = 3e-7 if work == np.float32 else 1e-12
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("method", ["average", "median", "sum"])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_without_rejection_it_is_numpy(method, dtype):
    image = noisy(7, 4, 6).astype(dtype)
    function = {"average": np.mean, "median": np.median, "sum": np.sum}[method]
    found = combine(frames_of(image), method=method, reject="none")
    np.testing.assert_allclose(found.image, function(image.astype(float), axis=0), rtol=1e-7)
    assert (found.n_used == 7).all()
    assert "n_low" not in found


def test_unsigned_integers_do_not_wrap():
    image = np.full((3, 2, 2), 65535, "u2")
    assert (combine(frames_of(image), method="sum").image == 3 * 65535).all()
    scaled = combine(frames_of(image), scale=lambda good: 1 / (good - 65000).mean())
    np.testing.assert_allclose(scaled.image, 65535 / 535, rtol=1e-6)


def test_masked_and_undefined_values_never_count():
    image = noisy(4, 1, 3)
    mask = np.zeros(image.shape, "u2")
    image[0, 0, 0], mask[1, 0, 1] = np.nan, 4
    image[1, 0, 1] = 1e6
    mask[:, 0, 2] = [1, 4, 4, 8]
    found = combine(frames_of(image, mask=mask), reject="none").compute()
    assert found.n_used.values.tolist() == [[3, 3, 0]]
    np.testing.assert_allclose(found.image[0, 0], image[1:, 0, 0].mean(dtype=float), rtol=1e-6)
    np.testing.assert_allclose(found.image[0, 1], image[[0, 2, 3], 0, 1].mean(dtype=float), 1e-6)
    assert np.isnan(found.image[0, 2])
    assert np.isnan(found.variance[0, 2])
    assert found.mask.values.tolist() == [[0, 0, 1 | 4 | 8 | 16]]


def test_a_mask_may_be_true_and_false():
    image = noisy(3)
    mask = np.zeros(image.shape, bool)
    mask[0] = True
    found = combine(frames_of(image, mask=mask), reject="none")
    np.testing.assert_allclose(found.image, image[1:].mean(axis=0, dtype=float), rtol=1e-6)


def test_variance_is_propagated_where_there_is_one_and_else_from_the_scatter():
    image, variance = noisy(5), np.full((5, 3, 5), 4.0, "f4")
    propagated = combine(frames_of(image, variance=variance), reject="none")
    np.testing.assert_allclose(propagated.variance, 4 / 5, rtol=1e-6)
    scatter = combine(frames_of(image), reject="none")
    np.testing.assert_allclose(
        scatter.variance, image.astype(float).var(axis=0, ddof=1) / 5, rtol=1e-5
    )
    alone = combine(frames_of(image[:1]), reject="none")
    assert np.isnan(alone.variance).all()
    np.testing.assert_array_equal(alone.image, image[0])
    one = combine(frames_of(image[:1], variance=variance[:1]), method="sum", reject="none")
    np.testing.assert_allclose(one.variance, 4, rtol=1e-6)


def test_equal_values_have_the_noise_of_rounding_or_none_that_is_known():
    image = np.full((4, 1, 2), 954, "u2")
    stepped = combine(frames_of(image, quantum=1.0))
    np.testing.assert_allclose(stepped.variance, 1 / 12 / 4, rtol=1e-6)
    assert np.isnan(combine(frames_of(image)).variance).all()


@pytest.mark.parametrize(("method", "factor"), [("average", 1), ("median", 1), ("sum", 36)])
def test_noise_that_frames_share_does_not_average_down(method, factor):
    shared = np.full((6, 3, 5), 2.0, "f4")
    frames = frames_of(noisy(), shared=shared)
    found = combine(frames, method=method)
    np.testing.assert_allclose(found.variance_shared, 2.0 * factor, rtol=1e-6)
    scale = np.array([1, 1, 1, 2, 2, 2.0])
    scaled = combine(frames, method=method, scale=scale, reject="none")
    np.testing.assert_allclose(scaled.variance_shared, 2.0 * factor * 2.5, rtol=1e-6)


# --- scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_scales_are_of_good_pixels_only(dtype):
    image = (noisy(3, 8, 8) * np.array([1, 2, 4.0])[:, None, None]).astype(dtype)
    mask = np.zeros(image.shape, "u2")
    image[:, 0], mask[:, 0] = 60000, 4
    frames = frames_of(image, mask=mask)
    seen = []

    def record(good):
        seen.append(good)
        return 1 / np.median(good)

    by_callable = combine(frames, scale=record, reject="none").compute(scheduler="sync")
    assert [(values.ndim, values.size, values.dtype) for values in seen] == [(1, 56, "f8")] * 3
    assert all(values.max() < 60000 for values in seen)
    by_word = combine(frames, scale="median", reject="none").compute()
    xr.testing.assert_identical(by_callable.drop_attrs(), by_word.drop_attrs())
    factors = [1 / np.median(image[i, 1:].astype(float)) for i in range(3)]
    by_numbers = combine(frames, scale=factors, reject="none").compute()
    np.testing.assert_array_equal(by_numbers.image, by_word.image)
    np.testing.assert_allclose(by_word.image[1:].mean(), 1, atol=0.01)


def test_values_are_scaled_before_they_are_rejected():
    """Twilight flats of falling level: unscaled, all of the first would be an outlier."""
    level = np.array([46, 44, 42, 40, 38.6]) * 1000
    image = (level[:, None, None] * (1 + 1e-3 * RNG.normal(size=(5, 6, 6)))).astype("u2")
    image[2, 3, 3] = 60000
    found = combine(frames_of(image), scale="median", low=5, high=5, sigma_floor=1e-3)
    assert int(found.n_used.sum()) == 5 * 36 - 1
    assert int(found.n_high[3, 3]) == 1
    np.testing.assert_allclose(found.image, 1, atol=5e-3)


@pytest.mark.parametrize("level", [0, -5, np.nan])
@pytest.mark.parametrize("scale", ["median", "mean", lambda good: good[0]])
def test_a_frame_that_gives_no_scale_is_named(scale, level):
    image = noisy(3)
    image[1] = level
    lazy = combine(frames_of(image), scale=scale)
    with pytest.raises(CalibrationError, match=r"positive.*/raw/f1\.fits \((0|-5|nan)\); leave"):
        lazy.compute()


def test_a_frame_without_a_path_is_named_by_its_number():
    image = noisy(3)
    image[1] = 0
    with pytest.raises(CalibrationError, match=r"for frame 1 \(0\); leave"):
        combine(frames_of(image).drop_vars("path"), scale="median").compute()


def test_many_frames_without_a_scale_are_counted():
    lazy = combine(frames_of(np.zeros((9, 2, 2), "u2")), scale="mean")
    with pytest.raises(CalibrationError, match=r"f0\.fits \(0\).*f2\.fits \(0\) and 6 more"):
        lazy.compute()


# --- the smallest sigma ---------------------------------------------------------------------------


def clip_distance(frames, scale=None):
    """The smallest deviation, in frame values, that a 5σ clip of equal values rejects."""
    lost = combine(frames, low=5, high=5, scale=scale).n_high.values[0]
    return int(np.flatnonzero(lost)[0])


def stairs(n=9, columns=40):
    """Equal frames but for the last, which is x higher in column x: spread 0, one outlier."""
    image = np.full((n, 1, columns), 100.0, "f4")
    image[-1, 0] += np.arange(columns)
    return image


def test_the_floor_is_half_a_step_of_the_converter():
    assert clip_distance(frames_of(stairs())) == 3  # beyond 5 · 0.5
    assert clip_distance(frames_of(stairs(), unit="electron", quantum=4.0)) == 11  # 5 · 0.5 · 4
    assert clip_distance(frames_of(stairs(), quantum=0.01)) == 1
    assert clip_distance(frames_of(stairs()), scale=np.full(9, 8.0)) == 3  # scaled as values are


def test_the_floor_is_the_noise_where_that_is_known():
    variance = np.full((9, 1, 40), 9.0, "f4")
    assert clip_distance(frames_of(stairs(), variance=variance)) == 16  # beyond 5 · 3
    assert clip_distance(frames_of(stairs(), variance=variance), scale=np.full(9, 0.1)) == 16


def test_gain_correct_scales_the_step_with_the_pixels(tmp_path):
    from astropy.io import fits

    for i, image in enumerate(stairs().astype("u2")):
        header = fits.Header({"BUNIT": "adu", "IMAGETYP": "bias"})
        fits.PrimaryHDU(image, header).writeto(tmp_path / f"{i}.fits")
    frames = daskcal.open_frames(tmp_path)
    assert clip_distance(frames) == 3
    electrons = daskcal.gain_correct(frames, 4.0).drop_vars("variance", errors="ignore")
    assert clip_distance(electrons) == 3  # 5 · 0.5 · 4 electron is 2.5 adu


def test_no_floor_is_what_astropy_does():
    assert clip_distance(frames_of(stairs())) == 3
    found = combine(frames_of(stairs()), sigma_floor=0)
    assert int(np.flatnonzero(found.n_high.values[0])[0]) == 1


def test_one_pass_leaves_secondary_outliers_that_until_nothing_changes_finds():
    image = np.tile(np.r_[np.linspace(-1, 1, 8), 12.0, 500.0], (1, 1, 1)).T.reshape(10, 1, 1)
    options = {"center": "mean", "spread": "std", "low": 2.5, "high": 2.5, "sigma_floor": 0}
    frames = frames_of(image.astype("f4"))
    assert int(combine(frames, maxiters=1, **options).n_high.sum()) == 1
    assert int(combine(frames, **options).n_high.sum()) == 2


# --- what a master is -----------------------------------------------------------------------------


def test_a_master_says_what_it_is_made_of():
    n = 3
    frames = frames_of(noisy(n, dtype="u2"), quantum=1.0)
    frames = frames.assign_coords(
        y=np.arange(10, 13),
        x=np.arange(100, 105),
        exptime=("frame", [10.0, 20.0, 30.0]),
        darktime=("frame", [0.1] * n),
        gain=("frame", [2.0, 2.0, np.nan]),
        filter=("frame", np.array(["R"] * n, object)),
        object=("frame", np.array(["a", "b", "b"], object)),
        cards=("frame", np.array([f"{'OBSERVER= 1':80}CARD{i}" for i in range(n)], object)),
        date_obs=(
            "frame",
            np.array(["2024-01-01T00:00:00", "NaT", "2024-01-01T00:01:00"], "datetime64[us]"),
        ),
    )
    frames.attrs["steps"] = ['{"step": "trim_image"}']
    frames["image"].attrs["long_name"] = "pixel values"
    master = combine(frames, reject=SigmaClip(low=np.float64(3), high=np.inf), scale=[1, 1, 2])
    assert dict(master.sizes) == {"y": 3, "x": 5}
    assert set(master.coords) == {"y", "x"}
    np.testing.assert_array_equal(master.y, frames.y)
    np.testing.assert_array_equal(master.x, frames.x)
    assert master.image.attrs == {"units": "adu", "long_name": "pixel values"}
    assert "flag_meanings" in master.mask.attrs
    attrs = master.attrs
    assert attrs["inputs"] == [f"/raw/f{i}.fits" for i in range(n)]
    assert (attrs["n_combined"], attrs["cards"]) == (3, "OBSERVER= 1".ljust(80))
    assert (attrs["exptime"], attrs["darktime"], attrs["gain"]) == (20.0, 0.1, 2.0)
    assert (attrs["filter"], attrs["object"]) == ("R", "")
    assert attrs["date_beg"] == "2024-01-01T00:00:00.000000"
    assert attrs["date_end"] == "2024-01-01T00:01:30.000000"
    assert attrs["mjd_avg"] == pytest.approx(60310 + (5 + 75) / 2 / 86400, abs=1e-9)
    trim, record = (json.loads(step) for step in attrs["steps"])
    assert trim == {"step": "trim_image"}
    assert record == {
        "step": "combine", "method": "average", "reject": "sigma", "low": 3.0, "high": None,
        "center": "median", "spread": "mad_std", "maxiters": None, "sigma_floor": "auto",
        "n_keep": 0, "scale": [1.0, 1.0, 2.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "record"),
    [
        ({"reject": None, "scale": "mean"}, {"reject": "none", "scale": "mean"}),
        ({"reject": NoRejection(), "scale": np.median}, {"reject": "none", "scale": "median"}),
        (
            {"reject": "minmax", "n_low": np.int64(2)},
            {"reject": "minmax", "n_low": 2, "n_high": 1},
        ),
        ({"reject": MinMax(n_low=0)}, {"reject": "minmax", "n_low": 0, "n_high": 1}),
    ],
)
def test_the_record_holds_plain_values(frames, options, record):
    found = json.loads(combine(frames, **options).attrs["steps"][-1])
    assert found == {"step": "combine", "method": "average", **record}


def test_frames_are_not_changed_and_nothing_is_computed(frames):
    before = frames.copy(deep=True)
    with nothing_is_read():
        master = combine(frames, scale="median")
    assert all(isinstance(v.data, da.Array) for v in master.data_vars.values())
    xr.testing.assert_identical(frames, before)


def test_the_same_combine_has_the_same_keys(frames):
    frames = frames.chunk()
    first, second = combine(frames), combine(frames)
    assert first.image.data.name == second.image.data.name
    assert first.image.data.name != combine(frames, low=4).image.data.name


def test_dimensions_may_come_in_any_order(frames):
    turned = combine(frames.transpose("x", "frame", "y"))
    assert turned.image.dims == ("y", "x")
    np.testing.assert_array_equal(turned.image, combine(frames).image)


# --- misuse ---------------------------------------------------------------------------------------

WRONG_VALUES = [
    ({"method": "avarage"}, "did you mean 'average'"),
    ({"method": None}, "average, median, lower_median, sum"),
    ({"reject": "sigmaclip"}, "did you mean 'sigma'"),
    ({"reject": True}, "sigma, minmax, .*, none"),
    ({"low": -1}, "low=-1 should be 0 or more"),
    ({"high": -0.5}, "high=-0.5 should be 0 or more"),
    ({"low": np.nan}, "low=nan"),
    ({"high": float("nan")}, "high=nan"),
    ({"low": True}, "low=True"),
    ({"high": "5"}, "high='5'"),
    ({"low": [3]}, r"low=\[3\]"),
    ({"center": "mode"}, "median, mean"),
    ({"center": np.median}, "median, mean"),
    ({"spread": "mad"}, "did you mean 'mad_std'"),
    ({"maxiters": 0}, "maxiters=0 should be 1 or more"),
    ({"maxiters": -1}, "maxiters=-1"),
    ({"maxiters": True}, "maxiters=True"),
    ({"maxiters": 1.5}, "maxiters=1.5"),
    ({"sigma_floor": -1}, "sigma_floor=-1"),
    ({"sigma_floor": np.nan}, "sigma_floor=nan"),
    ({"sigma_floor": np.inf}, "sigma_floor=inf"),
    ({"sigma_floor": "variance"}, "'auto' or a number"),
    ({"sigma_floor": None}, "sigma_floor=None"),
    ({"sigma_floor": True}, "sigma_floor=True"),
    ({"reject": "minmax", "n_low": -1}, "n_low=-1 should be a whole number"),
    ({"reject": "minmax", "n_high": 1.0}, "n_high=1.0"),
    ({"reject": "minmax", "n_low": True}, "n_low=True"),
    ({"reject": "minmax", "n_low": 3, "n_high": 3}, "leave nothing of 6 frames"),
    ({"reject": "minmax", "low": 3}, "low is an option of reject='sigma'"),
    ({"reject": "none", "n_low": 3}, "n_low is an option of reject='minmax'"),
    ({"n_low": 1}, "reject='sigma' has low, high"),
    ({"reject": MinMax(), "n_low": 1}, "n_low belongs into the MinMax"),
    ({"reject": SigmaClip(low=-3)}, "low=-3"),
    ({"scale": "moed"}, r"neither a statistic \(median, mean, mode\).*did you mean 'mode'"),
    ({"scale": 2.0}, "6 positive numbers"),
    ({"scale": [1, 2, 3]}, "6 positive numbers"),
    ({"scale": [1, 1, 1, 1, 1, 0]}, "6 positive numbers"),
    ({"scale": [1, 1, 1, 1, 1, np.nan]}, "6 positive numbers"),
    ({"scale": ["a"] * 6}, "6 positive numbers"),
    ({"scale": {"f0": 1}}, "6 positive numbers"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_VALUES)
def test_a_value_that_cannot_be_used_is_one_clear_error(frames, options, message):
    with nothing_is_read(), pytest.raises(ArgumentError, match=message):
        combine(frames, **options)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("signma_clip_dev_func", "spread"),
        ("sigma_clip_dev_func", "spread"),
        ("sigma_clip_func", "center"),
        ("sigma_clip_low_thresh", "low"),
        ("sigma_clip_high_tresh", "high"),
        ("sigma_clip", "reject"),
        ("clip_low", "low"),
        ("clip_high", "high"),
        ("clip_extrema", "reject"),
        ("nlow", "n_low"),
        ("maxiter", "maxiters"),
        ("centre", "center"),
        ("spred", "spread"),
        ("rejct", "reject"),
        ("sigma_flor", "sigma_floor"),
    ],
)
def test_a_misspelled_keyword_names_the_word_that_was_meant(frames, word, meant):
    with (
        nothing_is_read(),
        pytest.raises(UnknownKeywordError, match=f"{word}.*'{meant}'") as caught,
    ):
        combine(frames, **{word: True})
    assert isinstance(caught.value, TypeError)


def test_a_word_far_from_all_is_answered_with_the_valid_ones(frames):
    with pytest.raises(UnknownKeywordError, match="valid words: center, dtype, fraction"):
        combine(frames, zzz=1)
    with pytest.raises(UnknownKeywordError, match="'spread'"):
        combine(frames, reject=MinMax(), sigma_clip_dev_func=1)


def test_words_of_other_programs_are_no_words_of_ours():
    ours = {*reject.KEYWORDS, *(w for words in reject.OPTIONS.values() for w in words)}
    assert not ours & set(reject.ELSEWHERE)
    assert set(reject.ELSEWHERE.values()) <= ours


def test_frames_without_a_unit_are_refused():
    with nothing_is_read(), pytest.raises(UnitError, match=r"unit of the pixel.*f0\.fits"):
        combine(frames_of(noisy(), unit=None))


@pytest.mark.parametrize(
    ("n", "message"),
    [(0, "no frame is selected"), (65536, "at most 65535 frames, found 65536")],
    ids=["none", "many"],
)
def test_too_few_and_too_many_frames(n, message):
    image = da.zeros((n, 2, 2), dtype="u2", chunks=(65536, 2, 2))
    with pytest.raises(ArgumentError, match=message):
        combine(frames_of(image))


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ({"image": np.zeros((2, 3, 4), bool)}, "image is bool"),
        ({"image": np.zeros((2, 3, 4), complex)}, "image is complex128"),
        ({"image": np.zeros((2, 3, 4), object)}, "image is object"),
        ({"image": noisy(2), "variance": noisy(2).astype(complex)}, "variance is complex128"),
        ({"image": noisy(2), "mask": noisy(2)}, "mask is float32"),
    ],
)
def test_arrays_that_are_no_pixels(planes, message):
    with nothing_is_read(), pytest.raises(ArgumentError, match=message):
        combine(frames_of(**planes))


@pytest.mark.parametrize(
    "what", [None, "frames.fits", [np.zeros((2, 2))], noisy(), xr.Dataset({"a": 1})]
)
def test_what_is_no_frames(what):
    with pytest.raises(ArgumentError, match="expected frames"):
        combine(what)


def test_a_single_image_has_no_frames_to_combine(frames):
    with pytest.raises(ArgumentError, match=r"frames.isel\(frame=\[0\]\)"):
        combine(frames.isel(frame=0))
