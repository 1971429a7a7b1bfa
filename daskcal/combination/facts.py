"""What a combined image says of itself: the facts that its frames share, their span in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from daskcal.combination.common_cards import common_cards
from daskcal.frames.steps import StepRecord, spelled_out

_TEXTS = ("imagetyp", "flat_kind", "filter", "object", "binning", "detector", "instrument",
          "readout_mode")  # fmt: skip
_NUMBERS = ("exptime", "darktime", "gain", "rdnoise", "ccd_temp")
_MJD_EPOCH = np.datetime64("1858-11-17T00:00:00", "us")


def master_attrs(frames: xr.Dataset, record: StepRecord) -> dict[str, Any]:
    """Attributes of the master that `frames` make: steps, common cards, inputs, facts."""
    attrs: dict[str, Any] = {
        "steps": [r.to_json() for r in (*spelled_out(frames), record)],
        "n_combined": frames.sizes["frame"],
    }
    if "path" in frames.coords:
        attrs["inputs"] = [str(path) for path in frames["path"].values]
    if "cards" in frames.coords:
        common = common_cards(frames)
        attrs["cards"] = common.text
        if common.means:
            attrs["card_means"] = [list(pair) for pair in common.means]
    for name in _TEXTS:
        if name in frames.coords:
            words = set(frames[name].values.tolist())
            attrs[name] = str(words.pop()) if len(words) == 1 else ""
    for name in _NUMBERS:
        if name in frames.coords:
            values = np.asarray(frames[name].values, dtype=np.float64)
            known = values[np.isfinite(values)]
            if known.size:  # a mean of equal numbers need not be that number to the last digit
                same = (known == known[0]).all()
                attrs[name] = float(known[0] if same else known.mean())
    return attrs | _times(frames)


def oddities(frames: xr.Dataset) -> list[str]:
    """What is odd about frames that are to be combined: a mix of kinds."""
    found = []
    kinds = set(frames["imagetyp"].values.tolist()) if "imagetyp" in frames.coords else set()
    if len(kinds) > 1:
        found.append(f"frames of different types are combined: {', '.join(sorted(kinds))}")
    if "filter" in frames.coords and not kinds <= {"bias", "dark"}:  # no light went through it
        filters = {str(word) or "unknown" for word in frames["filter"].values}
        if len(filters) > 1:
            said = ", ".join(sorted(filters))
            found.append(f"frames of different filters are combined: {said}")
    return found


def _times(frames: xr.Dataset) -> dict[str, Any]:
    if "date_obs" not in frames.coords:
        return {}
    begin = frames["date_obs"].values.astype("datetime64[us]")
    exposure = np.zeros(begin.shape)
    if "exptime" in frames.coords:
        exposure = np.nan_to_num(np.asarray(frames["exptime"].values, dtype=np.float64))
    known = ~np.isnat(begin)
    if not known.any():
        return {}
    begin, exposure = begin[known], exposure[known]
    end = begin + (exposure * 1e6).astype("timedelta64[us]")
    middle = (begin - _MJD_EPOCH) / np.timedelta64(1, "D") + exposure / 2 / 86400
    return {
        "date_beg": str(begin.min()),
        "date_end": str(end.max()),
        "mjd_avg": float(middle.mean()),
    }
