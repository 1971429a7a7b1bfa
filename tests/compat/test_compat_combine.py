"""`combine` and `Combiner` of `daskcal.compat.ccdproc` against ccdproc's.

The engine is a compiled loop that works in float64: a mean differs from ccdproc's by rounding.
Masked values are NaN for ccdproc here where it would take them into the statistics of clipping.
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from astropy.stats import mad_std
from oracle_ccds import SHAPE, assert_same, random_ccd

import daskcal.compat.ccdproc as compat
from daskcal.errors import (
    ArgumentError,
    FrameError,
    GeometryError,
    OutputError,
    UnitError,
    UnknownKeywordError,
)
from daskcal.fits import source

pytestmark = [
    pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Degrees of freedom <= 0 for slice:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Input data contains invalid values"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in (sqrt|divide):RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:divide by zero encountered in divide:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Some non-standard WCS keywords"),
]
N = 9
RTOL = 1e-13
METHODS = ("average", "median", "sum")
SIGMA = {
    "sigma_clip": True,
    "sigma_clip_low_thresh": 3,
    "sigma_clip_high_thresh": 2.5,
    "sigma_clip_func": np.ma.median,
    "sigma_clip_dev_func": mad_std,
}
SCALES = np.linspace(0.9, 1.3, N)


def images(*, mask: bool = False, level: float = 0, **options: object) -> list[CCDData]:
    """A stack; with masks a pixel is masked in all and one in all but the first."""
    stack = [random_ccd(i, 1000 + i * level, mask=mask, **options) for i in range(N)]
    for i, ccd in enumerate(stack):
        if mask:
            ccd.mask[3, 4], ccd.mask[5, 6] = True, i > 0
    return stack


def undefined(stack: list[CCDData]) -> list[CCDData]:
    """The same for ccdproc, whose clipping looks at masked values, but not at NaN."""
    done = [ccd.copy() for ccd in stack]
    for ccd in done:
        if ccd.mask is not None:
            ccd.data[ccd.mask] = np.nan
    return done


def theirs(stack: list[CCDData], **options: object) -> CCDData:
    return ccdproc.combine([ccd.copy() for ccd in stack], **options)


def check(stack: list[CCDData], **options: object) -> CCDData:
    """Combine by both; ccdproc's leaves NCOMBINE out, and rounds σ to the type of the first's."""
    found, expected = compat.combine(stack, **options), theirs(stack, **options)
    assert found.meta.pop("NCOMBINE") == len(stack)
    single = found.data.dtype == "f4" or stack[0].data.dtype == "f4"
    assert_same(found, expected, rtol=3e-6 if single else RTOL)
    return found


# --- combine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u2"])
def test_methods(method: str, mask: bool, dtype: str) -> None:
    check(images(mask=mask, dtype=dtype), method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("uncertainty", [None, "std"])
def test_header_wcs_and_unit_of_the_first(method: str, uncertainty: str | None) -> None:
    stack = images(with_wcs=True, uncertainty=uncertainty, unit=u.electron)
    stack[3].header["FILTER"] = "other"
    check(stack, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("scale", [None, SCALES, list(SCALES), lambda a: 1 / np.median(a)])
def test_sigma_clipping_and_scales(method: str, mask: bool, scale: object) -> None:
    """Rejected as they are, then scaled: levels differ, so that the order shows."""
    stack = images(mask=mask, level=8)
    numbers = [scale(ccd.data) for ccd in stack] if callable(scale) else scale
    words = SIGMA | {"sigma_clip_func": "median", "sigma_clip_dev_func": "mad_std"}  # see no NaN
    found = compat.combine(stack, method=method, scale=scale, **SIGMA)
    expected = theirs(undefined(stack), method=method, scale=numbers, **words)
    assert found.meta.pop("NCOMBINE") == N
    assert_same(found, expected, rtol=RTOL)


CENTERS = ["mean", "median", np.mean, np.ma.mean, np.ma.median, np.nanmedian]
SPREADS = ["std", "mad_std", mad_std, np.std, np.ma.std, np.nanstd]


def _name(word: object) -> str:
    """Of a word or a function: the same in every process, as pytest-xdist needs it."""
    return word if isinstance(word, str) else f"{word.__module__}.{word.__name__}"


@pytest.mark.parametrize("center", CENTERS, ids=_name)
@pytest.mark.parametrize("spread", SPREADS, ids=_name)
def test_words_and_functions_of_the_clipping(center: object, spread: object) -> None:
    options = {"sigma_clip_func": center, "sigma_clip_dev_func": spread}
    check(images(), **SIGMA | options)


def test_clipping_by_functions_of_ones_own() -> None:
    options = {
        "sigma_clip_func": lambda a, axis: np.nanpercentile(a, 40, axis=axis),
        "sigma_clip_dev_func": lambda a, axis: np.nanmax(a, axis=axis) - np.nanmin(a, axis=axis),
        "sigma_clip_low_thresh": 0.4,
        "sigma_clip_high_thresh": 0.45,
    }
    found = check(images(), **SIGMA | options)
    assert (found.data != theirs(images()).data).mean() > 0.3


def test_masked_values_hide_no_outlier() -> None:
    """Two wild masked values make ccdproc's standard deviation too large to see a third."""
    stack = [CCDData(np.full(SHAPE, 10.0 + i / 10), unit="adu") for i in range(12)]
    stack[9].data[:] = 30
    for ccd in stack[10:]:
        ccd.data[:], ccd.mask = 1e6, np.ones(SHAPE, bool)
    options = {"sigma_clip": True, "sigma_clip_low_thresh": 2.5, "sigma_clip_high_thresh": 2.5}
    found = compat.combine(stack, **options)
    np.testing.assert_allclose(found.data, np.mean(10 + np.arange(9) / 10))
    assert theirs(stack, **options).data[0, 0] > 12


