"""The steps of `daskcal.compat.ccdproc` on one image, against ccdproc where that is right."""

from __future__ import annotations

import warnings

import ccdproc
import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.models import Polynomial1D
from astropy.nddata import CCDData
from oracle_ccds import KINDS, SHAPE, assert_same, random_ccd

import daskcal.compat.ccdproc as compat
from daskcal.errors import (
    ArgumentError,
    DaskcalWarning,
    GeometryError,
    UnitError,
    UnknownKeywordError,
)

pytestmark = pytest.mark.filterwarnings("ignore:Some non-standard WCS keywords")

GAIN, NOISE = 1.7 * u.electron / u.adu, 6 * u.electron
IMAGES = {
    "plain": {"uncertainty": None, "mask": False},
    "with all": {"with_wcs": True},
    "float32": {"dtype": "f4", "mask": False},
    "variance": {"uncertainty": "variance"},
    "inverse variance": {"uncertainty": "inverse", "mask": False},
}


def both(step: str, *args: object, **options: object) -> tuple[CCDData, CCDData]:
    return getattr(compat, step)(*args, **options), getattr(ccdproc, step)(*args, **options)


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> CCDData:
    return random_ccd(1, **IMAGES[request.param])


@pytest.fixture(params=["with all", "exact"])
def master(request: pytest.FixtureRequest, image: CCDData) -> CCDData:
    """Of the kind of the image: astropy does not mix kinds of uncertainty."""
    if request.param == "exact":
        return random_ccd(2, 300, uncertainty=None, mask=False, EXPTIME=90.0)
    kinds = {kind: name for name, kind in KINDS.items()}
    kind = kinds.get(type(image.uncertainty), "std")
    return random_ccd(2, 300, uncertainty=kind, dtype=image.dtype.str, EXPTIME=90.0)


# --- the steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("median", [True, False])
@pytest.mark.parametrize("axis", [1, 0, None])
@pytest.mark.parametrize("model", [None, Polynomial1D(2)], ids=["levels", "fitted"])
def test_subtract_overscan(image: CCDData, axis: int | None, median: bool, model) -> None:
    image.mask = None  # of the overscan: see below
    options = {"overscan_axis": axis, "median": median, "model": model}
    part = image[20:] if axis == 0 else image[:, 22:]
    assert_same(*both("subtract_overscan", image, overscan=part, **options))
    section = "[*, 21:24]" if axis == 0 else "[23:30, :]"
    assert_same(*both("subtract_overscan", image, fits_section=section, **options))


def test_masked_overscan_does_not_count() -> None:
    """ccdproc's level is 59 999 / 8 too high."""
    image = CCDData(np.ones(SHAPE), unit="adu", mask=np.zeros(SHAPE, bool))
    image.data[3, 25], image.mask[3, 25] = 60000, True
    for median in (True, False):
        done = compat.subtract_overscan(image, overscan=image[:, 22:], median=median)
        assert (done.data[:, :22] == 0).all()
    assert ccdproc.subtract_overscan(image, overscan=image[:, 22:]).data[3, 0] < -7000


