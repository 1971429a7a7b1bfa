"""One image out of rectangles of one or more HDUs: a detector that several amplifiers read out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daskcal.fits.at_once import each_file
from daskcal.fits.source import ImageSource
from daskcal.fits.source import read_pixels as read_stored
from daskcal.fits.urls import is_url

_AT_ONCE = 1 << 20  # bytes of an HDU that are held beside the image which they go into


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of an HDU and where it goes.

    Attributes
    ----------
    source : ImageSource
        The HDU.
    rows, columns : (int, int)
        First and one past the last of its pixels.
    flipped : (bool, bool)
        Whether its rows, and its columns, go in reversed order.
    top, left : int
        Row and column of the image where the rectangle begins.
    """

    source: ImageSource
    rows: tuple[int, int]
    columns: tuple[int, int]
    flipped: tuple[bool, bool]
    top: int
    left: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def within(self, rows: tuple[int, int], columns: tuple[int, int]) -> Piece | None:
        """The part of the piece that goes into a window of the image; None where none does."""
        own = (self.rows, self.top, rows), (self.columns, self.left, columns)
        parts = []
        for (pixels, first, wanted), flipped in zip(own, self.flipped, strict=True):
            start = max(first, wanted[0])
            stop = min(first + pixels[1] - pixels[0], wanted[1])
            if start >= stop:
                return None
            if flipped:
                end = pixels[1] + first
                parts.append(((end - stop, end - start), start))
            else:
                begin = pixels[0] - first
                parts.append(((begin + start, begin + stop), start))
        (own_rows, top), (own_columns, left) = parts
        return Piece(self.source, own_rows, own_columns, self.flipped, top, left)


@dataclass(frozen=True, slots=True)
class AssembledImage:
    """An image that lies in rectangles of HDUs of one file; pixels of no piece have no value.

    The names that it shares with `ImageSource` mean the same; `hdu` is the first one's.
    """

    shape: tuple[int, int]
    pieces: tuple[Piece, ...]

    @property
    def path(self) -> str:
        """The file."""
        return self.pieces[0].source.path

    @property
    def hdu(self) -> int:
        """The first HDU."""
        return min(piece.source.hdu for piece in self.pieces)

    @property
    def bitpix(self) -> int:
        """The least of the pieces': positive where all are stored as integers."""
        return min(piece.source.bitpix for piece in self.pieces)

    @property
    def bscale(self) -> float:
        """The coarsest step of stored integers."""
        return max(abs(piece.source.bscale) for piece in self.pieces)

    @property
    def dtype(self) -> np.dtype:
        """A type that holds the values of all pieces."""
        return np.result_type(*{piece.source.dtype for piece in self.pieces})

    @property
    def has_holes(self) -> bool:
        """Whether some pixels belong to no piece; pieces do not overlap."""
        held = sum(rows * columns for rows, columns in (piece.shape for piece in self.pieces))
        return held < self.shape[0] * self.shape[1]

    @property
    def can_be_undefined(self) -> bool:
        """Whether pixels may be undefined."""
        return self.has_holes or any(piece.source.can_be_undefined for piece in self.pieces)


def read_pixels(
    source: ImageSource | AssembledImage,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: NDArray | None = None,
) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Read a window of an HDU (`daskcal.fits.source.read_pixels`), or of an assembled image."""
    if isinstance(source, ImageSource):
        return read_stored(source, rows, columns, out)
    return _read_assembled(source, rows, columns, out)


def read_each(
    sources: Sequence[ImageSource | AssembledImage],
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: NDArray,
) -> Iterator[tuple[NDArray, NDArray[np.bool_] | None]]:
    """Read a window of each of several images, in order; at once those behind URLs.

    Values are a part of `out` (image, row, column) where its type is theirs.
    """

    def read(i: int) -> tuple[NDArray, NDArray[np.bool_] | None]:
        direct = out[i] if sources[i].dtype == out.dtype else None
        return read_pixels(sources[i], rows, columns, direct)

    numbers = range(len(sources))
    return each_file(read, numbers) if any(map(_is_far, sources)) else map(read, numbers)


def _is_far(source: ImageSource | AssembledImage) -> bool:
    first = source if isinstance(source, ImageSource) else source.pieces[0].source
    return is_url(first.path)


def _read_assembled(
    image: AssembledImage,
    rows: tuple[int, int],
    columns: tuple[int, int],
    out: NDArray | None,
) -> tuple[NDArray, NDArray[np.bool_] | None]:
    """Read each stored pixel of the window once."""
    shape = rows[1] - rows[0], columns[1] - columns[0]
    values = np.empty(shape, image.dtype) if out is None else out
    undefined = None
    if image.has_holes:
        values[:] = 0
        undefined = np.ones(shape, np.bool_)
    for stored, bad, piece in _stored(image, rows, columns):
        top, left = piece.top - rows[0], piece.left - columns[0]
        where = slice(top, top + piece.shape[0]), slice(left, left + piece.shape[1])
        values[where] = stored
        if bad is not None and undefined is None:
            undefined = np.zeros(shape, np.bool_)
        if undefined is not None:
            undefined[where] = False if bad is None else bad
    if undefined is not None and not undefined.any():
        undefined = None
    if undefined is not None and values.dtype.kind == "f":
        values[undefined] = np.nan
    return values, undefined


def _stored(
    image: AssembledImage, rows: tuple[int, int], columns: tuple[int, int]
) -> Iterator[tuple[NDArray, NDArray[np.bool_] | None, Piece]]:
    """Values of a window's pieces, turned, where they are undefined, and where they go.

    Pieces from the same rows of an HDU come out of one read.
    """
    reads: dict[tuple[int, tuple[int, int]], list[Piece]] = {}
    for whole in image.pieces:
        piece = whole.within(rows, columns)
        if piece is not None:
            reads.setdefault((piece.source.hdu, piece.rows), []).append(piece)
    for (_, (first, last)), pieces in reads.items():
        source = pieces[0].source
        span = min(p.columns[0] for p in pieces), max(p.columns[1] for p in pieces)
        height = max(1, _AT_ONCE // ((span[1] - span[0]) * source.dtype.itemsize))
        for start in range(first, last, height):
            some = start, min(start + height, last)
            values, undefined = read_stored(source, some, span)
            for piece in pieces:
                part = _of_rows(piece, some)
                across = slice(piece.columns[0] - span[0], piece.columns[1] - span[0])
                turn = tuple(slice(None, None, -1 if flip else 1) for flip in piece.flipped)
                bad = None if undefined is None else undefined[:, across][turn]
                yield values[:, across][turn], bad, part


def _of_rows(piece: Piece, rows: tuple[int, int]) -> Piece:
    """The part of a piece that some rows of its HDU are."""
    after = piece.rows[1] - rows[1] if piece.flipped[0] else rows[0] - piece.rows[0]
    return Piece(piece.source, rows, piece.columns, piece.flipped, piece.top + after, piece.left)
