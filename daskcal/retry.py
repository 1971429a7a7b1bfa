"""Try again what fails for a moment: a store that is busy, a shared file system that lags."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# Other hosts see a new name late, and an old one for a while: until the folder is looked at anew,
# and on some file systems a little longer.
_LAG_PAUSES = (0.05, 0.2, 0.75, 2.0)  # s


def patiently(
    action: Callable[[], T],
    passes: Callable[[Exception], bool],
    pauses: Sequence[float],
    between: Callable[[], object] = lambda: None,
    limit: float = math.inf,
) -> T:
    """The result of `action`, which is tried once more after each of `pauses` (s).

    Parameters
    ----------
    action : callable
        What may fail.
    passes : callable
        Whether an error is of a kind that passes by itself; others are raised at once.
    pauses : sequence of float
        Seconds to wait before each further try.
    between : callable
        Called before each further try.
    limit : float
        Seconds after which an error is raised, however many tries are left.

    Raises
    ------
    Exception
        The last error of `action`.
    """
    begin = time.monotonic()
    for pause in pauses:
        try:
            return action()
        except Exception as error:
            if not passes(error) or time.monotonic() - begin > limit:
                raise
        time.sleep(pause)
        between()
    return action()


def shared(action: Callable[[], T], path: str) -> T:
    """The result of `action` on a file that is known to be there, perhaps by another host's word.

    NFS keeps what it knew of a folder for up to a minute, and forgets it when the folder is
    opened: a name that another host has just given is then found, and a file that it has replaced
    is the new one.

    Raises
    ------
    OSError
        As `action` does, after 3 s at the most where the file is missing or stale.
    """

    try:
        return action()
    except OSError as error:
        if not _lags(error):
            raise

    def look() -> None:
        with contextlib.suppress(OSError), os.scandir(os.path.dirname(path) or ".") as entries:
            next(entries, None)

    look()
    return patiently(action, _lags, _LAG_PAUSES, look)


def _lags(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE)