SECTIONS = [
    "[1:20, 1:10]", "[*, 3:8]", "[:, 5:]", "[-*, *]", "[20:1, 10:3]", "[1:20:2, *]", "[7:9,-*]",
    "[ 2 : 5 , 4 : 4 ]", "[10:1, *]", "[20:3:3, 2:9]", "[:12, *]",
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_trim_image(section: str) -> None:
    image = random_ccd(3)
    assert_same(*both("trim_image", image, fits_section=section))


def test_trim_image_of_a_slice_is_a_copy(image: CCDData) -> None:
    found, expected = both("trim_image", image[:, :20])
    assert_same(found, expected)
    assert not np.shares_memory(found.data, image.data)


@pytest.mark.parametrize("section", ["1:5,1:5", "[0:5, 1:5]", "[a:b, 1:2]", "[1:2:3:4, 1:2]"])
def test_no_section(section: str) -> None:
    with pytest.raises(GeometryError, match="FITS"):
        compat.trim_image(random_ccd(3), fits_section=section)


def test_subtract_bias(image: CCDData, master: CCDData) -> None:
    assert_same(*both("subtract_bias", image, master))


EXPOSURES = {
    "keyword": {"exposure_time": "exptime", "exposure_unit": u.s},
    "Keyword": {"exposure_time": compat.Keyword("exptime", unit=u.s)},
    "given": {"data_exposure": 20 * u.s, "dark_exposure": 1 * u.min},
}


@pytest.mark.filterwarnings("ignore:subtract_dark:daskcal.errors.DaskcalWarning")
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("exposure", EXPOSURES)
def test_subtract_dark(image: CCDData, master: CCDData, exposure: str, scale: bool) -> None:
    options = EXPOSURES[exposure]
    found = compat.subtract_dark(image, master, scale=scale, **options)
    if exposure == "Keyword":
        options = {"exposure_time": ccdproc.Keyword("exptime", unit=u.s)}
    expected = ccdproc.subtract_dark(image, master, scale=scale, **options)
    cards = exposure != "Keyword"  # whose text holds where it is in memory
    assert_same(found, expected, cards=cards)


def test_a_dark_of_another_exposure_is_warned_of() -> None:
    image, dark = random_ccd(1), random_ccd(2, EXPTIME=90.0)
    with pytest.warns(DaskcalWarning, match=r"a dark of 90.0 s is taken off an image of 30.0 s"):
        compat.subtract_dark(image, dark, exposure_time="exptime", exposure_unit=u.s)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compat.subtract_dark(image, image, exposure_time="exptime", exposure_unit=u.s)


@pytest.mark.parametrize(
    ("gain", "unit"), [(GAIN, None), (2.0, None), (2.0, u.electron / u.adu), (1.5 * u.one, None)]
)
def test_gain_correct(image: CCDData, gain: object, unit: object) -> None:
    assert_same(*both("gain_correct", image, gain, gain_unit=unit))


def test_gain_of_the_header(image: CCDData) -> None:
    image.header["GAIN"] = 1.4
    unit = u.electron / u.adu
    found = compat.gain_correct(image, compat.Keyword("GAIN", unit=unit), add_keyword=False)
    expected = ccdproc.gain_correct(image, ccdproc.Keyword("GAIN", unit=unit), add_keyword=False)
    assert_same(found, expected)


@pytest.mark.parametrize("options", [{}, {"min_value": 290}, {"norm_value": 250.0}], ids=str)
def test_flat_correct(image: CCDData, master: CCDData, options: dict) -> None:
    master.mask = None  # of the flat: see below
    assert_same(*both("flat_correct", image, master, **options))


def test_norm_value_with_masks() -> None:
    image, flat = random_ccd(1), random_ccd(2)
    assert_same(*both("flat_correct", image, flat, norm_value=990.0))


def test_masked_and_undefined_flat_pixels_do_not_count() -> None:
    """ccdproc: everything times 25; and everything NaN."""
    image, flat = (CCDData(np.ones((10, 10)), unit="adu") for _ in range(2))
    flat.mask = np.zeros((10, 10), bool)
    flat.data[:5, :5], flat.mask[:5, :5] = 97, True
    assert (compat.flat_correct(image, flat).data == 1).all()
    assert ccdproc.flat_correct(image, flat).data[9, 9] == 25
    flat.data[0, 0], flat.mask = np.nan, None
    assert np.isfinite(compat.flat_correct(image, flat).data).sum() == 99
    assert np.isnan(ccdproc.flat_correct(image, flat).data).all()


@pytest.mark.parametrize("disregard_nan", [True, False])
def test_create_deviation(image: CCDData, disregard_nan: bool) -> None:
    image.data[2:4] -= 2000  # below 0
    assert_same(
        *both("create_deviation", image, gain=GAIN, readnoise=NOISE, disregard_nan=disregard_nan)
    )
    image.uncertainty = None
    image.unit = u.electron
    assert_same(*both("create_deviation", image, readnoise=NOISE, disregard_nan=disregard_nan))


@pytest.mark.parametrize("gain_corrected", [True, False])
@pytest.mark.parametrize("as_slice", [True, False])
def test_ccd_process(image: CCDData, gain_corrected: bool, as_slice: bool) -> None:
    image.mask = None  # of the overscan, and ccdproc forgets it with a bad-pixel mask
    unit = u.electron if gain_corrected else u.adu
    small = [
        random_ccd(seed, level, unit=unit, mask=False)[:, :20]
        for seed, level in ((5, 300), (6, 40), (7, 900))
    ]
    assert_same(
        *both(
            "ccd_process",
            image,
            oscan=image[:, 22:] if as_slice else "[23:30, *]",
            trim="[1:20, *]",
            error=True,
            master_bias=small[0],
            dark_frame=small[1],
            master_flat=small[2],
            bad_pixel_mask=np.random.default_rng(3).random((24, 20)) < 0.1,
            gain=GAIN,
            readnoise=NOISE,
            oscan_median=False,
            min_value=880,
            exposure_key="exptime",
            exposure_unit=u.s,
            dark_scale=True,
            gain_corrected=gain_corrected,
        )
    )


def test_a_bad_pixel_mask_is_merged() -> None:
    image = random_ccd(1)
    bad = np.zeros(SHAPE, bool)
    bad[0, 0] = True
    found = compat.ccd_process(image, bad_pixel_mask=bad)
    np.testing.assert_array_equal(found.mask, image.mask | bad)


def test_integers_do_not_wrap() -> None:
    """ccdproc: 100 - 200 = 65436."""
    image = CCDData(np.full(SHAPE, 100, np.uint16), unit="adu", header={"EXPTIME": 1.0})
    master = CCDData(np.full(SHAPE, 200, np.uint16), unit="adu", header={"EXPTIME": 1.0})
    assert (ccdproc.subtract_bias(image, master).data == 65436).all()
    assert (compat.subtract_bias(image, master).data == -100).all()
    done = compat.subtract_dark(image, master, exposure_time="EXPTIME", exposure_unit=u.s)
    assert (done.data == -100).all()


def test_inputs_are_left_alone(image: CCDData, master: CCDData) -> None:
    before = image.copy(), master.copy()
    compat.flat_correct(image, master, min_value=299)
    compat.subtract_bias(image, master)
    compat.create_deviation(image, gain=GAIN, readnoise=NOISE)
    assert_same(image, before[0])
    assert_same(master, before[1])


# --- what goes into the header ------------------------------------------------------------------


@pytest.mark.parametrize("meta", ["header", "dict"])
@pytest.mark.parametrize(
    "add_keyword",
    [True, False, None, "biasdone", {"bias_sub": 2, "who": "me"}, {"gain_correct": "by 1.5"}],
    ids=str,
)
def test_add_keyword(meta: str, add_keyword: object) -> None:
    image, master = random_ccd(1), random_ccd(2)
    if meta == "dict":
        image.meta = {"exptime": 30.0}
    found, expected = both("subtract_bias", image, master, add_keyword=add_keyword)
    assert_same(found, expected)
    found, expected = both("gain_correct", image, gain=GAIN, add_keyword=add_keyword)
    assert dict(found.meta) == dict(expected.meta)


def test_add_keyword_of_a_keyword() -> None:
    image, master = random_ccd(1), random_ccd(2)
    found = compat.subtract_bias(image, master, add_keyword=compat.Keyword("BIASDONE", value="yes"))
    assert found.header["BIASDONE"] == "yes"


def test_auto_logging_can_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    image, master = random_ccd(1), random_ccd(2)
    monkeypatch.setattr(compat.conf, "auto_logging", False)
    assert dict(compat.subtract_bias(image, master).meta) == dict(image.meta)


def test_keyword() -> None:
    theirs, ours = (module.Keyword("GAIN", unit=u.electron / u.adu) for module in (ccdproc, compat))
    header = {"GAIN": 2.5}
    assert ours.value_from(header) == theirs.value_from(header) == 2.5 * u.electron / u.adu
    assert (ours.name, ours.unit, ours.value) == (theirs.name, theirs.unit, theirs.value)
    assert compat.Keyword("EXPOSURE", value=3 * u.s).unit == u.s
    assert compat.Keyword("FILTER", value="r").value == "r"
    with pytest.raises(ArgumentError, match="has no unit"):
        compat.Keyword("EXPOSURE", value=3)
    with pytest.raises(ArgumentError, match="the text"):
        compat.Keyword("EXPOSURE", unit=u.s, value="long")


# --- what is refused ----------------------------------------------------------------------------


def test_misspelled_keywords() -> None:
    image = random_ccd(1)
    with pytest.raises(UnknownKeywordError, match="did you mean 'exposure_time'"):
        compat.subtract_dark(image, image, exposuretime="exptime")
    with pytest.raises(UnknownKeywordError, match="did you mean 'add_keyword'"):
        compat.trim_image(image, add_keywords=False)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: compat.subtract_overscan(c), ArgumentError),
        (lambda c: compat.subtract_overscan(c, overscan=c, fits_section="[1:2, *]"), ArgumentError),
        (lambda c: compat.subtract_overscan(c, overscan=c[2:]), GeometryError),
        (lambda c: compat.subtract_overscan(c.data, overscan=c), ArgumentError),
        (lambda c: compat.subtract_overscan(c, overscan=c.data), ArgumentError),
        (lambda c: compat.trim_image(c, fits_section=slice(3)), ArgumentError),
        (lambda c: compat.subtract_bias(c, random_ccd(2, unit=u.electron)), UnitError),
        (lambda c: compat.subtract_dark(c, c), ArgumentError),
        (lambda c: compat.subtract_dark(c, c, exposure_time="exptime"), ArgumentError),
        (lambda c: compat.subtract_dark(c, c, exposure_time="nothing"), ArgumentError),
        (lambda c: compat.subtract_dark(c, c, data_exposure=3, dark_exposure=3), ArgumentError),
        (lambda c: compat.subtract_dark(c, c[:, :3], exposure_time="exptime"), GeometryError),
        (lambda c: compat.flat_correct(c, c, norm_value=0), ArgumentError),
        (lambda c: compat.create_deviation(c), ArgumentError),
        (lambda c: compat.create_deviation(c, gain=2, readnoise=NOISE), ArgumentError),
        (lambda c: compat.create_deviation(c, readnoise=NOISE), UnitError),
        (lambda c: compat.ccd_process(c, error=True), ArgumentError),
        (lambda c: compat.ccd_process(c, gain=2.0), ArgumentError),
        (lambda c: compat.ccd_process(c, oscan=3), ArgumentError),
    ],
)  # fmt: skip
def test_refused(call, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(random_ccd(1))
