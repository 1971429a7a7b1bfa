"""Room for whole frames: how many of them a process may work on at once within its budget."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_changed = threading.Condition()
_held = 0  # bytes that this process works with


@contextlib.contextmanager
def room(wanted: int, limit: int) -> Iterator[None]:
    """Wait until `wanted` bytes fit within `limit`, and hold them meanwhile.

    What is too large alone has its turn when nothing else is held.
    """
    global _held
    with _changed:
        _changed.wait_for(lambda: _held == 0 or _held + wanted <= limit)
        _held += wanted
    try:
        yield
    finally:
        with _changed:
            _held -= wanted
            _changed.notify_all()
