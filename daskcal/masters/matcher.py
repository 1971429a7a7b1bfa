"""Masters for the frames of a long night: those that are alike to the rules are matched once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from daskcal.masters.facts import UNKNOWN_TIME, Candidate, Facts
from daskcal.masters.groups import READOUT_COLUMNS
from daskcal.masters.match import Match, choose_from
from daskcal.masters.rules import Kind, Rules, keyword_column
from daskcal.masters.verdicts import Passing, lasting

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*READOUT_COLUMNS, "darktime", "exptime", "filter", "flat_kind", "ccd_temp", "date_obs")


def table_facts(table: pd.DataFrame, keywords: Sequence[str] = ()) -> list[Facts]:
    """What the rules look at of each row of the frame table."""
    wanted = dict.fromkeys((*COLUMNS, *map(keyword_column, keywords)))
    names = [name for name in wanted if name in table.columns and name != "date_obs"]
    dates = np.full(len(table), UNKNOWN_TIME)
    if "date_obs" in table.columns:
        dates = table["date_obs"].to_numpy().astype("datetime64[us]")
    alike: dict[tuple[object, ...], Facts] = {}
    found = []
    columns = (table[name].tolist() for name in names)
    for *values, date in zip(*columns, dates, strict=True):
        key = tuple(None if value != value else value for value in values)
        facts = alike.get(key)
        if facts is None:
            row = dict(zip(names, values, strict=True))
            facts = alike[key] = Facts.of_row(row, keywords)
        found.append(facts.at(UNKNOWN_TIME if np.isnat(date) else date))
    return found


class Matcher:
    """`match` for many frames: one `Match` for all that the rules cannot tell apart.

    A night has thousands of frames and few settings of the camera. Temperatures and times, which
    differ from frame to frame, count only where a rule looks at them, or where nothing else chooses
    among several masters.

    Parameters
    ----------
    candidates : iterable of Candidate
        Masters; those of other kinds are passed over.
    kind : str
        ``bias``, ``dark`` or ``flat``.
    rules : Rules
        Those of `match`.
    """

    def __init__(self, candidates: Iterable[Candidate], kind: Kind, rules: Rules) -> None:
        self.candidates = tuple(c for c in candidates if c.kind == kind)
        self.kind, self.rules = kind, rules
        self._keywords = {rule.keyword for rule in rules.keywords_of(kind)}
        self._lasting: dict[tuple[object, ...], Passing] = {}
        self._found: dict[tuple[object, ...], Match] = {}

    def match(self, frame: Facts) -> Match:
        """What `match` says; its `frame` has only what the rules look at, the rest is unknown."""
        key = (
            frame.readout,
            _known(frame.darktime) if self.kind == "dark" else None,
            frame.filter if self.kind == "flat" else "",
            frame.state if self._keywords else (),
        )
        own = () if self.rules.temperature is None else (_known(frame.ccd_temp),)
        found = None if self.rules.by_time else self._of((*key, *own), key, frame, False)
        if found is None or found.time_decides:
            date = None if frame.date_obs is UNKNOWN_TIME else frame.date_obs
            found = self._of((*key, *own, date), key, frame, True)
        return found

    def _of(
        self, whole: tuple[object, ...], lasts: tuple[object, ...], frame: Facts, timed: bool
    ) -> Match:
        found = self._found.get(whole)
        if found is None:
            seen = self.seen(frame)
            left = self._lasting.get(lasts)
            if left is None:
                left = lasting(seen, self.candidates, self.kind, self.rules)
                self._lasting[lasts] = left
            seen = seen.at(frame.date_obs) if timed else seen
            found = choose_from(left, seen, self.candidates, self.kind, self.rules)
            self._found[whole] = found
        return found

    def seen(self, frame: Facts) -> Facts:
        """The frame without its time, and without what no rule for masters of this kind asks."""
        return Facts(
            frame.readout,
            darktime=frame.darktime if self.kind == "dark" else math.nan,
            filter=frame.filter if self.kind == "flat" else "",
            ccd_temp=math.nan if self.rules.temperature is None else frame.ccd_temp,
            state=tuple(pair for pair in frame.state if pair[0] in self._keywords),
        )


def _known(number: float) -> float | None:
    """NaN would differ from NaN in a key."""
    return None if math.isnan(number) else number
