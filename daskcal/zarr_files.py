"""The files of a Zarr store, in a folder of this machine or behind a URL."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import FsspecStore, WrapperStore

from daskcal.fits.at_once import each_range
from daskcal.fits.objects import objects, put_object, read_object, remove_object, remove_objects
from daskcal.fits.remote import is_there, options_of
from daskcal.fits.urls import is_url

ROOT = "zarr.json"
HIDDEN = ".zarr.json.part"
_OWN = re.compile(r"([^/]+/)?zarr\.json|[^/]+/c(/\d+)*")  # files of arrays, in one group


class StoreFiles:
    """Names, sizes and contents of all files of a store.

    Parameters
    ----------
    root : str
        The store: a folder, or a URL.
    """

    def __init__(self, root: str) -> None:
        self.root, self._far = root, is_url(root)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name within the store, in order of names."""
        if self._far:
            return objects(self.root)
        found = {name: os.path.getsize(os.path.join(self.root, name)) for name in self._walk()}
        return dict(sorted(found.items()))

    def _walk(self) -> Iterable[str]:
        for where, _, names in os.walk(self.root):
            for name in names:
                yield os.path.relpath(os.path.join(where, name), self.root)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises
        ------
        FileNotFoundError, NotADirectoryError, FrameError
        """
        if self._far:
            return read_object(f"{self.root}/{name}")
        return Path(self.root, name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Put a file there: on this machine flushed to disk, in a store whole or not at all."""
        if self._far:
            put_object(f"{self.root}/{name}", content)
            return
        with open(os.path.join(self.root, name), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, name: str) -> None:
        """Remove a file behind a URL."""
        remove_object(f"{self.root}/{name}")

    def checksum(self) -> tuple[int, str]:
        """Bytes in all, and a SHA-256 over the names and contents of all files."""
        digest, size = hashlib.sha256(), 0
        names = list(self.sizes())
        for first in range(0, len(names), 16):  # so many contents are held at a time
            some = names[first : first + 16]
            each = each_range(self.read, some) if self._far else map(self.read, some)
            for name, content in zip(some, each, strict=True):
                size += len(content)
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
        return size, digest.hexdigest()


def opened_store(root: str) -> Any:
    """What xarray and zarr open to read a store."""
    if not is_url(root):
        return root
    return FsspecStore.from_url(root, storage_options=options_of(root), read_only=True)


class HiddenStore(WrapperStore):
    """A store behind a URL that is not to be seen yet: it lacks its first file, `ROOT`.

    What is written to that goes to a hidden name, until `reveal`.
    """

    @classmethod
    def at(cls, url: str) -> HiddenStore:
        """The hidden store behind a URL."""
        return cls(FsspecStore.from_url(url, storage_options=options_of(url)))

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        return await self._store.get(_hidden(key), *args, **options)

    async def set(self, key: str, *args: Any, **options: Any) -> None:
        await self._store.set(_hidden(key), *args, **options)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        await self._store.set_if_not_exists(_hidden(key), value)

    async def exists(self, key: str) -> bool:
        return bool(await self._store.exists(_hidden(key)))

    async def delete(self, key: str) -> None:
        await self._store.delete(_hidden(key))

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        async for name in self._store.list_dir(prefix):
            yield ROOT if name == HIDDEN else name


def _hidden(key: str) -> str:
    return HIDDEN if key == ROOT else key


def is_hidden(url: str) -> bool:
    """Whether a store behind a URL is in the making, or was when its maker died."""
    return is_there(f"{url}/{HIDDEN}")


def is_rest(root: str) -> bool:
    """Whether what is there is a store that has lost its first file, and nothing else.

    So it is where that cannot be read as JSON, and every other file has the name of the metadata
    or of a chunk of an array.
    """
    files = StoreFiles(root)
    names = files.sizes()
    with contextlib.suppress(ValueError):
        if ROOT in names:
            json.loads(files.read(ROOT))
            return False
    return bool(names) and all(_OWN.fullmatch(name) for name in names)


def clear_store(url: str) -> None:
    """Remove a store behind a URL, which is known for one until nothing else is left of it."""
    files = StoreFiles(url)
    names = files.sizes()
    if not names:
        return
    files.write(HIDDEN, b"{}")
    for first in ([ROOT] if ROOT in names else [], [n for n in names if n not in (ROOT, HIDDEN)]):
        remove_objects(f"{url}/{name}" for name in first)


def consolidate(store: Any) -> None:
    """Gather the metadata of a store's arrays in that of its group."""
    with warnings.catch_warnings():  # that the specification lacks it yet
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store, zarr_format=3)


def mark(files: StoreFiles, hidden: bool, key: str, **more: Any) -> None:
    """Add to an attribute of the group; a hidden store can be seen from then on."""
    group = json.loads(files.read(HIDDEN if hidden else ROOT))
    group["attributes"][key] |= more
    files.write(ROOT, json.dumps(group, indent=2).encode())
    if hidden:
        files.remove(HIDDEN)
