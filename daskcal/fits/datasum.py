"""Whether the data of a frame are those that its DATASUM was written for."""

from __future__ import annotations

import numpy as np

from daskcal.errors import FrameError
from daskcal.fits.checksum import folded, word_sum
from daskcal.fits.frame import Frame
from daskcal.fits.source import fill, open_content

_PIECE = 1 << 22  # bytes read at once
_ONES = 0xFFFFFFFF  # is 0 in ones' complement


def check_datasum(frame: Frame) -> None:
    """Read a frame's data once, and hold their sum against the DATASUM of its header, if any.

    Of several amplifiers' HDUs each is held against its own. Tile-compressed images are left out:
    their DATASUM is that of the image before compression, and codecs see most damage themselves.

    Raises
    ------
    FrameError
        ``damaged``: the sum is another one. Or what reading raises.
    """
    for part in frame.parts or (frame,):
        _check(part)


def _check(frame: Frame) -> None:
    source = frame.source
    text = str(frame.header.get("DATASUM", "")).strip()
    if not text.isdecimal() or source.compression:
        return
    size = source.shape[0] * source.shape[1] * source.stored_dtype.itemsize  # the rest is 0
    buffer = np.empty(min(size, _PIECE), np.uint8)
    total, file = 0, open_content(source)
    try:
        for at in range(0, size, _PIECE):
            piece = buffer[: min(_PIECE, size - at)]
            fill(source, file, piece, source.offset + at)
            total = folded(total + word_sum(piece))
    finally:
        file.close()
    if total % _ONES != int(text) % _ONES:
        raise FrameError(
            source.path,
            "damaged",
            f"its data sum to {total}, and its DATASUM is {text}: they are not those that were "
            "written; copy the file again ([gates] datasum = false trusts such files)",
            source.hdu,
        )
