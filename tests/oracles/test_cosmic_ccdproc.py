"""Cosmic rays: what daskcal flags is what ccdproc flags in the same frames."""

from __future__ import annotations

import json
import warnings

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from raw_fits import write_frames

import daskcal
from daskcal.frames.amplifiers import Amplifier, amplifier_coords
from daskcal.frames.masks import Flag
from daskcal.frames.sections import Section

GAINS, NOISES = [1.5, 2.0], [5.0, 8.0]
SHAPE = (90, 110)


@pytest.fixture(scope="module")
def images():
    """Two frames of sky, a few stars and cosmic rays."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    made = []
    for gain, noise in zip(GAINS, NOISES, strict=True):
        electrons = np.full(SHAPE, 300.0)
        for star_y, star_x, peak in rng.uniform((5, 5, 100), (85, 105, 20000), (12, 3)):
            electrons += peak * np.exp(-((y - star_y) ** 2 + (x - star_x) ** 2) / 2 / 1.5**2)
        electrons = rng.poisson(electrons) + rng.normal(0, noise, SHAPE)
        rays = rng.integers((0, 0), SHAPE, (60, 2))
        electrons[rays[:, 0], rays[:, 1]] += rng.uniform(100, 3000, 60)
        made.append(np.clip(electrons / gain, 0, 65535).round().astype(np.uint16))
    return made


@pytest.fixture(scope="module")
def frames(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cosmic") / "raw"
    return daskcal.open_frames(write_frames(folder, images, GAIN=GAINS, RDNOISE=NOISES))


def flagged(frames):
    return (frames.mask.values & Flag.COSMIC_RAY) != 0


LACOSMIC = {
    "defaults": {},
    "others": {"sigclip": 7.0, "objlim": 2.0, "sigfrac": 0.5, "niter": 1, "satlevel": 9000.0},
    "true medians": {"sepmed": False, "cleantype": "medmask"},
    "matched filter": {"fsmode": "convolve", "psfmodel": "gauss", "psffwhm": 3.5, "psfsize": 9},
    "moffat": {"fsmode": "convolve", "psfmodel": "moffat", "psfbeta": 3.0, "cleantype": "idw"},
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LACOSMIC)
def test_lacosmic_is_ccdprocs(frames, images, name, masked):
    options = LACOSMIC[name]
    bad = np.zeros(SHAPE, bool)
    if masked:
        bad[:, 40] = bad[10:20, 60:63] = True
        frames = daskcal.flag_bad(frames, bad)
    found = daskcal.cosmicray_lacosmic(frames, clean=True, **options)
    for i, image in enumerate(images):
        ccd = CCDData(image.astype(np.float32), unit="adu", mask=bad if masked else None)
        expected = ccdproc.cosmicray_lacosmic(
            ccd, gain=GAINS[i] * u.electron / u.adu, readnoise=NOISES[i] * u.electron,
            gain_apply=False, **options,
        )  # fmt: skip
        mine = found.isel(frame=i)
        np.testing.assert_array_equal(mine.mask.values != 0, expected.mask)
        rays = (mine.mask.values & Flag.COSMIC_RAY) != 0
        assert 10 < rays.sum() < 800
        np.testing.assert_array_equal(mine.image.values[rays], expected.data[rays])
        np.testing.assert_array_equal(mine.image.values[~rays], image[~rays])


def test_lacosmic_in_electron_has_gain_one(frames, images):
    found = daskcal.cosmicray_lacosmic(daskcal.gain_correct(frames), sigclip=6.0)
    for i, image in enumerate(images):
        electrons = image.astype(np.float32) * np.float32(GAINS[i])
        expected = ccdproc.cosmicray_lacosmic(
            CCDData(electrons, unit="electron"), readnoise=NOISES[i], sigclip=6.0
        )
        np.testing.assert_array_equal(flagged(found)[i], expected.mask)


AMPLIFIERS = (
    Amplifier("left", Section(0, 90, 0, 50), None, "bottom left"),
    Amplifier("right", Section(0, 90, 50, 110), None, "bottom right"),
)


def of_amplifiers(frames, gains, noises):
    """The frames as if two amplifiers had read each."""
    values = {"gain": gains, "rdnoise": noises, "saturation": np.full((2, 2), np.nan)}
    return frames.assign_coords(amplifier_coords(AMPLIFIERS, values))


def test_each_amplifier_has_its_own_noise(frames, images):
    gains, noises = np.array([[1.5, 3.0], [2.0, 0.5]]), np.array([[5.0, 12.0], [8.0, 3.0]])
    found = daskcal.cosmicray_lacosmic(of_amplifiers(frames, gains, noises), clean=True)
    for i, image in enumerate(images):
        gain, noise = (np.repeat(of[i], [50, 60]).astype("f4") for of in (gains, noises))
        electrons = image.astype("f4") * gain
        ccd = CCDData(electrons, unit="electron")
        expected = ccdproc.cosmicray_lacosmic(ccd, invar=electrons + noise**2)
        rays = flagged(found)[i]
        np.testing.assert_array_equal(rays, expected.mask)
        np.testing.assert_allclose(
            found.image.values[i][rays], (expected.data / gain)[rays], rtol=1e-6
        )
    assert json.loads(found.attrs["steps"][-1])["gain"] == "coordinate lacosmic_gain"


def test_equal_amplifiers_are_one(frames):
    same = of_amplifiers(frames, np.array([[1.5, 1.5], [2.0, 2.0]]), np.array([[5, 5.0], [8, 8]]))
    one, two = (daskcal.cosmicray_lacosmic(f).mask.values for f in (frames, same))
    np.testing.assert_array_equal(one, two)
    barely = of_amplifiers(
        frames, np.array([[1.5, 1.5], [2.0, 2.0]]), np.array([[5, 5 + 1e-7], [8, 8 + 1e-7]])
    )
    np.testing.assert_array_equal(one, daskcal.cosmicray_lacosmic(barely).mask.values)


def test_an_unknown_noise_names_frame_and_amplifier(frames):
    unknown = of_amplifiers(frames, np.full((2, 2), 1.5), np.array([[5.0, 5.0], [5.0, np.nan]]))
    with pytest.raises(daskcal.CalibrationError, match=r"f1\.fits, amplifier right, has rdnoise"):
        daskcal.cosmicray_lacosmic(unknown)
    done = daskcal.cosmicray_lacosmic(unknown, readnoise=6.0)
    assert json.loads(done.attrs["steps"][-1])["readnoise"] == 6.0


@pytest.mark.parametrize("boxes", [{}, {"gbox": 3}, {"gbox": 5, "rbox": 7, "mbox": 9}])
@pytest.mark.parametrize("error", ["variance", "number", "none"])
def test_the_median_method_is_ccdprocs(frames, images, boxes, error):
    options = {"thresh": 6, **boxes}
    frames = daskcal.create_variance(frames, bias_level=0) if error == "variance" else frames
    given = {"error_image": 25.0} if error == "number" else {}
    found = daskcal.cosmicray_median(frames, **options, **given)
    for i, image in enumerate(images):
        data = image.astype(np.float32)
        if error == "variance":
            sigma = np.sqrt(frames.variance.values[i])
            ccd = CCDData(data, unit="adu", uncertainty=StdDevUncertainty(sigma))
            done = ccdproc.cosmicray_median(ccd, **options)
            values, rays = done.data, done.mask
        else:
            values, rays = ccdproc.cosmicray_median(data, **options, **given)
        assert rays.sum() > 20
        np.testing.assert_array_equal(flagged(found)[i], rays)
        np.testing.assert_array_equal(found.image.values[i], values)


def test_what_is_undefined_is_no_trouble(frames, images, tmp_path):
    holes = [image.astype(np.float32) for image in images]
    for image in holes:
        image[30:33, 30:33] = np.nan
    opened = daskcal.open_frames(write_frames(tmp_path / "raw", holes, GAIN=2.0, RDNOISE=5.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for find in (daskcal.cosmicray_lacosmic, daskcal.cosmicray_median):
            found = find(opened).compute()
            assert (found.mask.values[:, 30:33, 30:33] == Flag.NO_DATA).all()
            assert np.isnan(found.image.values[:, 30:33, 30:33]).all()
            assert 20 < flagged(found)[0].sum() < 800


def test_a_real_frame(realdata):
    path = realdata("header_zoo") / "ccdproc/ccdproc/tests/data/a8280271.fits"
    found = daskcal.cosmicray_lacosmic(
        daskcal.trim_image(daskcal.open_frames(path, unit="adu"), "[:, 20:500]"),
        gain=1.9, readnoise=5.0, sigclip=5.0,
    )  # fmt: skip
    image = fits.getdata(path)[:, 20:500].astype("f4")
    expected = ccdproc.cosmicray_lacosmic(
        CCDData(image, unit="adu"), gain=1.9 * u.electron / u.adu, readnoise=5.0 * u.electron,
        sigclip=5.0,
    )  # fmt: skip
    assert 20 < expected.mask.sum() < 5000
    np.testing.assert_array_equal(flagged(found)[0], expected.mask)
