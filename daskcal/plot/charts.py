"""Numbers of frames on matplotlib's Axes: levels over time, histograms, rejected fractions."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.calibration.robust import MAD_TO_SIGMA
from daskcal.errors import ArgumentError, choose
from daskcal.plot.axes import Picture, new_figure
from daskcal.plot.lazily import one_frame, sample
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OF_A_FRAME = 50_000  # pixels behind the level of one frame
_TAILS = 8.0  # σ either side of the median that a histogram shows
_STATISTICS: dict[str, Callable[[np.ndarray], np.floating]] = {
    "median": np.median,
    "mean": np.mean,
}


@strict_keywords
def levels(
    frames: xr.Dataset, *, statistic: str = "median", by: str = "imagetyp", ax: Axes | None = None
) -> Axes:
    """Draw the level of each frame over time: a light leak, a cloud, a lamp that warms up.

    Parameters
    ----------
    frames : Dataset (frame, y, x)
        Raw or calibrated, lazy or not. Of each frame a sample of about 50,000 good pixels counts.
    statistic : {"median", "mean"}
    by : str
        Coordinate whose values have a colour each, such as ``imagetyp`` or ``filter``.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
        Over time where every frame says when it was taken, else over the frames' order.

    Examples
    --------
    >>> plot.levels(frames.query(frame="imagetyp == 'flat'"), by="filter")  # doctest: +SKIP
    """
    choose("statistic", statistic, _STATISTICS)
    if "frame" not in frames.dims or "image" not in frames:
        raise ArgumentError("levels draws frames: a Dataset with image (frame, y, x)")
    if by not in frames.coords:
        raise ArgumentError(f"by={by!r} is no coordinate of the frames")
    each = [frames.isel(frame=i) for i in range(frames.sizes["frame"])]
    found = [sample(one, size=_OF_A_FRAME) for one in each]
    values = np.array([_STATISTICS[statistic](v) if v.size else math.nan for v in found])
    ax = ax or new_figure(8, 4).subplots()
    places, label = _over(frames)
    groups = frames[by].values
    for group in dict.fromkeys(groups.tolist()):
        chosen = np.flatnonzero(groups == group)
        order = chosen[np.argsort(places[chosen], kind="stable")]
        ax.plot(places[order], values[order], "o-", lw=0.8, ms=4, label=str(group) or "unknown")
    unit = str(frames["image"].attrs.get("units", ""))
    ax.set(xlabel=label, ylabel=f"{statistic}, {unit}" if unit else statistic)
    if label == "UTC":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.legend(title=by, frameon=False)
    ax.grid(alpha=0.25)
    return ax


def _over(frames: xr.Dataset) -> tuple[np.ndarray, str]:
    """The horizontal axis: times in UTC, or places in order."""
    dates = frames["date_obs"].values if "date_obs" in frames.coords else np.array(["NaT"])
    if np.isnat(dates.astype("datetime64[us]")).any():
        return np.arange(1, frames.sizes["frame"] + 1), "frame"
    return dates, "UTC"


@strict_keywords
def histogram(
    data: Picture, *, bins: int = 120, label: str = "", noise: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw the histogram of one image, and beside it what its noise should make of a flat field.

    Parameters
    ----------
    data : Dataset, DataArray or array (y, x)
        Good pixels count, of large images a sample.
    bins : int
    label : str
        For the legend, where several share an Axes.
    noise : bool
        Whether to draw the noise model, where it is known: a normal distribution about the median
        with the σ of the image's variance; of a raw bias frame, the σ of its read noise.
    ax : matplotlib Axes, optional

    Examples
    --------
    >>> plot.histogram(frames.isel(frame=0))  # doctest: +SKIP
    """
    found = one_frame(data)
    values = sample(found)
    if not values.size:
        raise ArgumentError("there is no good pixel to draw")
    if bins < 1:
        raise ArgumentError(f"bins={bins} is not at least 1")
    ax = ax or new_figure(6.5, 4).subplots()
    median = float(np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
    edges = _edges(values, median, sigma, bins)
    unit = str(found["image"].attrs.get("units", ""))
    counts, _ = np.histogram(values, edges)
    name = f"{label}: " if label else ""
    line = ax.stairs(
        counts, edges, label=f"{name}median {median:.5g}, σ {sigma:.3g} {unit}".rstrip()
    )
    ax.axvline(median, color=line.get_edgecolor(), lw=0.8)
    ax.axvspan(median - sigma, median + sigma, color=line.get_edgecolor(), alpha=0.12, lw=0)
    expected = _expected(found) if noise else math.nan
    if expected > 0:
        middles = 0.5 * (edges[1:] + edges[:-1])
        normal = np.exp(-0.5 * ((middles - median) / expected) ** 2)
        curve = normal * np.diff(edges) * values.size / (expected * math.sqrt(2 * math.pi))
        ax.plot(middles, curve, "--", color="black", lw=1, label=f"noise model, σ {expected:.3g}")
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.5)
    ax.set(xlabel=unit or "value", ylabel="pixels of a sample")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _edges(values: np.ndarray, median: float, sigma: float, bins: int) -> np.ndarray:
    """Edges of bins over the middle of a distribution; whole steps of values that have steps."""
    low, high = (float(np.percentile(values, share)) for share in (0.05, 99.95))
    if sigma > 0:
        low, high = max(low, median - _TAILS * sigma), min(high, median + _TAILS * sigma)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    whole = bool((values == np.rint(values)).all())
    width = (high - low) / bins
    if whole and high - low < 1e9:  # bins that hold one integer more than others look like noise
        width = max(1.0, math.ceil(width))
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
        return np.arange(low, high + width, width)
    return np.linspace(low, high, bins + 1)


