"""Frames' data held against their DATASUM by those who will read them, each frame once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from daskcal.fits.datasum import check_datasum
from daskcal.fits.frame import Frame
from daskcal.frames.memory import active_client

THREADS = 4  # that read files, where no workers do


def found_sound(frames: Sequence[tuple[int, Frame]]) -> Iterator[int]:
    """The number of each frame, once its data were found to be those of its DATASUM.

    Workers look, where there are any: no pixel passes through the process that leads them. What is
    read here lies in the memory of its host when it is wanted the next moment.

    Raises
    ------
    FrameError
        Of the first that is damaged.
    """
    told = [(i, frame) for i, frame in frames if _tells(frame)]
    yield from {i for i, _ in frames} - {i for i, _ in told}
    client = active_client()
    if client is None:
        with ThreadPoolExecutor(THREADS) as pool:
            done = pool.map(check_datasum, [frame for _, frame in told])
            for (i, _), _ in zip(told, done, strict=True):
                yield i
        return
    futures = client.map(check_datasum, [frame for _, frame in told], pure=False)
    try:
        for (i, _), future in zip(told, futures, strict=True):
            future.result()
            yield i
    finally:
        client.cancel(futures)


def _tells(frame: Frame) -> bool:
    return any("DATASUM" in part.header for part in frame.parts or (frame,))
