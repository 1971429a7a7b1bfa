"""Numbers, sizes and times as the report says them."""

from __future__ import annotations

import json
import math


def number(value: float) -> str:
    """A number for reading: five digits, seven from 10,000 on."""
    if not math.isfinite(value):
        return "unknown"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value)}".replace("-", "−")
    digits = 5 if abs(value) < 1e4 else 7
    return f"{value:.{digits}g}".replace("-", "−")


def percent(share: float) -> str:
    """A share of a whole."""
    if not math.isfinite(share):
        return "unknown"
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.2f} %"


def size(count: int) -> str:
    """Bytes on disk."""
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]}"


def duration(seconds: float) -> str:
    """Wall-clock time; "" where it is not known."""
    if not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"


def counted(count: int, word: str) -> str:
    """A number of things: `word` in the singular, which takes an s."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def as_json(value: object) -> str:
    """`value` for reading."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str, sort_keys=True)
