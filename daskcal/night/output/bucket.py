"""A night's output behind a URL, such as ``s3://bucket/reduced``.

A store of objects has neither renaming nor appending nor locks. An object appears when all of it is
there; a draft becomes a product by a copy that the store itself makes; a journal is an object a
line; an object says whose the output is.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from daskcal.errors import ArgumentError, DaskcalError, FrameError, OutputError
from daskcal.fits.at_once import each_range
from daskcal.fits.objects import (
    abort_uploads,
    copy_object,
    object_stamp,
    objects,
    put_object,
    read_object,
    remove_object,
    remove_objects,
)
from daskcal.fits.urls import absolute
from daskcal.night.output.bucket_lock import Claim, held

_DRAFT = ".draft"


class Bucket:
    """A folder behind a URL.

    Parameters
    ----------
    url : str
        Without slashes at its end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._claim: Claim | None = None
        self._next = 0  # line of the journal

    def __str__(self) -> str:
        return self.url

    def at(self, name: str) -> str:
        """The URL of an object below it."""
        return f"{self.url}/{name}"

    def check(self, raw: Path | str) -> None:
        """Refuse the folder of the raw frames; `probe` has told the rest."""
        if isinstance(raw, str) and absolute(raw) == self.url:
            raise ArgumentError(
                f"{self.url} holds the raw frames; give another folder for the products"
            )

    def probe(self) -> None:
        """Put an object there, read it, list it, and remove it again.

        Raises
        ------
        OutputError
            One of these is refused.
        """
        name = f".daskcal-{secrets.token_hex(8)}.probe"
        try:
            put_object(self.at(name), b"may this be written?")
            try:
                read_object(self.at(name))
                objects(self.at("masters"))
            finally:
                remove_object(self.at(name))
        except FrameError as error:
            raise OutputError(f"{self.url} cannot be read: {error.message}") from error
        except OutputError as error:
            raise OutputError(str(error).replace(f"/{name}", "")) from error

    def make(self, parts: Iterable[str]) -> None:
        """Folders of a store are names of objects alone."""

    @contextlib.contextmanager
    def held(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold it for one run."""
        with held(self.url, say) as self._claim:
            yield

    def sweep(self, parts: Iterable[str]) -> None:
        """Remove the drafts of dead runs, and uploads that never came to their end."""
        for part in parts:
            drafts = [name for name in objects(self.at(part)) if name.endswith(_DRAFT)]
            remove_objects(self.at(f"{part}/{name}") for name in drafts)
            abort_uploads(self.at(part))  # not of the whole bucket: other runs are at work there

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those of some products that are there; -1 for a store of several objects."""
        wanted, found = set(names), dict[str, int]()
        for name in (name for name in wanted if "/" not in name):
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.changed(name)[0]
        for part in sorted({name.partition("/")[0] for name in wanted - found.keys()}):
            for name, size in objects(self.at(part)).items():
                whole = f"{part}/{name}"
                if whole in wanted:
                    found[whole] = size
                for head in ("/".join(whole.split("/")[:n]) for n in (1, 2)):
                    if head in wanted and head != whole:
                        found[head] = -1
        return found

    def holders(self, names: Sequence[str]) -> list[str]:
        """The folders of some objects: a listing each, where one by one each would be asked for."""
        return sorted({self.at(name).rpartition("/")[0] for name in names})

    def changed(self, name: str) -> tuple[int, int]:
        """Bytes of an object, and when it was written (ns, which stores know to the second)."""
        return object_stamp(self.at(name))

    def require(self) -> None:
        """Raise where another run has taken it."""
        if self._claim is not None:
            self._claim.check()

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a journal: an object of its own."""
        self.require()
        if not self._next:
            self._next = 1 + max(
                (int(n) for n in objects(self.at(name)) if n.isdecimal()), default=0
            )
        put_object(self.at(f"{name}/{self._next:08d}"), line)
        self._next += 1

    def lines(self, name: str) -> list[bytes] | None:
        """The lines of a journal; None where there is none."""
        found = [self.at(f"{name}/{n}") for n in objects(self.at(name)) if n.isdecimal()]
        return list(each_range(read_object, found)) if found else None

    def clear(self, name: str) -> None:
        """Remove a journal."""
        remove_objects(self.at(f"{name}/{n}") for n in objects(self.at(name)))
        self._next = 0

    def draft(self, name: str) -> str:
        """A URL for a product that is not to have its name yet."""
        folder, _, last = name.rpartition("/")
        return self.at(f"{folder}/.{last}.{secrets.token_hex(8)}{_DRAFT}")

    def settle(self, draft: str, name: str) -> None:
        """Give a draft its name: the store copies it, and shows the copy when it is whole."""
        self.require()
        copy_object(draft, self.at(name))
        self.discard(draft)

    def discard(self, draft: str) -> None:
        """Remove a draft; where that fails, the next run does."""
        with contextlib.suppress(DaskcalError):
            remove_object(draft)
