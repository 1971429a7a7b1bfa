"""The index on disk of files scanned before: unchanged files are not opened again."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from daskcal.fits.files import Found
from daskcal.fits.frame import Frame, Outcome, Unreadable
from daskcal.fits.header import Value
from daskcal.fits.source import ImageSource
from daskcal.fits.tile_table import TileTable

_log = logging.getLogger(__name__)

VERSION = 2  # of what is stored; to be raised whenever a scan of the same bytes gives other results
_BUSY_SECONDS = 2.0
_RACY_NS = 2_000_000_000  # a file changed so lately may change again without a new time
_DAY = 86400
_DAYS_KEPT, _DAYS_NOTED = 120, 20
_TRANSIENT = ("unreadable", "missing", "changed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scanned (
    path BLOB, asked TEXT, size INTEGER, mtime_ns INTEGER, seen INTEGER,
    place TEXT, fingerprint TEXT, problems TEXT, cards TEXT, header TEXT,
    PRIMARY KEY (path, asked))
"""
_FIND = (
    "SELECT place, fingerprint, problems, cards, header, seen FROM scanned"
    " WHERE path = ? AND asked = ? AND size = ? AND mtime_ns = ?"
)


class StoredHeader(Mapping[str, Value]):
    """Header values kept as JSON until one is asked for."""

    __slots__ = ("_text", "_values")

    def __init__(self, text: str) -> None:
        self._text = text
        self._values: dict[str, Value] | None = None

    def _all(self) -> dict[str, Value]:
        if self._values is None:
            self._values = json.loads(self._text)
        return self._values

    def __getitem__(self, key: str) -> Value:
        return self._all()[key]

    # a plan asks these two millions of times, mostly for what is not there: no KeyError on the way
    def __contains__(self, key: object) -> bool:
        return key in self._all()

    def get(self, key: str, default: Any = None) -> Any:
        return self._all().get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._all(),)