def test_a_threshold_of_none_is_off() -> None:
    stack = images()
    found = compat.combine(stack, **SIGMA | {"sigma_clip_low_thresh": None})
    far = theirs(stack, **SIGMA | {"sigma_clip_low_thresh": 1e9})
    np.testing.assert_allclose(found.data, far.data, rtol=RTOL)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize(("nlow", "nhigh"), [(1, 1), (0, 3), (2, None)])
def test_extrema(method: str, mask: bool, nlow: int, nhigh: int | None) -> None:
    check(images(mask=mask), method=method, clip_extrema=True, nlow=nlow, nhigh=nhigh)


def test_extrema_of_undefined_values() -> None:
    stack = images()
    for i, value in ((2, np.nan), (3, np.inf), (4, -np.inf)):
        stack[i].data[:5, :5] = value
    for nlow, nhigh in ((1, 2), (2, 3)):
        check(stack, clip_extrema=True, nlow=nlow, nhigh=nhigh)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("low", "high"), [(995, 1010), (None, 1005), (990, None)])
def test_limits(method: str, low: float | None, high: float | None) -> None:
    limits = {"minmax_clip": True, "minmax_clip_min": low, "minmax_clip_max": high}
    check(images(mask=True), method=method, **limits)


@pytest.mark.parametrize("method", METHODS)
def test_everything_at_once(method: str) -> None:
    limits = {"minmax_clip": True, "minmax_clip_min": 990, "clip_extrema": True, "nlow": 0}
    check(images(level=2), method=method, scale=SCALES, **limits, **SIGMA)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cube", [True, False])
@pytest.mark.parametrize("scale", [None, SCALES])
def test_weights(method: str, cube: bool, scale: object) -> None:
    weights = np.random.default_rng(4).uniform(0, 2, (N, *SHAPE) if cube else N)
    weights[2] = 0
    check(images(), method=method, weights=weights, scale=scale)
    np.testing.assert_array_equal(  # of tiles, which ccdproc cannot do
        compat.combine(images(), method=method, weights=weights, mem_limit=1e5).data,
        compat.combine(images(), method=method, weights=weights).data,
    )


