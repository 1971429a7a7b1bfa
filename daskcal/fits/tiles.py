"""Reading tile-compressed images: only the tiles that a window touches are read and decoded.

Rice and gzip tiles are decoded here, from where the scan found them. Others are astropy's, which
parses the headers of the file again for each window.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from daskcal.errors import FrameError
from daskcal.fits.open_file import OpenFile
from daskcal.fits.source import ImageSource, open_content
from daskcal.fits.tile_bytes import Tiles, damaged, read_bytes
from daskcal.fits.tile_table import TileTable

if TYPE_CHECKING:
    from daskcal.fits.tile_decode import Meaning, Window

_CODED = {1: "u1", 2: "i2", 4: "i4"}
_NO_BLANK = 1 << 62


def read_tiles(
    source: ImageSource, rows: tuple[int, int], columns: tuple[int, int], room: NDArray
) -> NDArray:
    """The stored numbers (before BSCALE and BZERO) of a window of a tile-compressed image.

    Quantised floats come as floats, NaN where they are undefined. `room`, of the shape of the
    window and the type of the stored numbers, is used for them where that spares a copy.

    Raises
    ------
    FrameError
        ``damaged`` where a tile cannot be decoded; ``changed``, ``truncated``, ``unreadable``.
    """
    if not room.size:
        return room
    table = source.tiles
    file = open_content(source)
    try:
        if table is not None:
            tiles = read_bytes(source, table, file, rows, columns)
            if tiles is not None:
                out = room.view(room.dtype.newbyteorder("="))
                _decode(source, table, tiles, rows, columns, out)
                return out
        return _read_by_astropy(source, file, rows, columns)
    finally:
        file.close()


def _decode(
    source: ImageSource,
    table: TileTable,
    tiles: Tiles,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: NDArray,
) -> None:
    """Fill `out` with a window."""
    from daskcal.fits.tile_decode import AS_THEY_ARE, NO_DITHER, Meaning, Window, put_tile

    window = Window(tiles.first, table.tile, source.shape, rows, columns)
    as_they_are = meaning = Meaning(AS_THEY_ARE, _NO_BLANK, 0, _random_numbers())
    if table.scale is not None:
        blank = _NO_BLANK if table.blank is None else table.blank
        meaning = Meaning(NO_DITHER + table.dither, blank, table.seed, _random_numbers())
    by_gzip = tiles.packed
    if source.compression == "RICE_1":
        _unrice(source, table, tiles, window, meaning, out)
    else:
        by_gzip = np.ones_like(by_gzip)
    for down, across in np.argwhere(by_gzip):
        at = down, across
        try:
            pixels = _unzipped(source, table, tiles, at)
        except (zlib.error, ValueError) as error:
            raise damaged(source, table, np.add(at, tiles.first), str(error)) from error
        stands_for = as_they_are if tiles.packed[at] else meaning
        scale, zero = tiles.scales[at], tiles.zeros[at]
        put_tile(pixels, down, across, window, stands_for, scale, zero, out)


def _unrice(
    source: ImageSource,
    table: TileTable,
    tiles: Tiles,
    window: Window,
    meaning: Meaning,
    out: NDArray,
) -> None:
    """Decode the tiles that are Rice-coded."""
    from daskcal.fits.tile_decode import ENDS_EARLY, GOOD, decode_tiles

    sizes = np.where(tiles.packed, 0, tiles.sizes)
    pixels = np.empty(table.tile[0] * table.tile[1], _CODED[table.bytepix])
    *tile, fault = decode_tiles(
        tiles.data, tiles.starts, sizes, table.block, pixels,
        window, meaning, tiles.scales, tiles.zeros, out,
    )  # fmt: skip
    if fault != GOOD:
        early = fault == ENDS_EARLY
        reason = "its bytes end early" if early else "it has a code that does not exist"
        raise damaged(source, table, np.add(tile, tiles.first), reason)


def _unzipped(source: ImageSource, table: TileTable, tiles: Tiles, at: tuple[int, int]) -> NDArray:
    """The numbers of a tile that gzip has packed.

    Their number of bytes says of which type they are (as in fitsio and astropy): integers, or
    floats where these have not been quantised.

    Raises
    ------
    zlib.error, ValueError
        Where the bytes are not intact, or not as many as there are pixels.
    """
    height, width = (
        min(length, all_of_it - (first + n) * length)
        for first, n, length, all_of_it in zip(
            tiles.first, at, table.tile, source.shape, strict=True
        )
    )
    count = height * width
    start = tiles.starts[at]
    decoder = zlib.decompressobj(wbits=31)  # 31: gzip header, CRC and length checked
    raw = decoder.decompress(tiles.data[start : start + tiles.sizes[at]].data, 8 * count + 1)
    itemsize, odd = divmod(len(raw), count)
    packed = bool(tiles.packed[at])
    floats = source.bitpix < 0 and (packed or table.scale is None)
    kinds = {4: ">f4", 8: ">f8"} if floats else {1: "u1", 2: ">i2", 4: ">i4", 8: ">i8"}
    if odd or itemsize not in kinds or not decoder.eof:
        raise ValueError(f"it unpacks to {len(raw)} bytes or more for {count} pixels")
    numbers = np.frombuffer(raw, np.uint8)
    if source.compression == "GZIP_2" and not packed:  # first bytes first, then all second ones
        numbers = np.ascontiguousarray(numbers.reshape(itemsize, count).T)
    stored = numbers.reshape(-1).view(kinds[itemsize])
    return stored.astype(stored.dtype.newbyteorder("="))


@cache
def _random_numbers() -> NDArray[np.float32]:
    """The 10,000 numbers of dithering: Park and Miller 1988, as the FITS standard 4.0, appendix I.

    The standard gives the last seed for a check: 1043618065.
    """
    seeds = [1]
    for _ in range(10_000):
        seeds.append(16807 * seeds[-1] % 2147483647)
    return np.array([seed / 2147483647 for seed in seeds[1:]], np.float32)


def _read_by_astropy(
    source: ImageSource, file: OpenFile, rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray:
    from astropy.io import fits

    with file.stream() as stream:
        try:
            with fits.open(stream, memmap=False, do_not_scale_image_data=True) as hdus:
                hdu = hdus[source.hdu]
                squeezed = (0,) * (len(hdu.shape) - 2)
                values = hdu.section[(*squeezed, slice(*rows), slice(*columns))]
        except FrameError:
            raise
        except Exception as error:
            raise FrameError(
                source.path,
                "damaged",
                f"the {source.compression} tiles cannot be decoded: {error}",
                source.hdu,
            ) from error
    return np.ascontiguousarray(values)