class Index:
    """Results of earlier scans by path, size and time of change.

    Whatever is wrong with the file of the index, a scan goes on without it.
    """

    def __init__(self) -> None:
        self._base: sqlite3.Connection | None = None
        self._today = int(time.time()) // _DAY
        self._noted: list[tuple[bytes, str]] = []
        try:
            self._path = _index_path()
            self._connect()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(self, entries: Iterable[Found], asked: int | str | None) -> dict[str, Outcome]:
        """What came of the files that were scanned as they are now, by path."""
        found: dict[str, Outcome] = {}
        word = _asked(asked)
        try:
            if self._base is None:
                return found
            self._base.execute("BEGIN")  # one lock for all, not one for each
            for entry in entries:
                if entry.regular and not entry.error:
                    self._find_one(self._base, entry, word, found)
            self._base.rollback()
        except sqlite3.Error as error:
            self._rebuild(error)
        return found

    def _find_one(
        self, base: sqlite3.Connection, entry: Found, asked: str, found: dict[str, Outcome]
    ) -> None:
        path = os.fsencode(entry.path)
        row = base.execute(_FIND, (path, asked, entry.size, entry.mtime_ns)).fetchone()
        if row is None:
            return
        try:
            found[entry.path] = _outcome(entry, row)
        except (ValueError, TypeError) as error:  # a row that cannot be what was stored
            _log.warning("the scan index %s has a damaged row: %s", self._path, error)
            return
        if row[5] < self._today - _DAYS_NOTED:
            self._noted.append((path, asked))

    def store(self, scanned: Iterable[tuple[Found, Outcome]], asked: int | str | None) -> None:
        """Keep what lasts of new results, and forget what nobody asked for in a long time."""
        if self._base is None:
            return
        rows = [
            (
                os.fsencode(entry.path),
                _asked(asked),
                entry.size,
                entry.mtime_ns,
                self._today,
                *_row(outcome),
            )
            for entry, outcome in scanned
            if _lasts(entry, outcome)
        ]
        if not rows and not self._noted:
            return
        try:
            with self._base:
                self._base.executemany(
                    f"INSERT OR REPLACE INTO scanned VALUES ({','.join('?' * 10)})", rows
                )
                self._base.executemany(
                    f"UPDATE scanned SET seen = {self._today} WHERE path = ? AND asked = ?",
                    self._noted,
                )
                self._base.execute(
                    "DELETE FROM scanned WHERE seen < ?", (self._today - _DAYS_KEPT,)
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._rebuild(error)

    def _open(self) -> None:
        self._base = base = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        base.execute("PRAGMA synchronous = OFF")  # it can be made again
        base.execute("PRAGMA page_size = 16384")  # a row is a header
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            with base:
                base.execute("DROP TABLE IF EXISTS scanned")
                base.execute(f"PRAGMA user_version = {VERSION}")
        base.execute(_SCHEMA)

    def _rebuild(self, error: sqlite3.Error) -> None:
        """Begin a new file in place of a damaged one; go without where it is only busy."""
        if isinstance(error, sqlite3.OperationalError):
            self._give_up(error)
            return
        _log.warning("the scan index %s is damaged (%s); a new one is made", self._path, error)
        self.close()
        try:
            self._path.unlink(missing_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as again:
            self._give_up(again)

    def _give_up(self, error: Exception) -> None:
        _log.warning("scanning without the index of earlier scans: %s", error)
        self.close()


def _index_path() -> Path:
    folder = os.environ.get("DASKCAL_CACHE")
    if not folder:
        import platformdirs

        folder = platformdirs.user_cache_dir("daskcal")
    return Path(folder) / "scan.sqlite"


def _asked(asked: int | str | None) -> str:
    if asked is None:
        return ""
    return f"#{asked}" if isinstance(asked, int) else f"={asked.strip().upper()}"


def _lasts(entry: Found, outcome: Outcome) -> bool:
    if entry.error or not entry.regular:
        return False
    if abs(time.time_ns() - entry.mtime_ns) < _RACY_NS:
        return False
    if isinstance(outcome, Unreadable):
        return outcome.reason not in _TRANSIENT
    if isinstance(outcome, Frame):
        source = outcome.source
        if outcome.parts:
            return False
        return (source.size, source.mtime_ns) == (entry.size, entry.mtime_ns)
    return True


def _row(outcome: Outcome) -> tuple[str, ...]:
    if isinstance(outcome, Frame):
        s = outcome.source
        place = [s.hdu, s.wrapper, s.compression, s.offset, *s.shape]
        place += [s.bitpix, s.bscale, s.bzero, s.blank, s.unpacked_size]
        place += [s.tiles and astuple(s.tiles)]
        return (
            json.dumps(place),
            outcome.fingerprint,
            json.dumps(outcome.problems) if outcome.problems else "",
            outcome.cards,
            json.dumps(dict(outcome.header)),
        )
    fault = outcome and [outcome.hdu, outcome.reason, outcome.message]
    return "", "", json.dumps(fault), "", ""


def _outcome(entry: Found, row: tuple[str, ...]) -> Outcome:
    place, fingerprint, problems, cards, header = row[:5]
    if not place:
        fault = json.loads(problems)
        return None if fault is None else Unreadable(entry.path, *fault)
    hdu, wrapper, compression, offset, rows, columns, *stored = json.loads(place)
    bitpix, bscale, bzero, blank, unpacked_size, tiles = stored
    source = ImageSource(
        entry.path,
        hdu,
        wrapper,
        compression,
        offset,
        (rows, columns),
        bitpix,
        bscale,
        bzero,
        blank,
        entry.size,
        entry.mtime_ns,
        unpacked_size,
        tiles and TileTable.from_values(tiles),
    )
    noted = tuple(json.loads(problems)) if problems else ()
    return Frame(source, cards, StoredHeader(header), fingerprint, noted)
