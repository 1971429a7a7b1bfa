"""How a run shows where it is: a bar on a terminal, plain lines in a log, or nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from daskcal.printable import printable


class Watch:
    """Shows nothing; what the run tells a watcher."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None

    def start(self, total: int) -> None:
        """So many products will be made."""

    def begin(self, name: str) -> None:
        """A product is begun."""

    def end(self, name: str, outcome: str) -> None:
        """A product is done; `outcome` is its status, with the reason if it failed."""

    def note(self, message: str) -> None:
        """Something that the user should know."""


class Lines(Watch):
    """One plain line for each product, to standard error."""

    def __init__(self) -> None:
        self.total, self.done, self.since = 0, 0, time.monotonic()

    def start(self, total: int) -> None:
        self.total, self.since = total, time.monotonic()

    def end(self, name: str, outcome: str) -> None:
        self.done += 1
        seconds = time.monotonic() - self.since
        line = f"[{self.done}/{self.total}] {seconds:7.1f} s  {name}: {outcome}"
        print(printable(line), file=sys.stderr)

    def note(self, message: str) -> None:
        print(printable(f"note: {message}"), file=sys.stderr)


class Bar(Watch):
    """A progress bar with the product at work and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def start(self, total: int) -> None:
        self.progress.update(self.task, total=total)

    def begin(self, name: str) -> None:
        self.progress.update(self.task, description=printable(name))

    def end(self, name: str, outcome: str) -> None:
        self.progress.advance(self.task)
        if outcome != "made":
            self._print(f"{name}: {outcome}")

    def note(self, message: str) -> None:
        self._print(f"note: {message}")

    def _print(self, line: str) -> None:
        self.progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def watch() -> Watch:
    """The watcher that suits standard error."""
    return Bar() if sys.stderr.isatty() else Lines()
