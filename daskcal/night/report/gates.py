"""The gates of a night for its report: charts over time, and a table, the worst first."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from daskcal.night.ledger import VERDICTS, FrameEntry, Gate
from daskcal.night.report.book import Book, worst
from daskcal.night.report.charts import Point, drawable, series
from daskcal.night.report.times import places
from daskcal.night.report.words import counted, number

CHARTS_SHOWN = 48
FEW = 9  # more charts than these, and those of gates that passed are folded
ROWS_SHOWN = 2000
_FEWEST = 3  # a chart of one or two numbers says less than a line of a table


@dataclass(frozen=True, slots=True)
class Chart:
    """One gate over the frames of a master, or over products of a kind."""

    title: str
    about: str
    summary: str
    svg: Markup
    verdict: str


def charts(book: Book) -> list[Chart]:
    """A chart for each gate that judged several frames or products, the worst first."""
    together: dict[tuple[str, str, str], list[Gate]] = defaultdict(list)
    for gate in book.ledger.gates:
        if drawable(gate.value):
            together[gate.name, _about(book, gate), gate.unit].append(gate)
    made = [
        _chart(book, name, about, gates)
        for (name, about, _), gates in together.items()
        if len(gates) >= _FEWEST
    ]
    return sorted(made, key=lambda chart: -VERDICTS.index(chart.verdict))


def table(gates: Iterable[Gate]) -> list[Gate]:
    """Gates in the order in which they matter."""
    return sorted(gates, key=lambda gate: -VERDICTS.index(gate.verdict))


def value(gate: Gate) -> str:
    """What was measured, with its unit."""
    return f"{number(gate.value)} {gate.unit}".rstrip()


def limits(gate: Gate) -> str:
    """What it should lie within, in words; "" where there is no limit."""
    low, high = number(gate.low), number(gate.high)
    match math.isfinite(gate.low), math.isfinite(gate.high):
        case True, True:
            return f"{low} to {high}"
        case True, False:
            return f"at least {low}"
        case False, True:
            return f"at most {high}"
    return ""


def words(name: str) -> str:
    """The name of a gate or a figure for reading."""
    return name.replace("_", " ")


def _about(book: Book, gate: Gate) -> str:
    """What gates share an axis with this one: a master's frames, or the products of a kind."""
    product = book.products.get(gate.product)
    if product is None or (gate.frame and product.kind != "science"):
        return gate.product
    detector = book.detector(product)
    return f"{product.kind} {detector}".rstrip()


def _chart(book: Book, name: str, about: str, gates: Sequence[Gate]) -> Chart:
    at, by_time = places([_frame(book, gate) for gate in gates])
    points = sorted((_point(*pair) for pair in zip(gates, at, strict=True)), key=lambda p: p.x)
    counts = Counter[str](gate.verdict for gate in gates)
    said = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
    summary = f"{counted(len(gates), 'value')}: {', '.join(said)}"
    within = {limits(gate) for gate in gates}
    if len(within) == 1 and "" not in within:
        summary += f"; limits {within.pop()} {gates[0].unit}".rstrip()
    label = f"{words(name)} of {about}: {summary}"
    drawn = series(points, label=label, unit=gates[0].unit, by_time=by_time)
    return Chart(words(name), about, summary, drawn, worst(gates))


def _point(gate: Gate, x: float) -> Point:
    within = limits(gate)
    title = f"{gate.frame or gate.product}: {value(gate)}" + (f" ({within})" if within else "")
    if gate.message:
        title += f"\n{gate.message}"
    return Point(x, gate.value, gate.low, gate.high, gate.verdict, title)


def _frame(book: Book, gate: Gate) -> FrameEntry | None:
    """The frame that a gate is about, or the first of its product."""
    if gate.frame:
        return book.by_place.get(gate.frame)
    product = book.products.get(gate.product)
    return next(iter(book.frames_of(product)), None) if product else None
