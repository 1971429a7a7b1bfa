"""Uncertainties are honest: rms(combined - truth) / rms(σ) over simulated stacks of normal noise.

``python tests/oracles/test_uncertainties.py`` prints the tables of explanation/uncertainties.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import daskcal

LEVEL, SIGMA = 1000.0, 3.0
METHODS = ("average", "median", "lower_median", "sum")
HARDER = {
    "sigma, 5σ": {"low": 5, "high": 5},
    "sigma, 3σ": {"low": 3, "high": 3},
    "sigma, 3σ, mean/std": {"low": 3, "high": 3, "center": "mean", "spread": "std"},
    "winsorised, 3σ": {"reject": "winsorised", "low": 3, "high": 3},
    "linear_fit, 5σ": {"reject": "linear_fit"},
    "esd": {"reject": "esd"},
    "minmax, 1 and 1": {"reject": "minmax"},
    "minmax, 0 and 1": {"reject": "minmax", "n_low": 0},
    "minmax, 0.2 and 0.2": {"reject": "minmax", "n_low": 0.2, "n_high": 0.2},
}


def frames_of(n: int, pixels: int, sigma: np.ndarray | float, propagated: bool) -> xr.Dataset:
    """`n` frames of normal noise, with their variance where it is to be propagated."""
    sigmas = np.broadcast_to(sigma, n)[:, None, None]
    noise = np.random.default_rng(n).normal(size=(n, pixels // 100, 100)) * sigmas
    dims = ("frame", "y", "x")
    frames = xr.Dataset({"image": (dims, (LEVEL + noise).astype("f4"), {"units": "adu"})})
    frames["image"].attrs["quantum"] = 0.01  # a floor that does nothing
    if propagated:
        variance = np.broadcast_to(sigmas**2, noise.shape).astype("f4")
        frames["variance"] = dims, variance
    return frames


def honesty(
    n: int,
    propagated: bool,
    pixels: int = 20_000,
    sigma: np.ndarray | float = SIGMA,
    **options: object,
) -> float:
    """rms(combined - truth) / rms(σ); above 1 where σ is too small."""
    made = daskcal.combine(frames_of(n, pixels, sigma, propagated), **options).compute()
    truth = LEVEL * (n if options.get("method") == "sum" else 1)
    error = made["image"].values.astype(float) - truth
    variance = made["variance"].values.astype(float)
    known = variance > 0
    if not known.any():
        return float("nan")
    return float(np.sqrt((error[known] ** 2).mean() / variance[known].mean()))


@pytest.mark.parametrize("propagated", [True, False], ids=["propagated", "scatter"])
@pytest.mark.parametrize("reject", ["none", "sigma"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [20, 33])
def test_every_method_without_rejection_and_with_a_clip_of_5_sigma(
    n: int, method: str, reject: str, propagated: bool
) -> None:
    assert honesty(n, propagated, method=method, reject=reject) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("propagated", [True, False], ids=["propagated", "scatter"])
@pytest.mark.parametrize("reject", ["none", "sigma"])
def test_weighted_averages(reject: str, propagated: bool) -> None:
    sigma = np.linspace(2, 5, 25)
    found = honesty(25, propagated, sigma=sigma, weights=1 / sigma**2, reject=reject)
    assert found == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("propagated", [True, False], ids=["propagated", "scatter"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 4, 9])
def test_medians_of_few_values(n: int, method: str, propagated: bool) -> None:
    assert honesty(n, propagated, method=method, reject="none") == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("propagated", [True, False], ids=["propagated", "scatter"])
@pytest.mark.parametrize("sides", [(1, 1), (0, 2), (0.2, 0.2), (0.3, 0.1)])
@pytest.mark.parametrize(("n", "method"), [(5, "average"), (8, "median"), (20, "average")])
def test_minmax_of_any_number(
    n: int, method: str, sides: tuple[float, float], propagated: bool
) -> None:
    options = {"reject": "minmax", "n_low": sides[0], "n_high": sides[1]}
    assert honesty(n, propagated, method=method, **options) == pytest.approx(1, abs=0.03)


def page(propagated: bool) -> dict[str, dict[int, float]]:
    """The figures of one of the page's tables, by name and number of frames."""
    text = (Path(__file__).parents[2] / "docs" / "explanation" / "uncertainties.md").read_text(
        encoding="utf-8"
    )
    part = text.split("From the scatter:")[0 if propagated else 1]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    sizes = [int(n) for n in rows[0][1:]]
    return {
        name: {n: float(x) for n, x in zip(sizes, cells, strict=True) if x != "-"}
        for name, *cells in rows[2:]
    }


@pytest.mark.parametrize("propagated", [True, False], ids=["propagated", "scatter"])
@pytest.mark.parametrize("name", HARDER)
def test_the_page_says_what_is_so(name: str, propagated: bool) -> None:
    said = page(propagated)[name]
    assert set(page(propagated)) == set(HARDER)
    for n in (5, 10, 20):
        found = honesty(n, propagated, pixels=8_000, **HARDER[name])
        assert found == pytest.approx(said[n], abs=0.04), n


def table(propagated: bool) -> str:
    """One of the page's tables."""
    sizes = (3, 5, 7, 10, 20, 50)
    lines = [f"| average of | {' | '.join(map(str, sizes))} |", "| --- |" + " --- |" * len(sizes)]
    for name, options in HARDER.items():
        found = [honesty(n, propagated, pixels=60_000, **options) for n in sizes]
        cells = " | ".join("-" if np.isnan(x) else f"{x:.2f}" for x in found)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    for kind in ("propagated", "scatter"):
        print(f"\n{kind}\n\n{table(kind == 'propagated')}")
