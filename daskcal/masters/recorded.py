"""What rules look at, as headers of products and the index of a library keep it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.masters.matcher import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_MEANS = ("exptime", "darktime", "ccd_temp")  # as combining gives them to a master


def facts_of(rows: pd.DataFrame) -> dict[str, Any]:
    """What rules look at of a frame, or of the master that several make, as JSON holds it.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of the frame table.

    Returns
    -------
    dict
        A row of which `Facts.of_row` makes the facts again; what is not known is left out.
    """
    first = rows.iloc[0]
    facts = {name: first[name] for name in (*COLUMNS, "instrument") if name in rows}
    for name in _MEANS:
        known = rows[name].to_numpy(dtype=np.float64)
        known = known[np.isfinite(known)]
        facts[name] = float(known.mean()) if known.size else math.nan
    facts["date_obs"] = rows["date_obs"].mean()
    return {name: plain for name, value in facts.items() if (plain := _plain(value)) is not None}


def _plain(value: Any) -> Any:
    """As JSON holds it; None for what is not known."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value == "" or value != value:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
