"""Loops made once: one dispatcher for a process, one compilation for an installation."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable, Iterator
from functools import cache, wraps
from typing import Any, TypeVar

Made = TypeVar("Made")

_in_process = threading.Lock()
_ready: set[tuple[object, ...]] = set()


def once(make: Callable[..., Made]) -> Callable[..., Made]:
    """`functools.cache`, by which threads that start at once all get the same object."""
    kept, one_thread = cache(make), threading.Lock()

    @wraps(make)
    def get(*options: Hashable) -> Made:
        with one_thread:
            return kept(*options)

    return get


def first_call(loop: Any, key: tuple[object, ...], call: Callable[[], None]) -> None:
    """Have `loop` compiled for the types that `key` stands for, if it has not been in this process.

    Many workers that start at once would each compile the same loop. Here one does while the
    others wait, and then load what it left on disk.

    Parameters
    ----------
    loop : numba dispatcher
    key : tuple
        Says which loop and which types.
    call : callable
        Calls the loop with arguments of those types, which compiles or loads it.
    """
    if key in _ready:
        return
    with _in_process:
        if key not in _ready:
            with _one_process(loop.stats.cache_path):
                call()
            _ready.add(key)


@contextlib.contextmanager
def _one_process(folder: str | None) -> Iterator[None]:
    """While a lock on the cache's folder is held; without one where there is none to be had."""
    handle = None
    with contextlib.suppress(OSError, ImportError, TypeError):
        import fcntl

        os.makedirs(folder, exist_ok=True)  # type: ignore[arg-type]
        handle = os.open(os.path.join(str(folder), "daskcal-kernels.lock"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)  # which ends the lock
