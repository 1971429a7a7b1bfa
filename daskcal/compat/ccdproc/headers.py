"""The headers of many files as plain dicts: by daskcal's scan, else by astropy."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from astropy.io import fits

from daskcal.fits import Frame, scan
from daskcal.fits.header import CARD

log = logging.getLogger(__name__)

JOINED = ("comment", "history")  # of which a header has many


def read_headers(paths: Sequence[str], ext: int | str = 0) -> dict[str, dict[str, Any]]:
    """Keyword (lower case) to value of each file, by its path; files that cannot be read are left.

    Comments and history are joined by commas; the first of duplicates counts, and a card without a
    value does not.
    """
    known = _scanned(paths) if ext == 0 else {}
    found = {}
    for path in paths:
        if path in known:
            found[path] = known[path]
            continue
        try:
            found[path] = _by_astropy(path, ext)
        except OSError as error:
            log.warning("unable to get FITS header for file %s: %s", path, error)
    return found


def _scanned(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of files whose primary HDU is an image, which is nearly all."""
    there = {os.path.abspath(path): path for path in paths if os.path.isfile(path)}
    if not there:
        return {}
    frames = scan(list(there), hdu=0, index=False).frames
    return {there[frame.source.path]: _plain(frame) for frame in frames if not frame.problems}


def _plain(frame: Frame) -> dict[str, Any]:
    header = {key.lower(): value for key, value in frame.header.items()}
    return header | _commentary(frame.cards)


def _commentary(cards: str) -> dict[str, str]:
    lines: dict[str, list[str]] = {key: [] for key in JOINED}
    for at in range(0, len(cards), CARD):
        key = cards[at : at + 8].rstrip().lower()
        if key in lines:
            lines[key].append(cards[at + 8 : at + CARD].rstrip())
    return {key: ",".join(texts) for key, texts in lines.items() if texts}


def _by_astropy(path: str, ext: int | str) -> dict[str, Any]:
    header = fits.getheader(path, ext)
    plain: dict[str, Any] = {}
    for key, value in header.items():
        name = key.lower()
        if name and name not in JOINED and not isinstance(value, fits.card.Undefined):
            plain.setdefault(name, value)
    for name in JOINED:
        if name in header:
            plain[name] = ",".join(str(line) for line in header[name])
    return plain
