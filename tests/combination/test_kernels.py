"""combine_block against its definitions, numpy and astropy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_reference import combine_reference

from daskcal.combination.kernels import Combined, Reject, block, combine_block

CLIPS = [
    Reject("sigma", center=center, spread=spread)
    for center in ("median", "mean")
    for spread in ("mad_std", "std")
]


def assert_same(found: Combined, expected: Combined) -> None:
    for name in ("mask", "n_used", "n_low", "n_high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
        assert getattr(found, name).dtype == np.uint16
    for name in ("image", "variance", "shared"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours is None:
            continue
        tolerance = 1.2e-7 if ours.dtype == np.float32 else 1e-13
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=1e-12, err_msg=name)


@st.composite
def stacks(draw):
    """A small stack with many ties, and perhaps a mask, NaN, variances, scales."""
    n = draw(st.one_of(st.sampled_from([1, 2, 3]), st.integers(4, 24)))
    dtype = np.dtype(draw(st.sampled_from(["u1", "u2", "i2", "f4", "u4", "i4", "f8", ">i2"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n, draw(st.integers(1, 3)), draw(st.integers(1, 40)))
    spread = draw(st.sampled_from([0, 1, 3, 40]))
    level = draw(st.sampled_from([0, 100, 100])) if dtype.kind != "f" else -3
    image = rng.integers(level, level + 1 + spread, shape).astype(float)
    image[rng.random(shape) < 0.03] = 250 if dtype.itemsize == 1 else 30000
    if dtype.kind == "f" and draw(st.booleans()):
        image += rng.normal(size=shape)
        image[rng.random(shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    planes = {}
    if draw(st.booleans()):
        share = draw(st.sampled_from([0.02, 0.3, 0.9]))
        planes["mask"] = np.where(rng.random(shape) < share, rng.choice([1, 4, 36], shape), 0)
        planes["mask"] = planes["mask"].astype("u2")
    if draw(st.booleans()):
        planes["variance"] = rng.uniform(1, 9, shape).astype("f4")
    if draw(st.booleans()):
        planes["shared"] = rng.uniform(0, 1, shape).astype("f4")
    if draw(st.booleans()):
        planes["scale"] = rng.uniform(0.5, 2, n)
    if draw(st.booleans()):
        planes["zero"] = rng.uniform(-5, 5, n)
    return image.astype(dtype), planes


@st.composite
def rejections(draw, n):
    kind = draw(st.sampled_from(["none", "sigma", "sigma", "minmax"]))
    if kind == "minmax":
        if draw(st.booleans()):
            return Reject("minmax", n_low=draw(st.sampled_from([0.0, 0.2, 0.4])), n_high=0.29)
        n_low = draw(st.integers(0, n - 1))
        return Reject("minmax", n_low=n_low, n_high=draw(st.integers(0, n - 1 - n_low)))
    return Reject(
        kind,
        *(draw(st.sampled_from([0.0, 1.0, 1.5, 2.5, 5.0, np.inf])) for _ in range(2)),
        center=draw(st.sampled_from(["median", "mean"])),
        spread=draw(st.sampled_from(["mad_std", "std"])),
        maxiters=draw(st.sampled_from([-1, 0, 1, 2, 3])),
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_combination_of_inputs_matches_the_definitions(data):
    image, planes = data.draw(stacks())
    reject = data.draw(rejections(len(image)))
    method = data.draw(st.sampled_from(["average", "median", "lower_median", "sum"]))
    if method == "average" and data.draw(st.booleans()):
        planes["weights"] = np.linspace(0, 3, len(image))
        if "variance" in planes and data.draw(st.booleans()):
            planes |= {"slope": np.linspace(0, 1.5, len(image)), "by_variance": True}
    floors = [None, 0.0, 0.5, 4.0] + ["variance"] * ("variance" in planes)
    options = {"method": method, "reject": reject, "floor": data.draw(st.sampled_from(floors))}
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):  # as many frames are sorted: each pixel's values on their own
            patch.setattr(block, "MANY", 1)
            patch.setattr(block, "SLAB_BYTES", 500)
        found = combine_block(image, **planes, **options)
    assert_same(found, combine_reference(image, **planes, **options))


@pytest.mark.parametrize("maxiters", [1, 3, None])
@pytest.mark.parametrize("clip", CLIPS, ids=lambda r: f"{r.center}-{r.spread}")
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_the_values_that_survive_are_astropys(clip, maxiters, dtype):
    rng = np.random.default_rng(3)
    tied = clip in (CLIPS[0], CLIPS[3])  # astropy reorders the values of the mixed ones before Σ
    for n, low, high in [(1, 3, 3), (2, 1, 1), (3, 5, 5), (4, 1, 2), (9, 1, 1), (10, 3, 2.5),
                         (33, 2, 2)]:  # fmt: skip
        image = rng.normal(100, 8, (n, 5, 300))
        image[rng.random(image.shape) < 0.05] += 60
        if tied:
            image[:, 1] = np.round(image[:, 1])
            image[:, 2] = rng.integers(0, 4, image[:, 2].shape)
            image[:, 3] = 100 + 10 * (rng.random(image[:, 3].shape) < 0.1)  # 3σ exactly, for n=10
            image[:, 4] = 7
        elif dtype == "u2":
            continue
        image = image.astype(dtype)
        mask = rng.random(image.shape) < 0.1
        options = {"sigma_lower": low, "sigma_upper": high, "maxiters": maxiters, "axis": 0}
        theirs, lower, _ = sigma_clip(
            np.ma.array(image, mask=mask),
            cenfunc=clip.center,
            stdfunc=clip.spread,
            return_bounds=True,
            **options,
        )
        reject = Reject("sigma", low, high, clip.center, clip.spread, maxiters or -1)
        ours = combine_block(image, mask.astype("u2"), reject=reject)
        np.testing.assert_array_equal(ours.n_used, (~theirs.mask).sum(axis=0))
        np.testing.assert_array_equal(ours.n_low, (~mask & (image < lower)).sum(axis=0))
        mean = theirs.astype(float).mean(axis=0).filled(np.nan)
        np.testing.assert_allclose(ours.image, mean, rtol=2e-7)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 64, 301])
def test_median_and_average_are_numpys(n):
    image = np.random.default_rng(n).normal(1000, 9, (n, 3, 70)).astype("f4")
    exact = image.astype("f8")
    median = combine_block(image, method="median", reject=Reject())
    np.testing.assert_array_equal(median.image, np.median(exact, axis=0).astype("f4"))
    average = combine_block(image, reject=Reject())
    np.testing.assert_allclose(average.image, exact.mean(axis=0), rtol=1.2e-7)
    masked = np.ma.array(exact, mask=exact > 1004)
    ours = combine_block(image, masked.mask.astype("u2"), method="median", reject=Reject())
    expected = np.ma.median(masked, axis=0).astype("f4").filled(np.nan)
    np.testing.assert_array_equal(ours.image, expected)


def test_a_mean_near_zero_keeps_its_digits():
    image = np.random.default_rng(0).normal(0, 8, (100, 1, 500)).astype("f4")
    expected = image.astype("f8").mean(axis=0).astype("f4")
    np.testing.assert_array_max_ulp(combine_block(image, reject=Reject()).image, expected, 1)


def cuts(shape):
    rows, columns = shape
    yield [(slice(r, r + 1), slice(None)) for r in range(rows)]
    yield [(slice(r, r + 7), slice(None)) for r in range(0, rows, 7)]
    yield [(slice(None), slice(c, c + 61)) for c in range(0, columns, 61)]
    yield [(slice(None), slice(c, c + 1)) for c in range(0, columns, 37)]


@pytest.mark.parametrize("method", ["average", "median", "sum"])
@pytest.mark.parametrize("clip", [*CLIPS, Reject("minmax", n_low=1, n_high=2)], ids=repr)
def test_no_bit_depends_on_how_a_block_is_cut(clip, method):
    rng = np.random.default_rng(1)
    image = rng.normal(0, 8, (12, 16, 333)).astype("f4")
    image[:, 3:5, 7:90][rng.random((12, 2, 83)) < 0.2] = np.nan
    image[2, 9] = -0.0
    planes = {"variance": rng.uniform(1, 2, image.shape).astype("f4")}
    planes["mask"] = (rng.random(image.shape) < 0.01).astype("u2")
    planes["mask"][:, 8:] = 0
    for given_planes in ({}, planes):
        whole = combine_block(image, **given_planes, method=method, reject=clip)
        for y, x in itertools.chain.from_iterable(cuts(image.shape[1:])):
            cut = {name: plane[:, y, x] for name, plane in given_planes.items()}
            part = combine_block(image[:, y, x], **cut, method=method, reject=clip)
            for ours, all_of_it in zip(part, whole, strict=True):
                if ours is not None:
                    assert ours.tobytes() == all_of_it[y, x].tobytes()


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "f4", ">f8", "i4"])
def test_layout_byte_order_and_read_only_do_not_matter(dtype):
    image = np.random.default_rng(2).integers(0, 99, (6, 8, 50)).astype(dtype)
    expected = combine_block(image.copy(), reject=CLIPS[0])
    wide = np.zeros((12, 8, 100), dtype)
    wide[::2, :, ::2] = image
    strided = wide[::2, :, ::2]
    strided.flags.writeable = False
    unaligned = np.frombuffer(b"." + image.tobytes(), dtype, offset=1).reshape(image.shape)
    for array in (strided, np.asfortranarray(image), image[:, ::-1][:, ::-1], unaligned):
        found = combine_block(array, reject=CLIPS[0])
        assert all(a is b is None or (a == b).all() for a, b in zip(found, expected, strict=True))
    assert (strided == image).all()


def test_sum_counts_all_frames_so_that_a_rejected_value_makes_no_dip():
    image = np.full((10, 1, 1), 100, "u2")
    image[4] = 60000
    variance = np.full(image.shape, 9, "f4")
    found = combine_block(image, variance=variance, shared=variance, method="sum", reject=CLIPS[0])
    assert found.image[0, 0] == 1000
    assert found.variance[0, 0] == np.float32(9 / 9 * 100)
    assert found.shared[0, 0] == 900
    assert (found.n_used, found.n_low, found.n_high) == (9, 0, 1)


def test_a_sigma_floor_keeps_integer_biases_that_agree():
    image = np.array([1000, 1000, 1001], "u2").reshape(3, 1, 1)
    assert combine_block(image, reject=CLIPS[0]).n_high == 1
    assert combine_block(image, reject=CLIPS[0], floor=0.5).n_used == 3
    variance = np.full(image.shape, 0.25, "f4")
    assert combine_block(image, variance=variance, reject=CLIPS[0], floor="variance").n_used == 3


def test_clipping_comes_after_scaling():
    image = np.array([100, 1000, 10000], "u2").reshape(3, 1, 1)
    scale = np.array([1, 0.1, 0.01])
    found = combine_block(image, scale=scale, reject=CLIPS[3], variance=np.ones((3, 1, 1), "f4"))
    assert found.n_used == 3
    assert found.image == 100
    assert found.variance == np.float32((1 + 0.01 + 0.0001) / 9)


def test_a_pixel_without_good_values_is_nan_and_names_why():
    image = np.array([[5.0, 5, 1], [np.nan, 6, 2]], "f4").reshape(2, 1, 3)
    mask = np.array([[4, 1, 0], [0, 32, 0]], "u2").reshape(2, 1, 3)
    found = combine_block(image, mask, reject=Reject())
    np.testing.assert_array_equal(found.mask, [[4 | 16, 1 | 32 | 16, 0]])
    np.testing.assert_array_equal(found.image, np.array([[np.nan, np.nan, 1.5]], "f4"))
    np.testing.assert_array_equal(found.n_used, [[0, 0, 2]])
    assert np.isnan(found.variance[0, :2]).all()


def test_noise_is_measured_from_the_scatter_without_variances_and_nan_for_one_value():
    image = np.array([[8, 8], [12, 0]], "f4").reshape(2, 1, 2)
    mask = np.array([[0, 0], [0, 1]], "u2").reshape(2, 1, 2)
    np.testing.assert_array_equal(
        combine_block(image, mask, reject=Reject()).variance, np.array([[4, np.nan]], "f4")
    )


def test_an_unknown_variance_of_a_survivor_makes_the_result_unknown():
    image = np.full((3, 1, 2), 5, "f4")
    variance = np.ones((3, 1, 2), "f4")
    variance[1] = np.nan
    mask = np.zeros((3, 1, 2), "u2")
    mask[1, 0, 1] = 1
    found = combine_block(image, mask, variance, reject=CLIPS[0], floor="variance")
    np.testing.assert_array_equal(found.variance, np.array([[np.nan, 0.5]], "f4"))


def test_a_medians_error_is_that_of_simulated_normal_data():
    image = np.random.default_rng(5).normal(0, 1, (4, 100, 1000))
    variance = np.ones_like(image)
    found = combine_block(image, variance=variance, method="median", reject=Reject())
    assert found.image.dtype == np.float64
    assert found.image.var() == pytest.approx(found.variance[0, 0], rel=0.02)
    for n, factor in ((1, 1), (2, 1), (3, 1.1602), (5, 1.1976), (10, 1.1761), (5000, 1.25322)):
        many = combine_block(
            np.zeros((n, 1, 1), "f4"), variance=np.ones((n, 1, 1), "f4"), method="median",
            reject=Reject(),
        )  # fmt: skip
        assert many.variance[0, 0] == pytest.approx(factor**2 / n, rel=2e-4)


def test_minmax_leaves_the_only_good_value_of_a_large_stack():
    mask = np.ones((2000, 1, 1), "u2")
    mask[7] = 0
    reject = Reject("minmax", n_low=1999)
    assert combine_block(np.full(mask.shape, 5, "u2"), mask, reject=reject).image == 5


def test_a_value_back_within_the_last_bounds_survives_as_in_astropy():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 3, (20, 1, 2000))
    image = np.where(rng.random(image.shape) < 0.3, rng.exponential(30, image.shape), image)
    clip = {"axis": 0, "cenfunc": "median", "stdfunc": "mad_std"}
    first, last = (sigma_clip(image, 3, maxiters=m, **clip) for m in (1, None))
    assert (first.mask & ~last.mask).any()
    np.testing.assert_array_equal(
        combine_block(image, reject=Reject("sigma", 3, 3)).n_used, last.count(axis=0)
    )


def test_ten_thousand_frames():
    image = np.random.default_rng(0).normal(500, 5, (10_000, 1, 40)).astype("u2")
    found = combine_block(image, reject=Reject("sigma", 4, 4))
    theirs = sigma_clip(image.astype("f8"), 4, maxiters=None, cenfunc="median", stdfunc="mad_std",
                        axis=0)  # fmt: skip
    np.testing.assert_array_equal(found.n_used[0], theirs.count(axis=0)[0])
    np.testing.assert_allclose(found.image[0], theirs.mean(axis=0)[0], rtol=1e-7)


@pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0), (1, 0, 0)])
def test_an_empty_block_gives_empty_arrays(shape):
    found = combine_block(np.zeros(shape, "u2"), reject=CLIPS[0])
    assert found.shared is None
    assert {array.shape for array in found if array is not None} == {shape[1:]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mask": np.zeros((3, 2, 1), "u2")}, "mask has shape"),
        ({"mask": np.zeros((3, 2, 2), "i4")}, "bit planes"),
        ({"scale": np.ones(2)}, "scale has shape"),
        ({"method": "mean"}, "average, median, sum"),
        ({"floor": "variance"}, "needs a variance"),
        ({"floor": -1.0}, "0 or more"),
        ({"floor": "auto"}, "'auto'"),
        ({"reject": Reject("minmax", n_low=1, n_high=2)}, "leave nothing of 3 frames"),
        ({"image": np.zeros((2, 2), "u2")}, "frames, rows, columns"),
        ({"image": np.zeros((3, 2, 2), "c16")}, "complex128"),
    ],
)
def test_what_does_not_fit_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        combine_block(**({"image": np.zeros((3, 2, 2), "u2"), "reject": Reject()} | options))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "sgima"}, "none, sigma, minmax"),
        ({"low": -1.0}, "0 or more"),
        ({"high": float("nan")}, "0 or more"),
        ({"maxiters": -2}, "maxiters=-2"),
        ({"n_low": -1}, "n_low=-1"),
        ({"center": "mode"}, "median, mean"),
    ],
)
def test_a_rejection_that_cannot_be_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Reject(**options)


@pytest.mark.parametrize("reject", [Reject("sigma", 3, 3), Reject("minmax", n_low=5, n_high=9)])
def test_both_ways_of_sorting_give_the_same_bits(reject, monkeypatch):
    image = np.random.default_rng(4).normal(100, 8, (700, 2, 150)).astype("f4")
    planes = []
    for many in (1, 10_000):
        monkeypatch.setattr(block, "MANY", many)
        planes.append(combine_block(image, reject=reject, method="median"))
    for one, other in zip(*planes, strict=True):
        assert (one is None and other is None) or one.tobytes() == other.tobytes()


def test_results_go_where_they_are_wanted():
    image = np.random.default_rng(4).normal(100, 8, (5, 4, 30)).astype("f4")
    expected = combine_block(image, reject=Reject("sigma"))
    whole = Combined(*(None if p is None else np.zeros((6, 30), p.dtype) for p in expected))
    part = Combined(*(None if p is None else p[1:5] for p in whole))
    assert combine_block(image, reject=Reject("sigma"), out=part) is part
    for name, plane in expected._asdict().items():
        if plane is not None:
            assert getattr(whole, name)[1:5].tobytes() == plane.tobytes()
            assert not getattr(whole, name)[[0, 5]].any()
