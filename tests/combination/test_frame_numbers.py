"""Scale, zero and weight of frames: what may be given, what it means, and that it is right."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from test_combine import frames_of, noisy, nothing_is_read

import daskcal
from daskcal.combination import combine
from daskcal.combination.statistics import median, shortest_half
from daskcal.errors import ArgumentError, CalibrationError, GeometryError

LEVELS = np.array([100.0, 250, 175, 50, 400, 90])


def leveled(rows=6, columns=9, dtype="f4"):
    """Frames of different level with a bad corner, which no statistic may see."""
    image = (noisy(6, rows, columns) / 100 * LEVELS[:, None, None]).astype(dtype)
    mask = np.zeros(image.shape, "u2")
    image[:, 0, :3], mask[:, 0, :3] = 60000, 4
    frames = frames_of(image, mask=mask)
    return frames.assign_coords(
        exptime=("frame", LEVELS / 10),
        hdr_skylevel=("frame", LEVELS + 1),
        hdr_word=("frame", np.array(["a"] * 6, object)),
        gain=("frame", [1.0, 1, 1, 1, 1, np.nan]),
    )


def statistic(word, values):
    return {"median": np.median, "mean": np.mean, "mode": shortest_half}[word](values)


def good(frames, rows=slice(None), columns=slice(None)):
    image, mask = frames.image.values.astype(float), frames.mask.values
    image, mask = image[:, rows, columns], mask[:, rows, columns]
    return [plane[m == 0] for plane, m in zip(image, mask, strict=True)]


def plain_mean(frames, scale=1.0, zero=0.0, weights=1.0):
    ones = np.ones((6, 1, 1))
    scale, zero, weights = (np.reshape(x, (-1, 1, 1)) * ones for x in (scale, zero, weights))
    values = (frames.image.values.astype(float) - zero) * scale
    weights = np.where(frames.mask.values == 0, weights, 0)
    with np.errstate(invalid="ignore"):
        return (values * weights).sum(axis=0) / weights.sum(axis=0)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
@pytest.mark.parametrize("word", ["median", "mean", "mode"])
def test_statistics_divide_are_subtracted_and_multiply(word, dtype):
    frames = leveled(dtype=dtype)
    found = [statistic(word, values) for values in good(frames)]
    for argument, numbers in (("scale", 1 / np.array(found)), ("zero", found), ("weights", found)):
        combined = combine(frames, reject=None, **{argument: word})
        expected = plain_mean(frames, **{argument: numbers})
        np.testing.assert_allclose(combined.image, expected, rtol=3e-6, atol=3e-5)
    every = combine(frames, reject=None, scale=word, zero=word, weights=word)
    expected = plain_mean(frames, 1 / np.array(found), found, found)
    np.testing.assert_allclose(every.image, expected, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("word", ["exptime", "EXPTIME"])
def test_keywords_divide_are_subtracted_and_multiply(word):
    frames = leveled()
    exposure = LEVELS / 10
    for argument, numbers in (("scale", 1 / exposure), ("zero", exposure), ("weights", exposure)):
        with nothing_is_read():
            lazy = combine(frames, reject=None, **{argument: word})
        expected = plain_mean(frames, **{argument: numbers})
        np.testing.assert_allclose(lazy.image, expected, rtol=1e-6)
    by_card = combine(frames, reject=None, zero="SKYLEVEL").image
    np.testing.assert_allclose(by_card, plain_mean(frames, zero=LEVELS + 1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", [list, np.array, tuple, lambda x: xr.DataArray(x, dims="frame")])
def test_numbers_are_meant_as_they_stand(kind):
    frames = leveled()
    numbers = [1.5, 2, 0.25, 1, 3, 0.5]
    for argument in ("scale", "zero", "weights"):
        found = combine(frames, reject=None, **{argument: kind(numbers)}).image
        expected = plain_mean(frames, **{argument: numbers})
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_frame_without_weight_is_not_used():
    frames = leveled()
    combined = combine(frames, reject=None, weights=[1, 0, 0, 1, 0, 1]).compute()
    assert (combined.n_used[1:] == 3).all()
    np.testing.assert_allclose(
        combined.image[1:], frames.image[[0, 3, 5], 1:].astype(float).mean("frame"), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("section", "rows", "columns"),
    [
        ("[2:5, 1:4]", slice(2, 5), slice(1, 4)),
        (np.s_[2:, -3:], slice(2, None), slice(-3, None)),
        (np.s_[3:], slice(3, None), slice(None)),
        ("[:, :3]", slice(None), slice(0, 3)),
        ("fits [2:4,3:6]", slice(2, 6), slice(1, 4)),
        ("FITS[4:2, *]", slice(None), slice(1, 4)),
    ],
)
@pytest.mark.parametrize("word", ["median", "mode"])
def test_statistics_of_a_section(section, rows, columns, word):
    frames = leveled()
    found = [statistic(word, values) for values in good(frames, rows, columns)]
    combined = combine(frames, reject=None, scale=word, section=section)
    expected = plain_mean(frames, scale=1 / np.array(found))
    np.testing.assert_allclose(combined.image, expected, rtol=1e-6)


def test_a_section_counts_as_the_frames_or_the_raw_frames_do(tmp_path):
    from astropy.io import fits

    for i in range(3):
        image = np.arange(60, dtype="u2").reshape(6, 10) * (i + 1) + 100
        fits.PrimaryHDU(image, fits.Header({"BUNIT": "adu"})).writeto(tmp_path / f"{i}.fits")
    trimmed = daskcal.trim_image(daskcal.open_frames(tmp_path), "[1:5, 2:]")
    own = combine(trimmed, reject=None, scale="median", section="[1:3, 0:4]")
    raw = combine(trimmed, reject=None, scale="median", section="fits [3:6,3:4]")
    np.testing.assert_array_equal(own.image, raw.image)
    with pytest.raises(GeometryError, match="outside of the frames"):
        combine(trimmed, scale="median", section="fits [1:6,3:4]")


def test_one_pass_finds_all_statistics():
    reads = []

    def seen(values):
        reads.append(len(values))
        return 1 / values.mean()

    frames = leveled().chunk(frame=1)
    combine(frames, reject=None, scale=seen, zero="median", weights="mode").compute(
        scheduler="sync"
    )
    assert reads == [51] * 6


def test_statistics_do_not_depend_on_the_layout():
    frames = leveled(31, 40, "u2")
    options = {"scale": "mode", "zero": "mean", "weights": "median", "section": "[1:, 3:]"}
    whole = combine(frames, **options).compute()
    for chunks in ((1, 5, 7), (6, 1, -1), (2, 31, 11)):
        cut = frames.chunk(dict(zip(("frame", "y", "x"), chunks, strict=True)))
        xr.testing.assert_identical(combine(cut, **options).compute(), whole)


# --- the mode -----------------------------------------------------------------------------------


def test_the_mode_is_the_middle_of_the_shortest_half():
    assert shortest_half(np.array([7.0])) == 7
    assert shortest_half(np.array([2.0, 4])) == 2  # of two shortest halves the lower middle one
    assert shortest_half(np.array([9.0, 1, 2, 3, 30, 80])) == 2
    assert shortest_half(np.array([5, 5, 5, 5, 1, 9], "u2")) == 5
    assert shortest_half(np.full(10, 65535, "u2")) == 65535
    assert shortest_half(np.array([0, 65535, 65534, 65533, 1], "u2")) == 65534


def test_the_mode_finds_the_sky_among_stars():
    rng = np.random.default_rng(4)
    sky = rng.normal(1000, 30, 200_000)
    stars = rng.random(sky.size) < 0.2
    sky[stars] += rng.exponential(150, stars.sum())
    assert shortest_half(sky) == pytest.approx(1000, abs=0.15 * 30)
    assert median(sky) > 1000 + 0.2 * 30


# --- weights ------------------------------------------------------------------------------------


def photons(signal, noise, shape=(20, 150, 200), seed=1):
    """Frames in electron with the variance that create_variance makes."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(signal, shape) + rng.normal(size=shape) * noise[:, None, None]
    variance = np.maximum(counts, 0) + noise[:, None, None] ** 2
    return frames_of(counts.astype("f4"), unit="electron", variance=variance.astype("f4"))


