"""Where a night's output lies: a folder of this machine, or one behind a URL.

Both are used by the same few verbs. What is written whole (ledger, report) goes to the path that
`Place.at` gives, by `daskcal.fits.whole`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from daskcal.atomic import flush_folder, put_in_place
from daskcal.errors import OutputError
from daskcal.fits.urls import absolute, is_url, local
from daskcal.night.output import fit
from daskcal.night.output.lock import held
from daskcal.temporaries import discard_stale, give_up, new_temporary, remove


class Place(Protocol):
    """The verbs."""

    def __str__(self) -> str:
        """The folder, or its URL."""

    def at(self, name: str) -> str:
        """The path of a file below it."""

    def probe(self) -> None:
        """Refuse, before anything is read, what only trying can tell: a store's permission.

        Raises
        ------
        OutputError
        """

    def check(self, raw: Path | str) -> None:
        """Refuse where products cannot go, or where the raw frames are; nothing is left there.

        Raises
        ------
        ArgumentError
            It is the folder of the raw frames.
        OutputError
            It must not be written.
        """

    def make(self, parts: Iterable[str]) -> None:
        """Make folders for products."""

    def held(self, say: Callable[[str], None]) -> AbstractContextManager[object]:
        """Hold it for one run; `say` takes what there is to say where that takes long."""

    def sweep(self, parts: Iterable[str]) -> None:
        """Remove what dead runs have left unfinished."""

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those of some products that are there; -1 for what is not one file."""

    def holders(self, names: Sequence[str]) -> list[str]:
        """Paths to scan for the headers of some files that are there; others may be below them."""

    def changed(self, name: str) -> tuple[int, int]:
        """Bytes of a file, and when it was written (ns).

        Raises
        ------
        FileNotFoundError
        """

    def require(self) -> None:
        """Make sure that this run still holds it.

        Raises
        ------
        LostOutputError
        """

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a journal, for good."""

    def lines(self, name: str) -> list[bytes] | None:
        """The lines of a journal; None where there is none."""

    def clear(self, name: str) -> None:
        """Remove a journal."""

    def draft(self, name: str) -> str:
        """A path for a product that is not to have its name yet."""

    def settle(self, draft: str, name: str) -> None:
        """Give a draft, which is complete, its name, in one step and for good."""

    def discard(self, draft: str) -> None:
        """Remove a draft, and what may still come of it."""


def place_of(path: str | os.PathLike[str]) -> Place:
    """The place at a path or URL."""
    if is_url(path):
        from daskcal.night.output.bucket import Bucket

        return Bucket(absolute(path))
    return Folder(Path(local(os.fspath(path))))


@contextlib.contextmanager
def called(draft: str, path: str) -> Iterator[None]:
    """Have messages say the name that a draft is to have: nobody knows it by another."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(draft, path)) from error


class Folder:
    """A folder of this machine, or of a file system that hosts share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def at(self, name: str) -> str:
        """The path of a file below it."""
        return str(self.path / name)

    def probe(self) -> None:
        """`check` tells it all."""

    def check(self, raw: Path | str) -> None:
        """Refuse where products cannot go."""
        fit.check_output(self.path, raw)

    def make(self, parts: Iterable[str]) -> None:
        """Make folders for products."""
        fit.make_folders(self.path, parts)

    def held(self, say: Callable[[str], None]) -> AbstractContextManager[object]:
        """Hold it for one run."""
        return held(self.path, say)

    def sweep(self, parts: Iterable[str]) -> None:
        """Remove what dead runs have left unfinished."""
        for part in ("", *parts):
            discard_stale(self.path / part)

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of those of some products that are there."""
        found = {}
        for name in names:
            path = self.path / name
            if os.path.lexists(path):
                found[name] = path.stat().st_size if path.is_file() else -1
        return found

    def holders(self, names: Sequence[str]) -> list[str]:
        """Paths to scan for the headers of some files."""
        return [self.at(name) for name in names]

    def changed(self, name: str) -> tuple[int, int]:
        """Bytes of a file, and when it was written (ns)."""
        status = (self.path / name).stat()
        return status.st_size, status.st_mtime_ns

    def require(self) -> None:
        """Nobody can take it: the system's lock ends with the process alone."""

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a journal."""
        path = self.path / name
        new = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            end = _end_of_lines(handle)
            try:
                os.ftruncate(handle, end)  # cuts off what a killed run left of a line
                if os.pwrite(handle, line + b"\n", end) < len(line) + 1:
                    raise OSError(28, "the disk is full")
                os.fsync(handle)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(handle, end)
                raise
        finally:
            os.close(handle)
        if new:
            flush_folder(self.path)

    def lines(self, name: str) -> list[bytes] | None:
        """The lines of a journal that are whole: a run may have been killed while it wrote one."""
        try:
            return (self.path / name).read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return None
        except OSError:
            return []

    def clear(self, name: str) -> None:
        """Remove a journal."""
        (self.path / name).unlink(missing_ok=True)

    def draft(self, name: str) -> str:
        """A path for a product that is not to have its name yet."""
        return new_temporary(self.path / name)

    def settle(self, draft: str, name: str) -> None:
        """Give a draft its name."""
        put_in_place(draft, self.path / name)

    def discard(self, draft: str) -> None:
        """Remove a draft."""
        give_up(draft)
        remove(draft)


def _end_of_lines(handle: int) -> int:
    """Where the last whole line ends."""
    size = os.fstat(handle).st_size
    while size:
        start = max(0, size - 65536)
        at = os.pread(handle, size - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        size = start
    return 0