def test_weights_of_masked_values_do_not_count() -> None:
    """ccdproc 2.5 divides by the weights of all."""
    stack = [CCDData(np.full(SHAPE, value), unit="adu") for value in (1.0, 2.0, 3.0)]
    stack[0].mask = np.ones(SHAPE, bool)
    found = compat.combine(stack, weights=np.array([5.0, 1.0, 3.0]))
    assert (found.data == (2 + 9) / 4).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("spread", ["mad_std", "std", "own"])
def test_uncertainty_functions(method: str, mask: bool, spread: str) -> None:
    functions = {
        "mad_std": (compat.sigma_func, lambda a, axis: mad_std(a, axis=axis, ignore_nan=True)),
        "std": (np.ma.std, np.nanstd),
        "own": (_range, _range),
    }
    ours, for_ccdproc = functions[spread]
    stack = images(mask=mask)
    found = compat.combine(stack, method=method, combine_uncertainty_function=ours)
    expected = theirs(stack, method=method, combine_uncertainty_function=for_ccdproc)
    np.testing.assert_allclose(
        found.uncertainty.array, expected.uncertainty.array, rtol=1e-9, atol=1e-12
    )


def _range(values: np.ndarray, axis: int) -> np.ndarray:
    return np.nanmax(values, axis=axis) - np.nanmin(values, axis=axis)


def test_one_image() -> None:
    for method in METHODS:
        check(images()[:1], method=method)


@pytest.mark.parametrize("method", METHODS)
def test_float32(method: str) -> None:
    found = check(images(), method=method, dtype="f4", scale=SCALES)
    assert found.data.dtype == found.uncertainty.array.dtype == np.float32


def test_bits_do_not_depend_on_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = images(mask=True, level=4)
    for method in METHODS:
        for options in ({}, SIGMA, SIGMA | {"scale": SCALES}, {"weights": SCALES}):
            whole = compat.combine(stack, method=method, **options)
            bands = compat.combine(stack, method=method, mem_limit=3e4, **options)
            for one, other in (
                (whole.data, bands.data),
                (whole.uncertainty.array, bands.uncertainty.array),
            ):
                np.testing.assert_array_equal(one, other)


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """uint16, as cameras write."""
    for i, ccd in enumerate(images(uncertainty=None, dtype="u2", with_wcs=True)):
        hdu = fits.PrimaryHDU(ccd.data, header=ccd.header)
        hdu.header.update(ccd.wcs.to_header())
        hdu.writeto(tmp_path / f"raw{i}.fits")
    return sorted(str(path) for path in tmp_path.glob("raw*.fits"))


def check_files(found: CCDData, expected: CCDData) -> None:
    assert found.meta.pop("NCOMBINE") == N
    assert_same(found, expected, rtol=RTOL)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [None, SCALES, lambda a: 1000 / np.median(a)])
def test_files(files: list[str], method: str, scale: object) -> None:
    options = {"method": method, "scale": scale, "unit": "adu", "mem_limit": 1e5}
    check_files(compat.combine(files, **options), ccdproc.combine(files, **options))


@pytest.mark.parametrize("as_given", [",".join, np.array, tuple, lambda f: [Path(p) for p in f]])
def test_ways_to_name_files(files: list[str], as_given) -> None:
    found = compat.combine(as_given(files), unit="adu")
    check_files(found, ccdproc.combine(files, unit="adu"))


def test_files_in_any_order_and_twice(files: list[str]) -> None:
    mixed = [files[i] for i in (4, 2, 2, 8, 0, 1, 3, 7, 5)]
    found = compat.combine(mixed, unit="adu", scale=SCALES)
    check_files(found, ccdproc.combine(mixed, unit="adu", scale=SCALES))


