"""Files behind URLs, by fsspec: listed, read by ranges, and what goes wrong there, in words."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar, cast

from daskcal.errors import ArgumentError, FrameError, OutputError, nearest
from daskcal.fits.at_once import each_range
from daskcal.fits.files import GLOB, Found
from daskcal.fits.open_file import Stamp, changed
from daskcal.fits.urls import absolute, inside
from daskcal.retry import patiently

T = TypeVar("T")

# s3fs has tried five times before an error comes here
_PAUSES, _LIMIT = (0.2, 0.8, 3.0), 15.0  # s
_GAP = 1 << 18  # what a store sends in the time that another request takes
_STREAM = 8 << 20
_PASSING = {
    errno.EBUSY, errno.EIO, errno.EAGAIN, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE,
    errno.ETIMEDOUT, errno.ENETUNREACH, errno.EHOSTUNREACH, getattr(errno, "EREMOTEIO", errno.EIO),
}  # fmt: skip
_CLIENTS = ("aiohttp", "botocore", "aiobotocore", "urllib3", "requests", "http")
_TAGS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated",
         "mtime", "created")  # fmt: skip
_EXTRAS = {"s3": "s3", "s3a": "s3"}
# A server that cannot be reached is given up in half a minute, one that never answers in 90 s.
_S3_LIMITS = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 1}}


# --- the store ----------------------------------------------------------------------------------


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, configured as the user has configured it, and the path
    there.

    Raises
    ------
    ArgumentError
        Nothing that is installed opens such URLs.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url, **options_of(url)))
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        how = f"pip install 'daskcal[{extra}]'" if extra else str(error)
        raise ArgumentError(f"{url}: a package that opens {scheme}:// is missing: {how}") from error
    except ValueError as error:
        if scheme in fsspec.available_protocols():
            raise ArgumentError(f"{url} is not a URL that can be used: {error}") from error
        hint = nearest(scheme, fsspec.available_protocols())
        raise ArgumentError(f"{url}: nothing opens {scheme}://; {hint}") from error


def options_of(url: str) -> dict[str, Any]:
    """What a store is opened with, beside the user's own configuration of fsspec."""
    from fsspec.config import conf

    scheme = url.partition("://")[0]
    if scheme not in _EXTRAS:
        return {}
    theirs = conf.get(scheme, {}).get("config_kwargs", {})
    return {"config_kwargs": {**_S3_LIMITS, **theirs}}


def asked(url: str, question: Callable[[], T]) -> T:
    """What a store answers, asked again where it fails for a moment.

    Raises
    ------
    FrameError
        ``missing``, ``changed`` or ``unreadable``, with the URL and what to do.
    """
    try:
        return patiently(question, _passes, _PAUSES, limit=_LIMIT)
    except FrameError:
        raise
    except Exception as error:
        if not _of_storage(error):
            raise
        raise _refused(url, error) from error


def sent(url: str, action: Callable[[], T]) -> T:
    """The same for what writes; done anew where it fails for a moment.

    Raises
    ------
    OutputError
        The store refuses, or cannot be reached.
    """
    try:
        return asked(url, action)
    except FrameError as error:
        hint = "; make the bucket or folder first" if error.reason == "missing" else ""
        raise OutputError(f"{url} cannot be written: {error.message}{hint}") from error
    except NotImplementedError as error:
        scheme = url.partition("://")[0]
        raise OutputError(f"{url} cannot be written: {scheme}:// is for reading alone") from error


def is_there(url: str) -> bool:
    """Whether anything stands behind a URL now.

    Raises
    ------
    OutputError
        The store cannot be asked.
    """
    store, path = filesystem(url)
    store.invalidate_cache()
    return sent(url, lambda: bool(store.exists(path)))


def _of_storage(error: Exception) -> bool:
    """Whether an error says something of the store, and not of this program."""
    return isinstance(error, OSError | TimeoutError) or _of_client(error)


def _of_client(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in _CLIENTS


def _passes(error: Exception) -> bool:
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return _of_client(error) and "Credential" not in type(error).__name__


def _refused(url: str, error: Exception) -> FrameError:
    if isinstance(error, FileNotFoundError):
        return FrameError(url, "missing", "there is no such file or folder")
    if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
        return changed(url)
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PermissionError):
        return FrameError(
            url, "unreadable", f"the store does not let you do that ({said}); check the "
            "credentials in this process's environment and what they allow"
        )  # fmt: skip
    if "Credential" in type(error).__name__:
        return FrameError(
            url, "unreadable", f"{said}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, where daskcal and its workers run"
        )  # fmt: skip
    return FrameError(url, "unreadable", f"the store cannot be asked: {said}")


