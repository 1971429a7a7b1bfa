"""Masters that the user chose for some frames, in place of the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import ConfigError, nearest
from daskcal.masters.match import Candidate, Match, pin
from daskcal.masters.matcher import Matcher
from daskcal.masters.rules import KINDS, Kind
from daskcal.night.config.match import Pin
from daskcal.night.ledger import Choice
from daskcal.night.query import parse_query, query_mask

if TYPE_CHECKING:
    import pandas as pd


class Pins:
    """The config's pins, and which of them holds for each frame.

    Parameters
    ----------
    given : sequence of Pin
        The first that fits a frame and names a master of a kind decides of that kind.
    table : pandas.DataFrame
        A row for each frame.

    Raises
    ------
    ConfigError
        A condition names a keyword that no frame has.
    """

    def __init__(self, given: Sequence[Pin], table: pd.DataFrame) -> None:
        self.given = tuple(given)
        self._matches: dict[tuple[int, Match], Match] = {}
        self.fits = [
            query_mask(table, parse_query(one.when)) if one.when else np.ones(len(table), bool)
            for one in self.given
        ]
        self.number = {kind: np.full(len(table), -1) for kind in KINDS}
        for n, one in reversed(list(enumerate(self.given))):
            for kind in KINDS:
                if getattr(one, kind):
                    self.number[kind][self.fits[n]] = n

    def match(
        self, i: int, need: Kind, by_rules: Match, matcher: Matcher, known: Sequence[Candidate]
    ) -> Match:
        """The match of frame `i`: with the master pinned, of those that are `known`, or `by_rules`.

        Raises
        ------
        ConfigError
            The pin names no master.
        """
        number = int(self.number[need][i]) if self.given else -1
        if number < 0:
            return by_rules
        found = self._matches.get((number, by_rules))
        if found is None:
            one = self.given[number]
            chosen = named(one, need, known)
            own = matcher.candidates
            every = own if chosen in own else (*own, chosen)
            found = pin(chosen, one.said(need), by_rules.frame, every, need, matcher.rules)
            self._matches[number, by_rules] = found
        return found

    def check(self, known: Callable[[Kind], Sequence[Candidate]]) -> None:
        """Raise a `ConfigError` where a pin names none of the masters that are known of a kind."""
        for one in self.given:
            for kind in KINDS:
                if getattr(one, kind):
                    named(one, kind, known(kind))

    def choices(self, names: Sequence[str], used: np.ndarray) -> tuple[Choice, ...]:
        """Records of the pins for the ledger, each with the frames that it fits."""
        found = []
        for one, fits in zip(self.given, self.fits, strict=True):
            frames = tuple(names[i] for i in np.flatnonzero(fits & used).tolist())
            found += [Choice("pin", one.said(k), frames) for k in KINDS if getattr(one, k)]
        return tuple(found)


def named(one: Pin, kind: Kind, candidates: Iterable[Candidate]) -> Candidate:
    """The master that a pin names: in full, or without folder and suffix.

    Raises
    ------
    ConfigError
        There is none of that name; the nearest is named.
    """
    known = {candidate.name: candidate for candidate in candidates}
    given = getattr(one, kind)
    for name in (given, f"{given}.fits", f"masters/{given}", f"masters/{given}.fits"):
        if name in known:
            return known[name]
    raise ConfigError(f"{one.said(kind)}: there is no such master {kind}; {_near(given, known)}")


def _near(given: str, known: Iterable[str]) -> str:
    """The hint of `nearest`, for a name with or without its folder."""
    words = list(known)
    whole = given if "/" in given else f"masters/{given}.fits"
    return nearest(whole, words) if words else "there is none that can be made"
