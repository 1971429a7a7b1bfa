"""The detector: its maps of bias, dark current and sensitivity, and how it reads a frame out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from daskcal.simulate.cameras import Camera, Geometry

# bit planes of a mask, the same words and values that daskcal's products use
BAD, HOT, SATURATED, CR, LOW_FLAT = 1, 2, 4, 32, 64

FULL_SCALE = 65535  # largest number of the 16-bit converter
HOT_SHARE = 5e-4
HOT_RATES = (15.0, 400.0)  # electron/s
DEAD_SHARE = 4e-5
BAND = 256  # rows drawn at once: bounds the memory, and is part of what a seed means


@dataclass(frozen=True, slots=True)
class Detector:
    """What one detector is like; all maps cover the kept area, (ny, nx).

    Attributes
    ----------
    bias : ndarray of float32
        Level and structure, adu, without the drift that differs per frame.
    dark : ndarray of float32
        Dark current, electron/s, hot pixels included.
    sensitivity : mapping of str to ndarray of float32
        Per filter; mean 1 over the pixels whose `defects` are 0; 0 where nothing is seen.
    defects : ndarray of uint16
        Bit planes `BAD` (dead), `HOT` and `LOW_FLAT` (rows across the top).
    """

    bias: np.ndarray
    dark: np.ndarray
    sensitivity: Mapping[str, np.ndarray]
    defects: np.ndarray


def make_detector(camera: Camera, geometry: Geometry, seed: int) -> Detector:
    """The detector of `camera` that belongs to `seed`."""
    streams = [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, i))) for i in range(4)
    ]
    defects = _make_defects(camera, geometry, streams[0])
    return Detector(
        bias=_make_bias(camera, geometry, streams[1]),
        dark=_make_dark(camera, geometry, defects, streams[2]),
        sensitivity=_make_sensitivity(camera, geometry, defects, streams[3]),
        defects=defects,
    )


def _make_defects(camera: Camera, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    ny, nx, lit = geometry.ny, geometry.nx, geometry.ny - geometry.top
    defects = np.zeros((ny, nx), np.uint16)
    n_hot, n_dead = max(4, round(lit * nx * HOT_SHARE)), max(2, round(lit * nx * DEAD_SHARE))
    chosen = rng.choice(lit * nx, n_hot + n_dead, replace=False)
    defects.reshape(-1)[chosen[:n_hot]] = HOT
    defects.reshape(-1)[chosen[n_hot:]] = BAD
    column = int(rng.integers(nx // 4, nx - nx // 4))
    defects[lit - max(4, round(lit * camera.dead_column)) : lit, column] = BAD
    defects[lit:] = LOW_FLAT
    return defects


def _make_bias(camera: Camera, geometry: Geometry, rng: np.random.Generator) -> np.ndarray:
    ny, nx = geometry.ny, geometry.nx
    columns = 6 * np.exp(-np.arange(nx) / (nx / 20)) + rng.normal(0, 0.6, nx)
    rows = 1.5 * np.sin(3 * np.pi * np.arange(ny) / ny)
    pixels = rng.standard_normal((ny, nx), np.float32) * np.float32(0.4)
    structure = (rows[:, None] + columns + camera.bias_level).astype(np.float32)
    return np.asarray(structure + pixels)


def _make_dark(
    camera: Camera, geometry: Geometry, defects: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    ny, nx = geometry.ny, geometry.nx
    left, right, corner = camera.glow
    x, y = np.arange(nx) / nx, np.arange(ny) / ny
    edges = left * np.exp(-x / 0.03) + right * np.exp((x - 1) / 0.03)
    dark = (edges + corner * np.exp(-np.hypot(x, y[:, None]) / 0.08)).astype(np.float32)
    dark += camera.dark_rate * (1 + np.float32(0.1) * rng.standard_normal((ny, nx), np.float32))
    dark[:, round(nx * 0.7)] += camera.bright_column
    hot, (lowest, highest) = (defects & HOT) != 0, HOT_RATES
    dark[hot] = np.exp(rng.uniform(np.log(lowest), np.log(highest), int(hot.sum())))
    dark[(defects & LOW_FLAT) != 0] = 0
    return np.asarray(np.maximum(dark, 0))


def _make_sensitivity(
    camera: Camera, geometry: Geometry, defects: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    ny, nx = geometry.ny, geometry.nx
    y, x = (np.arange(ny) / ny - 0.5)[:, None], np.arange(nx) / nx - 0.5
    common = 1 - camera.vignetting * 2 * (x**2 + y**2)
    common *= 1 + np.float32(0.01) * rng.standard_normal((ny, nx), np.float32)
    for _ in range(camera.donuts):
        _shadow(common, rng)
    blind = (defects & (BAD | LOW_FLAT)) != 0
    maps = {}
    for name in camera.filters:
        tilt_y, tilt_x = rng.uniform(-0.03, 0.03, 2)
        one = common * (1 + tilt_y * y + tilt_x * x)
        one[blind] = 0
        maps[name] = (one / one[defects == 0].mean()).astype(np.float32)
    return maps


def _shadow(sensitivity: np.ndarray, rng: np.random.Generator) -> None:
    """The out-of-focus shadow of one grain of dust: a ring of 3 to 8 % loss."""
    ny, nx = sensitivity.shape
    radius = min(ny, nx) * rng.uniform(0.02, 0.05)
    cy, cx, depth = rng.uniform(0, ny), rng.uniform(0, nx), rng.uniform(0.03, 0.08)
    rows = np.arange(max(0, int(cy - 2 * radius)), min(ny, int(cy + 2 * radius) + 1))
    columns = np.arange(max(0, int(cx - 2 * radius)), min(nx, int(cx + 2 * radius) + 1))
    distance = np.hypot(rows[:, None] - cy, columns - cx)
    ring = np.exp(-0.5 * ((distance - radius) / (0.25 * radius)) ** 2)
    sensitivity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] *= 1 - depth * ring


def row_drift(camera: Camera, ny: int, rng: np.random.Generator) -> np.ndarray:
    """How far each row's level lies from the detector's bias in one frame, adu, float32 (ny,)."""
    phase, waves = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 2.5)
    wave = np.sin(phase + 2 * np.pi * waves * np.arange(ny) / ny)
    jitter = rng.standard_normal(ny) / 4
    return np.asarray((rng.standard_normal() + wave + jitter) * camera.drift, np.float32)


@dataclass(frozen=True, slots=True)
class Readout:
    """The electronics: turns expected electrons into the numbers of a raw frame."""

    camera: Camera
    geometry: Geometry
    detector: Detector
    gain: float
    rdnoise: float

    def read(
        self,
        expected: np.ndarray | None,
        cosmics: np.ndarray | None,
        drift: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """A raw frame, uint16 of `geometry.shape`.

        Parameters
        ----------
        expected : ndarray (ny, nx) or None
            Mean electrons of light and dark current together; None for a bias.
        cosmics : ndarray (ny, nx) or None
            Electrons of cosmic rays, without noise of their own.
        drift : ndarray (ny,)
            adu added to each row.
        """
        raw = np.empty(self.geometry.shape, np.uint16)
        for first in range(0, self.geometry.ny, BAND):
            rows = slice(first, min(first + BAND, self.geometry.ny))
            electrons = np.zeros((rows.stop - first, raw.shape[1]), np.float64)
            if expected is not None:
                self._collect(electrons, expected[rows], rng)
            if cosmics is not None:
                electrons[:, self.geometry.kept_columns] += cosmics[rows]
            electrons += self.rdnoise * rng.standard_normal(electrons.shape, np.float32)
            values = electrons / self.gain + self.camera.bias_level + drift[rows, None]
            kept = self.geometry.kept_columns
            values[:, kept] += self.detector.bias[rows] - self.camera.bias_level
            raw[rows] = np.clip(np.rint(values), 0, FULL_SCALE)
        return raw

    def _collect(
        self, electrons: np.ndarray, expected: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Fill the kept columns with Poisson counts, the junk ones with the light leaking there."""
        kept = self.geometry.kept_columns
        electrons[:, kept] = rng.poisson(expected)
        junk = electrons[:, kept.stop : kept.stop + self.geometry.junk]
        leak = np.full(self.geometry.junk, self.camera.light_leak)
        if self.geometry.overscan:
            leak *= 0.4 ** np.arange(self.geometry.junk)
        junk[:] = rng.poisson(expected[:, -1:] * leak)
