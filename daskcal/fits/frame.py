"""One file to one frame, or to the reason why it gives none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from daskcal.errors import FrameError
from daskcal.fits.amplifiers import PLACES, by_detector, join
from daskcal.fits.assembled import AssembledImage
from daskcal.fits.content import FITS_MAGIC, claims_fits, kind, open_regular, unpack
from daskcal.fits.files import Found
from daskcal.fits.hdus import Bytes, Hdu, PlainBytes, UnpackedBytes, walk
from daskcal.fits.header import Value
from daskcal.fits.images import (
    describe,
    flat_shape,
    image_cards,
    is_companion,
    is_compressed,
    is_image,
)
from daskcal.fits.source import ImageSource

_SAMPLES, _SAMPLE = 16, 512
_TRAILING = 1 << 20  # bytes after the last HDU that a packed file may unpack to
_GZIP_RATIO = 1100  # deflate packs 1032 times at the most


@dataclass(frozen=True, slots=True)
class Frame:
    """One image HDU, or those of all amplifiers of one detector.

    Attributes
    ----------
    source : ImageSource
        Where its pixels lie; of several amplifiers, those of the first.
    cards : str
        80-character card images, joined, without END: its own, then those it inherits of the
        primary HDU. Printable ASCII that can be written again.
    header : Mapping
        Keyword (upper case) to value; the first of duplicates; neither commentary nor
        undefined values.
    fingerprint : str
        Of the content: the same wherever the file lies and however it is packed.
    problems : tuple of str
        Cards that could not be read, and the like, one line each.
    parts : tuple of Frame
        The frames of the amplifiers' HDUs, where each has one of its own.
    """

    source: ImageSource
    cards: str
    header: Mapping[str, Value]
    fingerprint: str
    problems: tuple[str, ...] = ()
    parts: tuple[Frame, ...] = ()

    @property
    def pixels(self) -> ImageSource | AssembledImage:
        """Where the pixels of the whole image lie."""
        return self.source


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One file that gives no frame; `reason` is one of the codes of `FrameError`."""

    path: str
    hdu: int | None
    reason: str
    message: str


Outcome = Frame | Unreadable | None  # None: not FITS, and does not claim to be


def scan_file(entry: Found, asked: int | str | None) -> Outcome:
    """The frame of one file, or why it gives none."""
    try:
        if entry.error:
            raise FrameError(entry.path, "unreadable", entry.error)
        return read_frame(entry.path, asked)
    except FrameError as error:
        ignorable = entry.regular or not entry.named
        if error.reason == "not-fits" and ignorable and not claims_fits(entry.path):
            return None
        return Unreadable(entry.path, error.hdu, error.reason, error.message)
    except OSError as error:
        return Unreadable(entry.path, None, "unreadable", f"reading failed: {error.strerror}")


def read_frame(path: str, asked: int | str | None = None) -> Frame:
    """The frame in HDU `asked` (index or EXTNAME) of the file, by default its one detector's.

    Raises
    ------
    FrameError
        Where the file gives no frame.
    """
    content = _walked(path, asked)
    if asked is not None:
        return content.frame(content.named(asked))
    images = content.images()
    if sum(any(key in hdu.cards.values for key in PLACES) for hdu in images) > 1:
        found = by_detector([content.frame(hdu) for hdu in images])
        if len(found) == 1:
            return join(found[0])
    return content.frame(content.default())


def detectors(path: str | os.PathLike[str]) -> tuple[Frame, ...]:
    """The frames of a file that holds several detectors or amplifiers: all images of one shape.

    Raises
    ------
    FrameError
        Where the file gives no frame.
    """
    content = _walked(os.path.abspath(path), None)
    return tuple(content.frame(hdu) for hdu in content.alike())


def _walked(path: str, asked: int | str | None) -> _Content:
    handle, status = open_regular(path)
    try:
        start = os.pread(handle, 16, 0)
        wrapper = kind(start)
        if wrapper == "fits":
            content = _Content(PlainBytes(path, handle), "", status)
            content.read_hdus(asked)
            content.length = status.st_size
            return content
        if not wrapper:
            raise _not_fits(path, start)
        with open(os.dup(handle), "rb") as packed:
            stream = UnpackedBytes(path, unpack(packed, path, wrapper))
            _check_packed_start(stream)
            content = _Content(stream, wrapper, status)
            content.read_hdus(asked)
            content.fail_on_fault()
            content.length = _checked_length(stream, content.declared)
            return content
    finally:
        os.close(handle)


def _not_fits(path: str, start: bytes) -> FrameError:
    if not start:
        return FrameError(path, "not-fits", "the file is empty")
    if FITS_MAGIC.startswith(start):
        return FrameError(path, "truncated", f"only {len(start)} bytes of a FITS file are there")
    return FrameError(
        path, "not-fits", f"is not a FITS file: it begins with {start!r}, not with 'SIMPLE  ='"
    )


def _check_packed_start(stream: UnpackedBytes) -> None:
    try:
        start = stream.read(0, 16)
    except FrameError:
        if claims_fits(stream.path):
            raise
        raise FrameError(
            stream.path, "not-fits", "is damaged, packed, and may be anything"
        ) from None
    if kind(start) != "fits":
        raise _not_fits(stream.path, start)


def _checked_length(stream: UnpackedBytes, declared: int) -> int:
    """Bytes of the unpacked content, which its headers must account for."""
    length = stream.length(declared + _TRAILING)
    if length > declared + _TRAILING:
        raise FrameError(
            stream.path,
            "damaged",
            f"the file unpacks to more than {length} bytes where its headers declare {declared}",
        )
    return length


