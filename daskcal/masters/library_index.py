"""An index on disk of what was read of files before: a help, never needed."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

_log = logging.getLogger(__name__)
_VERSION = 2  # of what is stored; to be raised whenever the same file gives another record
_BUSY_SECONDS = 2.0

State = tuple[int, int]  # size and time of change of a file


class RecordIndex:
    """Texts by the names of files, as long as those keep their size and time, in one table.

    Whatever is wrong with its file (missing, damaged, locked, not to be written, on NFS without
    locks), it knows nothing, keeps nothing, and raises nothing; a damaged one is begun anew.
    """

    def __init__(self, path: Path, table: Literal["headers", "checksums"]) -> None:
        self.path, self.table = path, table
        self._base: sqlite3.Connection | None = None
        if not path.parent.is_dir():
            return
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            with contextlib.suppress(OSError, sqlite3.Error):
                if not isinstance(error, OSError | sqlite3.OperationalError):
                    self._open()

    def _open(self) -> None:
        self._base = base = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        if base.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            with base:
                for table in ("headers", "checksums"):
                    base.execute(f"DROP TABLE IF EXISTS {table}")
                base.execute(f"PRAGMA user_version = {_VERSION}")
        base.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table}"
            " (name TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, record TEXT)"
        )

    def known(self, files: Mapping[str, State]) -> dict[str, str]:
        """The texts of those of `files` that are as they were."""
        if self._base is None:
            return {}
        try:
            rows = self._base.execute(
                f"SELECT name, size, mtime_ns, record FROM {self.table}"
            ).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        return {
            name: record
            for name, *state, record in rows
            if files.get(name) == tuple(state) and isinstance(record, str)
        }

    def store(self, fresh: Mapping[str, str], files: Mapping[str, State]) -> None:
        """Keep new texts, and forget those of files that are not among `files` any more."""
        if self._base is None:
            return
        try:
            names = [name for (name,) in self._base.execute(f"SELECT name FROM {self.table}")]
            lost = [(name,) for name in names if name not in files]
            if not fresh and not lost:
                return
            with self._base:
                self._base.executemany(f"DELETE FROM {self.table} WHERE name = ?", lost)
                self._base.executemany(
                    f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?, ?, ?)",
                    [(name, *files[name], text) for name, text in fresh.items()],
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _give_up(self, error: Exception) -> None:
        """Go on without it; a file that is damaged, not only busy, is removed."""
        _log.warning("going on without the index %s: %s", self.path, error)
        self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
