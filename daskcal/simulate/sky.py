"""What falls on the detector: stars through a Moffat profile, and cosmic rays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daskcal.simulate.cameras import Geometry

FWHM = 3.2  # pixels
BETA = 3.0  # Moffat exponent; wings like those of a seeing-limited image
ALPHA = FWHM / (2 * np.sqrt(2 ** (1 / BETA) - 1))
FAINTEST = 0.05  # electron per pixel at which a star's image is cut off
AREA_PER_STAR = 6000
AREA_PER_SATURATED_STAR = 300_000
COSMICS_PER_PIXEL_SECOND = 1 / (30_000 * 300)


@dataclass(frozen=True, slots=True)
class Stars:
    """A field of stars: positions in the undithered kept area (pixels) and peaks (electron/s)."""

    y: np.ndarray
    x: np.ndarray
    peak: np.ndarray


def make_stars(
    geometry: Geometry, full_scale: float, exptime: float, rng: np.random.Generator
) -> Stars:
    """A field in which a few stars exceed `full_scale` (electron) within `exptime` seconds."""
    area = geometry.ny * geometry.nx
    bright = max(2, area // AREA_PER_SATURATED_STAR)
    faint = max(6, area // AREA_PER_STAR)
    peak_bright = full_scale * rng.uniform(3.0, 5.0, bright)
    # counts of stars fall with flux as a power law; nothing above a third of full scale
    peak_faint = np.minimum(30.0 * rng.pareto(0.8, faint) + 30.0, full_scale / 3)
    peak = np.concatenate([peak_bright, peak_faint]) / exptime
    # the saturated ones stay clear of the edges, so that a dither does not lose them
    inset = np.concatenate([np.full(bright, 0.2), np.zeros(faint)])
    y = geometry.ny * rng.uniform(inset, 1 - inset)
    x = geometry.nx * rng.uniform(inset, 1 - inset)
    return Stars(y, x, peak)


def render_stars(
    stars: Stars, shape: tuple[int, int], exptime: float, dither: tuple[float, float]
) -> np.ndarray:
    """Expected electrons of the stars, float32; the profile is taken at the pixels' centres."""
    image = np.zeros(shape, np.float32)
    ny, nx = shape
    for y, x, peak in zip(
        stars.y + dither[0], stars.x + dither[1], stars.peak * exptime, strict=True
    ):
        reach = ALPHA * np.sqrt(max((peak / FAINTEST) ** (1 / BETA) - 1, 0))
        rows = np.arange(max(0, int(y - reach)), min(ny, int(y + reach) + 2))
        columns = np.arange(max(0, int(x - reach)), min(nx, int(x + reach) + 2))
        if rows.size and columns.size:
            r2 = (rows[:, None] - y) ** 2 + (columns - x) ** 2
            star = peak * (1 + r2 / ALPHA**2) ** -BETA
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += star
    return image


def cosmic_count(geometry: Geometry, exptime: float) -> int:
    """How many cosmic rays a frame of `exptime` seconds gets unless a number is asked for."""
    return round(geometry.ny * geometry.nx * exptime * COSMICS_PER_PIXEL_SECOND)


def make_cosmics(geometry: Geometry, count: int, rng: np.random.Generator) -> np.ndarray | None:
    """Electrons left by `count` straight tracks, float32 (ny, nx); None without any.

    The rows across the top are not silicon, so nothing hits them.
    """
    if count == 0:
        return None
    lit = geometry.ny - geometry.top
    charge = np.zeros((geometry.ny, geometry.nx), np.float32)
    for _ in range(count):
        length = min(int(rng.geometric(0.25)), 20)
        y, x, angle = rng.uniform(0, lit), rng.uniform(0, geometry.nx), rng.uniform(0, np.pi)
        steps = np.arange(length)
        rows = np.floor(y + steps * np.sin(angle)).astype(int)
        columns = np.floor(x + steps * np.cos(angle)).astype(int)
        inside = (rows < lit) & (columns >= 0) & (columns < geometry.nx)
        electrons = rng.lognormal(np.log(800), 0.6, length)
        np.add.at(charge, (rows[inside], columns[inside]), electrons[inside])
    return charge
