"""What a run has done so far, a line for each product: what a killed run leaves for the next one.

The ledger takes its place when the run has come to its end.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from daskcal.errors import ConfigError, FrameError
from daskcal.night.ledger import Gate, Ledger, ProductEntry, as_json, read_ledger
from daskcal.night.output.place import Place

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


def read_before(place: Place) -> Before:
    """What earlier runs left word of in an output; what is damaged counts for nothing."""
    messages: list[str] = []
    ledger = None
    try:
        ledger = read_ledger(place.at("night.json"))
    except ConfigError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            messages.append(f"what it says is not used: {error}")
    lines = place.lines(NAME)
    before = Before({}, {}, ledger, lines is not None, tuple(messages))
    if ledger is not None:
        _take(before, Done(ledger.products, ledger.gates))
    for done in _sound(lines or ()):
        _take(before, done)
    return before


def _take(before: Before, done: Done) -> None:
    for product in done.products:
        before.products[product.name] = product
        before.gates.pop(product.name, None)
    for gate in done.gates:
        before.gates.setdefault(gate.product, []).append(gate)


def _sound(lines: Iterable[bytes]) -> Iterator[Done]:
    """What lines say, as far as they are sound."""
    reader = TypeAdapter(Done)
    for line in lines:
        with contextlib.suppress(ValueError, ValidationError):
            record = json.loads(line)
            if isinstance(record, dict) and record.pop("format", None) == _FORMAT:
                yield reader.validate_python(record)


class Journal:
    """Adds lines to the journal of an output, each there before the next product is begun."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.trouble = ""  # why lines cannot be written

    def add(self, products: Sequence[ProductEntry], gates: Sequence[Gate]) -> None:
        """A product is done. Where that cannot be noted, only a killed run would miss it."""
        record = as_json(Done(tuple(products), tuple(gates)), "journal")
        line = json.dumps({"format": _FORMAT, **record}, ensure_ascii=True, allow_nan=False)
        try:
            self.place.append(NAME, line.encode("ascii"))
        except (OSError, FrameError) as error:
            why = getattr(error, "strerror", None) or error
            self.trouble = (
                f"{self.place.at(NAME)} cannot be written ({why}): a run that "
                "is killed now would begin again with what it was to note"
            )

    def close(self) -> None:
        """The ledger has it all now."""
        self.place.clear(NAME)
