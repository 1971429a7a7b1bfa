"""Paths that are URLs (``s3://bucket/night``), told from those of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from os import PathLike

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HERE = ("file://", "local://")


def is_url(path: str | PathLike[str]) -> bool:
    """Whether a path is the URL of what fsspec opens: not a file of this machine."""
    text = os.fspath(path)
    if "://" not in text:  # as nearly always, and this is asked at every read
        return False
    return _URL.match(text) is not None and not text.startswith(_HERE)


def absolute(path: str | PathLike[str]) -> str:
    """A path from the root of its file system; of a URL, without slashes at its end.

    Examples
    --------
    >>> absolute("s3://bucket/night/")
    's3://bucket/night'
    >>> absolute("file:///data/night")
    '/data/night'
    """
    text = os.fspath(path)
    if is_url(text):
        return text.rstrip("/")
    return os.path.abspath(os.path.expanduser(local(text)))


def local(path: str) -> str:
    """A path of this machine without the ``file://`` that it may begin with."""
    for scheme in _HERE:
        path = path.removeprefix(scheme)
    return path


def folder_of(path: str) -> str:
    """The folder that a file lies in."""
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(path)


def inside(path: str, folder: str) -> str | None:
    """`path` as seen from `folder`; None where it does not lie below it."""
    start = f"{folder.rstrip('/')}/"
    return path[len(start) :] if path.startswith(start) else None


def common_folder(paths: Iterable[str]) -> str:
    """The folder that all files lie below; ``""`` where there is none."""
    folders = {folder_of(path) for path in paths}
    if not any(map(is_url, folders)):
        return os.path.commonpath(folders)
    schemes, _, rests = zip(*(folder.partition("://") for folder in folders), strict=True)
    common = os.path.commonpath(rests) if len(set(schemes)) == 1 else ""
    return f"{schemes[0]}://{common}" if common else ""


def real(path: str) -> str:
    """A file's own name, whichever way leads to it; a URL as it is."""
    return path if is_url(path) else os.path.realpath(path)