@pytest.mark.parametrize("signal", [10, 30, 100])
def test_inverse_variance_weights_do_not_prefer_low_values(signal):
    noise = np.where(np.arange(20) % 2, 3.0, 8.0)
    frames = photons(signal, noise)
    found = combine(frames, reject=None, weights="inverse_variance").compute()
    error = found.image.values.astype(float) - signal
    assert abs(error.mean()) < 0.01 * signal
    assert np.sqrt((error**2).mean() / found.variance.mean()) == pytest.approx(1, abs=0.03)
    optimal = 1 / (1 / (signal + noise**2)).sum()
    assert (error**2).mean() == pytest.approx(optimal, rel=0.04)
    naive = (frames.image / frames.variance).sum("frame") / (1 / frames.variance).sum("frame")
    assert float(naive.mean()) - signal < -0.8


def test_inverse_variance_in_adu_uses_the_gain():
    electrons = photons(40, np.full(20, 5.0))
    adu = electrons.copy(deep=True)
    adu["image"], adu["variance"] = adu.image / 2, adu.variance / 4
    adu["image"].attrs["units"] = "adu"
    adu = adu.assign_coords(gain=("frame", np.full(20, 2.0)))
    found = combine(adu, reject=None, weights="inverse_variance")
    expected = combine(electrons, reject=None, weights="inverse_variance")
    np.testing.assert_allclose(found.image * 2, expected.image, rtol=1e-5)
    bias = combine(
        adu.assign_coords(imagetyp=("frame", ["bias"] * 20)),
        reject=None, weights="inverse_variance",
    )  # fmt: skip
    weights = 1 / adu.variance.astype(float)
    own = (adu.image * weights).sum("frame") / weights.sum("frame")
    np.testing.assert_allclose(bias.image, own, rtol=1e-5)  # no photon noise to take to the centre


