"""Rows of the benchmark table: as data, as Markdown, and into the README."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.measure import Result
from benchmarks.workers import BenchmarkError

HERE = Path(__file__).parent
BEGIN, END = "<!-- begin tables -->", "<!-- end tables -->"
MEGA = 1e6


@dataclass(frozen=True)
class Target:
    """A line that a figure must reach; `at_least` or else at most."""

    what: str
    figure: float
    bound: float
    unit: str = "×"
    at_least: bool = True

    @property
    def reached(self) -> bool | None:
        """None where nothing was measured."""
        if math.isnan(self.figure):
            return None
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def words(self) -> tuple[str, str, str, str]:
        """Work, target, figure and verdict, for a table."""
        sign = "≥" if self.at_least else "≤"
        verdict = {None: "not measured", True: "yes", False: "**no**"}[self.reached]
        figure = "–" if self.reached is None else f"{number(self.figure)} {self.unit}"
        return self.what, f"{sign} {self.bound:,g} {self.unit}", figure, verdict


@dataclass(frozen=True)
class Row:
    """One line of work that was measured: its table, its targets, what else is to be known."""

    id: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    targets: tuple[Target, ...] = ()
    remarks: tuple[str, ...] = ()
    machine: tuple[tuple[str, str], ...] = ()
    failures: tuple[str, ...] = ()


def number(value: float) -> str:
    """Three digits that count."""
    if math.isnan(value):
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(digits, 4)}f}"


def megabytes(value: float) -> str:
    """Bytes as MB."""
    return number(value / MEGA) if value else "–"


TIMED = ("what", "median s", "best s", "runs", "× the first", "peak MB")


def timed_lines(results: Iterable[Result]) -> tuple[tuple[str, ...], ...]:
    """A line each: seconds, how many times those of the first, peak memory of its process."""
    results = list(results)
    return tuple(timed_line(result, results[0].median) for result in results)


def timed_line(result: Result, base: float) -> tuple[str, ...]:
    """What `TIMED` says, of one result."""
    if result.reason:
        verdict = "FAILED" if result.failed else "skipped"
        return (f"{result.name}: {verdict}: {result.reason}", "–", "–", "–", "–", "–")
    return (
        result.name,
        number(result.median),
        number(result.best),
        str(len(result.seconds)),
        number(result.median / base),
        megabytes(result.peak),
    )


def failures(results: Iterable[Result]) -> tuple[str, ...]:
    """What went wrong, of those that did."""
    return tuple(f"{result.name}: {result.reason}" for result in results if result.failed)


def check(what: str, figure: float, bound: float, at_least: bool = True) -> str:
    """A remark of what was checked.

    Raises
    ------
    BenchmarkError
        The results do not agree.
    """
    if not (figure >= bound if at_least else figure <= bound):
        raise BenchmarkError(f"wrong result: {what}: {figure:.6g}, and should be {bound:g}")
    return f"Checked: {what}: {figure:.6g}."


# --- Markdown -----------------------------------------------------------------------------------


def markdown(rows: Sequence[Row]) -> str:
    """The whole of what a run writes."""
    columns = ("row", "work, 2 cores", "target", "measured", "reached")
    lines = [(f"[{row.id}](#{row.id})", *t.words()) for row in rows for t in row.targets]
    parts = ["## Targets", "", table(columns, lines)]
    for row in rows:
        parts += ["", f"## {row.id}", "", row.title, "", table(row.columns, row.lines)]
        for remark in row.remarks:
            parts += ["", remark]
    parts += ["", "## The machine and the versions", ""]
    machines: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for row in rows:
        machines.setdefault(row.machine, []).append(row.id)
    for machine, ids in machines.items():
        if len(machines) > 1:
            parts += [f"For {', '.join(ids)}:", ""]
        parts += [table(("", ""), machine), ""]
    return "\n".join(parts).rstrip() + "\n"


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; columns of numbers to the right."""
    numeric = ["---:" if column not in _WORDS and i else "---" for i, column in enumerate(columns)]
    rows = [columns, numeric, *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
                     for row in rows)  # fmt: skip


_WORDS = ("", "work, 2 cores", "reached", "works on", "note", "planes")


def refresh(rows: Sequence[Row], order: Sequence[str], folder: Path = HERE) -> None:
    """Put rows in the place of those measured before, and write the tables into the README."""
    store = folder / "results.json"
    known = {row.id: row for row in load(store)} | {row.id: row for row in rows}
    kept = [known[id_] for id_ in order if id_ in known]
    store.write_text(json.dumps([asdict(row) for row in kept], indent=1, ensure_ascii=False) + "\n")
    readme = folder / "README.md"
    head, _, rest = readme.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    readme.write_text(f"{head}{BEGIN}\n\n{markdown(kept)}\n{END}{tail}")


def load(store: Path) -> list[Row]:
    """The rows that were kept."""
    if not store.exists():
        return []
    return [_row(found) for found in json.loads(store.read_text())]


def _row(found: dict) -> Row:
    targets = tuple(Target(**target) for target in found.pop("targets"))
    tupled = {name: _tuples(value) for name, value in found.items()}
    return replace(Row(**tupled), targets=targets)


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


Maker = Callable[..., Row]
