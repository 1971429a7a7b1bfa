"""When frames were taken, for the axes of the report's charts."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from daskcal.night.ledger import FrameEntry

_ONE_NIGHT = 24 * 3600.0  # seconds; longer, and times of day would say nothing


def seconds(frame: FrameEntry | None) -> float:
    """POSIX time at which a frame was taken; NaN where it is not known."""
    try:
        taken = datetime.datetime.fromisoformat(frame.date_obs if frame else "")
    except ValueError:
        return math.nan
    return taken.replace(tzinfo=taken.tzinfo or datetime.UTC).timestamp()


def places(frames: Sequence[FrameEntry | None]) -> tuple[list[float], bool]:
    """Where frames stand on an axis, and whether that is in hours.

    Returns
    -------
    places : list of float
        Hours from the midnight before the first; 1, 2, 3 in order of time where they span more
        than a night, and in the order given where a time is not known.
    by_time : bool
    """
    times = [seconds(frame) for frame in frames]
    if not all(map(math.isfinite, times)):
        return [float(i + 1) for i in range(len(times))], False
    if times and 0 < max(times) - min(times) <= _ONE_NIGHT:
        midnight = math.floor(min(times) / 86400) * 86400
        return [(time - midnight) / 3600 for time in times], True
    order = sorted(range(len(times)), key=times.__getitem__)
    ranks = {i: rank + 1.0 for rank, i in enumerate(order)}
    return [ranks[i] for i in range(len(times))], False
