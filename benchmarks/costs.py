"""What a night costs, by a model on measured figures: into the page on where to run daskcal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import HERE, Row, load, number, table
from benchmarks.workers import ROOT

PAGE = ROOT / "docs" / "howto" / "deploy.md"
BEGIN, END = "<!-- begin costs (python -m benchmarks) -->", "<!-- end costs -->"
CORES, RATE = 4, 1.0  # of a worker; GB/s of the network or disk that all share
FRAME = 16.8  # Mpix
SCIENCE = 0.9  # share of a night's frames
READ = 2  # bytes of a raw pixel
WRITTEN = {"all": 10, "image": 4}  # bytes of a pixel: float32 image and UNCERT, uint16 MASK
NIGHTS = ((10, 1), (100, 1), (100, 4), (1000, 1), (1000, 4), (1000, 16))  # GB, workers
_MEASURED_ON = 2  # cores of the machine that the rows are measured on


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes
    ----------
    master : float
        Core seconds of a million pixels of calibration frames, on their way into a master.
    science : dict of str to float
        The same of science frames, by the planes that are written.
    product, tiny : float
        Seconds of the client's and the scheduler's for a product, which more workers do not
        shorten, and for one of a few pixels; NaN where that was not measured.
    """

    master: float
    science: dict[str, float]
    product: float
    tiny: float


@dataclass(frozen=True)
class Cost:
    """Of a night: core hours and GB, and the hours that cores, network and client take."""

    core_hours: float
    moved: float
    cores: float
    network: float
    client: float

    @property
    def hours(self) -> float:
        """All work at once: the slowest of the three decides."""
        return max(self.cores, self.network, self.client if self.client > 0 else 0.0)


def figures(rows: Sequence[Row]) -> Figures:
    """The figures of the model, out of the tables."""
    by_id = {row.id: row for row in rows}
    master = _cell(by_id["calibrate-combine"], "Mpix/s",
                   "calibrate and combine, with variance and mask")  # fmt: skip
    science = by_id["science"]
    found = re.match(r"(\d+) science frames of (\d+)²", science.title)
    if found is None:
        raise ValueError(f"the row science does not tell its frames: {science.title}")
    mpix = int(found[1]) * int(found[2]) ** 2 / 1e6
    names = {"all": "daskcal, with UNCERT and MASK", "image": "daskcal, image only"}
    return Figures(
        _MEASURED_ON / master,
        {key: _MEASURED_ON * _cell(science, "median s", name) / mpix
         for key, name in names.items()},
        *_of_a_product(by_id.get("cluster")),
    )  # fmt: skip


def _of_a_product(row: Row | None) -> tuple[float, float]:
    if row is None:
        return math.nan, math.nan
    nights = [line for line in row.lines if line[0].startswith("2 workers") and "night" in line[1]]
    columns = [row.columns.index(f"{who} ms a product") for who in ("client", "scheduler")]
    found = [sum(float(line[at].replace(",", "")) for at in columns) / 1e3 for line in nights]
    return max(found), min(found)


def _cell(row: Row, column: str, name: str) -> float:
    line = next(line for line in row.lines if line[0] == name)
    return float(line[row.columns.index(column)].replace(",", ""))


def cost(of: Figures, gigabytes: float, workers: int, planes: str = "all") -> Cost:
    """What a night of uint16 frames costs on `workers`."""
    mpix = gigabytes * 1e9 / READ / 1e6
    core_seconds = mpix * (SCIENCE * of.science[planes] + (1 - SCIENCE) * of.master)
    moved = gigabytes + mpix * SCIENCE * WRITTEN[planes] / 1e3
    client = mpix * SCIENCE / FRAME * of.product
    computing = core_seconds / (workers * CORES)
    return Cost(core_seconds / 3600, moved, computing / 3600, moved / RATE / 3600, client / 3600)


def enough(of: Figures, gigabytes: float, planes: str) -> int:
    """Workers beyond which the cores no longer decide how long a night takes."""
    one = cost(of, gigabytes, 1, planes)
    rest = max(one.network, one.client if one.client > 0 else 0.0)
    return max(1, math.ceil(one.cores / rest))


# --- the page -------------------------------------------------------------------------------------


def block(rows: Sequence[Row]) -> str:
    """What the page says, from the rows of the tables."""
    of = figures(rows)
    said = [
        "Measured, per million pixels, as core seconds of a whole run on two cores:",
        table(("", "core seconds", "bytes read", "bytes written"), _measured(of)),
        f"A product of the row cluster's night takes {_seconds(of.product)} of the client's and "
        f"the scheduler's time together, a tiny one {_seconds(of.tiny)}. More workers do not "
        "shorten that.",
        f"So nights of uint16 frames of {FRAME} Mpix, nine in ten of them of science, on workers "
        f"of {CORES} cores that share a network or disk of {RATE:g} GB/s:",
        table(
            ("GB", "planes", "workers", "core hours", "GB moved", "hours of cores", "of network",
             "of client", "in all"),
            [_night(of, size, workers, planes)
             for planes in WRITTEN for size, workers in NIGHTS],
        ),
        "More workers than this do not shorten a night there: "
        + ", ".join(f"{enough(of, 1000, planes)} for {planes} planes" if planes == "all"
                    else f"{enough(of, 1000, planes)} for the image alone" for planes in WRITTEN)
        + ".",
    ]  # fmt: skip
    return "\n\n".join(said)


def _measured(of: Figures) -> list[tuple[str, ...]]:
    what = {"all": "a science frame: image, UNCERT and MASK", "image": "a science frame: image"}
    lines = [("a calibration frame, into its master, with variance and mask", of.master, "")]
    lines += [(name, of.science[key], str(WRITTEN[key])) for key, name in what.items()]
    return [
        (name, number(seconds), f"{READ} a pixel", f"{out} a pixel" if out else "")
        for name, seconds, out in lines
    ]


def _seconds(value: float) -> str:
    return f"{number(value)} s" if value > 0 else "some time (not measured yet)"


def _night(of: Figures, gigabytes: int, workers: int, planes: str) -> tuple[str, ...]:
    one = cost(of, gigabytes, workers, planes)
    hours = (one.cores, one.network, one.client, one.hours)
    return (f"{gigabytes:,}", planes, str(workers), number(one.core_hours), f"{one.moved:,.0f}",
            *map(number, hours))  # fmt: skip


def refresh(page: Path = PAGE, folder: Path = HERE) -> None:
    """Put what `results.json` says now into the page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    text = f"{head}{BEGIN}\n\n{block(load(folder / 'results.json'))}\n\n{END}{tail}"
    page.write_text(text, encoding="utf-8")
