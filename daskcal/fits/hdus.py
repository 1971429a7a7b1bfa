"""The HDUs of a file, found from its bytes: headers, where the data lie, whether all are there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from daskcal.errors import FrameError
from daskcal.fits.content import FITS_MAGIC
from daskcal.fits.header import BLOCK, CARD, Cards, Value, find_end, parse
from daskcal.fits.open_file import LocalFile, OpenFile

_FIRST_READ = 10 * BLOCK
_LARGEST_HEADER = 4096 * BLOCK
_SEARCHED = 256 * BLOCK
_AHEAD = 1 << 16
_EXTENSION = b"XTENSION= '"
_BITPIX = (8, 16, 32, 64, -32, -64)


class Bytes(Protocol):
    """A source of bytes that is read forwards."""

    path: str

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer where the content ends."""
        ...

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size), in order and not overlapping."""
        ...


class PlainBytes:
    """The bytes of an open file.

    Of one that is far away, a header is read with what follows it, which is often the next one.
    """

    def __init__(self, file: OpenFile) -> None:
        self.path, self.size = file.path, file.stamp.size
        self._file = file
        self._ahead = 0 if isinstance(file, LocalFile) else _AHEAD
        self._kept, self._kept_from = b"", 0

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer where the file ends."""
        held = self._held(offset, size)
        if held is None:
            (held,) = self._file.read_each([(offset, max(size, self._ahead))])
            if self._ahead:
                self._kept, self._kept_from = held, offset
        return held[:size]

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size), in order and not overlapping."""
        held = {one: self._held(*one) for one in ranges}
        lacking = [one for one in ranges if held[one] is None]
        read = dict(zip(lacking, self._file.read_each(lacking) if lacking else [], strict=True))
        return [raw if (raw := held[one]) is not None else read[one] for one in ranges]

    def _held(self, offset: int, size: int) -> bytes | None:
        at = offset - self._kept_from
        stop = min(offset + size, self.size) - self._kept_from
        return self._kept[at:stop] if self._kept and at >= 0 and stop <= len(self._kept) else None


class UnpackedBytes:
    """The unpacked bytes of a packed file; what lies between two reads is dropped as it passes.

    One header (4 MiB) is kept, so that a header can be read in pieces.
    """

    def __init__(self, path: str, pieces: Iterator[bytes]) -> None:
        self.path, self._pieces = path, pieces
        self._kept, self._kept_from = b"", 0

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer where the content ends."""
        if offset < self._kept_from:
            raise ValueError(f"byte {offset} has passed; the next is {self._kept_from}")
        kept = [self._kept]
        end = self._kept_from + len(self._kept)
        while end < offset + size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            if end <= offset:
                kept, self._kept_from = [], end  # all before the piece has passed
            kept.append(piece)
            end += len(piece)
        self._kept = b"".join(kept)
        drop = min(max(offset - self._kept_from, 0), len(self._kept))
        if drop:
            self._kept = self._kept[drop:]
            self._kept_from += drop
        return self._kept[:size]

    def read_each(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ranges (offset, size), in order and not overlapping."""
        return [self.read(*one) for one in ranges]

    def length(self, limit: int) -> int:
        """Bytes in all, counted to the end of the content, or to a little beyond `limit`."""
        end = self._kept_from + len(self._kept)
        while end <= limit and (piece := next(self._pieces, b"")):
            end += len(piece)
            self._kept, self._kept_from = b"", end
        return end


@dataclass(frozen=True, slots=True)
class Hdu:
    """One HDU: its cards, and where its data unit lies.

    Attributes
    ----------
    index : int
        0 is the primary HDU.
    cards : Cards
        Its own header.
    data_offset, data_size : int
        Bytes from the start of the unpacked content, and without padding.
    """

    index: int
    cards: Cards
    data_offset: int
    data_size: int

    @property
    def data_end(self) -> int:
        """The byte after the last one of the data."""
        return self.data_offset + self.data_size

    @property
    def next_offset(self) -> int:
        """Where the header of the next HDU begins."""
        return self.data_offset + _padded(self.data_size)

    @property
    def name(self) -> str:
        """EXTNAME in upper case, ``""`` where there is none."""
        return str(self.cards.values.get("EXTNAME", "")).strip().upper()


def walk(source: Bytes) -> Iterator[Hdu]:
    """The HDUs of a FITS file in order.

    Whether the data of an HDU are all there is for the caller to see from `Hdu.data_end`.

    Raises
    ------
    FrameError
        ``truncated`` or ``damaged``, for the HDU that cannot be read.
    """
    offset, index = 0, 0
    while (hdu := _hdu_at(source, index, offset)) is not None:
        yield hdu
        offset, index = hdu.next_offset, index + 1


def walk_on(source: PlainBytes) -> Iterator[Hdu | FrameError]:
    """As `walk`, and on past HDUs that are damaged: each of them is given as its error.

    A header begins with a block of its own, so that the next one is found whatever lies before it.
    An HDU that was given and turns out to lack some of its data, since the next header stands
    among them, is followed by its error.

    Raises
    ------
    FrameError
        The primary HDU cannot be read.
    """
    offset, index = 0, 0
    last: Hdu | None = None  # whose data reach to `offset` by its header
    while True:
        try:
            hdu = _hdu_at(source, index, offset)
        except FrameError as error:
            if index == 0:
                raise
            yield error
            found, index = _next_header(source, offset + BLOCK), index + 1
        else:
            if hdu is not None:
                yield hdu
                offset, index, last = hdu.next_offset, index + 1, hdu
                continue
            if last is None or not last.index or last.data_end <= source.size <= offset:
                return
            found = _next_header(source, last.data_offset)
            if found is not None and found < last.data_end:
                yield _overlapped(source, last, found)
        if found is None:
            return
        offset, last = found, None


def _hdu_at(source: Bytes, index: int, offset: int) -> Hdu | None:
    """The HDU whose header begins at `offset`; None where none begins there."""
    if offset >= 1 << 62:  # what a file offset can hold
        return None
    raw = source.read(offset, _FIRST_READ)
    if not raw.startswith(b"XTENSION" if index else FITS_MAGIC):
        if index == 0 or (raw and b"XTENSION".startswith(raw)):
            raise _no_end(source, index, offset, len(raw))
        return None  # the end, or bytes after the last HDU, which readers may ignore
    header = _header_bytes(source, index, offset, raw)
    cards = parse(header)
    start = offset + _padded(len(header) + CARD)
    return Hdu(index, cards, start, _data_size(source.path, index, cards.values))


def _next_header(source: Bytes, begin: int) -> int | None:
    """Where the next header begins, in blocks from `begin`; None where there is none."""
    at = begin
    while raw := source.read(at, _SEARCHED):
        for block in range(0, len(raw), BLOCK):
            if raw.startswith(_EXTENSION, block):
                return at + block
        at += len(raw)
    return None


def _overlapped(source: Bytes, hdu: Hdu, found: int) -> FrameError:
    return FrameError(
        source.path,
        "truncated",
        f"the data end at byte {hdu.data_end} by the header, and the next header begins at byte "
        f"{found}; they were cut short",
        hdu.index,
    )


def _header_bytes(source: Bytes, index: int, offset: int, raw: bytes) -> bytes:
    """The cards up to END."""
    searched = 0
    while (end := find_end(raw, searched)) < 0:
        searched = max(len(raw) - CARD, 0)
        if len(raw) >= _LARGEST_HEADER:
            raise FrameError(
                source.path,
                "damaged",
                f"the header has no END card in its first {len(raw)} bytes",
                index,
            )
        more = source.read(offset, 4 * len(raw))
        if len(more) == len(raw):
            raise _no_end(source, index, offset, len(raw))
        raw = more
    return raw[:end]


def _no_end(source: Bytes, index: int, offset: int, there: int) -> FrameError:
    return FrameError(
        source.path,
        "truncated",
        f"the header that begins at byte {offset} has no END card in the {there} bytes that are "
        "there; the file was cut short",
        index,
    )


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _data_size(path: str, index: int, values: Mapping[str, Value]) -> int:
    """Bytes of the data unit (FITS standard 4.0, equations 1 to 4), exact whatever the header."""

    def damaged(message: str) -> FrameError:
        return FrameError(path, "damaged", message, index)

    bitpix = integer(values.get("BITPIX"))
    if bitpix not in _BITPIX:
        raise damaged(
            f"BITPIX is {values.get('BITPIX')!r}, not one of {', '.join(map(str, _BITPIX))}"
        )
    naxis = integer(values.get("NAXIS"))
    if naxis is None or not 0 <= naxis <= 999:
        raise damaged(f"NAXIS is {values.get('NAXIS')!r}, not a number from 0 to 999")
    axes = []
    for n in range(1, naxis + 1):
        axis = integer(values.get(f"NAXIS{n}"))
        if axis is None or axis < 0:
            raise damaged(f"NAXIS{n} is {values.get(f'NAXIS{n}')!r}, not a number of pixels")
        axes.append(axis)
    if not axes:
        return 0
    if axes[0] == 0 and values.get("GROUPS") is True:
        axes = axes[1:]  # random groups
    pcount, gcount = integer(values.get("PCOUNT", 0)), integer(values.get("GCOUNT", 1))
    if pcount is None or gcount is None or pcount < 0 or gcount < 0:
        raise damaged(
            f"PCOUNT {values.get('PCOUNT')!r} or GCOUNT {values.get('GCOUNT')!r} is not a count"
        )
    return abs(bitpix) // 8 * gcount * (pcount + math.prod(axes))


def integer(value: Value | None) -> int | None:
    """`value` as an int, where it is a whole number (``100.0`` too); else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value)
