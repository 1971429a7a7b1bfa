"""Room for whole frames: how many of them a process may work on at once within its budget."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from daskcal.frames.band import pixel_bytes
from daskcal.frames.memory import SLACK, budget, threads
from daskcal.frames.stack import Stack

_changed = threading.Condition()
_held = 0  # bytes that this process works with


@dataclass(frozen=True, slots=True)
class Room:
    """What work on one whole frame takes, and what all that is done at once may take.

    Attributes
    ----------
    wanted, limit : int
        Bytes.
    """

    wanted: int
    limit: int

    @classmethod
    def of_frame(cls, stack: Stack, working: int) -> Room:
        """Room for one frame of `stack`, with `working` bytes for each of its pixels.

        Beside those there are the raw pixels of the frames that wait, and masters as a whole.
        """
        rows, columns = stack.section.shape
        masters = [np.dtype(i.dtype).itemsize for i in stack.recipe.inputs if i.index == "yx"]
        waiting = threads() * stack.recipe.source.dtype.itemsize
        beside = rows * columns * (waiting + 2 * sum(masters))  # as they are, and cut for the steps
        return cls(frame_bytes(stack, working), int(SLACK * budget()) - beside)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait until there is room, and hold it meanwhile.

        What is too large alone has its turn when nothing else is held.
        """
        global _held
        with _changed:
            _changed.wait_for(lambda: _held == 0 or _held + self.wanted <= self.limit)
            _held += self.wanted
        try:
            yield
        finally:
            with _changed:
                _held -= self.wanted
                _changed.notify_all()


def frame_bytes(stack: Stack, working: int) -> int:
    """Bytes of a frame that is worked on as a whole, `working` of them for each of its pixels."""
    rows, columns = stack.section.shape
    return rows * columns * (2 * pixel_bytes(stack.recipe) + working)
