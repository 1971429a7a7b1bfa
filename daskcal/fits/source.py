"""Where one frame's pixels lie in a file, and reading them without parsing a header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits.content import spool
from daskcal.fits.open_file import LocalFile, OpenFile, Stamp, open_file
from daskcal.fits.tile_table import TileTable

_AT_ONCE = 4 << 20  # bytes that are held beside the window which they go into
_UNSIGNED = {8: -128.0, 16: 2.0**15, 32: 2.0**31, 64: 2.0**63}
_STORED = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}


@dataclass(frozen=True, slots=True)
class ImageSource:
    """All that reading one frame's pixels needs.

    Attributes
    ----------
    path : str
        The file, absolute.
    hdu : int
        Index of the HDU; 0 is the primary one.
    wrapper : str
        How the whole file is packed: ``""``, ``"gzip"`` or ``"bzip2"``; or ``"copied"``: it is
        read from a copy that each host makes of what is behind the URL.
    compression : str
        FITS tile compression (``"RICE_1"``, ...), ``""`` for none.
    offset : int
        Bytes from the start of the (unpacked) file to the data unit.
    shape : (int, int)
        Rows, columns.
    bitpix, bscale, bzero, blank
        How the image's pixels are stored; `blank` is the stored value of undefined ones or None.
    size, mtime_ns : int
        Of the file on disk when it was scanned.
    unpacked_size : int
        Bytes of the content; `size` for files that are not packed.
    tiles : TileTable or None
        Where the tiles lie, where daskcal itself decodes them.
    tag : str
        Of a file behind a URL: which version of it was scanned.
    """

    path: str
    hdu: int
    wrapper: str
    compression: str
    offset: int
    shape: tuple[int, int]
    bitpix: int
    bscale: float
    bzero: float
    blank: int | None
    size: int
    mtime_ns: int
    unpacked_size: int
    tiles: TileTable | None = None
    tag: str = ""

    @property
    def stamp(self) -> Stamp:
        """What the file was when it was scanned."""
        return Stamp(self.size, self.mtime_ns, self.tag)

    @property
    def is_scaled(self) -> bool:
        """Whether BSCALE and BZERO make other numbers of the stored ones."""
        return (self.bscale, self.bzero) != (1.0, 0.0) and not self.is_shifted

    @property
    def is_shifted(self) -> bool:
        """Whether BZERO is the one that stands for unsigned integers (or signed bytes)."""
        return self.bscale == 1 and self.bzero == _UNSIGNED.get(self.bitpix)

    @property
    def stored_dtype(self) -> np.dtype:
        """The type of the stored numbers, in the byte order of the file."""
        return np.dtype(">" + _STORED[self.bitpix])

    @property
    def dtype(self) -> np.dtype:
        """The type, in native byte order, of the values that reading gives."""
        if self.bitpix < 0:
            return np.dtype(_STORED[self.bitpix])
        if self.is_scaled:
            return np.dtype("f4" if self.bitpix <= 16 else "f8")
        if self.is_shifted:
            return np.dtype("i1" if self.bitpix == 8 else f"u{self.bitpix // 8}")
        return np.dtype(_STORED[self.bitpix])

    @property
    def can_be_undefined(self) -> bool:
        """Whether pixels may be undefined: BLANK is given, or the values are floating."""
        return self.blank is not None or self.dtype.kind == "f"


def read_pixels(
    source: ImageSource,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: NDArray | None = None,
) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Read a window of one frame.

    Parameters
    ----------
    source : ImageSource
        The frame.
    rows, columns : (int, int)
        First and one past the last, 0-based.
    out : contiguous array of shape (rows, columns), of type ``source.dtype``, optional
        Where the values go: a part of a stack, say, into which the file is then read at once.

    Returns
    -------
    values : array of shape (rows, columns), of type ``source.dtype``
        `out` where it is given. Undefined pixels are NaN where the type is floating.
    undefined : array of bool of the same shape, or None
        True where BLANK, NaN or Inf was found; None where there is none of them.

    Raises
    ------
    FrameError
        ``missing``, ``changed`` since the scan, ``truncated``, ``damaged``, ``unreadable``.
    ArgumentError
        Where the window does not lie within the frame.
    OutputError
        Where a packed file cannot be unpacked for want of scratch space.
    """
    for name, (start, stop), length in zip(
        ("rows", "columns"), (rows, columns), source.shape, strict=True
    ):
        if not 0 <= start <= stop <= length:
            raise ArgumentError(f"{name}={start, stop} do not lie within 0 to {length}")
    shape = rows[1] - rows[0], columns[1] - columns[0]
    values = np.empty(shape, source.dtype) if out is None else out
    alike = source.stored_dtype.itemsize == values.itemsize
    stored = values.view(source.stored_dtype) if alike else np.empty(shape, source.stored_dtype)
    if source.compression:
        from daskcal.fits.tiles import read_tiles

        stored = read_tiles(source, rows, columns, stored)
    else:
        read_stored(source, rows, columns, stored)
    return values, _convert(source, stored, values)


