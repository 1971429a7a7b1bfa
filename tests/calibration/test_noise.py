"""Gain and read noise from pairs: of detectors of known truth, and of real biases."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from amplified import with_amplifiers
from raw_fits import counted_reads, no_computing, write_frames

import daskcal
from daskcal.frames.amplifiers import Amplifier
from daskcal.frames.sections import Section

NY, NX = 256, 320
GAIN, NOISE = 1.7, 6.0


def detector(rng, level, frames, *, gain=GAIN, noise=NOISE, shape=(NY, NX), drift=1.0):
    """Raw frames with bias structure, uneven sensitivity, a changing gradient and cosmic rays."""
    fixed = np.random.default_rng(8)
    bias = 1000 + fixed.normal(0, 3, shape) + np.linspace(0, 20, shape[1])
    even = fixed.normal(1, 0.02, shape)
    images = []
    for i in range(frames):
        tilt = 1 + 0.02 * i * np.linspace(-1, 1, shape[0])[:, None]
        electrons = rng.poisson(gain * level * drift**i * even * tilt).astype(float)
        hit = rng.random(shape) < (1e-3 if level else 1e-4)
        electrons[hit] += 20_000
        raw = bias + (electrons + rng.normal(0, noise, shape)) / gain
        images.append(np.clip(np.rint(raw), 0, 65535).astype(np.uint16))
    return images


def opened(folder, images, **cards):
    return daskcal.open_frames(write_frames(folder, images, GAIN=None, RDNOISE=None, **cards))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(3)
    flats = detector(rng, 20_000, 4, drift=0.9)
    return opened(folder / "b", detector(rng, 0, 4)), opened(folder / "f", flats)


def test_truth_comes_back(pairs):
    found = daskcal.measure_noise(*pairs).compute()
    assert float(found.gain) == pytest.approx(GAIN, rel=0.01)
    assert float(found.rdnoise) == pytest.approx(NOISE, rel=0.02)
    assert float(found.rdnoise_adu) == pytest.approx(NOISE / GAIN, rel=0.02)
    assert found.gain.attrs["units"] == "electron/adu"
    for name in ("gain", "rdnoise", "rdnoise_adu"):
        assert 0 < float(found[f"{name}_error"]) < 0.01 * float(found[name])


def test_read_noise_below_one_step_of_the_converter(tmp_path):
    """The rounding of the converter is not read noise; `create_variance` adds it."""
    rng = np.random.default_rng(4)
    biases = opened(tmp_path, detector(rng, 0, 4, gain=4.0, noise=2.8))
    found = daskcal.measure_noise(biases).compute()
    assert set(found) == {"rdnoise_adu", "rdnoise_adu_error"}
    assert float(found.rdnoise_adu) == pytest.approx(0.7, rel=0.02)


def test_errors_are_the_scatter_of_measurements():
    rng = np.random.default_rng(5)
    pulls = []
    for _ in range(40):
        frames = [_memory(detector(rng, level, 2, shape=(96, 96))) for level in (0, 5000)]
        found = daskcal.measure_noise(*frames, block=16).compute()
        truth = {"gain": GAIN, "rdnoise": NOISE, "rdnoise_adu": NOISE / GAIN}
        pulls.append([float((found[k] - v) / found[f"{k}_error"]) for k, v in truth.items()])
    assert (np.abs(np.mean(pulls, axis=0)) < 0.5).all()
    assert ((np.std(pulls, axis=0) > 0.75) & (np.std(pulls, axis=0) < 1.3)).all()


def _memory(images) -> xr.Dataset:
    attrs = {"units": "adu", "quantum": 1.0}
    return xr.Dataset({"image": (("frame", "y", "x"), np.array(images), attrs)})


def test_masked_pixels_and_stars_do_not_count(pairs):
    biases, flats = (each.compute() for each in pairs)
    expected = daskcal.measure_noise(biases, flats).compute()
    mask = np.zeros(flats.image.shape, np.uint16)
    mask[0, 40:50, 60:90] = 4
    flats["image"] = flats.image.copy()
    flats.image[0, 40:50, 60:90] = 65535
    found = daskcal.measure_noise(biases, flats.assign(mask=(flats.image.dims, mask))).compute()
    assert float(found.gain) == pytest.approx(float(expected.gain), rel=1e-3)


def test_blocks_without_light_show_no_photon_noise(pairs):
    biases, flats = (each.compute() for each in pairs)
    dark = flats.copy(deep=True)
    dark.image[:, :, 256:] = biases.image[:, :, 256:]
    found = daskcal.measure_noise(biases, dark).compute()
    assert float(found.gain) == pytest.approx(GAIN, rel=0.01)


def test_flats_without_light_say_nothing_of_the_gain(pairs):
    biases, _ = pairs
    found = daskcal.measure_noise(biases, biases.isel(frame=[1, 0])).compute()
    assert np.isnan(float(found.gain))
    assert float(found.rdnoise_adu) == pytest.approx(NOISE / GAIN, rel=0.02)


def test_overscan_that_was_subtracted_from_both(pairs):
    """Trimmed frames, whose levels are their own, tell the same."""
    done = [daskcal.subtract_overscan(each, "[:, 256:]") for each in pairs]
    trimmed = [daskcal.trim_image(each, "[:, :256]") for each in pairs]
    done = [daskcal.trim_image(each, "[:, :256]") for each in done]
    with pytest.raises(daskcal.CalibrationError, match="treat both alike"):
        daskcal.measure_noise(done[0], trimmed[1])
    found = daskcal.measure_noise(done[0], done[0]).compute()
    assert float(found.rdnoise_adu) == pytest.approx(NOISE / GAIN, rel=0.02)


def test_nothing_is_read_until_it_is_computed(pairs, monkeypatch):
    with counted_reads(monkeypatch) as reads, no_computing():
        found = daskcal.measure_noise(*pairs)
    assert reads.bytes == 0
    with counted_reads(monkeypatch) as reads:
        found.compute()
    assert reads.bytes == 8 * NY * NX * 2  # each pixel once


def test_simulated_night(tmp_path):
    """The frames of `simulate_night`, raw as they are, overscan columns and drifting rows too."""
    daskcal.simulate_night(tmp_path / "night", size=(512, 512))
    frames = daskcal.open_frames(sorted((tmp_path / "night" / "raw").glob("*")))
    biases, flats = (frames.query(frame=f"imagetyp == '{kind}'") for kind in ("bias", "flat"))
    found = daskcal.measure_noise(biases, flats).compute()
    assert float(found.gain) == pytest.approx(float(biases.gain[0]), rel=0.01)
    assert float(found.rdnoise) == pytest.approx(float(biases.rdnoise[0]), rel=0.02)


def test_lowell(realdata):
    """The clipped read noise of real pairs, which have tails that double their plain deviation."""
    frames = daskcal.open_frames(realdata("lowell_hall42_5945") / "zero")
    found = daskcal.measure_noise(frames).compute()
    assert float(found.rdnoise_adu) == pytest.approx(1.15, abs=0.1)
    assert float(found.rdnoise_adu_error) < 0.01


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b, f: (b, f, {"block": 4}), daskcal.ArgumentError, "block=4"),
        (lambda b, f: (b, f, {"clip": 1.0}), daskcal.ArgumentError, "clip=1.0"),
        (lambda b, f: (b.isel(frame=[0]), f, {}), daskcal.ArgumentError, "two biases or more"),
        (
            lambda b, f: (b, f.isel(x=slice(0, 9)), {}),
            daskcal.GeometryError,
            "cover different pixels",
        ),
        (
            lambda b, f: (b, daskcal.gain_correct(f, 2.0), {}),
            daskcal.UnitError,
            "the flats are in electron",
        ),
    ],
)
def test_arguments(pairs, change, error, message):
    biases, flats, options = change(*pairs)
    with pytest.raises(error, match=message):
        daskcal.measure_noise(biases, flats, **options)


def test_each_amplifier_has_its_own(tmp_path):
    rng = np.random.default_rng(12)
    gains, noises = [1.5, 1.7, 1.2, 2.0], [5.0, 6.0, 4.0, 8.0]
    shape = (160, 160)
    amps, images = [], {0: np.zeros((4, *shape)), 20_000: np.zeros((4, *shape))}
    for i, (gain, noise) in enumerate(zip(gains, noises, strict=True)):
        y, x = 80 * (i // 2), 80 * (i % 2)
        amps.append(Amplifier(f"amp{i}", Section(y, y + 80, x, x + 80), None, "bottom left"))
        for level, image in images.items():
            part = detector(rng, level, 4, gain=gain, noise=noise, shape=(80, 80))
            image[:, y : y + 80, x : x + 80] = part
    frames = [
        with_amplifiers(opened(tmp_path / f"{level}", list(image.astype(np.uint16))), amps)
        for level, image in images.items()
    ]
    found = daskcal.measure_noise(*frames, block=20).compute()
    assert list(found.amplifier.values) == ["amp0", "amp1", "amp2", "amp3"]
    np.testing.assert_allclose(found.gain, gains, rtol=0.05)
    np.testing.assert_allclose(found.rdnoise, noises, rtol=0.06)
    assert (np.abs(found.gain - gains) < 4 * found.gain_error).all()
    assert (np.abs(found.rdnoise - noises) < 4 * found.rdnoise_error).all()
