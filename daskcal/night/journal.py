"""What a run has done so far, a line for each product: what a killed run leaves for the next one.

The ledger takes its place when the run has come to its end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from daskcal.atomic import flush_folder
from daskcal.errors import ConfigError
from daskcal.night.ledger import Gate, Ledger, ProductEntry, as_json, read_ledger

NAME = ".night.jsonl"
_FORMAT = "daskcal-journal-1"


@dataclass(frozen=True, slots=True)
class Done:
    """One product that is done, well or not, with those that were made beside it."""

    products: tuple[ProductEntry, ...]
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class Before:
    """What earlier runs left word of.

    Attributes
    ----------
    products : dict of str to ProductEntry
        By name: from the ledger, and from the journal of a run that came to no end.
    gates : dict of str to list of Gate
        By the product that they belong to.
    ledger : Ledger or None
        That of the last run that came to its end.
    interrupted : bool
        Whether a run came to no end since.
    messages : tuple of str
        What could not be read of it.
    """

    products: dict[str, ProductEntry] = field(default_factory=dict)
    gates: dict[str, list[Gate]] = field(default_factory=dict)
    ledger: Ledger | None = None
    interrupted: bool = False
    messages: tuple[str, ...] = ()


def read_before(folder: Path) -> Before:
    """What earlier runs left word of in an output folder; what is damaged counts for nothing."""
    messages: list[str] = []
    ledger = None
    if (folder / "night.json").exists():
        try:
            ledger = read_ledger(folder / "night.json")
        except ConfigError as error:
            messages.append(f"what it says is not used: {error}")
    before = Before({}, {}, ledger, (folder / NAME).exists(), tuple(messages))
    if ledger is not None:
        _take(before, Done(ledger.products, ledger.gates))
    for done in _lines(folder / NAME):
        _take(before, done)
    return before


def _take(before: Before, done: Done) -> None:
    for product in done.products:
        before.products[product.name] = product
        before.gates.pop(product.name, None)
    for gate in done.gates:
        before.gates.setdefault(gate.product, []).append(gate)


def _lines(path: Path) -> Iterator[Done]:
    """The lines that are whole and sound: a run may have been killed while it wrote one."""
    reader = TypeAdapter(Done)
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, ValidationError):
            record = json.loads(line)
            if isinstance(record, dict) and record.pop("format", None) == _FORMAT:
                yield reader.validate_python(record)


class Journal:
    """Adds lines to the journal of a folder, each on disk before the next product is begun."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.trouble = ""  # why lines cannot be written

    def add(self, products: Sequence[ProductEntry], gates: Sequence[Gate]) -> None:
        """A product is done. Where that cannot be noted, only a killed run would miss it."""
        record = as_json(Done(tuple(products), tuple(gates)), "journal")
        line = json.dumps({"format": _FORMAT, **record}, ensure_ascii=True, allow_nan=False)
        try:
            self._append(line.encode("ascii") + b"\n")
        except OSError as error:
            self.trouble = (
                f"{self.path} cannot be written ({error.strerror}): a run that is killed now would "
                "begin again with what it was to note"
            )

    def _append(self, line: bytes) -> None:
        new = not self.path.exists()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            end = _end_of_lines(handle)
            try:
                os.ftruncate(handle, end)  # cuts off what a killed run left of a line
                if os.pwrite(handle, line, end) < len(line):
                    raise OSError(28, "the disk is full")
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)
        if new:
            flush_folder(self.path.parent)

    def close(self) -> None:
        """The ledger has it all now."""
        self.path.unlink(missing_ok=True)


def _end_of_lines(handle: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(handle).st_size
    while size:
        start = max(0, size - 65536)
        at = os.pread(handle, size - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        size = start
    return 0