def open_content(source: ImageSource) -> OpenFile:
    """The unpacked content, found unchanged since the scan."""
    if not source.wrapper:
        return open_file(source.path, source.stamp)
    for attempt in range(2):
        copy = spool(source.path, source.stamp, source.unpacked_size)
        try:
            return open_file(copy)
        except FrameError:  # removed by another process between the two lines above
            if attempt:
                raise
    raise AssertionError("unreachable")


def read_stored(
    source: ImageSource, rows: tuple[int, int], columns: tuple[int, int], window: NDArray
) -> None:
    """Fill `window`, contiguous, with its stored numbers, big-endian as in the file."""
    height, width = window.shape
    row_bytes = source.shape[1] * window.itemsize
    start = source.offset + rows[0] * row_bytes + columns[0] * window.itemsize
    if not width or not height:
        return
    file = open_content(source)
    try:
        if width == source.shape[1]:
            fill(source, file, window, start)
        elif row_bytes - width * window.itemsize >= file.gap:
            fill_each(source, file, [(row, start + i * row_bytes) for i, row in enumerate(window)])
        else:
            step = max(1, _AT_ONCE // row_bytes)
            for first in range(0, height, step):
                some = window[first : first + step]
                band = np.empty((len(some) - 1) * source.shape[1] + width, window.dtype)
                fill(source, file, band, start + first * row_bytes)
                strides = (row_bytes, window.itemsize)
                some[:] = np.lib.stride_tricks.as_strided(band, some.shape, strides)
    finally:
        file.close()


def fill_each(source: ImageSource, file: OpenFile, pieces: Sequence[tuple[NDArray, int]]) -> None:
    """Fill several targets, each with the file's bytes from an offset on."""
    if isinstance(file, LocalFile) or len(pieces) == 1:
        for target, offset in pieces:
            fill(source, file, target, offset)
        return
    ranges = [(offset, target.nbytes) for target, offset in pieces]
    for (target, offset), raw in zip(pieces, file.read_each(ranges), strict=True):
        if len(raw) < target.nbytes:
            raise _short(source, target.nbytes, offset, len(raw))
        _bytes_of(target)[:] = raw


def fill(source: ImageSource, file: OpenFile, target: NDArray, offset: int) -> None:
    """Fill `target` with the file's bytes from `offset` on."""
    buffer = _bytes_of(target)
    done = 0
    while done < len(buffer):
        try:
            count = file.read_into(buffer[done:], offset + done)
        except OSError as error:
            raise FrameError(
                source.path, "unreadable", f"reading failed: {error.strerror}", source.hdu
            ) from error
        if not count:
            raise _short(source, len(buffer), offset, done)
        done += count


def _bytes_of(target: NDArray) -> memoryview:
    return target.reshape(-1).view(np.uint8).data


def _short(source: ImageSource, wanted: int, offset: int, there: int) -> FrameError:
    return FrameError(
        source.path,
        "truncated",
        f"{wanted} bytes from {offset} were to be read and {there} are there",
        source.hdu,
    )


def _convert(source: ImageSource, stored: NDArray, values: NDArray) -> NDArray[np.bool_] | None:
    """Make `values` of stored numbers of either byte order, perhaps in the same memory.

    Returns where they are undefined, None where they all are defined.
    """
    if values.dtype.kind == "f":
        undefined = _make_floats(source, stored, values)
        if undefined is not None:
            values[undefined] = np.nan
        return undefined
    # adding 2**(n-1) to n bits is flipping the highest of them
    flip = 1 << (source.bitpix - 1) if source.is_shifted else 0
    native = _native(stored, flip).view(values.dtype)
    if not np.may_share_memory(native, values):
        values[:] = native
    if source.blank is None:
        return None
    bits = f"u{values.itemsize}"
    blank = np.array((source.blank & ((1 << source.bitpix) - 1)) ^ flip, bits)
    undefined = values.view(bits) == blank
    return undefined if undefined.any() else None


def _native(stored: NDArray, flip: int = 0) -> NDArray:
    """Turn numbers to the byte order of this machine, in place, and flip some of their bits."""
    words = stored.view(f"u{stored.itemsize}")
    if not stored.dtype.isnative:
        from daskcal.fits.byte_order import swap

        swap(words.reshape(-1), words.dtype.type(flip))
    elif flip:
        words ^= words.dtype.type(flip)
    return stored.view(stored.dtype.newbyteorder("="))


def _make_floats(source: ImageSource, stored: NDArray, values: NDArray) -> NDArray[np.bool_] | None:
    """Fill floating `values`, scaled; where they are undefined, None if nowhere."""
    if stored.dtype.kind == "f" and not stored.dtype.isnative and not source.is_scaled:
        from daskcal.fits.byte_order import swap_floats

        words = values.view(f"u{values.itemsize}").reshape(-1)
        exponent = np.array(np.inf, values.dtype).view(words.dtype)
        return ~np.isfinite(values) if swap_floats(words, exponent[()]) else None
    native = _native(stored)
    blank = False if source.blank is None else native == source.blank
    np.copyto(values, native, casting="unsafe")
    with np.errstate(all="ignore"):  # what overflows is undefined, as is what was
        if source.bscale != 1:
            values *= values.dtype.type(source.bscale)
        if source.bzero != 0:
            values += values.dtype.type(source.bzero)
    undefined = ~np.isfinite(values) | blank
    return undefined if undefined.any() else None
