"""Small pictures of numbers as inline SVG: histograms, and gates over time with their limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from daskcal.night.report.pixels import Look
from daskcal.night.report.words import number
from daskcal.printable import printable

WIDTH = 360.0
_LEFT, _RIGHT = 46.0, 8.0
_TITLED = 300  # more good points than this are drawn as one path, without a title each
_STEPS = (1.0, 2.0, 5.0, 10.0)
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)

Mark = Literal["pass", "warn", "reject"]


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a chart.

    Attributes
    ----------
    x : float
        Hours of a day, or a place in order.
    value, low, high : float
        The number and its limits; NaN where there is none.
    title : str
        What a reader who points at it is told.
    """

    x: float
    value: float
    low: float
    high: float
    mark: Mark
    title: str


def histogram(look: Look, name: str) -> Markup:
    """The histogram of a product, its median and ±σ marked, counts on a logarithmic axis."""
    seen = look.histogram
    if seen is None:
        return Markup()
    bar, height, foot = 4, 64.0, 97.0
    width = float(bar * len(seen.counts))
    counts = np.array(seen.counts)
    tops = np.rint((height - 10) * np.log1p(counts) / np.log1p(max(1, counts.max()))).astype(int)
    rises = np.diff(tops, prepend=0).tolist()
    bars = "".join(f"v{-rise}h{bar}" if rise else f"h{bar}" for rise in rises)
    axis = Axis(seen.low, seen.high, 0, width)
    unit = look.unit or "value"
    label = (
        f"Histogram of {name}: {number(seen.low)} to {number(seen.high)} {look.unit}, median "
        f"{number(look.median)}, σ {number(look.sigma)}; {seen.below + seen.above:.2%} lie beyond"
    )
    parts = [
        opening("histogram", width, foot, label),
        Markup('<path class="bars" d="M0 {:.0f}{}V{:.0f}Z"/>').format(height, bars, height),
        _band(axis, look.median - look.sigma, look.median + look.sigma, 0, height),
        Markup('<path class="middle" d="M{:.1f} 0V{:.0f}"/>').format(axis(look.median), height),
        Markup('<path class="axis" d="M0 {0:.1f}H{1:.0f}"/>').format(height, width),
        *_ticks(axis, height, width),
        text(width, foot - 3, f"{unit}", "end"),
        text(0, foot - 3, "pixels, logarithmic", "start"),
        Markup("</svg>"),
    ]
    return Markup().join(parts)


def series(points: Sequence[Point], *, label: str, unit: str, by_time: bool) -> Markup:
    """Numbers in order, the limits shaded, those that failed marked by shape and colour.

    Parameters
    ----------
    points : sequence of Point
        In order of `x`, with `drawable` values; not empty.
    label : str
        What it shows, for those who cannot see it.
    by_time : bool
        Whether `x` is hours.
    """
    top, bottom, foot = 12.0, 116.0, 146.0
    x = Axis.padded(points[0].x, points[-1].x, _LEFT, WIDTH - _RIGHT)
    y = _vertical(points, top, bottom)
    parts = [
        opening("series", WIDTH, foot, label),
        _limits(points, x, y),
        Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(_LEFT, top, bottom, WIDTH),
        *(_rung(y, value) for value in nice(y.low, y.high, 3)),
        *ticks_of(x, bottom, by_time=by_time),
        text(_LEFT, 9, unit, "start") if unit else Markup(),
        *_points(points, x, y),
        Markup("</svg>"),
    ]
    return Markup().join(parts)


def drawable(value: float) -> bool:
    """Whether a value is a number, and small enough for differences to be."""
    return abs(value) < 1e300


def nice(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, roughly so many of them."""
    span = high - low
    if not 1e-300 < span < math.inf:
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / about))
    few = (s for s in _STEPS if span / (s * power) < about + 1)
    step = power * next(few, _STEPS[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """From numbers to places of a drawing."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def padded(cls, low: float, high: float, start: float, stop: float) -> Axis:
        """An axis with a little room at its ends."""
        room = 0.03 * (high - low)
        return cls(low - room, high + room, start, stop)

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + (self.stop - self.start) * share

    def within(self, value: float) -> float:
        """`value`, or the end of the axis that is nearest to it."""
        return min(max(value, self.low), self.high)


def _vertical(points: Sequence[Point], top: float, bottom: float) -> Axis:
    """The axis of the values: good ones and limits; a far outlier is drawn at its end."""
    good = [p.value for p in points if p.mark == "pass"] or [p.value for p in points]
    span = max(good) - min(good)
    limits = {limit for p in points for limit in (p.low, p.high) if drawable(limit)}
    # a limit very far away would leave nothing to see of the values
    near = [
        limit for limit in limits if span == 0 or min(abs(limit - g) for g in good) <= 30 * span
    ]
    low, high = min([*good, *near]), max([*good, *near])
    room = 0.18 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - room, high + room, bottom, top)


