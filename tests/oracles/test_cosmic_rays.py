"""Cosmic rays on simulated star fields: how many are found, and what is taken for one.

``python tests/oracles/test_cosmic_rays.py`` prints the tables of docs/howto/cosmic_rays.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import maximum_filter

import daskcal
from daskcal.frames.masks import Flag

SIDE, FIELDS, STARS, RAYS = 600, 4, 80, 200
SKY, NOISE, FULL = 200.0, 6.0, 60_000.0  # electron
BETA = 3.0  # of the stars' Moffat profile
FWHM = (1.5, 2.0, 3.2)  # pixels
FINE = 5  # parts of a pixel's side over which the profile is averaged
LACOSMIC = {
    "lacosmic": {},
    "lacosmic, sigclip=7": {"sigclip": 7.0},
    "lacosmic, sigclip=7, objlim=10": {"sigclip": 7.0, "objlim": 10.0},
    "lacosmic, objlim=2": {"objlim": 2.0},
    "lacosmic, grow=1": {"grow": 1},
    "lacosmic, fsmode='convolve'": {"fsmode": "convolve"},
}
MEDIAN = {"median": {}, "median, thresh=20": {"thresh": 20}}


@dataclass(frozen=True)
class Field:
    """A simulated frame in electron, and the truth behind it."""

    image: np.ndarray  # (y, x)
    charge: np.ndarray  # of cosmic rays, electron
    rays: list[tuple[np.ndarray, np.ndarray]]  # rows and columns of each
    significance: np.ndarray  # charge over the noise of the pixel
    stars: np.ndarray  # (star, 2), row and column of those that stand out by 20 σ


@functools.cache
def field(seed: int, fwhm: float) -> Field:
    """One field; the stars, rays and noise of a seed are the same for every seeing."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(0, SIDE, (2, STARS))
    peaks = np.minimum(150 * (1 + rng.pareto(0.7, STARS)), 6 * FULL)
    expected = SKY + sum(star(*at, fwhm) for at in zip(y, x, peaks, strict=True))
    charge, rays = np.zeros((SIDE, SIDE)), []
    for _ in range(RAYS):
        rays.append(track(rng))
        charge[rays[-1]] += rng.lognormal(np.log(400), 1.0, len(rays[-1][0]))
    sigma = np.sqrt(expected + NOISE**2)
    image = rng.poisson(expected) + charge + rng.normal(0, NOISE, charge.shape)
    at = np.stack([y, x], axis=1).astype(int)
    bright = (expected - SKY)[tuple(at.T)] > 20 * np.sqrt(SKY + NOISE**2)
    return Field(np.minimum(image, FULL).astype("f4"), charge, rays, charge / sigma, at[bright])


def star(y: float, x: float, peak: float, fwhm: float) -> np.ndarray:
    """Expected electrons of a star: a Moffat profile, averaged over each pixel."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    offsets = (np.arange(FINE) + 0.5) / FINE
    rows, columns = (np.arange(SIDE)[:, None] + offsets - at for at in (y, x))
    image = np.zeros((SIDE, SIDE))
    reach = 12 * fwhm * (1 + np.log10(max(peak / 100, 1)))
    rows_in, columns_in = (
        slice(max(0, int(at - reach)), min(SIDE, int(at + reach) + 1)) for at in (y, x)
    )
    for dy in rows[rows_in].T:
        for dx in columns[columns_in].T:
            image[rows_in, columns_in] += (1 + (dy[:, None] ** 2 + dx**2) / alpha**2) ** -BETA
    return peak / FINE**2 * image


def track(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a straight track."""
    length = min(int(rng.geometric(0.25)), 20)
    y, x, angle = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(0, np.pi)
    rows = (y + np.arange(length) * np.sin(angle)).astype(int)
    columns = (x + np.arange(length) * np.cos(angle)).astype(int)
    inside = (rows < SIDE) & (columns >= 0) & (columns < SIDE)
    return rows[inside], columns[inside]