def _code(error: Exception) -> str:
    """What an S3 server calls an error."""
    answer = getattr(error.__cause__ or error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


# --- finding files ------------------------------------------------------------------------------


def find(url: str) -> list[Found]:
    """The files that a URL stands for: one, those below a folder, or those that fit a glob.

    The store is asked anew: what fsspec remembers of earlier listings does not count.

    Raises
    ------
    FrameError
        ``missing``, or ``unreadable``.
    """
    url = absolute(url)
    store, path = filesystem(url)
    start = url.removesuffix(path) if url.endswith(path) else f"{url.partition('://')[0]}://"
    asked(url, store.invalidate_cache)
    matches = {}
    if GLOB.search(path) and not url.startswith("http"):
        matches = asked(url, lambda: store.glob(path, detail=True))

    def one(entry: dict[str, Any], named: bool) -> Found:
        tag = _stamp(entry).tag if _is_s3(store) else ""
        regular = entry["type"] == "file"
        return Found(start + entry["name"], _size(entry), 0, regular, named, tag=tag)

    found: list[Found] = []
    for entry in matches.values() or [asked(url, lambda: store.info(path))]:
        if entry["type"] == "directory":
            found += [one(each, False) for each in _below(store, url, entry["name"])]
        else:
            found.append(one(entry, True))
    return found


def _below(store: Any, url: str, folder: str) -> list[dict[str, Any]]:
    return [
        entry
        for name, entry in asked(url, lambda: store.find(folder, detail=True)).items()
        if not any(part.startswith(".") for part in (inside(name, folder) or name).split("/"))
        and entry["type"] == "file"
        and not name.endswith("/")  # what some stores keep to have an empty folder
    ]


def _is_s3(store: Any) -> bool:
    """Whether listings have ETags, and reading can be held to them."""
    return hasattr(store, "_call_s3")


def _stamp(entry: dict[str, Any]) -> Stamp:
    tag = next((str(entry[key]) for key in _TAGS if entry.get(key)), "")
    return Stamp(_size(entry), 0, tag)


def _size(entry: dict[str, Any]) -> int:
    return int(entry.get("size") or 0)  # listings of web servers lack it


# --- reading ------------------------------------------------------------------------------------


class RemoteFile:
    """One version of an object: ranges of its bytes, each a request of its own.

    Nothing is kept open. Where the object has changed since it was `expected`, reading says so: an
    S3 server is asked for that version alone, any other store what the object is now.
    """

    gap = _GAP

    def __init__(self, path: str, expected: Stamp | None = None) -> None:
        self.path = path
        self._store, self._key = filesystem(path)
        if expected is None or not _is_s3(self._store):
            now = asked(path, self._info)
            if expected is not None and now != expected:
                raise changed(path, f" ({expected.size} bytes then, {now.size} now)")
            expected = now
        self.stamp = expected

    def _info(self) -> Stamp:
        self._store.invalidate_cache(self._store._parent(self._key))
        entry = self._store.info(self._key)
        if entry["type"] != "file":
            raise FrameError(self.path, "not-fits", "is a folder")
        return _stamp(entry)

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` on; return how many bytes there were, 0 at the end."""
        raw = self._get(offset, len(buffer))
        buffer[: len(raw)] = raw
        return len(raw)

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size) at once; those that are near each other in one request."""
        spans = _joined(ranges, self.gap)
        each = each_range if len(spans) > 1 else map
        pieces = dict(zip(spans, each(lambda span: self._get(*span), spans), strict=True))
        parts = []
        for offset, size in ranges:
            start, length = next(s for s in spans if s[0] <= offset and offset + size <= sum(s))
            parts.append(pieces[start, length][offset - start : offset - start + size])
        return parts

    def stream(self) -> BinaryIO:
        """The same file as Python's own, from its start."""
        return cast(BinaryIO, io.BufferedReader(_Raw(self), _STREAM))

    def close(self) -> None:
        """Let go of it: nothing is held."""

    def _get(self, offset: int, size: int) -> bytes:
        stop = min(offset + size, self.stamp.size)
        if stop <= offset:
            return b""
        return asked(self.path, lambda: self._range(offset, stop))

    def _range(self, start: int, stop: int) -> bytes:
        if not _is_s3(self._store):
            return bytes(self._store.cat_file(self._key, start=start, end=stop))
        from fsspec.asyn import sync

        raw = sync(self._store.loop, _get_s3, self._store, self._key, start, stop, self.stamp.tag)
        return cast(bytes, raw)


async def _get_s3(store: Any, path: str, start: int, stop: int, tag: str) -> bytes:
    """A range of one version of an object; s3fs itself asks for whatever is there."""
    bucket, key, version = store.split_path(path)
    more = {"VersionId": version} if version else {}
    answer = await store._call_s3(
        "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", IfMatch=tag, **more
    )
    async with answer["Body"] as body:
        raw: bytes = await body.read()
    if len(raw) < stop - start:
        raise ConnectionError(f"{len(raw)} of {stop - start} bytes came")
    return raw


def _joined(ranges: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Ranges, less than `gap` apart, as one."""
    spans: list[tuple[int, int]] = []
    for offset, size in sorted(ranges):
        if spans and offset <= sum(spans[-1]) + gap:
            start, length = spans[-1]
            spans[-1] = start, max(length, offset + size - start)
        else:
            spans.append((offset, size))
    return spans


class _Raw(io.RawIOBase):
    """What Python's own buffered reader reads from."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.stamp.size}
        self._at = start[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = self._file.read_into(memoryview(buffer).cast("B"), self._at)
        self._at += count
        return count
