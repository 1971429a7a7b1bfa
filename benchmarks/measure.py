"""Contestants race: interleaved repeats, one process each, so that all meet the same machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.peers import missing
from benchmarks.workers import BenchmarkError, Worker


@dataclass(frozen=True)
class Contestant:
    """Something to be timed.

    Attributes
    ----------
    name : str
        As the tables say it.
    call : str
        ``module:function``, called in a process of its own that has imported it.
    arguments : dict
        Of the function, as JSON can carry them.
    peer : str
        What must be installed (`benchmarks.peers`).
    runs : int
        Fewer than the race's repeats for what is slow; 0 is all of them.
    warm_up : bool
        Call it once untimed before.
    hide : tuple of str
        Modules that it must not find.
    """

    name: str
    call: str
    arguments: dict[str, Any]
    peer: str = ""
    runs: int = 0
    warm_up: bool = True
    hide: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """How a contestant did: seconds of each run, what its calls returned, peak memory in bytes.

    `reason` says why there is nothing, else it is empty.
    """

    name: str
    seconds: tuple[float, ...] = ()
    values: tuple[Any, ...] = ()
    peak: int = 0
    reason: str = ""
    failed: bool = False

    @property
    def median(self) -> float:
        """Seconds; NaN where it did not run."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def best(self) -> float:
        """Seconds; NaN where it did not run."""
        return min(self.seconds, default=float("nan"))

    def fact(self, name: str, called: str) -> Result:
        """The same runs timed by another clock: the seconds `name` of what the calls returned."""
        seconds = tuple(float(value[name]) for value in self.values)
        return replace(self, name=called, seconds=seconds)


@dataclass
class _Lane:
    contestant: Contestant
    worker: Worker
    seconds: list[float] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    error: str = ""

    def run(self, timed: bool = True) -> None:
        try:
            seconds, value = self.worker.call(self.contestant.call, **self.contestant.arguments)
        except BenchmarkError as error:
            self.error = str(error)
            return
        if timed:
            self.seconds.append(seconds)
            self.values.append(value)

    def due(self, round_: int, repeats: int) -> bool:
        """Whether it runs in this round; once it has nothing more to run, its memory is freed."""
        due = not self.error and round_ < (self.contestant.runs or repeats)
        if not due:
            self.worker.close()
        return due

    def result(self) -> Result:
        peak = self.worker.close()
        if self.error:
            return Result(self.contestant.name, reason=self.error, failed=True)
        programs = [value["peak"] for value in self.values if "peak" in (value or {})]
        peak = max(programs, default=peak)
        return Result(self.contestant.name, tuple(self.seconds), tuple(self.values), peak)


def race(
    contestants: Sequence[Contestant],
    repeats: int,
    work: Path,
    say: Callable[[str], None],
) -> dict[str, Result]:
    """Results by name: in each round every contestant runs once, in order."""
    results: dict[str, Result] = {}
    lanes: list[_Lane] = []
    with ExitStack() as stack:
        for contestant in contestants:
            if why := missing(contestant.peer):
                say(f"skipped: {contestant.name}: {why}")
                results[contestant.name] = Result(contestant.name, reason=why)
                continue
            worker = stack.enter_context(Worker(work, contestant.hide))
            lanes.append(_Lane(contestant, worker))
        for lane in lanes:
            _prepare(lane)
        for round_ in range(repeats):
            for lane in lanes:
                if lane.due(round_, repeats):
                    os.sync()  # no contestant pays for what another one left to be written
                    lane.run()
                    _tell(lane, say)
        results |= {lane.contestant.name: lane.result() for lane in lanes}
    return {contestant.name: results[contestant.name] for contestant in contestants}


def _prepare(lane: _Lane) -> None:
    try:
        lane.worker.load(lane.contestant.call)
    except BenchmarkError as error:
        lane.error = str(error)
        return
    if lane.contestant.warm_up:
        lane.run(timed=False)


def _tell(lane: _Lane, say: Callable[[str], None]) -> None:
    if lane.error:
        say(f"FAILED: {lane.contestant.name}: {lane.error}")
    else:
        say(f"{lane.contestant.name}: {lane.seconds[-1]:.3f} s")