def _expected(found: xr.Dataset) -> float:
    """σ that an even image should have, in its unit; NaN where that is not known."""
    if "variance" in found:
        values = sample(found, "variance")
        return float(np.sqrt(np.median(values))) if values.size else math.nan
    unit = str(found["image"].attrs.get("units", ""))
    names = ("imagetyp", "rdnoise", "gain")
    facts = [found.coords[name].item() for name in names if name in found.coords]
    if len(facts) < len(names) or facts[0] != "bias":
        return math.nan
    rdnoise, gain = float(facts[1]), float(facts[2])
    return rdnoise if unit == "electron" else rdnoise / gain if unit == "adu" else math.nan


@strict_keywords
def rejected_fractions(master: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Draw which share of each frame's good pixels a combine rejected: the odd one stands out.

    Parameters
    ----------
    master : Dataset
        From ``daskcal.combine(frames, rejected=True)``.
    ax : matplotlib Axes, optional

    Raises
    ------
    ArgumentError
        It was combined without ``rejected=True``.

    Examples
    --------
    >>> master = daskcal.combine(flats, scale="median", rejected=True)  # doctest: +SKIP
    >>> plot.rejected_fractions(master)  # doctest: +SKIP
    """
    if "rejected_fraction" not in master:
        raise ArgumentError(
            "there is no rejected_fraction: combine(frames, rejected=True) gives it"
        )
    shares = 100 * np.asarray(master["rejected_fraction"].values, float)
    names = [os.path.basename(str(path)) for path in master["input"].values]
    ax = ax or new_figure(7, max(2.0, min(12.0, 0.8 + 0.24 * len(names)))).subplots()
    places = np.arange(len(names))
    ax.barh(places, np.nan_to_num(shares), color="tab:blue", height=0.7)
    ax.axvline(float(np.nanmedian(shares)), color="black", lw=0.8, label="median")
    shown = places[:: max(1, math.ceil(len(names) / 50))]
    ax.set_yticks(shown, [names[i].replace("$", r"\$") for i in shown], fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel="rejected pixels, %")
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return ax
