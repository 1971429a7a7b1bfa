"""One run at a time on an output folder.

The lock is the system's own (flock): it is gone with the process that held it, however that ended.
The file only says whose it is. Where hosts share a file system that passes such locks on (NFSv4,
CephFS, GPFS), that holds between them too. Where it does not, a file that another host left is the
only sign of its run, so it is respected for as long as it shows signs of life.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from daskcal.errors import OutputError

NAME = ".night.lock"
BEAT = 5.0  # seconds between signs of life
PATIENCE = 30.0  # seconds without one, by the clock of who waits, after which a run is dead
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def held(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold an output folder for one run.

    Parameters
    ----------
    folder : Path
        The output folder, which exists.
    say : callable
        Takes a message for the user where this takes long.

    Raises
    ------
    OutputError
        Another run holds it: says which process on which host, and since when.
    """
    path = folder / NAME
    handle = _acquire(path, say)
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(handle, over), name="daskcal-lock", daemon=True)
    beats.start()
    try:
        yield
    finally:
        over.set()
        beats.join()
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: nobody takes it between the two
        os.close(handle)


def _acquire(path: Path, say: Callable[[str], None]) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{path} cannot be made: {error.strerror}") from error
        try:
            locks = _locked(handle, path)
            if _same(handle, path):  # else its holder removed it as we opened it
                _respect(handle, path, locks, say)
                os.ftruncate(handle, 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _locked(handle: int, path: Path) -> bool:
    """Take the lock; False where the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise refused(path.parent, _read(handle)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OutputError(f"{path} cannot be locked: {error.strerror}") from error
        return False
    return True


def _respect(handle: int, path: Path, locks: bool, say: Callable[[str], None]) -> None:
    """Refuse where a run that the lock does not show may be alive."""
    holder = _read(handle)
    if not holder:
        return
    if holder.get("host") == socket.gethostname():
        if not locks and runs(holder.get("process")):
            raise refused(path.parent, holder)
        return
    say(
        f"{path} is of process {holder.get('process', '?')} on {holder.get('host', '?')}: waiting "
        f"{PATIENCE:g} s for a sign of life"
    )
    before, until = os.pread(handle, 4096, 0), time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(min(1.0, PATIENCE / 4))
        if os.pread(handle, 4096, 0) != before:
            raise refused(path.parent, holder)


def runs(process: Any) -> bool:
    """Whether a process of this host may be alive."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except OSError:
        pass
    return True


def refused(folder: Path | str, holder: dict[str, Any]) -> OutputError:
    """The error for an output that another run holds."""
    process, host = holder.get("process", "?"), holder.get("host", "?")
    return OutputError(
        f"{folder} is in use by another run: process {process} on {host}, since "
        f"{holder.get('since', '?')}; wait for it, stop it, or give another folder"
    )


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _read(handle: int) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(os.pread(handle, 4096, 0).split(b"\n")[0])
        if isinstance(found, dict):
            return found
    return {}


def _beat(handle: int, over: threading.Event) -> None:
    """Say whose the lock is, and then show signs of life: a number that grows."""
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whose = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    line, number = json.dumps(whose), 0
    while True:
        with contextlib.suppress(OSError):  # of a full disk: the lock itself holds
            os.pwrite(handle, f"{line}\n{number}\n".encode(), 0)
        if over.wait(BEAT):
            return
        number += 1
