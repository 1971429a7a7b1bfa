"""Hidden names beside a product, for what is not complete yet, and clearing away what was left."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

_PART = re.compile(r"\.([A-Za-z0-9_]+)-(\d+)-[0-9a-f]{8}\.tmp(\.[a-z]+)?$")
_ANY = re.compile(r"\.(?P<final>.+)" + _PART.pattern)
_LONGEST = 160  # characters of a final name that its temporaries carry
ASIDE = ".old"  # after a temporary's name: what stood under the final name until now
_ours: dict[str, set[str]] = {}  # final name: temporaries of this process
_given_up: set[str] = set()  # those that must not be made anew
_making = threading.Lock()


def new_temporary(path: Path) -> str:
    """A name in the folder of `path` that tells which process of which host it belongs to."""
    name = f"{_head(path)}{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    _ours.setdefault(str(path), set()).add(name)
    return str(path.with_name(name))


def forget(path: str | Path, temporary: str) -> None:
    """The temporary has become the product."""
    _ours.get(str(path), set()).discard(os.path.basename(temporary))


@contextlib.contextmanager
def making(temporary: str) -> Iterator[bool]:
    """Whether a temporary may be made now: not where its computation has failed meanwhile.

    The other threads of a computation that failed end in their own time.
    """
    with _making:
        yield os.path.basename(temporary) not in _given_up


def give_up(*paths: str | Path) -> None:
    """Remove what failed computations left of `paths`, now and whatever their threads still do."""
    with _making:
        for path in paths:
            _given_up.update(_ours.get(str(Path(path).absolute()), ()))
        discard_temporaries(*paths)


def discard_temporaries(*paths: str | Path) -> None:
    """Remove what failed computations of this process, or of dead ones, left of `paths`.

    A folder that has several of them is listed once.
    """
    heads: dict[str, dict[str, Path]] = {}  # by folder
    for path in (Path(path).absolute() for path in paths):
        heads.setdefault(str(path.parent), {})[_head(path)] = path
    for folder, paths_of in heads.items():
        for part, path in _leftovers_of(folder, paths_of):
            mine = _ours.get(str(path), set())
            if part.name.startswith(tuple(mine)) or not _alive(part.name):
                _clear(part, path)


def discard_abandoned(path: str | Path) -> None:
    """Remove what dead processes left of `path`, and nothing of living ones."""
    for part in _leftovers(Path(path).absolute()):
        if not _alive(part.name):
            remove(part)


def discard_stale(folder: str | Path) -> None:
    """Remove what dead processes left in a folder, whatever it was to become."""
    folder = Path(folder).absolute()
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _ANY.fullmatch(name)
        if found and not _alive(name) and len(found["final"]) < _LONGEST:
            _clear(folder / name, folder / found["final"])


def _clear(part: Path, path: Path) -> None:
    if part.name.endswith(ASIDE) and not path.exists():
        with contextlib.suppress(OSError):
            os.rename(part, path)  # its successor never came: what stood there stays
    else:
        remove(part)


@atexit.register  # which comes after threads have ended, so that none can make a file anew
def _discard_all() -> None:
    here = f"-{os.getpid()}-"  # a forked process leaves those of its parent alone
    for path, names in list(_ours.items()):
        if any(here in name for name in names):
            discard_temporaries(path)


def remove(part: str | Path) -> None:
    """Remove a temporary file or folder, as far as it is there."""
    with contextlib.suppress(OSError):
        if os.path.isdir(part):
            shutil.rmtree(part, ignore_errors=True)
        else:
            os.unlink(part)


def _head(path: Path) -> str:
    return f".{path.name[:_LONGEST]}."


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40]


def _leftovers(path: Path) -> Iterator[Path]:
    return (part for part, _ in _leftovers_of(str(path.parent), {_head(path): path}))


def _leftovers_of(folder: str, heads: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """Temporaries in a folder that begin with one of `heads`, and the final names of these."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        found = _PART.search(name) if name.startswith(".") else None
        head = name[: found.start() + 1] if found else ""
        if head in heads:
            yield heads[head].with_name(name), heads[head]


def _alive(part: str) -> bool:
    """Whether the process that named a temporary may still be at work on it."""
    found = _PART.search(part)
    if not found or found[1] != _host():
        return True
    if int(found[2]) == os.getpid():  # or an older process that had this number
        return any(part.startswith(tuple(names)) for names in _ours.values() if names)
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