def opening(name: str, width: float, height: float, label: str) -> Markup:
    """The start of a drawing, which says to those who cannot see it what it shows."""
    svg = '<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">'
    return Markup(svg).format(name, width, height, printable(label))


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """A line of text, its `anchor` (start, middle, end) at `x`."""
    line = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(line).format(x, y, anchor, printable(words))


def _band(axis: Axis, low: float, high: float, top: float, bottom: float) -> Markup:
    left, right = axis(axis.within(low)), axis(axis.within(high))
    if not right > left:
        return Markup()
    box = '<rect class="band" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
    return Markup(box).format(left, top, right - left, bottom - top)


def _ticks(axis: Axis, at: float, width: float) -> Iterable[Markup]:
    """Round numbers under a horizontal axis."""
    for value in nice(axis.low, axis.high, 3):
        x = axis(value)
        anchor = "start" if x < 14 else "end" if x > width - 14 else "middle"
        yield Markup('<path class="axis" d="M{:.1f} {:.0f}v3"/>').format(x, at)
        yield text(x, at + 14, number(value), anchor)


def _rung(y: Axis, value: float) -> Markup:
    at = y(value)
    line = Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(_LEFT, at, WIDTH)
    return line + text(_LEFT - 5, at + 3.5, number(value), "end")


def ticks_of(x: Axis, at: float, *, by_time: bool) -> list[Markup]:
    """Marks and a title under a horizontal axis of times or of places in order."""
    title = "UTC" if by_time else "frames, in order"
    return [*(_hours(x, at) if by_time else _places(x, at)), text(x.stop, at + 28, title, "end")]


def _hours(x: Axis, at: float) -> Iterable[Markup]:
    """Times of day under a horizontal axis of hours."""
    span = 60 * (x.high - x.low)
    step = next((minutes for minutes in _MINUTES if span / minutes <= 5), _MINUTES[-1])
    for i in range(math.ceil(60 * x.low / step), math.floor(60 * x.high / step) + 1):
        hours, minutes = divmod(i * step, 60)
        place = x(i * step / 60)
        yield Markup('<path class="axis" d="M{:.1f} {:.0f}v3"/>').format(place, at)
        yield text(place, at + 14, f"{hours % 24:02}:{minutes:02}", "middle")


def _places(x: Axis, at: float) -> Iterable[Markup]:
    """Whole numbers under a horizontal axis."""
    for value in nice(x.low, x.high, 5):
        if value == int(value) and value >= 1:
            yield Markup('<path class="axis" d="M{:.1f} {:.0f}v3"/>').format(x(value), at)
            yield text(x(value), at + 14, number(value), "middle")


def _limits(points: Sequence[Point], x: Axis, y: Axis) -> Markup:
    """What lies between the limits, shaded; open where there is none on one side."""
    if not any(drawable(limit) for p in points for limit in (p.low, p.high)):
        return Markup()
    corners = _corners(points, x)
    upper = [(at, y(y.within(p.high) if drawable(p.high) else y.high)) for at, p in corners]
    lower = [(at, y(y.within(p.low) if drawable(p.low) else y.low)) for at, p in corners]
    path = "L".join(f"{at:.1f} {height:.1f}" for at, height in (*upper, *reversed(lower)))
    return Markup('<path class="band" d="M{}Z"/>').format(path)


def _corners(points: Sequence[Point], x: Axis) -> list[tuple[float, Point]]:
    """Both ends of each run of points with the same limits: they hold half way to the next."""
    runs = [list(run) for _, run in itertools.groupby(points, key=lambda p: (p.low, p.high))]
    halves = [0.5 * (x(a[-1].x) + x(b[0].x)) for a, b in itertools.pairwise(runs)]
    edges = [x.start, *halves, x.stop]
    return [
        (edge, run[0]) for run, ends in zip(runs, itertools.pairwise(edges), strict=True)
        for edge in ends
    ]  # fmt: skip


def _points(points: Sequence[Point], x: Axis, y: Axis) -> Iterable[Markup]:
    """Good points first, so that the others lie above them."""
    good = [p for p in points if p.mark == "pass"]
    if len(good) > _TITLED:
        dots = "".join(f"M{x(p.x):.1f} {y(y.within(p.value)):.1f}h0" for p in good)
        yield Markup('<path class="dots" d="{}"/>').format(dots)
        good = []
    for p in (*good, *(p for p in points if p.mark != "pass")):
        place = f"{x(p.x):.1f} {y(y.within(p.value)):.1f}"
        shape = Markup('<path class="{}" d="M{}{}"><title>{}</title></path>')
        yield shape.format(p.mark, place, _shape(p, y), printable(p.title))


def _shape(p: Point, y: Axis) -> str:
    if p.mark == "pass":
        return "h0"
    if p.value > y.high:  # an arrow: it lies beyond
        return "m-4.5 6l4.5-6l4.5 6z"
    if p.value < y.low:
        return "m-4.5-6l4.5 6l4.5-6z"
    return "m-3.5-3.5l7 7m0-7l-7 7" if p.mark == "reject" else "m0-4.5l4.5 8h-9z"
