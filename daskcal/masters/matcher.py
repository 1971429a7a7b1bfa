"""Masters for the frames of a long night: those that are alike to the rules are matched once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from daskcal.masters.groups import READOUT_COLUMNS, Kind
from daskcal.masters.match import Candidate, Facts, Match, Rules, match

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*READOUT_COLUMNS, "darktime", "exptime", "filter", "flat_kind", "ccd_temp", "date_obs")


def table_facts(table: pd.DataFrame) -> list[Facts]:
    """What the rules look at of each row of the frame table."""
    needed = [name for name in COLUMNS if name in table.columns]
    return [Facts.of_row(row) for row in table[needed].to_dict("records")]


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
        self.candidates = tuple(candidates)
        self.kind, self.rules = kind, rules
        self._found: dict[tuple[object, ...], Match] = {}

    def match(self, frame: Facts) -> Match:
        """What `match` says; its `frame` has only what the rules look at, the rest is unknown."""
        seen = self._seen(frame)
        found = self._of(seen)
        if self.rules.days is not None or found.time_decides:
            found = self._of(replace(seen, date_obs=frame.date_obs))
        return found

    def _of(self, seen: Facts) -> Match:
        # Not `seen` itself: NaN differs from NaN where dataclasses compare field by field.
        key = (seen.readout, *map(str, (seen.darktime, seen.filter, seen.ccd_temp, seen.date_obs)))
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = match(seen, self.candidates, self.kind, self.rules)
        return found

    def _seen(self, frame: Facts) -> Facts:
        """The frame without its time, and without what no rule for masters of this kind asks."""
        return Facts(
            frame.readout,
            darktime=frame.darktime if self.kind == "dark" else math.nan,
            filter=frame.filter if self.kind == "flat" else "",
            ccd_temp=math.nan if self.rules.temperature is None else frame.ccd_temp,
        )
