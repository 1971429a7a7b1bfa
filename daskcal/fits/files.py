"""The files that paths, folders and globs stand for, each once, in natural order."""

from __future__ import annotations

import difflib
import glob
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits.open_file import Stamp
from daskcal.fits.urls import is_url, local

_DIGITS = re.compile(r"([0-9]+)")
GLOB = re.compile(r"[*?[]")

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """One directory entry that is not a folder."""

    path: str
    size: int
    mtime_ns: int
    regular: bool
    named: bool  # given by the user, not found in a folder
    error: str = ""
    tag: str = ""  # of what lies behind a URL: which version of it

    @property
    def stamp(self) -> Stamp:
        """What it is now."""
        return Stamp(self.size, self.mtime_ns, self.tag)


def find_files(paths: Paths) -> list[Found]:
    """The files that `paths` stand for, sorted so that ``img2`` comes before ``img10``.

    Raises
    ------
    FrameError
        ``missing`` where a path does not exist or a glob matches nothing.
    """
    found: dict[str, Found] = {}
    for given in [paths] if isinstance(paths, str | os.PathLike) else paths:
        if not isinstance(given, str | os.PathLike):
            raise ArgumentError(f"{given!r} is not a path")
        if is_url(given):
            from daskcal.fits.remote import find

            found |= {entry.path: entry for entry in find(os.fspath(given))}
            continue
        for path in _existing(local(os.fspath(given))):
            absolute = os.path.abspath(path)
            if os.path.isdir(absolute):
                for entry in _in_folder(absolute):
                    found.setdefault(entry.path, entry)
            else:
                found[absolute] = _entry(absolute, named=True)
    return sorted(found.values(), key=lambda entry: natural(entry.path))


def natural(path: str) -> tuple[list[str | int], str]:
    """A sort key in which numbers count as numbers, and folders stay together."""
    pieces: list[str | int] = list(_DIGITS.split(path.replace(os.sep, "\0")))
    pieces[1::2] = map(int, pieces[1::2])
    return pieces, path


def _existing(path: str) -> list[str]:
    path = os.path.expanduser(path)
    if os.path.lexists(path):
        return [path]
    if GLOB.search(path):
        matches = glob.glob(path, recursive=True)
        if matches:
            return matches
        raise FrameError(path, "missing", "no file matches")
    folder, name = os.path.split(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder, name = os.path.split(folder)
    try:
        near = difflib.get_close_matches(name, os.listdir(folder), n=1, cutoff=0.5)
    except OSError:
        near = []
    hint = f"; did you mean {os.path.join(folder, near[0])!r}?" if near else ""
    if not near and os.path.join(folder, name) != os.path.abspath(path):
        hint = f"; {folder!r} exists, and has no {name!r}"
    raise FrameError(path, "missing", f"there is no such file or folder{hint}")


def _entry(path: str, named: bool) -> Found:
    try:
        status = os.stat(path)
    except OSError as error:
        return Found(path, 0, 0, True, named, error.strerror or str(error))
    return _found(path, status, named)


def _found(path: str, status: os.stat_result, named: bool) -> Found:
    return Found(path, status.st_size, status.st_mtime_ns, stat.S_ISREG(status.st_mode), named)


def _in_folder(top: str) -> list[Found]:
    """Everything below `top` but hidden files and folders; each folder once, so no loop."""
    found: list[Found] = []
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        waiting.append(entry.path)
                    else:
                        found.append(_stat_entry(entry))
        except OSError as error:
            reason = error.strerror or str(error)
            found.append(Found(folder, 0, 0, True, True, f"the folder cannot be read: {reason}"))
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _stat_entry(entry: os.DirEntry[str]) -> Found:
    try:
        return _found(entry.path, entry.stat(), named=False)
    except OSError as error:  # gone meanwhile, or a link to nothing
        return Found(entry.path, 0, 0, True, False, error.strerror or str(error))
