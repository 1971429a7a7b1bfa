"""A measured number, the limits that it should lie within, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from daskcal.night.ledger import Gate

Verdict = Literal["pass", "warn", "reject"]


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a frame or master.

    Attributes
    ----------
    name : str
        Of the gate.
    value, low, high : float
        NaN for a number that cannot be told, and for no limit.
    action : {"warn", "reject"}
        What is to happen beyond the limits.
    text : str
        What is said of it then.
    unit : str
        Of value and limits.
    """

    name: str
    value: float
    action: str
    text: str
    low: float = math.nan
    high: float = math.nan
    unit: str = ""

    @property
    def verdict(self) -> Verdict:
        """What becomes of it."""
        if not (self.value < self.low or self.value > self.high):
            return "pass"
        return "reject" if self.action == "reject" else "warn"

    @property
    def excess(self) -> float:
        """How many times the room between limits it is away from their middle, to compare."""
        low = -self.high if math.isnan(self.low) else self.low
        high = -self.low if math.isnan(self.high) else self.high
        room = (high - low) / 2
        return abs(self.value - (high + low) / 2) / room if room > 0 else math.inf

    def gate(self, product: str, frame: str = "") -> Gate:
        """Its line in the ledger."""
        verdict = self.verdict
        return Gate(
            self.name, product, float(self.value), verdict, frame, float(self.low),
            float(self.high), self.unit,
            "" if verdict == "pass" else self.text,
        )  # fmt: skip
