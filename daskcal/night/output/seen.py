"""Workers see what this process sees: its frames, and the folder of its products.

Where they do not, every frame of the night would be lost, one after another.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from daskcal.errors import ClusterError, DaskcalError
from daskcal.fits.source import ImageSource, fill, open_content
from daskcal.frames.memory import active_client
from daskcal.night.output.place import Folder, Place
from daskcal.retry import shared


def require_seen(source: ImageSource, place: Place) -> None:
    """Have each worker read from a frame, and look for a file in the folder of products.

    Raises
    ------
    ClusterError
        Names the first that cannot, and says why. Nothing is said of a frame that this process
        cannot read either.
    """
    client = active_client()
    if client is None or _unread(source):
        return
    mark = place.draft("seen") if isinstance(place, Folder) else ""
    try:
        if mark:
            Path(mark).touch()
        answers = client.run(_lacks, source, mark, on_error="return")
    finally:
        if mark:
            place.discard(mark)
    for worker, reason in answers.items():
        if reason and not isinstance(reason, OSError):  # one that is gone meanwhile says nothing
            raise ClusterError(
                f"the worker {worker} cannot work on this night: {reason}; workers must see the "
                "paths, and have the credentials, that this process has"
            )


def _lacks(source: ImageSource, mark: str) -> str:
    """What a worker does not see, in words."""
    if reason := _unread(source):
        return reason
    if not mark:
        return ""
    folder = os.path.dirname(mark)
    try:
        shared(lambda: os.stat(mark), mark)
    except OSError:
        return f"{folder} is not there, or is another folder of that name"
    return "" if os.access(folder, os.W_OK) else f"{folder} is not writable there"


def _unread(source: ImageSource) -> str:
    try:
        file = open_content(source)
        try:
            fill(source, file, np.empty(1, np.uint8), source.offset)
        finally:
            file.close()
    except DaskcalError as error:
        return str(error)
    return ""
