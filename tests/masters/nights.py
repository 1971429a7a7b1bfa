"""Tables of frames as the headers of known nights give them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

NAN = math.nan


def table(*frames: dict[str, Any], **common: Any) -> pd.DataFrame:
    """One row for each frame; what none gives is unknown."""
    unknown = {
        "imagetyp": "other",
        "flat_kind": "",
        "exptime": NAN,
        "filter": "",
        "date_obs": "NaT",
        "gain": NAN,
        "rdnoise": NAN,
        "ccd_temp": NAN,
        "binning": "",
        "detector": "",
        "readout_mode": "",
        "shape": (10, 12),
        "origin_y": 0,
        "origin_x": 0,
        "origin_known": False,
    }
    rows = [unknown | common | frame for frame in frames]
    for number, row in enumerate(rows):
        row.setdefault("path", f"/night/{number:04}.fits")
        row["darktime"] = row.get("darktime", row["exptime"])
    result = pd.DataFrame(rows)
    result["date_obs"] = np.array(result["date_obs"].tolist(), "datetime64[us]")
    return result


def some(count: int, imagetyp: str, exptime: float, **more: Any) -> list[dict[str, Any]]:
    return [{"imagetyp": imagetyp, "exptime": exptime, **more} for _ in range(count)]


def lfc() -> pd.DataFrame:
    """The seeds' Example 1: darks of another season, filters on biases and darks."""
    night, spring = "2016-01-16T03:00", "2016-03-13T20:00"
    flats = [
        {"imagetyp": "flat", "exptime": t, "filter": f, "date_obs": night}
        for t, f in [(70.001, "g'"), (70.001, "g'"), (70.011, "g'"), *[(7.0, "i'")] * 3]
    ]
    return table(
        *some(6, "bias", 0.0, filter="i'", date_obs="2016-01-15T22:00"),
        *some(3, "dark", 300.0, filter="r'", date_obs=spring),
        *some(3, "dark", 70.0, filter="r'", date_obs=spring),
        *some(3, "dark", 7.0, filter="r'", date_obs=spring),
        *flats,
        *some(1, "science", 300.062, filter="g'", date_obs=night),
        *some(1, "science", 300.014, filter="i'", date_obs=night),
        shape=(4128, 2148),
    )


def aspen() -> pd.DataFrame:
    """The seeds' Example 2: one dark exposure for everything."""
    flats = [
        {"imagetyp": "flat", "exptime": t, "filter": "r"}
        for t in (1.0, 1.0, 1.0, 1.0, 1.0, 1.02, 1.06, 1.11, 1.16, 1.21)
    ]
    return table(
        *some(10, "bias", 0.0),
        *some(11, "dark", 90.0),
        *flats,
        *some(2, "science", 90.0, filter="r"),
        shape=(4096, 4109),
        binning="1x1",
        gain=1.5,
        ccd_temp=-20.0,
    )


def lowell() -> pd.DataFrame:
    """One V flat among VR ones."""
    times = (2.7, 2.7, 3.3, 4.5)
    flats = [
        {"imagetyp": "flat", "flat_kind": "sky", "exptime": t, "filter": f}
        for t, f in zip(times, ("V", "VR", "VR", "VR"), strict=True)
    ]
    return table(
        *some(8, "bias", 0.0, filter="VR"),
        *flats,
        *some(3, "science", 300.0, filter="VR"),
        shape=(1370, 1432),
        binning="3x3",
        gain=4.95,
    )


def st7() -> pd.DataFrame:
    """Darks of three exposures, temperatures that jitter, no bias."""
    darks = [
        {"imagetyp": "dark", "exptime": t, "ccd_temp": c}
        for t in (120.0, 300.0, 900.0)
        for c in (-16.9, -17.4)
    ]
    return table(
        *darks,
        *some(1, "science", 120.0, ccd_temp=-17.37),
        shape=(510, 765),
        gain=2.549999952316284,
        binning="1x1",
    )


def kast() -> pd.DataFrame:
    return table(
        *some(3, "bias", 0.0),
        *some(3, "flat", 15.0, flat_kind="dome"),
        *some(2, "science", 30.0),
        shape=(350, 2112),
        gain=1.0,
    )


def tircam2() -> pd.DataFrame:
    return table(
        *some(3, "bias", 0.0, filter="BLOCK"),
        *some(5, "flat", 6.0, filter="J"),
        *some(5, "science", 40.0, filter="J"),
        shape=(512, 512),
    )
