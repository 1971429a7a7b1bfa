"""The index on disk of files scanned before: unchanged files are not opened again."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from daskcal.errors import MAY_PASS
from daskcal.fits.amplifiers import join
from daskcal.fits.files import Found
from daskcal.fits.frame import Asked, Every, Frame, Outcome, Unreadable
from daskcal.fits.header import Value
from daskcal.fits.source import ImageSource
from daskcal.fits.tile_table import TileTable

_log = logging.getLogger(__name__)

VERSION = 4  # of what is stored; to be raised whenever a scan of the same bytes gives other results
_BUSY_SECONDS = 2.0
_RACY_NS = 2_000_000_000  # a file changed so lately may change again without a new time
_DAY = 86400
_DAYS_KEPT, _DAYS_NOTED = 120, 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS scanned (
    path BLOB, asked TEXT, part INTEGER, size INTEGER, mtime_ns INTEGER, tag TEXT, seen INTEGER,
    place TEXT, fingerprint TEXT, problems TEXT, cards TEXT, header TEXT,
    PRIMARY KEY (path, asked, part))
"""
_FIND = (
    "SELECT place, fingerprint, problems, cards, header, seen FROM scanned"
    " WHERE path = ? AND asked = ? AND size = ? AND mtime_ns = ? AND tag = ? ORDER BY part"
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
    """Results of earlier scans by path, size and time of change, or version behind a URL.

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

    def find(self, entries: Iterable[Found], asked: Asked) -> dict[str, Outcome]:
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
        version = entry.size, entry.mtime_ns, entry.tag
        rows = base.execute(_FIND, (path, asked, *version)).fetchall()
        if not rows:
            return
        try:
            found[entry.path] = _outcome(entry, rows)
        except (ValueError, TypeError) as error:  # a row that cannot be what was stored
            _log.warning("the scan index %s has a damaged row: %s", self._path, error)
            return
        if rows[0][5] < self._today - _DAYS_NOTED:
            self._noted.append((path, asked))

    def store(self, scanned: Iterable[tuple[Found, Outcome]], asked: Asked) -> None:
        """Keep what lasts of new results, and forget what nobody asked for in a long time."""
        if self._base is None:
            return
        word = _asked(asked)
        rows = [
            (
                os.fsencode(entry.path),
                word,
                part,
                entry.size,
                entry.mtime_ns,
                entry.tag,
                self._today,
                *row,
            )
            for entry, outcome in scanned
            if _lasts(entry, outcome)
            for part, row in enumerate(_rows(outcome))
        ]
        first = ((path, word) for path, _, part, *_ in rows if not part)
        if not rows and not self._noted:
            return
        try:
            with self._base:
                self._base.executemany("DELETE FROM scanned WHERE path = ? AND asked = ?", first)
                self._base.executemany(f"INSERT INTO scanned VALUES ({','.join('?' * 12)})", rows)
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


def _asked(asked: Asked) -> str:
    if asked is None:
        return ""
    if isinstance(asked, Every):
        return asked.value
    return f"#{asked}" if isinstance(asked, int) else f"={asked.strip().upper()}"


def _lasts(entry: Found, outcome: Outcome) -> bool:
    if entry.error or not entry.regular:
        return False
    if abs(time.time_ns() - entry.mtime_ns) < _RACY_NS:
        return False
    return all(_lasting(entry, one) for one in outcome)


def _lasting(entry: Found, one: Frame | Unreadable) -> bool:
    if isinstance(one, Unreadable):
        return one.reason not in MAY_PASS
    return one.source.stamp == entry.stamp


def _rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """What is stored of a file: a row for each frame, or for each part of one that has several.

    There is one of nothing where a file gives none.
    """
    rows = []
    for i, one in enumerate(outcome):
        if isinstance(one, Frame) and one.parts:
            rows += [_row(replace(part, of=one.of), i) for part in one.parts]
        else:
            rows.append(_row(one, -1))
    return rows or [("", "", "", "", "")]


def _row(one: Frame | Unreadable, whole: int) -> tuple[str, ...]:
    """`whole`: the number of the frame that this is a part of; -1 for none."""
    if isinstance(one, Unreadable):
        return "", "", json.dumps([one.hdu, one.reason, one.message]), "", ""
    s = one.source
    place = [whole, one.of, s.hdu, s.wrapper, s.compression, s.offset, *s.shape]
    place += [s.bitpix, s.bscale, s.bzero, s.blank, s.unpacked_size]
    place += [s.tiles and astuple(s.tiles)]
    return (
        json.dumps(place),
        one.fingerprint,
        json.dumps(one.problems) if one.problems else "",
        one.cards,
        json.dumps(dict(one.header)),
    )


def _outcome(entry: Found, rows: Sequence[tuple[str, ...]]) -> Outcome:
    if not any(rows[0][:5]):
        return ()
    outcomes: list[Frame | Unreadable] = []
    parts: dict[int, list[Frame]] = {}
    for row in rows:
        whole, one = _restored(entry, row)
        if whole >= 0 and isinstance(one, Frame):
            parts.setdefault(whole, []).append(one)
        else:
            outcomes.append(one)
    for whole, frames in parts.items():
        plain = [replace(frame, of=1) for frame in frames]
        outcomes.insert(whole, replace(join(plain), of=frames[0].of))
    return tuple(outcomes)


def _restored(entry: Found, row: tuple[str, ...]) -> tuple[int, Frame | Unreadable]:
    place, fingerprint, problems, cards, header = row[:5]
    if not place:
        return -1, Unreadable(entry.path, *json.loads(problems))
    whole, of, hdu, wrapper, compression, offset, rows, columns, *stored = json.loads(place)
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
        entry.tag,
    )
    noted = tuple(json.loads(problems)) if problems else ()
    return whole, Frame(source, cards, StoredHeader(header), fingerprint, noted, of)
