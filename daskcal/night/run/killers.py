"""Frames that kill the workers that read them: found one by one, so that they cost themselves."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import xarray as xr

from daskcal.errors import ClusterError, FrameError


@contextlib.contextmanager
def killers_named(frames: Sequence[Any], opened: Callable[[int], xr.Dataset]) -> Iterator[None]:
    """Say which frame it is that workers died of, where Dask can only say of which task.

    Parameters
    ----------
    frames : sequence of (int, Frame)
        Those that are worked on, with their place in the plan.
    opened : callable
        Opens one of them, by its place, lazily.

    Raises
    ------
    FrameError
        Of the first that kills workers when nothing but itself is read: a decoder that crashes.
    ClusterError
        Workers died, and of no single frame: more likely of too little memory.
    """
    try:
        yield
    except Exception as error:
        if not _is_killed(error):
            raise
        for i, frame in frames:
            if _kills(opened(i)):
                raise FrameError(
                    frame.source.path,
                    "unusable",
                    "kills the workers that read it; their logs say of what",
                    frame.source.hdu,
                ) from error
        raise ClusterError(
            f"workers died over it, and of no single frame: {error}; they may lack memory "
            "(--memory gives bands less of it)"
        ) from error


def _is_killed(error: BaseException) -> bool:
    scheduler = sys.modules.get("distributed.scheduler")  # without a cluster it is not there
    return scheduler is not None and isinstance(error, scheduler.KilledWorker)


def _kills(frame: xr.Dataset) -> bool:
    try:
        frame["image"].max().compute()
    except Exception as error:
        if _is_killed(error):
            return True
        raise
    return False
