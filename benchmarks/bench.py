"""What a row of the table is made with: sizes, folders, data, races and checks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Contestant, Result, race
from benchmarks.tables import check
from benchmarks.workers import Worker


@dataclass
class Bench:
    """A run of the suite.

    Attributes
    ----------
    quick : bool
        Small sizes and few repeats: to see that it works, not to learn anything.
    work : Path
        Folder for data and outputs.
    say : callable
        Tells of progress.
    """

    quick: bool
    work: Path
    say: Callable[[str], None]
    _sets: dict[str, str] = field(default_factory=dict)
    _helper: Worker | None = None

    def pick(self, full: int, quick: int) -> int:
        """The one of two sizes."""
        return quick if self.quick else full

    def folder(self, name: str) -> str:
        """An empty folder."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return str(path)

    def frames(self, name: str, call: str, **arguments: Any) -> str:
        """The folder `name` with what a function of `benchmarks.data` makes, made once."""
        if name not in self._sets:
            self.say(f"making {name}")
            folder = self.folder(name)
            self.call(f"benchmarks.data:{call}", folder=folder, **arguments)
            self._sets[name] = folder
        return self._sets[name]

    def biases(self, n: int, size: int, **more: Any) -> str:
        """Frames to combine."""
        name = "-".join(["biases", str(n), str(size), *map(str, more.values())])
        return self.frames(name, "biases", n=n, size=size, **more)

    def clear(self) -> None:
        """Remove all data and outputs, and end the process that made them."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None
        self._sets.clear()
        for path in self.work.iterdir():
            if path.is_dir() and path.name not in ("home", "index"):
                shutil.rmtree(path)
        os.sync()

    def call(self, call: str, **arguments: Any) -> Any:
        """What a function returns that is called in the process that makes and checks things."""
        if self._helper is None:
            self._helper = Worker(self.work)
        return self._helper.call(call, **arguments)[1]

    def race(self, contestants: Sequence[Contestant], repeats: int) -> dict[str, Result]:
        """Time contestants; once each where the run is quick."""
        return race(contestants, 1 if self.quick else repeats, self.work, self.say)

    def agree(self, what: str, results: Sequence[Result], first: str, second: str, within: float,
              share: float, **more: Any) -> list[str]:  # fmt: skip
        """A remark where the outputs of `results` agree; none where one of them did not run.

        Raises
        ------
        BenchmarkError
            They do not.
        """
        if any(result.reason for result in results):
            return []
        found = self.call(
            "benchmarks.checks:agreement", first=first, second=second, within=within, **more
        )
        return [check(f"share of pixels within {within:g}, {what}", found, share)]
