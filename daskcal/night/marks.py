"""Frames that a person has found bad: small files beside the frames, or in the output folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from daskcal.errors import ArgumentError, ConfigError, FrameError, OutputError
from daskcal.fits import Frame, is_product, scan
from daskcal.fits.urls import absolute, folder_of, inside, is_url
from daskcal.fits.whole import read_whole, remove_whole, write_whole
from daskcal.night.ledger import Choice
from daskcal.strict import strict_keywords

NAME = "daskcal-marks.json"
_FORMAT = "daskcal-marks-1"

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


@dataclass(frozen=True, slots=True)
class Mark:
    """One file that is marked.

    Attributes
    ----------
    path : str
        As seen from the folder of the marks.
    fingerprints : tuple of str
        Of its frames' content: wherever the file goes, and under whatever name, they are known.
    reason : str
    """

    path: str
    fingerprints: tuple[str, ...]
    reason: str


@strict_keywords
def mark_bad(
    frames: Paths, reason: str, *, output: str | PathLike[str] | None = None
) -> tuple[Path | str, ...]:
    """Mark raw frames as bad: no night uses them from now on, and what was made of them is stale.

    Parameters
    ----------
    frames : path or sequence of paths
        Files; all detectors of a file are marked.
    reason : str
        For the ledger.
    output : path, optional
        Keep the marks in this output folder, where they count for it alone; by default in the
        folder of each frame, where they count for every night that holds it.

    Returns
    -------
    tuple of Path or str
        The files, or their URLs, that hold the marks now.

    Raises
    ------
    ArgumentError
        No reason is given, or a file is a product of daskcal.
    FrameError
        A file is missing or cannot be read.
    OutputError
        The marks cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import daskcal
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = daskcal.simulate_night(folder, size=(32, 40))
    ...     _ = daskcal.mark_bad(night.files[0], "light leak")
    ...     bad = daskcal.plan_night(night.folder, night.config).choices[-1].frames
    ...     _ = daskcal.unmark_bad(night.files[0])
    >>> bad
    ('n0001.fits',)
    """
    if not isinstance(reason, str) or not reason.strip():
        wrong = "is empty" if isinstance(reason, str) else f"= {reason!r} is no text"
        raise ArgumentError(f"reason {wrong}: say why the frames are bad")
    found = {path: _contents(path) for path in _absolute(frames)}
    written = []
    for folder, paths in _by_folder(found, output).items():
        old = [mark for mark in _read(folder) if _place(folder, mark) not in paths]
        new = [Mark(_seen_from(folder, path), found[path], reason) for path in paths]
        written.append(_write(folder, [*old, *new]))
    return tuple(written)


@strict_keywords
def unmark_bad(
    frames: Paths, *, output: str | PathLike[str] | None = None
) -> tuple[Path | str, ...]:
    """Take back what `mark_bad` did.

    Parameters
    ----------
    frames, output
        As there; a file that is gone is known by its path.

    Returns
    -------
    tuple of path
        The files that held the marks.

    Raises
    ------
    ArgumentError
        A frame is not marked.

    Examples
    --------
    >>> marks = daskcal.mark_bad("raw/n0001.fits", reason="light leak")
    >>> marks = daskcal.unmark_bad("raw/n0001.fits")
    """
    paths = _absolute(frames)
    found = {path: _contents(path) if _is_there(path) else () for path in paths}
    written = []
    for folder, together in _by_folder(found, output).items():
        marks = _read(folder)
        left = list(marks)
        for path in together:
            hit = [
                m for m in marks if _place(folder, m) == path or {*m.fingerprints} & {*found[path]}
            ]
            if not hit:
                raise ArgumentError(f"{path} is not marked bad in {folder}/{NAME}")
            left = [mark for mark in left if mark not in hit]
        written.append(_write(folder, left))
    return tuple(written)


def marked(*folders: str | PathLike[str]) -> dict[str, str]:
    """Why frames are marked in any of some folders, by their fingerprints.

    Raises
    ------
    ConfigError
        A file of marks is damaged.
    """
    return {
        print_: mark.reason
        for folder in folders
        for mark in _read(absolute(folder))
        for print_ in mark.fingerprints
    }


def marked_frames(
    frames: Sequence[Frame], names: Sequence[str], output: str | PathLike[str] | None
) -> tuple[tuple[Choice, ...], dict[int, str]]:
    """The marks of a night as choices, and the frames that are left out, with the reason.

    Parameters
    ----------
    frames, names
        All frames of the night, and what the ledger calls them.
    output : path or None
        The output folder, whose marks count as well.
    """
    every = dict.fromkeys(folder_of(frame.source.path) for frame in frames)
    folders = [folder for folder in every if not folder.startswith("http")]  # not written to
    known = marked(*folders, *([] if output is None else [output]))
    bad = {i: known[f.fingerprint] for i, f in enumerate(frames) if f.fingerprint in known}
    choices = [
        Choice("bad", f"mark-bad: {reason}", tuple(names[i] for i in bad if bad[i] == reason))
        for reason in dict.fromkeys(bad.values())
    ]
    return tuple(choices), {i: f"marked bad: {reason}" for i, reason in bad.items()}


def _absolute(frames: Paths) -> list[str]:
    every = [frames] if isinstance(frames, str | PathLike) else frames
    return list(dict.fromkeys(absolute(path) for path in every))


def _by_folder(paths: Iterable[str], output: str | PathLike[str] | None) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder = folder_of(path) if output is None else absolute(output)
        folders.setdefault(folder, []).append(path)
    return folders


def _seen_from(folder: str, path: str) -> str:
    """A path as its mark has it: from the folder of the marks on, or as it is."""
    if is_url(folder) or is_url(path):
        return inside(path, folder) or path
    return os.path.relpath(path, folder)


def _place(folder: str, mark: Mark) -> str:
    if is_url(folder):
        whole = is_url(mark.path) or os.path.isabs(mark.path)
        return mark.path if whole else f"{folder}/{mark.path}"
    return absolute(mark.path if is_url(mark.path) else os.path.join(folder, mark.path))


def _is_there(path: str) -> bool:
    if not is_url(path):
        return os.path.exists(path)
    from daskcal.fits.remote import is_there

    return is_there(path)


def _contents(path: str) -> tuple[str, ...]:
    """Fingerprints of all that a night may see of a file: detectors, and amplifiers' images."""
    if not is_url(path) and os.path.isdir(path):
        raise ArgumentError(f"{path} is a folder; name the frames that are bad")
    found = scan([path], detectors=True)
    if not found.frames:
        message = found.unreadable[0].message if found.unreadable else "holds no FITS image"
        raise FrameError(path, "unreadable", f"{message}; it is left out of every night as it is")
    for frame in found.frames:
        if is_product(frame.header):
            raise ArgumentError(
                f"{path} is a product of daskcal; mark the raw frames it is made of"
            )
    every = [one.fingerprint for frame in found.frames for one in (frame, *frame.parts)]
    return tuple(dict.fromkeys(every))


def _read(folder: str) -> tuple[Mark, ...]:
    path = f"{folder}/{NAME}"
    try:
        record = json.loads(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        if record.get("format") != _FORMAT:
            raise ConfigError(f"{path} has the format {record.get('format')!r}, not {_FORMAT!r}")
        return TypeAdapter(tuple[Mark, ...]).validate_python(record["marks"])
    except (ValidationError, AttributeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged; mend it, or remove it and mark again") from error


def _write(folder: str, marks: Sequence[Mark]) -> Path | str:
    path = f"{folder}/{NAME}" if is_url(folder) else Path(folder, NAME)
    try:
        if not marks:
            remove_whole(path)
            return path
        plain = [
            {"path": m.path, "fingerprints": list(m.fingerprints), "reason": m.reason}
            for m in sorted(marks, key=lambda mark: mark.path)
        ]
        text = json.dumps({"format": _FORMAT, "marks": plain}, indent=1)
        write_whole(path, text.encode("ascii") + b"\n")
        return path
    except OSError as error:  # an `OutputError` too
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); -o OUT keeps marks in the "
            "output folder"
        ) from error