def test_weighted_variance_is_propagated_or_from_the_scatter():
    rng = np.random.default_rng(2)
    sigma = np.linspace(1, 4, 25)
    image = 500 + rng.normal(size=(25, 60, 80)) * sigma[:, None, None]
    variance = np.broadcast_to(sigma[:, None, None] ** 2, image.shape)
    for planes in ({}, {"variance": variance.astype("f4")}):
        frames = frames_of(image.astype("f4"), **planes)
        found = combine(frames, reject=None, weights=1 / sigma**2)
        truth = 1 / (1 / sigma**2).sum()
        assert float(found.variance.mean()) == pytest.approx(truth, rel=0.02)
        assert float(((found.image - 500) ** 2).mean()) == pytest.approx(truth, rel=0.06)


# --- misuse -------------------------------------------------------------------------------------

WRONG = [
    ({"zero": "medain"}, "zero='medain' is neither a statistic.*did you mean 'median'"),
    ({"scale": "exptim"}, "did you mean 'exptime'"),
    ({"scale": "skylevl"}, "did you mean 'skylevel'"),
    ({"weights": "inverse"}, "did you mean 'inverse_variance'"),
    ({"scale": "gain"}, r"gain should be known and positive for all frames.*nan for /raw/f5\.fits"),
    ({"zero": "gain"}, r"gain should be known for all frames.*nan for /raw/f5\.fits"),
    ({"weights": "WORD"}, "hdr_word of the frames is no number"),
    ({"zero": np.mean}, "zero cannot be a callable"),
    ({"weights": np.mean}, "weights cannot be a callable"),
    ({"weights": [1, 2, 3]}, "6 numbers, 0 or more and not all 0"),
    ({"weights": np.ones((6, 1))}, "6 numbers, 0 or more"),
    ({"weights": [0] * 6}, "not all 0"),
    ({"weights": [1, 1, 1, 1, 1, -1]}, "0 or more"),
    ({"weights": [1, 1, 1, 1, 1, np.nan]}, "0 or more"),
    ({"weights": 3}, "one for each frame"),
    ({"zero": [1, 2]}, "6 numbers, one for each frame"),
    ({"zero": [1, 2, 3, 4, 5, np.inf]}, "6 numbers, one for each frame"),
    ({"weights": "median", "method": "median"}, "weights are for method='average'"),
    ({"weights": [1] * 6, "method": "sum"}, "weights are for method='average'"),
    ({"weights": "inverse_variance"}, "needs the variance of the frames.*create_variance"),
    ({"section": "[:3, :]"}, "none is asked for"),
    ({"section": "[:3, :]", "scale": "exptime"}, "none is asked for"),
    ({"dtype": "int16"}, "'float32' or 'float64'"),
    ({"dtype": "double precision"}, "'float32' or 'float64'"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_what_cannot_be_used_is_one_clear_error(options, message):
    frames = leveled()
    with nothing_is_read(), pytest.raises(ArgumentError, match=message):
        combine(frames, **options)


@pytest.mark.parametrize(
    "section", ["[0:99, :]", "[3:2, :]", "[::2]", "2:3", "fits [0:3,1:2]", "fits [1:99,1:2]", 3]
)
def test_a_section_outside_of_the_frame(section):
    with nothing_is_read(), pytest.raises(GeometryError):
        combine(leveled(), scale="median", section=section)


@pytest.mark.parametrize(
    ("argument", "wish"), [("scale", "positive"), ("weights", "positive"), ("zero", "known")]
)
def test_a_frame_that_gives_no_number_is_named(argument, wish):
    frames = leveled()
    frames.mask[2] = 1
    lazy = combine(frames, **{argument: "mode"})
    with pytest.raises(
        CalibrationError, match=rf"should be {wish}.*/raw/f2\.fits \(nan\).*numbers"
    ):
        lazy.compute()


# --- the record and the type --------------------------------------------------------------------


def test_the_record_says_what_was_given():
    from daskcal.frames.steps import steps_of

    made = combine(leveled(), scale="mode", zero=np.arange(6), weights="EXPTIME", section=np.s_[1:])
    record = steps_of(made)[-1].parameters
    assert record["scale"] == "mode"
    assert record["zero"] == [0.0, 1, 2, 3, 4, 5]
    assert record["weights"] == "EXPTIME"
    assert "1" in record["section"]


@pytest.mark.parametrize("given", ["u1", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("dtype", [None, "float32", np.float64])
def test_the_type_of_the_result(given, dtype):
    image = noisy(7).astype(given)
    combined = combine(frames_of(image), dtype=dtype, reject=None)
    large = np.dtype(given).itemsize > 2 and given != "f4"
    wanted = np.dtype("f8" if large else "f4") if dtype is None else np.dtype(dtype)
    with dask.config.set(scheduler="sync"):
        found = combined.compute()
    assert combined.image.dtype == found.image.dtype == wanted
    assert combined.variance.dtype == found.variance.dtype
    tolerance = 1e-14 if wanted.itemsize == 8 else 1e-7
    np.testing.assert_allclose(found.image, image.astype(float).mean(axis=0), rtol=tolerance)
