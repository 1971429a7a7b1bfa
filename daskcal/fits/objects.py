"""Whole objects behind URLs: read, put, copied, listed and removed, each in one step."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable
from functools import partial
from glob import has_magic
from typing import Any

from daskcal.errors import FrameError, OutputError
from daskcal.fits.at_once import each_range
from daskcal.fits.remote import asked, filesystem, sent
from daskcal.fits.urls import inside


def read_object(url: str) -> bytes:
    """What is behind a URL now.

    Raises
    ------
    FrameError
        ``missing``, or ``unreadable``.
    """
    store, key = filesystem(url)
    return bytes(asked(url, lambda: store.cat_file(key)))


def put_object(url: str, content: bytes) -> None:
    """Put a few bytes behind a URL, whole or not at all.

    Raises
    ------
    OutputError
        The store refuses.
    """
    store, key = filesystem(url)
    sent(url, lambda: store.pipe_file(key, content))


def create_object(url: str, content: bytes) -> bool:
    """The same where nothing stands yet; False where something does.

    The store decides, where it can (S3: ``If-None-Match``), so that of several one succeeds.
    """
    store, key = filesystem(url)

    def create() -> bool:
        try:
            store.pipe_file(key, content, mode="create")
        except FileExistsError:
            return False
        return True

    try:
        return sent(url, create)
    except OutputError as error:
        cause = error.__cause__
        if isinstance(cause, FrameError) and cause.reason == "changed":  # so S3 puts it
            return False
        raise


def copy_object(url: str, new: str) -> None:
    """Copy an object within its store, which does so itself: no byte comes here.

    Raises
    ------
    OutputError
        The store refuses, or has less of it afterwards.
    """
    store, key = filesystem(url)
    target = filesystem(new)[1]
    sent(new, lambda: store.cp_file(key, target))
    wanted, there = _size(url), _size(new)
    if there != wanted:
        raise OutputError(f"{new}: {there} of {wanted} bytes were copied; write it again")


def _size(url: str) -> int:
    store, key = filesystem(url)
    store.invalidate_cache()
    return int(sent(url, lambda: store.info(key))["size"])


def remove_object(url: str) -> None:
    """Remove an object; that there is none is right, too."""
    store, key = filesystem(url)

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            store.rm_file(key)

    sent(url, remove)


def remove_objects(urls: Iterable[str]) -> None:
    """Remove several, at once where the store can."""
    urls = list(urls)
    if not urls:
        return
    store = filesystem(urls[0])[0]
    keys = [filesystem(url)[1] for url in urls]
    if any(map(has_magic, keys)):  # which `rm` would take for patterns
        list(each_range(remove_object, urls))
        return
    sent(urls[0], lambda: store.rm(keys))


def objects(url: str) -> dict[str, int]:
    """Bytes of every object below a folder, by its name from there, in order; none is no error.

    Raises
    ------
    FrameError
        The store does not say.
    """
    store, key = filesystem(url)

    def find() -> dict[str, dict[str, Any]]:
        store.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, dict[str, Any]] = store.find(key, detail=True)
            return found
        return {}

    found = {
        name: int(entry.get("size") or 0)
        for path, entry in asked(url, find).items()
        if (name := inside(path, key)) and entry["type"] == "file"
    }
    return dict(sorted(found.items()))


def object_stamp(url: str) -> tuple[int, int]:
    """Bytes of an object, and when it was written (ns).

    Raises
    ------
    FileNotFoundError
    FrameError
    """
    store, key = filesystem(url)

    def ask() -> tuple[int, int] | None:
        store.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return int(store.info(key)["size"]), int(store.modified(key).timestamp()) * 10**9
        return None

    if (found := asked(url, ask)) is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", url)
    return found


def abort_uploads(url: str) -> None:
    """Let go of uploads below a folder that never came to their end: S3 keeps, and bills, them.

    A store that does not let you see them keeps them: a rule for the bucket can clear them, too.
    """
    store, key = filesystem(url)
    if not hasattr(store, "_call_s3"):
        return
    bucket, folder, _ = store.split_path(key)
    below = f"{folder}/" if folder else ""
    with contextlib.suppress(OutputError):
        begun = sent(
            url,
            lambda: store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=below),
        )
        for one in begun.get("Uploads", ()):
            which = {"Key": one["Key"], "UploadId": one["UploadId"]}
            sent(url, partial(store.call_s3, "abort_multipart_upload", Bucket=bucket, **which))