class _Content:
    """The HDUs of one open file, and the choice among them."""

    def __init__(self, stream: Bytes, wrapper: str, status: os.stat_result) -> None:
        self.stream, self.wrapper, self.status = stream, wrapper, status
        self.path = stream.path
        self.hdus: list[Hdu] = []
        self.samples: dict[int, bytes] = {}
        self.fault: FrameError | None = None
        self.length = 0

    @property
    def declared(self) -> int:
        return max((hdu.data_end for hdu in self.hdus), default=0)

    def read_hdus(self, asked: int | str | None) -> None:
        """Walk the file, as far as the HDU `asked` where nothing later can matter."""
        try:
            for hdu in walk(self.stream):
                self.hdus.append(hdu)
                if self.wrapper == "gzip" and hdu.data_end > _GZIP_RATIO * self.status.st_size:
                    raise self._truncated(hdu, self.status.st_size, "packed ")
                if is_image(hdu) and (_is(hdu, asked) or not is_companion(hdu)):
                    self.samples[hdu.index] = _sample(self.stream, hdu)
                if not self.wrapper and _is(hdu, asked):
                    return
        except FrameError as fault:
            self.fault = fault

    def fail_on_fault(self) -> None:
        if self.fault is not None:
            raise self.fault

    def frame(self, hdu: Hdu) -> Frame:
        if hdu.data_end > self.length:
            raise self._truncated(hdu, self.length)
        image = describe(self.path, hdu)
        cards, values = image_cards(hdu, self.hdus[0])
        mark = hashlib.blake2b(cards.encode("ascii"), digest_size=20)
        mark.update(f"{hdu.data_size}".encode())
        mark.update(self.samples[hdu.index])
        source = ImageSource(
            path=self.path,
            hdu=hdu.index,
            wrapper=self.wrapper,
            compression=image.compression,
            offset=hdu.data_offset,
            shape=image.shape,
            bitpix=image.bitpix,
            bscale=image.bscale,
            bzero=image.bzero,
            blank=image.blank,
            size=self.status.st_size,
            mtime_ns=self.status.st_mtime_ns,
            unpacked_size=self.length,
            tiles=image.tiles,
        )
        problems = hdu.cards.problems
        if hdu.index:
            problems = self.hdus[0].cards.problems + problems
        return Frame(source, cards, values, mark.hexdigest(), problems)

    def named(self, asked: int | str) -> Hdu:
        hdu = next((hdu for hdu in self.hdus if _is(hdu, asked)), None)
        if hdu is None:
            self.fail_on_fault()
            raise FrameError(
                self.path, "no-image", f"there is no HDU {asked!r}; the file has {self._list()}"
            )
        if not is_image(hdu):
            raise FrameError(
                self.path,
                "no-image",
                f"HDU {asked!r} is no image; the file has {self._list()}",
                hdu.index,
            )
        return hdu

    def default(self) -> Hdu:
        alike = self.alike()
        if len(alike) > 1:
            raise FrameError(
                self.path,
                "several-detectors",
                f"the file has {len(alike)} images of one shape, several detectors or amplifiers: "
                f"{self._list(alike)}; hdu= chooses one",
            )
        return alike[0]

    def alike(self) -> list[Hdu]:
        """The first image, and the others of its shape."""
        images = self.images()
        return [hdu for hdu in images if flat_shape(hdu) == flat_shape(images[0])]

    def images(self) -> list[Hdu]:
        """All images of two axes; the first of any, where there is none of those."""
        self.fail_on_fault()
        for hdu in self.hdus:
            if hdu.data_end > self.length:
                raise self._truncated(hdu, self.length)
        images = [hdu for hdu in self.hdus if is_image(hdu) and not is_companion(hdu)]
        if not images:
            raise FrameError(self.path, "no-image", f"no HDU is an image: {self._list()}")
        flat = [hdu for hdu in images if flat_shape(hdu) or is_compressed(hdu)]
        return flat or images[:1]  # of which `describe` says why it cannot be a frame

    def _list(self, hdus: list[Hdu] | None = None) -> str:
        names = []
        for hdu in self.hdus if hdus is None else hdus:
            shape = flat_shape(hdu) if is_image(hdu) else None
            name = hdu.name or ("primary" if hdu.index == 0 else "unnamed")
            names.append(f"{hdu.index} {name}" + (f" {shape[0]}x{shape[1]}" if shape else ""))
        return ", ".join(names)

    def _truncated(self, hdu: Hdu, there: int, packed: str = "") -> FrameError:
        return FrameError(
            self.path,
            "truncated",
            f"the data end at byte {hdu.data_end} by the header, and the {packed}file has "
            f"{there} bytes; it was cut short",
            hdu.index,
        )


def _is(hdu: Hdu, asked: int | str | None) -> bool:
    if isinstance(asked, str):
        return hdu.name == asked.strip().upper()
    return hdu.index == asked


def _sample(stream: Bytes, hdu: Hdu) -> bytes:
    """Bytes of the data that tell it from others: all of it where small, else evenly spread."""
    if hdu.data_size <= _SAMPLES * _SAMPLE:
        return stream.read(hdu.data_offset, hdu.data_size)
    step = (hdu.data_size - _SAMPLE) // (_SAMPLES - 1)
    if hdu.data_offset + hdu.data_size >= 1 << 62:
        return b""  # beyond any file, and found truncated later
    return b"".join(stream.read(hdu.data_offset + i * step, _SAMPLE) for i in range(_SAMPLES))