@pytest.mark.parametrize("hdu_mask", ["MASK", None, "BAD"])
def test_masks_of_files(tmp_path: Path, hdu_mask: str | None) -> None:
    """As CCDData.write leaves them: a mask and an uncertainty in HDUs of their own."""
    paths = []
    for i, ccd in enumerate(images(mask=True)):
        if i == 4:
            ccd.mask = None
        paths.append(str(tmp_path / f"{i}.fits"))
        ccd.write(paths[-1], hdu_mask=hdu_mask or "MASK")
    options = {"hdu_mask": hdu_mask, "method": "median"}
    check_files(compat.combine(paths, **options), ccdproc.combine(paths, **options))


@pytest.mark.parametrize("named", [True, False])
def test_images_in_extensions(tmp_path: Path, named: bool) -> None:
    paths = []
    for i, ccd in enumerate(images(uncertainty=None)):
        primary = fits.PrimaryHDU(header=fits.Header({"OBJECT": "m31"}))
        kind = fits.CompImageHDU if named else fits.ImageHDU
        image = kind(ccd.data.astype("i2"), header=ccd.header, name="SCI")
        paths.append(str(tmp_path / f"{i}.fits"))
        fits.HDUList([primary, image]).writeto(paths[-1])
    options = {"hdu": 1, "unit": "adu"} if named else {"unit": "adu"}
    check_files(compat.combine(paths, **options), ccdproc.combine(paths, **options))