def flagged(fields: list[Field], name: str, fwhm: float) -> np.ndarray:
    """Where each field has ``cosmic_ray``, (field, y, x)."""
    images = np.stack([one.image for one in fields])
    frames = xr.Dataset({"image": (("frame", "y", "x"), images)}, attrs={"steps": []})
    frames["image"].attrs["units"] = "electron"
    frames = daskcal.flag_saturated(frames, FULL)
    if name in MEDIAN:
        sigma = float(np.sqrt(SKY + NOISE**2))
        found = daskcal.cosmicray_median(frames, error_image=sigma, **MEDIAN[name])
    else:
        options = LACOSMIC[name] | ({"psffwhm": fwhm} if "convolve" in name else {})
        found = daskcal.cosmicray_lacosmic(frames, readnoise=NOISE, satlevel=FULL, **options)
    return (found["mask"].values & Flag.COSMIC_RAY) != 0


def measured(name: str, fwhm: float) -> list[float]:
    """The figures of a row.

    Share of the rays whose brightest pixel stands out by 10 σ that have a flagged pixel; share of
    the pixels of rays from 5 to 10 σ and above 10 σ that are flagged; flagged pixels more than one
    pixel away from any ray, in a million; share of stars of 20 σ and more with such a pixel within
    two pixels.
    """
    fields = [field(seed, fwhm) for seed in range(FIELDS)]
    found = flagged(fields, name, fwhm)
    rays, faint, bright, false, stars = [], [], [], 0, []
    for one, here in zip(fields, found, strict=True):
        open_ = one.image < FULL  # what is saturated is masked already
        clear = [r for r in one.rays if len(r[0]) and one.significance[r].max() > 10]
        rays += [here[r].any() for r in clear if open_[r].all()]
        ray = (one.charge > 0) & open_
        faint += here[ray & (one.significance > 5) & (one.significance <= 10)].tolist()
        bright += here[ray & (one.significance > 10)].tolist()
        wrong = here & ~maximum_filter(one.charge > 0, 3)
        false += int(wrong.sum())
        near = maximum_filter(wrong, 5)
        stars += near[tuple(one.stars.T)].tolist()
    percent = [100 * float(np.mean(each)) for each in (rays, faint, bright)]
    return [*percent, false * 1e6 / (FIELDS * SIDE**2), 100 * float(np.mean(stars))]


HEAD = (
    "| | rays found, % | pixels > 10 σ, % | pixels 5-10 σ, % | false pixels / 10⁶ | stars hit, % |"
)


def table(fwhm: float) -> str:
    """One of the page's tables."""
    lines = [HEAD, "|" + " --- |" * 6]
    for name in (*LACOSMIC, *MEDIAN):
        rays, faint, bright, false, stars = measured(name, fwhm)
        cells = f"{rays:.1f} | {bright:.1f} | {faint:.1f} | {false:.0f} | {stars:.1f}"
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines)


def page(fwhm: float) -> dict[str, list[float]]:
    """The rows of one of the page's tables."""
    text = (Path(__file__).parents[2] / "docs" / "howto" / "cosmic_rays.md").read_text(
        encoding="utf-8"
    )
    part = text.split(f"Stars of {fwhm:g} pixels")[1].split("Stars of")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return {name.strip("`"): [float(cell) for cell in cells] for name, *cells in rows}


@pytest.mark.parametrize(
    ("fwhm", "name"),
    [*((2.0, name) for name in (*LACOSMIC, *MEDIAN)), (1.5, "lacosmic"), (3.2, "lacosmic")],
)
def test_the_page_says_what_is_so(fwhm: float, name: str) -> None:
    assert list(page(fwhm)) == [*LACOSMIC, *MEDIAN]
    rays, faint, bright, false, stars = measured(name, fwhm)
    assert page(fwhm)[name] == pytest.approx([rays, bright, faint, false, stars], rel=0.02, abs=1)


def test_lacosmic_is_good_where_stars_are_sampled() -> None:
    rays, faint, bright, false, stars = measured("lacosmic", 3.2)
    assert rays > 97
    assert bright > 90
    assert faint > 50
    assert false < 200
    assert stars < 4


if __name__ == "__main__":
    for seeing in FWHM:
        print(f"\nStars of {seeing:g} pixels\n\n{table(seeing)}")
