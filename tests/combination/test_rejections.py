"""Every rejection against its formula (rejection_reference), and what is known elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rejection_reference import keep_some, row_spread, verdicts

from daskcal.combination.kernels import Reject, block, combine_block
from daskcal.combination.kernels.esd import critical_values
from daskcal.combination.kernels.record import unpack

BY_VALUE = ("percentile", "winsorised", "linear_fit", "esd")
BY_NOISE = ("variance", "ccdclip", "crreject")
KINDS = (*BY_VALUE, "averaged_sigma", *BY_NOISE)
CLEAR = 1e-9  # decisions closer than this may go either way

sizes = st.one_of(st.sampled_from([1, 2, 3, 4]), st.integers(5, 25))
thresholds = st.sampled_from([0.3, 1.0, 1.5, 2.0, 3.0, 5.0, np.inf])


@st.composite
def rejections(draw, kind):
    shares = st.sampled_from([0.0, 0.01, 0.1, 0.4, np.inf])
    return Reject(
        kind,
        low=draw(shares if kind == "percentile" else thresholds),
        high=draw(shares if kind == "percentile" else thresholds),
        center=draw(st.sampled_from(["median", "mean"])),
        maxiters=draw(st.sampled_from([-1, -1, 0, 1, 2])),
        n_keep=draw(st.sampled_from([0, 0, 1, 3, 8])),
        fraction=draw(st.sampled_from([0.0, 0.1, 0.3, 0.5])),
        significance=draw(st.sampled_from([0.05, 0.3])),
        snoise=draw(st.sampled_from([0.0, 0.05])),
    )


@st.composite
def stacks(draw, n):
    """A block with outliers, ties, constant stacks, masks, undefined values; scaled or not."""
    dtype = np.dtype(draw(st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f4", "f8"])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n, draw(st.integers(1, 3)), draw(st.integers(1, 12)))
    level = draw(st.sampled_from([0, 100, 100])) if dtype.kind == "u" else -3
    image = level + rng.integers(0, 1 + draw(st.sampled_from([0, 1, 4, 40])), shape).astype(float)
    if dtype.kind == "f" and draw(st.booleans()):
        image += rng.normal(size=shape)
    image[rng.random(shape) < 0.06] = draw(st.sampled_from([0, 130, 250]))
    if dtype.kind == "f":
        odd = rng.random(shape) < draw(st.sampled_from([0, 0.1]))
        image[odd] = rng.choice([np.nan, np.inf, -np.inf], odd.sum())
    planes = {"variance": rng.uniform(-0.5, 30, shape).astype("f4")}
    planes["variance"][rng.random(shape) < 0.05] = np.nan
    if draw(st.booleans()):
        share = draw(st.sampled_from([0.02, 0.3, 0.9]))
        planes["mask"] = np.where(rng.random(shape) < share, 4, 0).astype("u2")
    for name, bounds in (("scale", (0.5, 2)), ("zero", (-5, 5))):
        if draw(st.booleans()):
            planes[name] = rng.uniform(*bounds, n)
    for name, bounds in (("read", (0, 4)), ("slope", (0, 1))):
        planes[name] = rng.uniform(*bounds, n) if draw(st.booleans()) else np.full(n, 0.5)
    return image.astype(dtype), planes


def scaled(image, scale=None, zero=None):
    """The float64 values that a block computes with."""
    work = "f4" if image.dtype.itemsize <= 2 or image.dtype == np.float32 else "f8"
    values = image.astype("f8")
    if zero is not None:
        values = values - zero[:, None, None]
    if scale is not None:
        values = values * scale[:, None, None]
    return values.astype(work).astype("f8")


def noise_of(reject, planes, good, at):
    """σ² of the good value j of a pixel, in the unit of the scaled values."""
    n = len(planes["read"])
    scale, zero = planes.get("scale", np.ones(n)), planes.get("zero", np.zeros(n))
    values = planes["values"]

    def own(j, centre):
        i = good[j]
        v = float(planes["variance"][(i, *at)]) * scale[i] ** 2
        shifted = v + planes["slope"][i] * scale[i] * (centre - values[(i, *at)])
        return max(shifted, 0.1 * v) if v > 0 else np.nan

    def model(j, centre):
        i = good[j]
        signal = max(centre / scale[i] + zero[i], 0)  # in the frame's own unit
        v = planes["read"][i] ** 2 + planes["slope"][i] * signal + (reject.snoise * signal) ** 2
        return v * scale[i] ** 2

    return own if reject.kind == "variance" else model


def compare(image, planes, reject, floor=0.0):
    """Every pixel of a block against the reference. Returns how many pixels were compared."""
    inputs = {name: plane for name, plane in planes.items() if name != "values"}
    options = {"reject": reject, "floor": floor}
    found = combine_block(image, **inputs, **options, rejected=True, tally=True)
    median = combine_block(image, **inputs, **options, method="median")
    rejected = unpack(found.rejected, len(image))
    values = scaled(image, planes.get("scale"), planes.get("zero"))
    planes = planes | {"values": values}
    usable = np.isfinite(values) & (planes.get("mask", np.zeros(1)) == 0)
    rows = [
        row_spread([v[u] for v, u in zip(values[:, y].T, usable[:, y].T, strict=True)],
                   reject.center)
        for y in range(image.shape[1])
    ]  # fmt: skip
    clear = 0
    for at in np.ndindex(image.shape[1:]):
        good = np.flatnonzero(usable[(slice(None), *at)])
        x = values[(good, *at)]
        if len(x) == 0:
            assert found.n_used[at] == 0
            continue
        verdict, margin = verdicts(
            x, reject, floor=floor, spread=rows[at[0]],
            sigma_squared=noise_of(reject, planes, good, at),
        )  # fmt: skip
        if margin < CLEAR:
            continue
        clear += 1
        ours = rejected[(slice(None), *at)]
        np.testing.assert_array_equal(ours[good], verdict != 0, f"{at} {x} {verdict}")
        assert ours.sum() == (verdict != 0).sum()  # no bit for a masked value
        assert (found.n_low[at], found.n_high[at]) == ((verdict < 0).sum(), (verdict > 0).sum())
        assert found.n_used[at] == (verdict == 0).sum() > 0
        left = x[verdict == 0]
        np.testing.assert_allclose(found.image[at], left.mean(), rtol=2e-7, atol=1e-12)
        np.testing.assert_allclose(median.image[at], np.median(left), rtol=2e-7, atol=1e-12)
    np.testing.assert_array_equal(found.tally[0], rejected.sum(axis=(1, 2)))
    np.testing.assert_array_equal(found.tally[1], usable.sum(axis=(1, 2)))
    return clear


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_rejection_is_its_formula(kind, data):
    n = data.draw(sizes)
    image, planes = data.draw(stacks(n))
    floor = data.draw(st.sampled_from([0.0, 0.0, 0.5]))
    compare(image, planes, data.draw(rejections(kind)), floor)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
@pytest.mark.parametrize("n", [2, 3, 5, 6, 20, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_with_outliers_is_clipped_as_by_its_formula(kind, n, dtype):
    rng = np.random.default_rng(n)
    image = rng.normal(400, 20, (n, 2, 50 if n < 300 else 6))
    image[rng.random(image.shape) < 0.04] += 300
    image[rng.random(image.shape) < 0.02] -= 200
    planes = {"read": np.full(n, 4.0), "slope": np.full(n, 1.0)}
    planes["variance"] = image.clip(1).astype("f4") + 16
    low, high = (0.2, 0.3) if kind == "percentile" else (3, 4)
    clear = compare(image.astype(dtype), planes, Reject(kind, low, high))
    assert clear >= image[0].size * 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_stacks_that_numpy_sorts_are_clipped_the_same(kind, monkeypatch):
    rng = np.random.default_rng(7)
    image = np.round(rng.normal(400, 20, (40, 2, 60)))
    image[rng.random(image.shape) < 0.05] += 300
    planes = {"read": np.full(40, 4.0), "slope": np.full(40, 1.0), "variance": image.clip(1) + 16}
    planes["mask"] = (rng.random(image.shape) < 0.1).astype("u2")
    reject = Reject(kind, 0.2, 0.3) if kind == "percentile" else Reject(kind, 3, 4)
    few = combine_block(image, **planes, reject=reject, method="median", rejected=True)
    monkeypatch.setattr(block, "MANY", 2)
    monkeypatch.setattr(block, "SLAB_BYTES", 40 * 8 * 7)
    many = combine_block(image, **planes, reject=reject, method="median", rejected=True)
    for ours, theirs in zip(many[:8], few[:8], strict=True):
        assert ours is theirs is None or ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_how_rows_are_cut(kind):
    rng = np.random.default_rng(1)
    image = rng.normal(100, 8, (11, 9, 333)).astype("f4")
    image[rng.random(image.shape) < 0.02] += 200
    image[rng.random(image.shape) < 0.01] -= 95
    planes = {"variance": rng.uniform(1, 99, image.shape).astype("f4")}
    planes["mask"] = (rng.random(image.shape) < 0.01).astype("u2")
    frames = {"read": np.full(11, 5.0), "slope": np.linspace(0.1, 1, 11)}
    reject = Reject(kind, 0.2, 0.2) if kind == "percentile" else Reject(kind, 2.5, 2.5)
    options = {**frames, "reject": reject, "rejected": True, "tally": True}
    whole = combine_block(image, **planes, **options)
    assert whole.n_low.any() == (kind != "crreject")
    assert whole.n_high.any()
    tally = np.zeros((2, 11), np.int64)
    for rows in (slice(0, 1), slice(1, 3), slice(3, 9)):
        cut = {name: plane[:, rows] for name, plane in planes.items()}
        part = combine_block(image[:, rows], **cut, **options)
        tally += part.tally
        for ours, all_of_it in zip(part[:8], whole.part(rows)[:8], strict=True):
            assert ours is all_of_it is None or ours.tobytes() == all_of_it.tobytes()
    np.testing.assert_array_equal(tally, whole.tally)
    # copied slab by slab, into planes that are there already
    out = block.new_planes(9, 333, np.dtype("f4"), False, n=11, rejected=True, tally=True)
    strided = np.repeat(image, 2, axis=2)[:, :, ::2]
    combine_block(strided, **planes, **frames, reject=reject, out=out)
    for ours, theirs in zip(out, whole, strict=True):
        assert ours is theirs is None or ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 7, 1000])
def test_equal_values_all_stay(kind, value):
    for n in (1, 2, 3, 4, 20, 21):
        image = np.full((n, 1, 3), value, "u2")
        planes = {"variance": np.ones(image.shape, "f4"), "read": np.ones(n)}
        found = combine_block(image, **planes, reject=Reject(kind, 0, 0))
        np.testing.assert_array_equal(found.n_used, n)
        np.testing.assert_array_equal(found.image, value)


@pytest.mark.parametrize("kind", ["percentile", "winsorised", "linear_fit", "esd",
                                  "averaged_sigma"])  # fmt: skip
def test_of_two_values_none_is_wrong(kind):
    image = np.array([100, 60000], "u2").reshape(2, 1, 1)
    assert combine_block(image, reject=Reject(kind, 0.1, 0.1)).n_used == 2


def test_a_ccds_noise_tells_a_cosmic_ray_from_one_other_value():
    image = np.array([[100, 60000], [130, 100]], "u2").reshape(2, 1, 2)
    frames = {"read": np.full(2, 4.0), "slope": np.ones(2)}
    found = combine_block(image, **frames, reject=Reject("crreject", high=5))
    np.testing.assert_array_equal(found.image, [[115, 100]])
    # to either side both are as far out, and both stay
    found = combine_block(image, **frames, reject=Reject("ccdclip"))
    np.testing.assert_array_equal(found.n_used, [[2, 2]])


# Rosner's 54 values, with three outliers at 5 % that mask each other: NIST/SEMATECH e-Handbook of
# Statistical Methods, 1.3.5.17.3.
ROSNER = """
-0.25 0.68 0.94 1.15 1.20 1.26 1.26 1.34 1.38 1.43 1.49 1.49 1.55 1.56 1.58 1.65 1.69 1.70 1.76
1.77 1.81 1.91 1.94 1.96 1.99 2.06 2.09 2.10 2.14 2.15 2.23 2.24 2.26 2.35 2.37 2.40 2.47 2.54
2.62 2.64 2.90 2.92 2.92 2.93 3.21 3.26 3.30 3.59 3.68 4.30 4.64 5.34 5.42 6.01
"""


def test_esd_finds_the_three_outliers_of_the_handbook():
    values = np.array(ROSNER.split(), float)[np.random.default_rng(0).permutation(54)]
    reject = Reject("esd", fraction=10 / 54, significance=0.05)
    found = combine_block(values.reshape(54, 1, 1), reject=reject, rejected=True)
    assert (found.n_low, found.n_high) == (0, 3)
    gone = unpack(found.rejected, 54)[:, 0, 0]
    assert sorted(values[gone]) == [5.34, 5.42, 6.01]
    np.testing.assert_allclose(
        critical_values(54, 0.05)[[54, 53, 52, 51, 45]], [3.158, 3.151, 3.143, 3.136, 3.085],
        atol=1.1e-3,
    )  # fmt: skip


def test_esd_finds_an_outlier_in_as_many_clean_stacks_as_it_says():
    image = np.random.default_rng(2).normal(0, 1, (30, 50, 400))
    for significance in (0.05, 0.01):
        reject = Reject("esd", fraction=0.1, significance=significance)
        wrong = combine_block(image, reject=reject).n_used < 30
        assert wrong.mean() == pytest.approx(significance, rel=0.15)


def test_esd_sees_values_beside_huge_outliers():
    image = np.random.default_rng(3).normal(0, 1, (20, 1, 500)).astype("f4")
    image[4], image[9] = 1e18, 3e18
    image[5] = 40
    found = combine_block(image, reject=Reject("esd", fraction=0.3, significance=1e-4))
    np.testing.assert_array_equal(found.n_high, 3)


def test_averaged_sigma_is_that_of_the_whole_row():
    rng = np.random.default_rng(4)
    level = np.array([100.0, 1000, 0])[:, None]
    image = rng.normal(level, np.sqrt(level.clip(1)), (8, 3, 3000))
    image[5, :, 7] += 20 * np.sqrt(level[:, 0].clip(1))
    found = combine_block(image, reject=Reject("averaged_sigma", 6, 6), rejected=True)
    np.testing.assert_array_equal(found.n_high[:, 7], 1)
    assert found.n_high.sum() + found.n_low.sum() == 3


def test_a_variance_is_judged_at_the_centre_and_not_where_a_cosmic_ray_put_it():
    image = np.full((5, 1, 2), 100, "f4")
    image[2] = 60000
    variance = image + 25  # electron: a read noise of 5
    taken_as_it_is = combine_block(image, variance=variance, reject=Reject("variance", 5, 300))
    assert (taken_as_it_is.n_high == 0).all()
    at_centre = combine_block(
        image, variance=variance, slope=np.ones(5), reject=Reject("variance", 5, 300)
    )
    assert (at_centre.n_high == 1).all()


def test_a_value_whose_noise_is_not_known_stays():
    image = np.array([10, 10, 900, 10, 900], "f4").reshape(5, 1, 1)
    variance = np.ones_like(image)
    variance[2], variance[4] = np.nan, 0
    assert combine_block(image, variance=variance, reject=Reject("variance")).n_used == 5
    read = np.array([1, 1, 0, 1, 1.0])
    found = combine_block(image, read=read, reject=Reject("ccdclip"))
    assert (found.n_used, found.n_high) == (4, 1)


def test_zero_is_light_that_was_taken_off_and_its_noise_stays():
    sky = np.array([400.0] * 4 + [10_000.0])
    image = (sky + np.array([0, 20, -20, 0, 300])).astype("f4").reshape(5, 1, 1)
    frames = {"read": np.ones(5), "slope": np.ones(5)}
    found = combine_block(image, zero=sky, **frames, reject=Reject("ccdclip"))
    assert found.n_used == 5
    assert combine_block(image - sky[:, None, None].astype("f4"), **frames,
                         reject=Reject("ccdclip")).n_used == 2  # fmt: skip


@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize("n_keep", [0, 1, 3, 9])
def test_sigma_clipping_keeps_the_nearest(n_keep, center):
    image = np.array([0, 2, 3, 8, 10, 11, 100], "f8").reshape(7, 1, 1)
    reject = Reject("sigma", 0, 0, center=center, maxiters=1, n_keep=n_keep)
    found = combine_block(image, reject=reject)
    x = image[:, 0, 0].astype(float)
    centre = np.median(x) if center == "median" else x.mean()
    verdict = np.where(x == centre, 0, 1)
    keep_some(verdict, abs(x - centre), n_keep)
    assert found.n_used == (verdict == 0).sum()
    left = x[verdict == 0]
    np.testing.assert_array_equal(found.image, left.mean() if len(left) else np.nan)


@pytest.mark.parametrize("n", [3, 8, 9, 300])
def test_bits_are_those_of_frames_that_lost_a_value(n):
    image = np.zeros((n, 1, 4), "u2")
    for frame, pixel in ((n - 1, 0), (0, 1), (n // 2, 3)):
        image[frame, 0, pixel] = 500
    mask = np.zeros(image.shape, "u2")
    mask[0, 0, 1] = 1
    found = combine_block(image, mask, reject=Reject("minmax", n_high=1), rejected=True)
    assert found.rejected.shape == ((n + 7) // 8, 1, 4)
    bits = unpack(found.rejected, n)
    assert bits.sum(axis=0).tolist() == [[1, 1, 1, 1]]
    assert bits[n - 1, 0, 0]
    assert bits[n // 2, 0, 3]
    assert not bits[0, 0, 1]  # masked
    for i in range(n):
        expected = (found.rejected[i >> 3] >> (i & 7)) & 1
        np.testing.assert_array_equal(bits[i], expected)
    assert combine_block(image, mask, reject=Reject()).rejected is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reject": Reject("variance")}, "needs a variance"),
        ({"reject": Reject("ccdclip")}, "needs read, slope or snoise"),
        ({"reject": Reject("crreject"), "read": np.ones(2)}, "read has shape"),
        ({"reject": Reject("minmax", n_low=0.5, n_high=0.5)}, "leave nothing of 3 frames"),
    ],
)
def test_what_a_rejection_lacks_is_named(options, says):
    with pytest.raises(ValueError, match=says):
        combine_block(np.zeros((3, 2, 2), "u2"), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fraction": 0.6}, "fraction=0.6"),
        ({"significance": 0.0}, "significance=0.0"),
        ({"snoise": -1.0}, "snoise=-1.0"),
        ({"n_keep": -1}, "n_keep=-1"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Reject("esd", **options)


@pytest.mark.parametrize("scale", [1, 0.1, 1 / 3])
def test_values_on_a_line_are_none_the_worse_for_rounding(scale):
    image = (np.array([1, -2, -3, -1, 0])[:, None, None] * scale + 100 * scale).astype("f8")
    found = combine_block(image, reject=Reject("linear_fit", low=0.3, high=0.3), floor=0)
    assert found.n_used == 5
