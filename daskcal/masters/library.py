"""The library of masters: those of many nights below one folder, known by their own headers.

A master lies in ``NIGHT/NAME-CHECKSUM.fits`` and is never changed or replaced: what its name says
of its content is verified when it is used. A ``.rejected.json`` beside it takes it out of use.
``index.sqlite`` only saves opening files that were seen before.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from os import PathLike
from pathlib import Path

from daskcal.atomic import put_in_place, write_atomically
from daskcal.errors import ArgumentError, FrameError, OutputError, UnfitOutputError, nearest
from daskcal.fits.checksum import file_checksum
from daskcal.fits.urls import is_url
from daskcal.frames.detector_names import safe_name
from daskcal.frames.master import image_frame
from daskcal.masters.library_index import RecordIndex
from daskcal.masters.library_master import (
    NAME,
    PREFIX,
    LibraryMaster,
    described,
    restored,
    stored,
    treatment,
)
from daskcal.temporaries import forget, new_temporary, remove

_log = logging.getLogger(__name__)
_INDEX = "index.sqlite"
_REJECTED = ".rejected.json"


class Library:
    """The masters below one folder.

    Parameters
    ----------
    folder : path
        Made when the first master is added.

    Attributes
    ----------
    damaged : dict of str to str
        Masters that `check` found to have another content than they had, by name, and how.
    checksums : dict of str to str
        SHA-256 of those that it found sound.

    Raises
    ------
    ArgumentError
        It is a URL.
    OutputError
        It is a file.

    Examples
    --------
    >>> import tempfile
    >>> import daskcal
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = daskcal.simulate_night(f"{folder}/raw", size=(32, 40))
    ...     made = daskcal.reduce_night(
    ...         night.folder, f"{folder}/out", night.config, library=f"{folder}/library"
    ...     )
    ...     masters = daskcal.Library(f"{folder}/library").masters()
    >>> sorted({master.kind for master in masters})
    ['bias', 'dark', 'flat']
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        if is_url(folder):
            raise ArgumentError(
                f"{folder} is a URL, and a library of masters is a folder of this machine or of a "
                "shared file system; give one"
            )
        self.folder = Path(folder).absolute()
        if self.folder.exists() and not self.folder.is_dir():
            raise UnfitOutputError(f"{self.folder} is not a folder; a library of masters is one")
        self.damaged: dict[str, str] = {}
        self.checksums: dict[str, str] = {}

    def masters(self) -> tuple[LibraryMaster, ...]:
        """All masters, rejected ones too, by name. Files that give none are passed over."""
        files = self._files()
        with closing(RecordIndex(self.folder / _INDEX, "headers")) as index:
            found = self._from_index(index.known(files))
            fresh = {name: _recorded(self.folder, name) for name in files if name not in found}
            index.store({name: stored(master) for name, master in fresh.items()}, files)
        every = sorted((found | fresh).items())
        return tuple(self._judged(master) for _, master in every if master is not None)

    def _from_index(self, records: Mapping[str, str]) -> dict[str, LibraryMaster | None]:
        """What the index knows; a record that cannot be what was stored is left out."""
        found = {}
        for name, record in records.items():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                found[name] = restored(self.folder, name, record)
        return found

    def check(self, masters: Iterable[LibraryMaster]) -> bool:
        """Read some masters as a whole, but for those that were read before and are as they were.

        Whether one of them is damaged, which `damaged` then names; `checksums` has the others.
        """
        before, files = set(self.damaged), self._files()
        with closing(RecordIndex(self.folder / _INDEX, "checksums")) as index:
            known, fresh = index.known(files), {}
            for master in masters:
                checksum = known.get(master.name, "")
                try:
                    if not master.fits(checksum):
                        checksum = fresh[master.name] = master.check()
                    self.checksums[master.name] = checksum
                except FrameError as error:
                    self.damaged[master.name] = str(error)
            index.store({name: fresh[name] for name in fresh if name in files}, files)
        return set(self.damaged) != before

    def add(self, path: str | PathLike[str], name: str = "") -> tuple[LibraryMaster, bool]:
        """Put a master into the library; it stays where it is, too.

        On one file system it takes no room (a hard link). One that is there already, of some of the
        same frames treated alike, is superseded; a new one of exactly the frames of a rejected one
        is rejected for the same reason.

        Parameters
        ----------
        path : path
            A master of daskcal, or of another program.
        name : str
            What its file is called, where `path` is a copy that is called otherwise.

        Returns
        -------
        tuple of LibraryMaster and bool
            The master in the library, and whether it is new there.

        Raises
        ------
        FrameError
            It is no master bias, dark or flat, is plainly a raw frame, or cannot be read.
        OutputError
            The library cannot be written.
        """
        source = Path(path)
        image = image_frame(str(source))
        checksum = file_checksum(source)
        draft = described(image, f"{PREFIX}x/x-{checksum[:12]}.fits")
        called = Path(name or source).name.removesuffix(".fits")
        stem = safe_name(re.sub(r"-[0-9a-f]{12}$", "", called))
        place = f"{draft.night}/{stem}-{checksum[:12]}.fits"
        new = self._put(source, self.folder / place, checksum)
        mine = replace(draft, name=PREFIX + place, path=str(self.folder / place))
        mine = self._judged(mine)
        if mine.superseded_by:
            self._undo(mine)
        self._settle(mine)
        return self._judged(replace(mine, rejected="", superseded_by="")), new

    def named(self, name: str) -> LibraryMaster:
        """A master by its name, or the part of it that is distinct.

        Raises
        ------
        ArgumentError
            None has it, or several.
        """
        masters = self.masters()
        exact = [m for m in masters if name in (m.name, m.name.removeprefix(PREFIX))]
        found = exact or [m for m in masters if name in m.name]
        if len(found) != 1:
            hint = (
                "several have it: " + ", ".join(m.name for m in found[:5])
                if found
                else nearest(name, (m.name for m in masters))
            )
            raise ArgumentError(f"{name!r} is not the name of one master of {self.folder}; {hint}")
        return found[0]

    def reject(self, name: str, reason: str) -> LibraryMaster:
        """Take a master out of use; its file stays.

        Raises
        ------
        ArgumentError
            No master, or several, have the name; no reason is given.
        """
        if not reason.strip():
            raise ArgumentError("a rejection needs a reason")
        master = self.named(name)
        self._write_rejection(master, reason.strip(), "")
        return self._judged(master)

    def accept(self, name: str) -> LibraryMaster:
        """Undo a rejection."""
        master = self.named(name)
        if not master.rejected:
            raise ArgumentError(f"{master.name} is not rejected")
        self._undo(master)
        return replace(master, rejected="", superseded_by="")

    # --- files -----------------------------------------------------------------------------------

    def _files(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that has the name of a master, by the master's name."""
        found = {}
        for night in _entries(self.folder):
            if night.is_dir() and not night.name.startswith("."):
                for file in _entries(Path(night.path)):
                    if NAME.fullmatch(file.name) and file.is_file():
                        status = file.stat()
                        name = f"{PREFIX}{night.name}/{file.name}"
                        found[name] = (status.st_size, status.st_mtime_ns)
        return found

    def _put(self, source: Path, target: Path, checksum: str) -> bool:
        """A link or a copy, whole or not at all; whether it is new."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)  # never replaces
            except FileExistsError:
                if file_checksum(target) == checksum:
                    return False
                raise OutputError(
                    f"{target} is damaged: its content is not what its name says; remove it, and "
                    "add the master again"
                ) from None
            except OSError:  # another file system, or one without links
                if target.exists():
                    return False
                _copy(source, target, checksum)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
        return True

    # --- rejections ------------------------------------------------------------------------------

    def _judged(self, master: LibraryMaster) -> LibraryMaster:
        try:
            said = json.loads(Path(master.path + _REJECTED).read_bytes())
            reason, other = str(said["reason"]), str(said.get("superseded_by", ""))
        except FileNotFoundError:
            return master
        except (OSError, ValueError, KeyError, TypeError):
            reason, other = f"{master.path}{_REJECTED} cannot be read", ""
        return replace(master, rejected=reason, superseded_by=other)

    def _write_rejection(self, master: LibraryMaster, reason: str, other: str) -> None:
        said = {"reason": reason} | ({"superseded_by": other} if other else {})
        text = json.dumps(said, indent=1, ensure_ascii=True) + "\n"
        write_atomically(master.path + _REJECTED, text.encode("ascii"))

    def _undo(self, master: LibraryMaster) -> None:
        try:
            os.unlink(master.path + _REJECTED)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"{master.path}{_REJECTED}: {error.strerror}") from error

    def _settle(self, mine: LibraryMaster) -> None:
        """Of masters of some of the same frames, treated alike, only the last is used."""
        if not mine.frames:
            return
        shared = set(mine.frames)
        for other in self.masters():
            if other.name == mine.name or other.kind != mine.kind or other.night != mine.night:
                continue
            if other.rejected and not other.superseded_by:
                if other.frames == mine.frames and not mine.rejected:
                    reason = f"{other.rejected} (as {other.name}, of the same frames)"
                    self._write_rejection(mine, reason, "")
            elif (
                not other.rejected
                and not shared.isdisjoint(other.frames)
                and treatment(other.config) == treatment(mine.config)
            ):
                self._write_rejection(other, f"superseded by {mine.name}", mine.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{folder} cannot be read: {error.strerror}") from error


def _copy(source: Path, target: Path, checksum: str) -> None:
    part = new_temporary(target)
    try:
        with open(source, "rb") as old, open(part, "xb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
        if file_checksum(part) != checksum:
            raise OutputError(f"{source} changed while it was copied; add it again")
        put_in_place(part, target)
    finally:
        remove(part)
        forget(target, part)


def _recorded(folder: Path, name: str) -> LibraryMaster | None:
    """What the header of a file says; None where it gives no master."""
    path = folder / name.removeprefix(PREFIX)
    try:
        found = described(image_frame(str(path)), name)
        return replace(found, path=str(path), night=name.split("/")[1])
    except FrameError as error:
        _log.warning("passed over in the library: %s", error)
        return None


def listing(masters: Sequence[LibraryMaster]) -> str:
    """The masters as a table for people."""
    if not masters:
        return "no masters"
    rows = [("night", "kind", "filter", "exposure", "detector", "frames", "name", "rejected")]
    for m in masters:
        exposure = m.facts.get("exptime")
        rows.append((
            m.night, m.kind, str(m.facts.get("filter", "")) if m.kind == "flat" else "",
            f"{exposure:.6g} s" if exposure is not None and m.kind == "dark" else "",
            str(m.facts.get("detector", "")), str(len(m.frames) or ""), m.name, m.rejected,
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)
