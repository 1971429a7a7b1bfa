"""Where one frame's pixels lie in a file, and reading them without parsing a header."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits.content import check_unchanged, open_regular, spool

_PAGE = 4096
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
        How the whole file is packed: ``""``, ``"gzip"`` or ``"bzip2"``.
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
    source: ImageSource, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Read a window of one frame.

    Parameters
    ----------
    source : ImageSource
        The frame.
    rows, columns : (int, int)
        First and one past the last, 0-based.

    Returns
    -------
    values : array of shape (rows, columns), of type ``source.dtype``
        Undefined pixels are NaN where the type is floating.
    undefined : array of bool of the same shape, or None
        True where BLANK, NaN or Inf was found; None where ``source.can_be_undefined`` is false.

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
    if source.compression:
        from daskcal.fits.tiles import read_tiles

        return _values(source, read_tiles(source, rows, columns))
    return _values(source, _read_stored(source, rows, columns))


def open_content(source: ImageSource) -> int:
    """A file descriptor of the unpacked content, found unchanged since the scan."""
    if not source.wrapper:
        handle, status = open_regular(source.path)
        try:
            check_unchanged(source.path, status, source.size, source.mtime_ns)
        except FrameError:
            os.close(handle)
            raise
        return handle
    for attempt in range(2):
        copy = spool(source.path, source.size, source.mtime_ns, source.unpacked_size)
        try:
            return open_regular(copy)[0]
        except FrameError:  # removed by another process between the two lines above
            if attempt:
                raise
    raise AssertionError("unreachable")


def _read_stored(source: ImageSource, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray:
    """The stored numbers of a window, big-endian as in the file, contiguous."""
    stored = source.stored_dtype
    width, height = columns[1] - columns[0], rows[1] - rows[0]
    row_bytes = source.shape[1] * stored.itemsize
    start = source.offset + rows[0] * row_bytes + columns[0] * stored.itemsize
    if not width or not height:
        return np.empty((height, width), stored)
    handle = open_content(source)
    try:
        if row_bytes - width * stored.itemsize >= _PAGE:
            window = np.empty((height, width), stored)
            for row in range(height):
                _fill(source, handle, window[row], start + row * row_bytes)
            return window
        band = np.empty((height - 1) * source.shape[1] + width, stored)
        _fill(source, handle, band, start)
    finally:
        os.close(handle)
    if width == source.shape[1]:
        return band.reshape(height, width)
    strides = (row_bytes, stored.itemsize)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(band, (height, width), strides))


def _fill(source: ImageSource, handle: int, target: NDArray, offset: int) -> None:
    """Fill `target` with the file's bytes from `offset`: every read of plain pixels is this one."""
    buffer = target.view(np.uint8).data
    done = 0
    while done < len(buffer):
        try:
            count = os.preadv(handle, [buffer[done:]], offset + done)
        except OSError as error:
            raise FrameError(
                source.path, "unreadable", f"reading failed: {error.strerror}", source.hdu
            ) from error
        if not count:
            raise FrameError(
                source.path,
                "truncated",
                f"{len(buffer)} bytes from {offset} were to be read and {done} are there",
                source.hdu,
            )
        done += count


def _values(source: ImageSource, stored: NDArray) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Values, and where they are undefined, from stored numbers of either byte order."""
    if not stored.dtype.isnative:
        native = stored.view(stored.dtype.newbyteorder("="))
        np.copyto(native, stored)  # in place; several times as fast as byteswap()
        stored = native
    undefined = None if source.blank is None else stored == source.blank
    if source.is_shifted and source.bitpix > 0:
        # adding 2**(n-1) to n bits is flipping the highest of them
        values = stored.view(f"u{stored.itemsize}")
        values ^= values.dtype.type(1 << (source.bitpix - 1))
        return values.view(source.dtype), undefined
    if not source.is_scaled:
        values = stored
    else:
        values = stored.astype(source.dtype, copy=False)
        with np.errstate(all="ignore"):  # what overflows is undefined, as is what was
            if source.bscale != 1:
                values *= values.dtype.type(source.bscale)
            if source.bzero != 0:
                values += values.dtype.type(source.bzero)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if undefined is not None:
            finite &= ~undefined
        undefined = ~finite
        if undefined.any():
            values[undefined] = np.nan
    return values, undefined
