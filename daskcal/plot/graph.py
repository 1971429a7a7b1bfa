"""A plan as a picture: which frames make which master, and which masters calibrate what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from daskcal.errors import ArgumentError
from daskcal.plot.axes import new_figure, short_name
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = ("bias", "dark", "flat", "science")
_COLOURS = {"bias": "#c7d3e0", "dark": "#d9cfe3", "flat": "#f0dfb8", "science": "#cfe3d2"}
_MISSING = "#f3c9c6"
_LETTERS = 30  # of a name in a box
_BEND = -0.06  # of a line, for each column that it passes
_MOST = 60  # boxes in a column; further ones are one box together


class Job(Protocol):
    """A product of a plan."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def frames(self) -> Sequence[int]: ...


class PlannedJob(Job, Protocol):
    """A product that will be made."""

    @property
    def masters(self) -> Mapping[str, Sequence[str]]: ...


class Plan(Protocol):
    """What `daskcal.plan_night` gives, as far as the picture needs it."""

    @property
    def jobs(self) -> Sequence[PlannedJob]: ...
    @property
    def missing(self) -> Sequence[Job]: ...


class _Box:
    """Products that are drawn as one: the science frames of the same masters are."""

    def __init__(self, job: Job, masters: tuple[str, ...], missing: bool) -> None:
        self.kind, self.masters, self.missing = job.kind, masters, missing
        self.names: list[str] = []
        self.frames = 0

    def add(self, job: Job) -> None:
        """Another product of the same kind."""
        self.names.append(job.name)
        self.frames += len(job.frames)

    def take(self, box: _Box) -> None:
        """All products of another box."""
        self.names += box.names
        self.frames += box.frames
        self.masters = tuple(dict.fromkeys((*self.masters, *box.masters)))

    @property
    def text(self) -> str:
        """Its name, and of how many frames it is made."""
        first = short_name(self.names[0].rsplit("/", 1)[-1].removesuffix(".fits"), _LETTERS)
        if len(self.names) > 1:
            return f"{len(self.names)} products\n{first} …"
        frames = f"{self.frames} frame{'' if self.frames == 1 else 's'}"
        return f"{first}\n{'cannot be made' if self.missing else frames}"


@strict_keywords
def plan_graph(plan: Plan, *, ax: Axes | None = None) -> Axes:
    """Draw a plan: a box for each product, a line from each master to what it calibrates.

    Science frames of the same masters share a box; what cannot be made is red.

    Parameters
    ----------
    plan : Plan
        As `daskcal.plan_night` gives it.
    ax : matplotlib Axes, optional

    Raises
    ------
    ArgumentError
        The plan makes nothing.

    Examples
    --------
    >>> ax = plot.plan_graph(daskcal.plan_night("raw"))
    """
    columns = _columns(plan)
    if not any(columns.values()):
        raise ArgumentError("the plan makes nothing: there is no graph to draw")
    shown = [kind for kind in _KINDS if columns[kind]]
    tallest = max(len(columns[kind]) for kind in shown)
    ax = ax or new_figure(2.9 * len(shown), 1.3 + 0.62 * tallest).subplots()
    places: dict[str, tuple[float, float]] = {}
    for across, kind in enumerate(shown):
        boxes = _beside_masters(columns[kind], places)
        for i, box in enumerate(boxes):
            places |= dict.fromkeys(box.names, (across, _height(i, len(boxes), tallest)))
            _draw(ax, across, places[box.names[0]][1], box)
    for kind in shown:
        for box in columns[kind]:
            for master in box.masters:
                if master in places:
                    _join(ax, places[master], places[box.names[0]])
    ax.set(xlim=(-0.5, len(shown) - 0.5), ylim=(-0.7, tallest))
    ax.set_axis_off()
    return ax


def _columns(plan: Plan) -> dict[str, list[_Box]]:
    """Boxes by kind of product, in the order of the plan."""
    boxes: dict[tuple[Any, ...], _Box] = {}
    every: list[tuple[Job, tuple[str, ...], bool]] = [
        (job, tuple(name for names in job.masters.values() for name in names), False)
        for job in plan.jobs
    ]
    every += [(job, (), True) for job in plan.missing]
    for job, masters, missing in every:
        alone = job.kind != "science" or missing
        key = (job.kind, masters, missing, job.name if alone else "")
        boxes.setdefault(key, _Box(job, masters, missing)).add(job)
    columns: dict[str, list[_Box]] = {kind: [] for kind in _KINDS}
    for box in boxes.values():
        columns[box.kind].append(box)
    for some in columns.values():
        for box in some[_MOST:]:
            some[_MOST - 1].take(box)
        del some[_MOST:]
    return columns


def _beside_masters(boxes: list[_Box], places: Mapping[str, tuple[float, float]]) -> list[_Box]:
    """The boxes of a column from the top, as high as what they are made with: lines cross less."""

    def height(box: _Box) -> float:
        found = [places[name][1] for name in box.masters if name in places]
        return sum(found) / len(found) if found else 0.0

    return sorted(boxes, key=height, reverse=True)


def _height(i: int, count: int, tallest: int) -> float:
    """Where a box stands, from the top, its column in the middle."""
    return tallest - 1 - i - (tallest - count) / 2


def _draw(ax: Axes, x: float, y: float, box: _Box) -> None:
    colour = _MISSING if box.missing else _COLOURS[box.kind]
    style = {"boxstyle": "round,pad=0.35", "fc": colour, "ec": "#44484d", "lw": 0.8}
    # a dollar sign in a name is no formula
    ax.text(x, y, box.text, ha="center", va="center", fontsize=8, bbox=style, zorder=2,
            parse_math=False)  # fmt: skip


def _join(ax: Axes, start: tuple[float, float], stop: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-", "color": "#8a9097", "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    # past the boxes of the columns between, not behind them
    bend = {"connectionstyle": f"arc3,rad={_BEND * (stop[0] - start[0] - 1)}"}
    ax.annotate("", xy=stop, xytext=start, arrowprops={**arrow, **bend}, zorder=1)
