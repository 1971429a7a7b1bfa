"""Reading the bytes of the tiles that a window of a compressed image touches, and no others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daskcal.errors import FrameError
from daskcal.fits.open_file import OpenFile
from daskcal.fits.source import ImageSource, fill, fill_each
from daskcal.fits.tile_table import TileTable

PADDING = 8  # bytes after the data that a decoder may look at
# No coder needs 16 bytes for a pixel, and a little; a descriptor that says so is not believed.
_LONGEST, _LEAST = 16, 64


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles that a window touches; arrays have the shape (tiles down, tiles across).

    Attributes
    ----------
    first : (int, int)
        The place of the first among all tiles, down and across.
    data : array of uint8
        Their bytes, and `PADDING`.
    starts, sizes : arrays of int64
        Where each lies in `data`.
    packed : array of bool
        Whether it holds floats that could not be quantised, packed by gzip.
    scales, zeros : arrays of float64
        Of quantised tiles; else 0.
    """

    first: tuple[int, int]
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    packed: NDArray[np.bool_]
    scales: NDArray[np.float64]
    zeros: NDArray[np.float64]


def read_bytes(
    source: ImageSource,
    table: TileTable,
    file: OpenFile,
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> Tiles | None:
    """The tiles of a window; None where one is kept in a column that `table` does not know.

    Raises
    ------
    FrameError
        ``damaged``, ``truncated`` or ``unreadable``.
    """
    (top, bottom), (left, right) = (
        (first // length, -(-after // length))
        for (first, after), length in zip((rows, columns), table.tile, strict=True)
    )
    across = -(-source.shape[1] // table.tile[1])
    raw = np.empty((bottom - top, across, table.row_bytes), np.uint8)
    fill(source, file, raw, source.offset + top * across * table.row_bytes)
    raw = raw[:, left:right]
    sizes, offsets = _descriptors(raw, table.coded, table.wide)
    packed = sizes == 0
    if packed.any():
        if table.packed is None:
            return None
        others = _descriptors(raw, table.packed, table.wide)
        sizes, offsets = np.where(packed, others, (sizes, offsets))
        if not sizes.all():
            return None
    room = table.end - table.heap
    lost = (sizes < 0) | (offsets < 0) | (offsets > room) | (sizes > room - offsets)
    if lost.any():
        raise damaged(source, table, np.argwhere(lost)[0] + (top, left), "it is outside the data")
    sizes = np.minimum(sizes, _LONGEST * table.tile[0] * table.tile[1] + _LEAST)
    data, starts = _heap(source, file, source.offset + table.heap + offsets, sizes)
    scales, zeros = (_numbers(raw, at, ">f8") for at in (table.scale, table.zero))
    return Tiles((top, left), data, starts, sizes, packed, scales, zeros)


def damaged(source: ImageSource, table: TileTable, tile: ArrayLike, reason: str) -> FrameError:
    """The error for a tile at a place (down, across) among all tiles."""
    row, column = np.multiply(tile, table.tile)
    return FrameError(
        source.path,
        "damaged",
        f"the {source.compression} tile of pixels from row {row} and column {column} on cannot be "
        f"decoded: {reason}",
        source.hdu,
    )


def _descriptors(
    raw: NDArray[np.uint8], at: int, wide: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of each tile, and where they begin in the heap."""
    kind, width = (">i8", 8) if wide else (">u4", 4)
    return _numbers(raw, at, kind), _numbers(raw, at + width, kind)


def _numbers(raw: NDArray[np.uint8], at: int | None, kind: str) -> NDArray:
    """The number at one place of each row of the table; 0 where there is no such place."""
    if at is None:
        return np.zeros(raw.shape[:2])
    dtype = np.dtype(kind)
    found = np.ascontiguousarray(raw[..., at : at + dtype.itemsize]).view(dtype)[..., 0]
    return found.astype(np.float64 if dtype.kind == "f" else np.int64)


def _heap(
    source: ImageSource, file: OpenFile, places: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of tiles one after the other, and where each begins.

    Tiles that follow each other in the file, as those of whole rows do, are read at once.
    """
    ends = np.cumsum(sizes).reshape(sizes.shape)
    starts = ends - sizes
    data = np.zeros(int(ends[-1, -1]) + PADDING, np.uint8)
    breaks = np.flatnonzero((places + sizes).ravel()[:-1] != places.ravel()[1:]) + 1
    pieces = [
        (data[starts.flat[first] : ends.flat[after - 1]], int(places.flat[first]))
        for first, after in zip([0, *breaks], [*breaks, sizes.size], strict=True)
    ]
    fill_each(source, file, pieces)
    return data, starts
