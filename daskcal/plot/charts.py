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
from daskcal.frames.blocks import require_frames
from daskcal.plot.axes import new_figure, short_name
from daskcal.plot.lazily import sample
from daskcal.plot.source import one_image
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from daskcal.plot.source import Picture

_OF_A_FRAME = 50_000  # pixels behind the level of one frame
_NIGHT = np.timedelta64(36, "h")
_RANGE = 30  # highest over lowest level, from which on an axis is logarithmic
_ENTRIES = 14  # in a column of a legend
_ONE_SIGMA = 0.15865525393145707  # share of a normal distribution below −σ
_NAMED = 50  # frames that have their names beside their bars
_MARKS = "os^vD"
_LETTERS = 44  # of a name
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
        Over time where every frame says when it was taken, and all within a night; else over their
        order in time, or as they come. Logarithmic where levels differ more than thirty-fold.

    Examples
    --------
    >>> ax = plot.levels(frames.query(frame="imagetyp == 'flat'"), by="filter")
    """
    choose("statistic", statistic, _STATISTICS)
    if "frame" not in frames.dims or "image" not in frames:
        raise ArgumentError("levels draws frames: a Dataset with image (frame, y, x)")
    require_frames(frames)
    if by not in frames.coords:
        raise ArgumentError(f"by={by!r} is no coordinate of the frames")
    each = [frames.isel(frame=i) for i in range(frames.sizes["frame"])]
    found = [sample(one, size=_OF_A_FRAME)[0] for one in each]
    values = np.array([_STATISTICS[statistic](v) if v.size else math.nan for v in found])
    places, label = _over(frames)
    groups = frames[by].values
    names = list(dict.fromkeys(groups.tolist()))
    ax = ax or new_figure(6.5 + 1.7 * math.ceil(len(names) / _ENTRIES), 4).subplots()
    for number, group in enumerate(names):
        mark = _MARKS[number // 10 % len(_MARKS)]  # colours come again after ten
        chosen = np.flatnonzero(groups == group)
        order = chosen[np.argsort(places[chosen], kind="stable")]
        name = short_name(str(group), 28) or "unknown"
        ax.plot(places[order], values[order], f"{mark}-", lw=0.8, ms=4, label=name)
    unit = str(frames["image"].attrs.get("units", ""))
    ax.set(xlabel=label, ylabel=f"{statistic}, {unit}" if unit else statistic)
    if label == "UTC":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(minticks=3, maxticks=7)  # with 5 and 7 some spans have no ticks
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    found_levels = values[np.isfinite(values)]
    if found_levels.size and found_levels.max() > _RANGE * found_levels.min() > 0:
        from matplotlib.ticker import LogLocator, NullFormatter

        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.ticklabel_format(axis="y", useOffset=False)
    _legend_beside(ax, by)
    ax.grid(alpha=0.25)
    return ax


def _over(frames: xr.Dataset) -> tuple[np.ndarray, str]:
    """The horizontal axis: times in UTC, or places in order."""
    dates = frames["date_obs"].values if "date_obs" in frames.coords else np.array(["NaT"])
    if np.isnat(dates.astype("datetime64[us]")).any():
        return np.arange(1, frames.sizes["frame"] + 1), "frame"
    if np.ptp(dates) > _NIGHT:  # points of a night would lie on each other
        return 1 + np.argsort(np.argsort(dates, kind="stable")), "frame, in order of time"
    return dates, "UTC"


def _legend_beside(ax: Axes, title: str) -> None:
    """A legend that hides no point, in as many columns as its entries take."""
    handles, labels = ax.get_legend_handles_labels()
    shown = [text.replace("$", r"\$") for text in labels]
    ax.legend(
        handles, shown, title=title, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0, ncols=math.ceil(len(shown) / _ENTRIES), fontsize="small",
    )  # fmt: skip


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
    >>> ax = plot.histogram(frames.isel(frame=0))
    """
    found = one_image(data)
    if bins < 1:
        raise ArgumentError(f"bins={bins} is not at least 1")
    values, *variance = sample(found, ["image", "variance"] if "variance" in found else ["image"])
    if not values.size:
        raise ArgumentError("there is no good pixel to draw")
    ax = ax or new_figure(6.5, 4).subplots()
    median, sigma = _middle(values)
    edges = _edges(values, median, sigma, bins)
    unit = str(found["image"].attrs.get("units", ""))
    counts, _ = np.histogram(values, edges)
    name = f"{label}: " if label else ""
    line = ax.stairs(
        counts,
        edges,
        label=f"{name}median {median:.{_places(sigma)}f}, σ {sigma:.3g} {unit}".rstrip(),
    )
    ax.axvline(median, color=line.get_edgecolor(), lw=0.8)
    ax.axvspan(median - sigma, median + sigma, color=line.get_edgecolor(), alpha=0.12, lw=0)
    expected = math.nan
    if noise:
        expected = math.sqrt(np.median(variance[0])) if variance else _read_noise(found)
    if expected > 0:
        middles = 0.5 * (edges[1:] + edges[:-1])
        normal = np.exp(-0.5 * ((middles - median) / expected) ** 2)
        curve = normal * np.diff(edges) * values.size / (expected * math.sqrt(2 * math.pi))
        name = f"noise model, σ {expected:.3g} {unit}".rstrip()
        ax.plot(middles, curve, "--", color="black", lw=1, label=name)
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.5)
    ax.set(xlabel=unit or "value", ylabel="pixels of a sample")
    ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0))
    return ax


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Median and robust σ; of whole numbers as if each were spread evenly over its step."""
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        median = float(np.median(values))
        return median, MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
    numbers, counts = np.unique(values, return_counts=True)
    share = np.cumsum(counts) / values.size
    below = share - counts / values.size
    places = [int(np.searchsorted(share, part)) for part in (_ONE_SIGMA, 0.5, 1 - _ONE_SIGMA)]
    low, median, high = (
        float(numbers[i] - 0.5 + (part - below[i]) / (share[i] - below[i]))
        for i, part in zip(places, (_ONE_SIGMA, 0.5, 1 - _ONE_SIGMA), strict=True)
    )
    if numbers.size == 1:
        return median, 0.0
    # the step itself spreads a value by 1/√12
    return median, math.sqrt(max(0.0, (0.5 * (high - low)) ** 2 - 1 / 12))


def _places(sigma: float) -> int:
    """Decimal places of a median that its noise leaves a meaning."""
    return min(8, max(0, 1 - math.floor(math.log10(sigma)))) if sigma > 0 else 2


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


def _read_noise(found: xr.Dataset) -> float:
    """σ that an even raw bias should have, in its unit; NaN where that is not known."""
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
    >>> master = daskcal.combine(flats, scale="median", rejected=True)
    >>> ax = plot.rejected_fractions(master)
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
    shown = places if len(names) <= _NAMED else _standing_out(shares)
    ax.set_yticks(shown, [short_name(names[i], _LETTERS) for i in shown], fontsize="small")
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set(xlabel="rejected pixels, %")
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return ax


def _standing_out(shares: np.ndarray) -> np.ndarray:
    """The frames that most was rejected of, far enough from each other to be named."""
    apart = math.ceil(len(shares) / _NAMED)
    chosen: list[int] = []
    for i in np.argsort(-np.nan_to_num(shares), kind="stable")[:_NAMED].tolist():
        if all(abs(i - other) >= apart for other in chosen):
            chosen.append(i)
    return np.sort(np.array(chosen))
