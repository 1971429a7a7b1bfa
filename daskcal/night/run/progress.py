"""How a run shows where it is: a bar on a terminal, lines or JSON in a log, or nothing."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from daskcal.printable import printable

if TYPE_CHECKING:
    from daskcal.night.ledger import Ledger


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

    def start(self, sizes: Mapping[str, int]) -> None:
        """These products will be made, of so many bytes of raw pixels each."""

    def begin(self, name: str) -> None:
        """A product is begun."""

    def end(self, name: str, outcome: str) -> None:
        """A product is done; `outcome` is its status, with the reason if it failed."""

    def note(self, message: str) -> None:
        """Something that the user should know."""


class Pace:
    """How fast products are made: bytes of raw pixels in a second, and how long the rest takes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = dict(sizes)
        self.total, self.bytes = len(sizes), sum(sizes.values())
        self.done, self.bytes_done, self.since = 0, 0, time.monotonic()

    def advance(self, name: str) -> bool:
        """A product is done; whether it is one of those that were to be made."""
        size = self.sizes.pop(name, None)
        if size is None:
            return False
        self.done, self.bytes_done = self.done + 1, self.bytes_done + size
        return True

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.since

    @property
    def rate(self) -> float:
        """Bytes in a second; 0 before the first product."""
        return self.bytes_done / max(self.seconds, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds for the rest, at this rate; None while it is not known."""
        return (self.bytes - self.bytes_done) / self.rate if self.bytes_done else None


class Lines(Watch):
    """One plain line for each product, to standard error."""

    def __init__(self) -> None:
        self.pace = Pace({})

    def start(self, sizes: Mapping[str, int]) -> None:
        self.pace = Pace(sizes)

    def end(self, name: str, outcome: str) -> None:
        if not self.pace.advance(name):
            self._print(f"{name}: {outcome}")
            return
        pace = self.pace
        left = "" if pace.left is None else f", {duration(pace.left)} left"
        self._print(
            f"[{pace.done}/{pace.total}] {duration(pace.seconds)}, {per_second(pace.rate)}{left}"
            f"  {name}: {outcome}"
        )

    def note(self, message: str) -> None:
        self._print(f"note: {message}")

    def _print(self, line: str) -> None:
        print(printable(line), file=sys.stderr)


def per_second(rate: float) -> str:
    """``12.3 MiB/s``."""
    from dask.utils import format_bytes

    return f"{format_bytes(round(rate))}/s"


def duration(seconds: float) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``.

    Examples
    --------
    >>> from daskcal.night.run.progress import duration
    >>> duration(3.21), duration(250), duration(7500)
    ('3.2 s', '4 min 10 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class JsonLines(Watch):
    """One JSON object for each event, to standard error: ``docs/howto/nights.md`` lists them."""

    def __init__(self) -> None:
        self.pace = Pace({})
        self.begun = 0.0

    def start(self, sizes: Mapping[str, int]) -> None:
        self.pace = Pace(sizes)
        self.event("start", products=self.pace.total, bytes=self.pace.bytes)

    def begin(self, name: str) -> None:
        self.begun = time.monotonic()
        self.event("begin", product=name)

    def end(self, name: str, outcome: str) -> None:
        self.pace.advance(name)
        status, _, reason = outcome.partition(" ")
        self.event(
            "end", product=name, status=status, reason=reason,
            seconds=round(time.monotonic() - self.begun, 3), done=self.pace.done,
            products=self.pace.total, bytes_per_second=round(self.pace.rate),
            seconds_left=None if self.pace.left is None else round(self.pace.left, 1),
        )  # fmt: skip

    def note(self, message: str) -> None:
        self.event("note", message=message)

    def summary(self, ledger: Ledger) -> None:
        """What has come of it all."""
        counts = asdict(ledger.counts())
        made = [product for product in ledger.products if product.status == "made"]
        products = {
            "made": len(made),
            "reused": sum(product.reused for product in made),
            "failed": sum(product.status == "failed" for product in ledger.products),
            "missing": sum(product.status == "missing" for product in ledger.products),
        }
        self.event("summary", frames=counts, products=products, exit_status=ledger.exit_status())

    def event(self, what: str, **facts: Any) -> None:
        """Print one event."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"event": what, "time": now, **facts}), file=sys.stderr, flush=True)


class Bar(Watch):
    """A progress bar with the product at work, the rate and the time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}", markup=False),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", total=None, pace="")
        self.pace = Pace({})

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

    def start(self, sizes: Mapping[str, int]) -> None:
        self.pace = Pace(sizes)
        self.progress.update(self.task, total=self.pace.total)

    def begin(self, name: str) -> None:
        self.progress.update(self.task, description=printable(name))

    def end(self, name: str, outcome: str) -> None:
        if self.pace.advance(name):
            left = "" if self.pace.left is None else f", {duration(self.pace.left)} left"
            text = f"{per_second(self.pace.rate)}{left}"
            self.progress.update(self.task, advance=1, pace=text)
        if outcome != "made":
            self._print(f"{name}: {outcome}")

    def note(self, message: str) -> None:
        self._print(f"note: {message}")

    def _print(self, line: str) -> None:
        self.progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def watch(log_format: str = "text") -> Watch:
    """The watcher that suits standard error, or the one of a `log_format`: ``text``, ``json``."""
    if log_format == "json":
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Lines()
