"""Folders and files to frames: each file is a frame, unreadable with a reason, or ignored."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from daskcal.errors import ArgumentError
from daskcal.fits.files import Found, Paths, find_files
from daskcal.fits.frame import Asked, Every, Frame, Outcome, Unreadable, scan_file
from daskcal.fits.header import Value
from daskcal.fits.index import Index
from daskcal.fits.urls import is_url
from daskcal.strict import strict_keywords

_THREADS, _REMOTE_THREADS = 8, 32


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found: frames, what gives none, and the number of files that are not FITS."""

    frames: tuple[Frame, ...]
    unreadable: tuple[Unreadable, ...]
    ignored: int


@strict_keywords
def scan(
    paths: Paths, *, hdu: int | str | None = None, detectors: bool = False, index: bool = True
) -> Scan:
    """Read the headers of all FITS files that `paths` stand for.

    Parameters
    ----------
    paths : path or iterable of paths
        Files, folders (with their sub-folders) and globs, here or as URLs that fsspec opens
        (``s3://bucket/night``). Hidden files in folders are skipped.
    hdu : int or str, optional
        Index or EXTNAME of the HDU to take in each file; the first image by default.
    detectors : bool
        Take every detector of a file that holds several, where `hdu` names none.
    index : bool
        Use and update the index of files seen before (in ``DASKCAL_CACHE``).

    Returns
    -------
    Scan
        In natural order of the paths.

    Raises
    ------
    FrameError
        ``missing`` where a path does not exist, ``unreadable`` where a store does not answer.
    """
    if hdu is not None and (isinstance(hdu, bool) or not isinstance(hdu, int | str)):
        raise ArgumentError(f"hdu={hdu!r} is neither the index nor the EXTNAME of an HDU")
    asked: Asked = Every.DETECTOR if detectors and hdu is None else hdu
    found = find_files(paths)
    outcomes = _indexed(found, asked) if index else _fresh(found, asked)
    results = [result for entry in found for result in outcomes[entry.path]]
    return Scan(
        tuple(result for result in results if isinstance(result, Frame)),
        tuple(result for result in results if isinstance(result, Unreadable)),
        sum(not outcomes[entry.path] for entry in found),
    )


def is_product(header: Mapping[str, Value]) -> bool:
    """Whether the header is that of a master or another product, never of a raw frame."""
    return is_combined(header) or "DASKCAL" in header


def is_combined(header: Mapping[str, Value]) -> bool:
    """Whether the header is that of several frames made one, by daskcal or other software."""
    return header.get("COMBINED") in (True, "T")


def _indexed(found: list[Found], asked: Asked) -> dict[str, Outcome]:
    """Outcomes by path, from the index where the files are as they were."""
    with closing(Index()) as seen:
        if asked is not None:
            return _known_or_fresh(seen, found, asked)
        # what is in a file serves whoever asks for its one image, where it has one: so that frames
        # that were opened are not scanned again for a plan, nor the other way round
        whole = _known_or_fresh(seen, found, Every.DETECTOR)
        several = [entry for entry in found if not _is_one(whole[entry.path])]
        return whole | _known_or_fresh(seen, several, None)


def _known_or_fresh(seen: Index, found: list[Found], asked: Asked) -> dict[str, Outcome]:
    known = seen.find(found, asked)
    unknown = [entry for entry in found if entry.path not in known]
    fresh = _fresh(unknown, asked)
    seen.store(((entry, fresh[entry.path]) for entry in unknown), asked)
    return known | fresh


def _is_one(outcome: Outcome) -> bool:
    """Whether every detector of a file is its one image, or it is no FITS file."""
    return not outcome or (
        len(outcome) == 1 and isinstance(outcome[0], Frame) and outcome[0].of == 1
    )


def _fresh(found: list[Found], asked: Asked) -> dict[str, Outcome]:
    """Outcomes by path, from the files themselves."""
    threads = _REMOTE_THREADS if any(is_url(entry.path) for entry in found) else _THREADS
    with ThreadPoolExecutor(threads) as pool:
        outcomes = pool.map(lambda entry: scan_file(entry, asked), found)
        return {entry.path: outcome for entry, outcome in zip(found, outcomes, strict=True)}
