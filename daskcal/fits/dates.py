"""When an exposure began, from the ways in which headers say it."""

from __future__ import annotations

import re

import numpy as np

from daskcal.fits.header import Value

_ISO = re.compile(
    r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)
_OLD = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})")
_TIME = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?\s*(Z|UTC?|[+-]\d{2}:?\d{2})?")
_MJD_ZERO = np.datetime64("1858-11-17T00:00:00", "us")
_JD_OF_MJD_ZERO = 2400000.5
_NEVER: np.datetime64 = np.datetime64("NaT", "us")


def observation_date(
    dates: list[Value], times: list[Value], mjds: list[float], scale: str
) -> np.datetime64:
    """The start of an exposure, UTC.

    Parameters
    ----------
    dates, times : list
        Values of the date and of the time keywords, the preferred ones first.
    mjds : list of float
        Modified (or full) Julian dates, for headers without a date that can be read.
    scale : str
        TIMESYS.

    Returns
    -------
    numpy.datetime64
        In microseconds; NaT where nothing says when.
    """
    day: np.datetime64 = _NEVER
    for value in dates:
        date, has_time = _date(str(value).strip())
        if has_time:
            return _to_utc(date, scale)
        if np.isnat(day):
            day = date
    if not np.isnat(day):
        for value in times:
            moment = _moment(day, str(value).strip())
            if not np.isnat(moment):
                return _to_utc(moment, scale)
    for mjd in mjds:
        days = mjd - _JD_OF_MJD_ZERO if mjd > _JD_OF_MJD_ZERO else mjd
        if 0 < days < 200000:
            return _to_utc(_MJD_ZERO + np.timedelta64(round(days * 86400e6), "us"), scale)
    return day


def _date(text: str) -> tuple[np.datetime64, bool]:
    """The date that `text` begins with, and whether it has the time too."""
    if found := _ISO.fullmatch(text):
        day = _day(int(found[1]), int(found[2]), int(found[3]))
        if found[4] is None:
            return day, False
        return day + _of_day(found[4], found[5], found[6], found[7]), True
    if found := _OLD.fullmatch(text):  # dd/mm/yy, the form of before 1999
        one, two, year = int(found[1]), int(found[2]), int(found[3])
        if len(found[3]) == 2:
            year += 1900 if year >= 70 else 2000
        return (_day(year, one, two) if two > 12 else _day(year, two, one)), False
    return _NEVER, False


def _day(year: int, month: int, day: int) -> np.datetime64:
    try:
        return np.datetime64(f"{year:04d}-{month:02d}-{day:02d}", "us")
    except ValueError:
        return _NEVER


def _of_day(hours: str, minutes: str, seconds: str | None, offset: str | None) -> np.timedelta64:
    """Time since midnight, UTC."""
    micro = round((int(hours) * 60 + int(minutes)) * 60e6 + float(seconds or 0) * 1e6)
    if offset and offset[0] in "+-":
        away = (int(offset[1:3]) * 60 + int(offset[-2:])) * 60_000_000
        micro -= away if offset[0] == "+" else -away
    return np.timedelta64(micro, "us")


def _moment(day: np.datetime64, text: str) -> np.datetime64:
    date, has_time = _date(text)
    if has_time:
        return date
    if found := _TIME.fullmatch(text):
        return day + _of_day(found[1], found[2], found[3], found[4])
    return _NEVER


def _to_utc(moment: np.datetime64, scale: str) -> np.datetime64:
    """UTC of a time in the atomic scales of some surveys; other scales are taken as UTC."""
    scale = scale.strip().lower()
    if scale not in ("tai", "tt", "tdb") or np.isnat(moment):
        return moment
    from astropy.time import Time

    return np.datetime64(Time(moment, format="datetime64", scale=scale).utc.datetime64, "us")
