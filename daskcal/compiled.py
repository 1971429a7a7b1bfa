"""Compiling a loop: once an installation where a folder may be written to, else once a process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from functools import cache, wraps
from typing import Any, TypeVar

import numba as nb
from numba.core import event

Made = TypeVar("Made")

_log = logging.getLogger(__name__)

_one_thread = threading.RLock()
_held: set[str] = set()  # locks that this thread has: a loop may call one that is not compiled yet


def compile_cached(function: Callable[..., Any]) -> Any:
    """`function` compiled, without the GIL, and kept on disk where numba finds a folder for it.

    Workers that start at once do not each compile the same loop: one does while the others wait,
    and then load what it left on disk. Loops of one name share what numba keeps of them, and so a
    lock. The function calls nothing of other files, or closes over what stands for them: numba's
    cache looks at the date of its own file only.
    """
    try:
        loop = nb.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # read-only installation and no home: each process compiles its own
        return nb.njit(nogil=True, error_model="numpy")(function)
    compile_or_load = loop.compile  # which numba calls for types that it has not met yet

    def one_at_a_time(signature: Any) -> Any:
        lock = os.path.join(loop.stats.cache_path, f"{function.__qualname__}.lock")
        with _one_process(lock), event.install_listener("numba:compile", _telling):
            return compile_or_load(signature)

    loop.compile = one_at_a_time
    return loop


class _Telling(event.Listener):
    """Logs, once a process, that loops are compiled, which is not so where they are loaded."""

    said = False

    def on_start(self, event: object) -> None:
        if not self.said:
            self.said = True
            _log.info("compiling loops for this machine, once an installation: half a minute")

    def on_end(self, event: object) -> None:
        pass


_telling = _Telling()


@contextlib.contextmanager
def _one_process(lock: str) -> Iterator[None]:
    """While a file is locked; without that where there is no lock to be had."""
    with _one_thread:
        if lock in _held:
            yield
            return
        handle = _locked(lock)
        _held.add(lock)
        try:
            yield
        finally:
            _held.remove(lock)
            if handle is not None:
                os.close(handle)  # which ends the lock


def _locked(lock: str) -> int | None:
    """The file, open and locked; None where that cannot be."""
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        os.makedirs(os.path.dirname(lock), exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
        return handle
    return None


def once(make: Callable[..., Made]) -> Callable[..., Made]:
    """`functools.cache`, by which threads that start at once all get the same object."""
    kept, one_thread = cache(make), threading.Lock()

    @wraps(make)
    def get(*options: Hashable) -> Made:
        with one_thread:
            return kept(*options)

    return get
