"""What the rules look at: the facts of a frame, and those of a master."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskcal.masters.groups import MasterGroup, Readout
from daskcal.masters.rules import Kind, State, keyword_column

UNKNOWN_TIME = np.datetime64("NaT", "us")  # one for all: it equals nothing but itself


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at, of a frame or of a master. Unknown is ``""``, NaN or NaT.

    Exposures are compared as dark times (s), in which dark current grows; headers without one have
    the exposure in its place. `state` has the keywords that rules name and the header gives.
    """

    readout: Readout
    darktime: float = math.nan
    filter: str = ""
    flat_kind: str = ""
    ccd_temp: float = math.nan
    date_obs: np.datetime64 = UNKNOWN_TIME
    state: State = ()

    @classmethod
    def of_row(cls, row: Mapping[str, Any], keywords: Iterable[str] = ()) -> Facts:
        """Facts of one row of the frame table (a mapping or a `pandas.Series`)."""
        return cls(
            readout=Readout.of_row(row),
            darktime=first_known(_number(row.get("darktime")), _number(row.get("exptime"))),
            filter=str(row.get("filter", "")),
            flat_kind=str(row.get("flat_kind", "")),
            ccd_temp=_number(row.get("ccd_temp")),
            date_obs=_moment(row.get("date_obs")),
            state=state_of(row, keywords),
        )

    def at(self, date: np.datetime64) -> Facts:
        """The same at another time."""
        return Facts(self.readout, self.darktime, self.filter, self.flat_kind, self.ccd_temp, date,
                     self.state)  # fmt: skip

    def of(self, keyword: str) -> float | str:
        """What the frame's header says of a keyword of `state`; "" where it says nothing."""
        return next((value for name, value in self.state if name == keyword), "")


def state_of(row: Mapping[str, Any], keywords: Iterable[str]) -> State:
    """What one row of the frame table says of keywords; those that it lacks are left out."""
    found = ((name, stated(row.get(keyword_column(name)))) for name in keywords)
    return tuple((name, value) for name, value in found if value != "")


def stated(value: Any) -> float | str:
    """What a header says: a number, where its value is one or spells one; else its text."""
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    text = "" if value is None or value != value else str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


@dataclass(frozen=True, slots=True)
class Candidate:
    """A master that a frame might use, made or planned."""

    name: str
    kind: Kind
    facts: Facts

    @classmethod
    def of_group(
        cls, name: str, group: MasterGroup, table: Any, keywords: Sequence[str] = ()
    ) -> Candidate:
        """The master that a group of the frame table (a `pandas.DataFrame`) will make.

        Times, temperature, date and the numbers of `keywords` are the means of its frames, which
        combining gives it too.
        """
        rows = table.iloc[list(group.frames)]
        key = group.key
        mean_date = rows["date_obs"].mean() if "date_obs" in rows else None
        facts = Facts(
            readout=key.readout,
            darktime=first_known(_mean(rows, "darktime"), _mean(rows, "exptime")),
            filter=key.filter,
            flat_kind=key.flat_kind,
            ccd_temp=_mean(rows, "ccd_temp"),
            date_obs=_moment(mean_date),
            state=_common_state(rows, keywords),
        )
        return cls(name, key.kind, facts)


def _common_state(rows: Any, keywords: Sequence[str]) -> State:
    """What the frames of a master agree upon, numbers in the mean."""
    if not keywords:
        return ()
    each = [dict(state_of(row, keywords)) for row in rows.to_dict("records")]
    common: list[tuple[str, float | str]] = []
    for name in keywords:
        values = [state.get(name, "") for state in each]
        numbers = [value for value in values if isinstance(value, float)]
        if len(numbers) == len(values):
            common.append((name, float(np.mean(numbers))))
        elif len(set(values)) == 1 and values[0] != "":
            common.append((name, values[0]))
    return tuple(common)


def first_known(number: float, other: float) -> float:
    """The first of two numbers that is not NaN."""
    return other if math.isnan(number) else number


def _mean(rows: Any, name: str) -> float:
    """Mean of the known values, bit for bit as the combined master will have it."""
    values = np.asarray(rows[name], dtype=np.float64) if name in rows else np.empty(0)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _number(value: Any) -> float:
    return math.nan if value is None or value != value else float(value)


def _moment(value: Any) -> np.datetime64:
    missing = value is None or value != value
    return UNKNOWN_TIME if missing else np.datetime64(value, "us")
