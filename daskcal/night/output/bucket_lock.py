"""One run at a time on an output behind a URL, where nothing is locked by the system.

An object says whose the output is. The first run puts it there (a store that has conditional
writes, such as S3, lets one of several succeed) and changes it every few seconds, which shows that
it lives. A run that finds the object of a dead one takes it over, with an object that only one run
can make. A run that was silent for so long that another took its output finds that out, and ends.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from daskcal.errors import DaskcalError, OutputError
from daskcal.fits.objects import create_object, put_object, remove_object
from daskcal.fits.whole import read_whole
from daskcal.night.output import lock

_TRIES = 20


class LostOutputError(DaskcalError):
    """Another run has taken the output, since this one showed no sign of life."""


class Claim:
    """The object that says whose an output is.

    Parameters
    ----------
    folder : str
        The URL of the output.
    say : callable
        Takes a message for the user where this takes long.
    """

    def __init__(self, folder: str, say: Callable[[str], None]) -> None:
        self.folder, self.url, self._say = folder, f"{folder}/{lock.NAME}", say
        self._token = secrets.token_hex(8)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._whose = {"host": socket.gethostname(), "process": os.getpid(), "since": since,
                       "token": self._token}  # fmt: skip
        self._number = 0
        self._lost = False
        self._beaten = time.monotonic()

    def acquire(self) -> None:
        """Make the output this run's.

        Raises
        ------
        OutputError
            It is another's, or the store refuses.
        """
        for _ in range(_TRIES):
            seen = self._seen()
            if seen is None:
                create_object(self.url, self._content())
                seen = self._seen()  # of an answer that was lost, or a store that created twice
            if seen is None:
                continue  # its holder came to its end meanwhile
            holder = _holder(seen)
            if holder.get("token") == self._token or self._take_over(seen, holder):
                return
        raise OutputError(f"{self.url} changes all the time; try again")

    def _take_over(self, seen: bytes, holder: dict[str, Any]) -> bool:
        """Take the output of a run that is dead; False where it is another's by now."""
        self._respect(seen, holder)
        ticket = f"{self.url}-{holder.get('token', 'x')}"
        mine = self._content()
        # an answer may be lost: then the ticket stands, and is this run's
        if not create_object(ticket, mine) and _read(ticket) != mine:
            raise OutputError(
                f"{self.folder} is being taken over by another run; wait for it, or remove "
                f"{ticket} where there is none"
            )
        try:
            if self._seen() != seen:
                return False
            put_object(self.url, self._content())
            return True
        finally:
            remove_object(ticket)

    def _respect(self, seen: bytes, holder: dict[str, Any]) -> None:
        """Refuse where the run that the object is of may be alive."""
        if holder.get("host") == socket.gethostname() and not lock.runs(holder.get("process")):
            return
        self._say(
            f"{self.url} is of process {holder.get('process', '?')} on {holder.get('host', '?')}: "
            f"waiting {lock.PATIENCE:g} s for a sign of life"
        )
        until = time.monotonic() + lock.PATIENCE
        while time.monotonic() < until:
            time.sleep(min(2.0, lock.PATIENCE / 4))
            if (now := self._seen()) != seen:
                if now is None:
                    return
                raise lock.refused(self.folder, holder)

    def beat(self) -> None:
        """Show a sign of life, or find that another run has the output."""
        seen = self._seen()
        if seen is None or _holder(seen).get("token") != self._token:
            self._lost = True
            return
        self._number += 1
        put_object(self.url, self._content())
        self._beaten = time.monotonic()

    def check(self) -> None:
        """Raise a `LostOutputError` where another run has the output."""
        if time.monotonic() - self._beaten > lock.PATIENCE:  # silent so long, it may be another's
            self.beat()
        if self._lost:
            raise LostOutputError(
                f"{self.folder} was taken by another run, since this one showed no sign of life "
                f"for {lock.PATIENCE:g} s (a machine that was asleep, a network that was away); "
                "what was made stays; run again when the other has ended"
            )

    def release(self) -> None:
        """The output is nobody's."""
        if not self._lost:
            remove_object(self.url)

    def _seen(self) -> bytes | None:
        return _read(self.url)

    def _content(self) -> bytes:
        return f"{json.dumps(self._whose)}\n{self._number}\n".encode()


def _read(url: str) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return read_whole(url)
    return None


def _holder(content: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(content.split(b"\n")[0])
        if isinstance(found, dict):
            return found
    return {}


@contextlib.contextmanager
def held(folder: str, say: Callable[[str], None]) -> Iterator[Claim]:
    """Hold an output behind a URL for one run.

    Raises
    ------
    OutputError
        Another run holds it: says which process on which host, and since when.
    """
    claim = Claim(folder, say)
    claim.acquire()
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(claim, over), name="daskcal-lock", daemon=True)
    beats.start()
    try:
        yield claim
    finally:
        over.set()
        beats.join()
        with contextlib.suppress(DaskcalError):
            claim.release()


def _beat(claim: Claim, over: threading.Event) -> None:
    while not over.wait(lock.BEAT):
        with contextlib.suppress(Exception):  # a store that is away; `check` sees to the rest
            claim.beat()
