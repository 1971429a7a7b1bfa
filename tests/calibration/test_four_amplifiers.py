"""A detector of four amplifiers on disk, each read from its corner: raw files back to electrons."""

from __future__ import annotations

import numpy as np
import pytest
from amplifier_files import Amp, quadrants, write_mef
from raw_fits import no_computing

import daskcal

NY, NX, OVER = 40, 60, 8
AMPS = quadrants(NY, NX)
GAINS = [1.5, 1.6, 1.4, 1.7]
FACTORS = [1e-6, 1.5e-6, 0.8e-6, 2e-6]
LEVELS = [900, 1000, 1100, 1200]
MATRIX = np.array(
    [[0, 1e-3, 5e-4, 2e-4], [8e-4, 0, 3e-4, 6e-4], [4e-4, 2e-4, 0, 1e-3], [3e-4, 7e-4, 9e-4, 0]]
)


def electrons(i: int) -> np.ndarray:
    """A sky with stars bright enough to leave ghosts."""
    rng = np.random.default_rng(i)
    image = 2000.0 + 10 * np.arange(NX) + 20 * np.arange(NY)[:, None]
    for y, x in rng.integers(0, (NY, NX), (6, 2)):
        image[y, x] = 60_000
    return image


def read_out(truth: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The detector's raw values, and the overscan of each amplifier (rows of the detector, n)."""
    pixels = []
    for amp, gain, factor, level in zip(AMPS, GAINS, FACTORS, LEVELS, strict=True):
        adu = amp.cut(truth) / gain
        answer = (np.sqrt(1 + 4 * factor * adu) - 1) / (2 * factor)  # inverts u·(1 + c·u)
        dark = np.zeros((NY // 2, OVER))
        rows = 3 * np.sin(np.arange(NY // 2))[:, None]  # a level of its own in each row
        pixels.append(np.hstack([answer, dark]) + level + rows)
    leaking = [own + sum(MATRIX[v, s] * pixels[s] for s in range(4))
               for v, own in enumerate(pixels)]  # fmt: skip
    raw, darks = np.zeros((NY, NX)), []
    for amp, seen in zip(AMPS, leaking, strict=True):
        put(raw, amp, seen[:, : NX // 2])
        dark = np.zeros((NY, OVER))
        dark[slice(*amp.rows)] = seen[:, NX // 2 :][:: -1 if amp.flip_rows else 1]
        darks.append(dark.round())
    return raw.round().astype(np.uint16), [dark.astype(np.uint16) for dark in darks]


def put(detector: np.ndarray, amp: Amp, pixels: np.ndarray) -> None:
    turned = pixels[:: -1 if amp.flip_rows else 1, :: -1 if amp.flip_columns else 1]
    detector[slice(*amp.rows), slice(*amp.columns)] = turned


@pytest.fixture
def frames(tmp_path):
    cards = [{"GAIN": gain, "RDNOISE": 5.0} for gain in GAINS]
    paths = []
    for i in range(3):
        raw, darks = read_out(electrons(i))
        paths.append(write_mef(tmp_path / f"f{i}.fits", raw, AMPS, darks, cards=cards))
    return daskcal.open_frames(paths)


def calibrated(frames, crosstalk=MATRIX):
    names = [str(name) for name in frames.amplifier.values]
    factors = {name: [factor] for name, factor in zip(names, FACTORS, strict=True)}
    return daskcal.calibrate(
        frames, crosstalk=crosstalk, overscan=True, linearity=factors, trim=True, gain=True
    )


def test_electrons_come_back(frames):
    with no_computing():
        done = calibrated(frames)
    truth = np.array([electrons(i) for i in range(3)])
    found = done.image.values
    rounding = 1.7 * 1.1  # of a pixel and of its overscan, half a step each, in electron
    assert np.abs(found - truth).max() < rounding
    ghosts = calibrated(frames, crosstalk=None).image.values
    assert np.abs(ghosts - truth).max() > 20 * rounding
    np.testing.assert_array_equal(done.gain, 1)
    for rows in (1, 7, 64, -1):
        cut = daskcal.blocks(done, rows=rows)
        np.testing.assert_array_equal(cut.image.values, found)


def test_of_frames_in_memory_the_same(frames):
    expected = calibrated(frames).image.values
    np.testing.assert_array_equal(calibrated(frames.compute()).image.values, expected)
