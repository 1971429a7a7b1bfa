"""Ratios that make amplifiers join, measured on flats of known gains."""

from __future__ import annotations

import numpy as np
import pytest
from amplified import AMPS, HX, HY, NX, NY, with_amplifiers
from raw_fits import no_computing, write_frames

import daskcal

TRUE = np.array([1.5, 1.6, 1.4, 1.7])  # electron/adu


def flats(n=3, noise=1.0, seed=6) -> np.ndarray:
    """A tilted lamp in electron, read through four gains, without bias."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:NY, :NX]
    images = np.empty((n, NY, NX))
    for i, image in enumerate(images):
        light = 30_000 * (1 - 0.1 * i) * (1 + x / 300 - y / 500)
        image[:] = light + rng.normal(0, noise, light.shape) * np.sqrt(light)
        for amp, gain in zip(AMPS, TRUE, strict=True):
            s = amp.section
            image[s.y0 : s.y1, s.x0 : s.x1] /= gain
    return images


@pytest.fixture
def frames(tmp_path):
    paths = write_frames(tmp_path / "flats", list(flats().astype("f4")), IMAGETYP="flat")
    return with_amplifiers(daskcal.open_frames(paths), gain=TRUE * [1, 1.02, 0.98, 1])


def test_amplifiers_join(frames):
    found = daskcal.gain_ratios(frames, width=8).compute()
    expected = TRUE / np.exp(np.log(TRUE).mean())
    np.testing.assert_allclose(found.ratio.values, expected, rtol=3e-3)
    assert list(found.amplifier.values) == ["A", "B", "C", "D"]
    assert ((found.ratio_error > 0) & (found.ratio_error < 3e-3)).all()
    done = daskcal.equalise_gains(frames, found).image.values
    for near, far in ((np.s_[:, :, HX - 1], np.s_[:, :, HX]), (np.s_[:, HY - 1], np.s_[:, HY])):
        assert np.median(done[near] / done[far]) == pytest.approx(1, abs=0.01)


def test_exact_without_noise(tmp_path):
    images = list(flats(1, noise=0).astype("f4"))
    frames = with_amplifiers(daskcal.open_frames(write_frames(tmp_path, images)))
    found = daskcal.gain_ratios(frames, width=8).compute()
    expected = TRUE / np.exp(np.log(TRUE).mean())
    np.testing.assert_allclose(found.ratio.values, expected, rtol=2e-5)
    assert np.isnan(found.ratio_error).all()


def test_gain_and_variance_are_right_afterwards(frames):
    """In electron the frames have the mean gain, whatever each amplifier's header said."""
    ratios = dict(zip("ABCD", TRUE / 1.55, strict=True))
    done = daskcal.equalise_gains(frames, ratios)
    mean = np.mean(TRUE * [1, 1.02, 0.98, 1] / (TRUE / 1.55))
    np.testing.assert_allclose(done.gain, mean)
    np.testing.assert_allclose(done.amp_gain, mean)
    for amp, ratio in zip(AMPS, ratios.values(), strict=True):
        where = np.s_[:, amp.section.y0 : amp.section.y1, amp.section.x0 : amp.section.x1]
        expected = frames.image.values[where].astype(float) * ratio
        np.testing.assert_allclose(done.image.values[where], expected, rtol=2e-7)
    by_order = daskcal.equalise_gains(frames, list(ratios.values()))
    np.testing.assert_array_equal(by_order.image.values, done.image.values)
    for rows in (1, 7, 64, -1):
        cut = daskcal.blocks(done, rows=rows)
        np.testing.assert_array_equal(cut.image.values, done.image.values)


def test_nothing_is_opened(frames):
    with no_computing():
        daskcal.gain_ratios(frames, width=4)
        daskcal.equalise_gains(frames, [1, 1, 1, 1])


def test_errors(frames):
    with pytest.raises(daskcal.ArgumentError, match="several amplifiers"):
        daskcal.gain_ratios(frames.drop_dims("amplifier"))
    with pytest.raises(daskcal.ArgumentError, match="width=2"):
        daskcal.gain_ratios(frames, width=2)
    with pytest.raises(daskcal.GeometryError, match="amplifier B, D does not touch"):
        daskcal.gain_ratios(frames.isel(x=slice(0, HX)), width=4)
    with pytest.raises(daskcal.ArgumentError, match="4 numbers"):
        daskcal.equalise_gains(frames, [1, 2, 3])
    with pytest.raises(daskcal.ArgumentError, match="positive number"):
        daskcal.equalise_gains(frames, [1, 2, 3, 0])
    with pytest.raises(daskcal.ArgumentError, match="nothing of amplifier C, D"):
        daskcal.equalise_gains(frames, {"A": 1, "B": 2})
    with pytest.raises(daskcal.CalibrationError, match="once only"):
        daskcal.equalise_gains(daskcal.equalise_gains(frames, [1, 1, 1, 1]), [1, 1, 1, 1])


def test_kast_joins(realdata):
    """Real flats join to 0.1 %, and their ratio is that of the gains that photon noise shows."""
    folder = realdata("lick_kast_2amp")
    paths = sorted(folder.rglob("b*.fits.gz"))
    frames = daskcal.open_frames(paths, instrument="lick-kast-blue")
    chosen = [path.name.split(".")[0] for path in paths]
    flats, biases = (
        frames.isel(frame=[chosen.index(name) for name in names])
        for names in (("b11", "b12", "b13"), ("b21", "b22"))
    )
    clean = daskcal.subtract_overscan(flats, method="mean", clip=5.0)
    found = daskcal.gain_ratios(clean).compute()
    joined = daskcal.trim_image(daskcal.equalise_gains(clean, found))
    columns = np.median(joined.image.values[0], axis=0)
    near = np.arange(1, 33)
    sides = [np.polynomial.Polynomial.fit(at, columns[at], 1)(1023.5)
             for at in (1024 - near, 1023 + near)]  # fmt: skip
    assert sides[0] / sides[1] == pytest.approx(1, abs=1e-3)
    noise = daskcal.measure_noise(biases, flats).compute()
    gains, errors = noise.gain.values, noise.gain_error.values
    ratios = found.ratio.values
    allowed = 4 * np.hypot(*(errors / gains))
    assert gains[0] / gains[1] == pytest.approx(ratios[0] / ratios[1], rel=allowed)
