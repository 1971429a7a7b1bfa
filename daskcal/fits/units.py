"""The pixel unit that BUNIT means."""

from __future__ import annotations

import functools
import re

_ADU = frozenset(("adu", "adus", "count", "counts", "ct", "cts", "dn", "dns", "datanumber"))
_ELECTRON = frozenset(
    ("e", "e-", "electron", "electrons", "elec", "photoelectron", "photoelectrons")
)
_PER_SECOND = re.compile(r"(.+?)(?:/(?:s|sec|second)|persecond|persec|s(?:ec)?(?:\^|\*\*)?-1)")


@functools.lru_cache(maxsize=256)
def unit_of(text: str) -> str:
    """The astropy unit string for a BUNIT of any case; ``""`` where it means nothing.

    `DN` and counts are adu here: headers use the three words for the same thing.
    """
    word = re.sub(r"[\s()\[\]]", "", text.lower())
    if not word:
        return ""
    for words, unit in ((_ADU, "adu"), (_ELECTRON, "electron")):
        if word in words:
            return unit
        rate = _PER_SECOND.fullmatch(word)
        if rate and rate[1] in words:
            return f"{unit} / s"
    return _astropy_unit(text)


def _astropy_unit(text: str) -> str:
    from astropy import units

    try:
        unit = units.Unit(text)
    except (ValueError, TypeError):
        return ""
    return "" if unit.is_equivalent(units.dimensionless_unscaled) else str(unit.to_string())