def test_output_file(files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "master.fits"
    made = compat.combine(files, str(out), unit="adu")
    read = CCDData.read(out)
    np.testing.assert_array_equal(read.data, made.data)
    np.testing.assert_array_equal(read.uncertainty.array, made.uncertainty.array)
    before = out.read_bytes()
    with pytest.raises(OutputError, match="overwrite_output"):
        compat.combine(files, str(out), unit="adu", method="sum")
    assert out.read_bytes() == before
    compat.combine(files, str(out), unit="adu", method="sum", overwrite_output=True)
    assert CCDData.read(out).data.mean() > 8000


def test_files_are_read_once(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the header of the first, once more; twice for a scale that is a function."""
    read, of_old = [], source.fill

    def fill(image, handle, target, offset) -> None:
        read.append((image.path, target.nbytes))
        of_old(image, handle, target, offset)

    monkeypatch.setattr(source, "fill", fill)
    size = SHAPE[0] * SHAPE[1] * 2
    for scale, times in ((None, 1), (np.mean, 2)):
        read.clear()
        compat.combine(files, unit="adu", method="median", scale=scale, mem_limit=5e4, **SIGMA)
        for path in files:
            assert sum(n for name, n in read if name == os.path.abspath(path)) == times * size
        assert len(read) > 2 * N, "it was not cut into bands"


@pytest.mark.parametrize("method", ["average", "median"])
def test_memory_stays_within_the_limit(tmp_path: Path, method: str) -> None:
    """As far as NumPy's arrays go; the stack is five times as large."""
    rng = np.random.default_rng(3)
    for i in range(40):
        data = rng.normal(1000, 5, (300, 1000)).astype(np.float32)
        fits.PrimaryHDU(data).writeto(tmp_path / f"{i}.fits")
    files = [str(path) for path in tmp_path.glob("*.fits")]
    options = {"unit": "adu", "method": method, "scale": np.linspace(0.9, 1.1, 40), **SIGMA}
    compat.combine(files[:3], **options | {"scale": [1, 1, 1]})  # to compile the kernels
    limit = 10_000_000
    tracemalloc.start()
    try:
        compat.combine(files, mem_limit=limit, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def test_files_that_cannot_be_combined(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unit"):
        compat.combine(files)
    with pytest.raises(FrameError, match="no such file"):
        compat.combine([*files, str(tmp_path / "none.fits")], unit="adu")
    (tmp_path / "text.fits").write_text("no image")
    with pytest.raises(FrameError, match=r"text\.fits"):
        compat.combine([*files, str(tmp_path / "text.fits")], unit="adu")
    random_ccd(1)[:, 1:].write(tmp_path / "small.fits")
    with pytest.raises(GeometryError, match=r"small\.fits is \(24, 29\)"):
        compat.combine([*files, str(tmp_path / "small.fits")], unit="adu")
    for i, unit in enumerate(("adu", "electron")):
        random_ccd(1, unit=unit).write(tmp_path / f"unit{i}.fits")
    with pytest.raises(UnitError, match="BUNIT 'electron'"):
        compat.combine([tmp_path / "unit0.fits", tmp_path / "unit1.fits"])


# --- what is refused ----------------------------------------------------------------------------


def test_format_is_fits(files: list[str]) -> None:
    found = compat.combine(files, format="fits", method="median", unit="adu")
    np.testing.assert_array_equal(
        found.data, compat.combine(files, method="median", unit="adu").data
    )
    with pytest.raises(ArgumentError, match="format='hdf5' is not one of fits"):
        compat.combine(files, format="hdf5")


def test_misspelled_keywords(files: list[str]) -> None:
    """The seeds' misspelling, which ccdproc swallows; for files and for images."""
    for given in (files, images()):
        with pytest.raises(UnknownKeywordError, match="did you mean 'sigma_clip_dev_func'"):
            compat.combine(given, signma_clip_dev_func=mad_std)
        with pytest.raises(UnknownKeywordError, match="did you mean 'method'"):
            compat.combine(given, methd="median")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"method": "mode"}, ArgumentError),
        ({"dtype": "i2"}, ArgumentError),
        ({"dtype": "nothing"}, ArgumentError),
        ({"scale": [1, 2]}, ArgumentError),
        ({"scale": "median"}, ArgumentError),
        ({"weights": [1.0] * N}, ArgumentError),
        ({"weights": np.ones(3)}, ArgumentError),
        ({"clip_extrema": True, "nlow": 5, "nhigh": 4}, ArgumentError),
        ({"sigma_clip": True, "sigma_clip_func": "mode"}, ArgumentError),
        ({"combine_uncertainty_function": 3}, ArgumentError),
    ],
    ids=str,
)
def test_refused(options: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        compat.combine(images(), **options)


def test_images_that_cannot_be_combined() -> None:
    with pytest.raises(ArgumentError):
        compat.combine([])
    with pytest.raises(ArgumentError):
        compat.combine(3)
    with pytest.raises(ArgumentError):
        compat.combine([random_ccd(1), "a.fits"])
    with pytest.raises(GeometryError):
        compat.combine([random_ccd(1), random_ccd(2)[1:]])
    with pytest.raises(UnitError):
        compat.combine([random_ccd(1), random_ccd(2, unit=u.electron)])
    with pytest.raises(ArgumentError):
        compat.Combiner([np.ones(SHAPE)])
    with pytest.raises(ArgumentError):
        compat.Combiner(None)


# --- Combiner -----------------------------------------------------------------------------------

CLIPS = {
    "none": lambda c: None,
    "sigma": lambda c: c.sigma_clipping(2, 3, func="median", dev_func="mad_std"),
    "defaults": lambda c: c.sigma_clipping(),
    "extrema": lambda c: c.clip_extrema(nlow=1, nhigh=2),
    "limits": lambda c: c.minmax_clipping(min_clip=990, max_clip=1012),
    "own": lambda c: c.sigma_clipping(2, 2, func=np.nanmedian, dev_func=_range),
    "all": lambda c: (c.clip_extrema(1, 0), c.minmax_clipping(985), c.sigma_clipping(3, 3)),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("clip", "mask"),
    [(clip, mask) for clip in CLIPS for mask in (True, False) if not (mask and clip == "all")],
)
def test_combiner(method: str, mask: bool, clip: str) -> None:
    stack = images(mask=mask)
    ours = compat.Combiner(stack)
    expected = ccdproc.Combiner(stack if clip == "extrema" else undefined(stack))
    for combiner in (ours, expected):
        CLIPS[clip](combiner)
        combiner.scaling = SCALES
    np.testing.assert_array_equal(
        ours.data_arr.mask, expected.data_arr.mask | np.isnan(expected.data_arr.data)
    )
    found = getattr(ours, f"{method}_combine")()
    assert_same(found, getattr(expected, f"{method}_combine")(), rtol=RTOL)


@pytest.mark.parametrize("shape", [(50,), (6, 7, 8)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_combiner_of_other_dimensions(method: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    stack = [
        CCDData(rng.normal(10, 1, shape), unit="adu", mask=rng.random(shape) < 0.1)
        for _ in range(6)
    ]
    made = []
    for module in (compat, ccdproc):
        combiner = module.Combiner(stack)
        combiner.minmax_clipping(max_clip=11)
        made.append(getattr(combiner, f"{method}_combine")())
    assert_same(*made, rtol=RTOL)


def test_combiner_functions_and_scales() -> None:
    stack = images(mask=True)
    ours, expected = compat.Combiner(stack), ccdproc.Combiner(stack)
    for options in (
        {"scale_func": np.ma.average},
        {"scale_func": lambda a, axis: np.ma.max(a, axis=axis), "uncertainty_func": np.ma.std},
        {"scale_to": 2.0},
    ):
        found, wanted = ours.average_combine(**options), expected.average_combine(**options)
        some = ~wanted.mask
        np.testing.assert_array_equal(found.mask, wanted.mask)
        np.testing.assert_allclose(found.data[some], wanted.data[some], rtol=RTOL)
        sigma, of_ccdproc = found.uncertainty.array[some], wanted.uncertainty.array[some]
        np.testing.assert_allclose(sigma, of_ccdproc, rtol=1e-9, atol=1e-12)
    found = ours.sum_combine(sum_func=np.ma.sum, uncertainty_func=np.ma.std)
    wanted = expected.sum_combine(sum_func=np.ma.sum, uncertainty_func=np.ma.std)
    some = ~wanted.mask
    np.testing.assert_allclose(found.data[some], wanted.data[some], rtol=RTOL)
    found = ours.median_combine(median_func=np.ma.median, scale_to=SCALES)
    wanted = theirs(stack, method="median", scale=SCALES)
    np.testing.assert_allclose(found.data, wanted.data, rtol=RTOL)
    for combiner in (ours, expected):
        combiner.scaling = lambda image: 1 / np.ma.average(image)
    np.testing.assert_allclose(ours.scaling, expected.scaling, rtol=RTOL)
    assert ours.scaling.shape == expected.scaling.shape


def test_combiner_weights() -> None:
    stack = images()
    for weights in (np.arange(1.0, N + 1), np.random.default_rng(1).random((N, *SHAPE))):
        ours, expected = compat.Combiner(stack), ccdproc.Combiner(stack)
        ours.weights = expected.weights = weights
        for method in ("average_combine", "sum_combine"):
            assert_same(getattr(ours, method)(), getattr(expected, method)(), rtol=RTOL)
        with pytest.raises(ArgumentError, match="weights should be"):
            ours.weights = [1, 2]


def test_clipping_again_and_again() -> None:
    """Which ccdproc has no way to do: of 30 values 1e6 hides 50."""
    stack = [CCDData(np.full((2, 2), 10 + i % 3 / 10), unit="adu") for i in range(30)]
    stack[3].data[:], stack[4].data[:] = 1e6, 50
    once, often = compat.Combiner(stack), compat.Combiner(stack)
    once.sigma_clipping(use_astropy=True)
    often.sigma_clipping(maxiters=None)
    assert once.data_arr.mask.sum() == 4
    assert often.data_arr.mask.sum() == 8
    with pytest.raises(UnknownKeywordError, match="did you mean 'dev_func'"):
        once.sigma_clipping(devfunc="std")


def test_uncertainty_of_the_inputs_does_not_count() -> None:
    stack = images()
    for ccd in stack:
        ccd.uncertainty = StdDevUncertainty(np.full(SHAPE, 1e6))
    assert compat.combine(stack).uncertainty.array.max() < 200
