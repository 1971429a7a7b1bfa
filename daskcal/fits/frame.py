"""One file to one frame, or to the reason why it gives none."""

from __future__ import annotations

import enum
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from daskcal.errors import MAY_PASS, FrameError
from daskcal.fits.amplifiers import PLACES, by_detector, join
from daskcal.fits.assembled import AssembledImage
from daskcal.fits.content import FITS_MAGIC, claims_fits, kind, unpack
from daskcal.fits.files import Found
from daskcal.fits.hdus import Bytes, Hdu, PlainBytes, UnpackedBytes, walk, walk_on
from daskcal.fits.header import Value
from daskcal.fits.images import (
    describe,
    flat_shape,
    image_cards,
    is_companion,
    is_compressed,
    is_image,
)
from daskcal.fits.open_file import Stamp, open_file
from daskcal.fits.source import ImageSource
from daskcal.fits.urls import absolute

_SAMPLES, _SAMPLE = 4, 2048  # each is a request where the file is far away
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
    of : int
        Detectors that its file holds, those that cannot be read included.
    parts : tuple of Frame
        The frames of the amplifiers' HDUs, where each has one of its own.
    """

    source: ImageSource
    cards: str
    header: Mapping[str, Value]
    fingerprint: str
    problems: tuple[str, ...] = ()
    of: int = 1
    parts: tuple[Frame, ...] = ()

    @property
    def pixels(self) -> ImageSource | AssembledImage:
        """Where the pixels of the whole image lie."""
        return self.source


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or one of its HDUs, that gives no frame; `reason` is a code of `FrameError`."""

    path: str
    hdu: int | None
    reason: str
    message: str

    def __str__(self) -> str:
        return str(FrameError(self.path, self.reason, self.message, self.hdu))


class Every(enum.Enum):
    """What is asked of a file instead of one HDU: all that it holds."""

    DETECTOR = "every detector"


Asked = int | str | Every | None  # index or EXTNAME; None: the one image
Outcome = tuple[Frame | Unreadable, ...]  # empty: not FITS, and does not claim to be


def scan_file(entry: Found, asked: Asked) -> Outcome:
    """The frames of one file, or why it gives none."""
    try:
        if entry.error:
            raise FrameError(entry.path, "unreadable", entry.error)
        known = entry.stamp if entry.tag else None
        content = _walked(entry.path, asked, known)
        return content.detectors() if asked is Every.DETECTOR else (_chosen(content, asked),)
    except FrameError as error:
        ignorable = entry.regular or not entry.named
        if error.reason == "not-fits" and ignorable and not claims_fits(entry.path):
            return ()
        return (_unreadable(error),)
    except OSError as error:
        return (Unreadable(entry.path, None, "unreadable", f"reading failed: {error.strerror}"),)


def _unreadable(error: FrameError, name: str = "") -> Unreadable:
    message = f"{name}: {error.message}" if name else error.message
    return Unreadable(error.path, error.hdu, error.reason, message)


def read_frame(path: str, asked: int | str | None = None) -> Frame:
    """The frame in HDU `asked` (index or EXTNAME) of the file, by default its one detector's.

    Raises
    ------
    FrameError
        Where the file gives no frame.
    """
    return _chosen(_walked(path, asked), asked)


def _chosen(content: _Content, asked: int | str | None) -> Frame:
    if asked is not None:
        return content.frame(content.named(asked))
    images = content.images()
    if _placed(images):
        found = by_detector([content.frame(hdu) for hdu in images])
        if len(found) == 1:
            return join(found[0])
    return content.frame(content.default())


def read_detectors(path: str | os.PathLike[str]) -> Outcome:
    """A frame for each detector of a file: its images of one shape, or of the amplifiers of one.

    A damaged HDU costs its detector alone, where the file is not packed as a whole.

    Raises
    ------
    FrameError
        Where the file gives no frame, and not for one of its HDUs.
    """
    return _walked(absolute(path), Every.DETECTOR).detectors()


def _walked(path: str, asked: Asked, known: Stamp | None = None) -> _Content:
    file = open_file(path, known)
    try:
        plain = PlainBytes(file)
        start = plain.read(0, 16)
        wrapper = kind(start)
        if wrapper == "fits":
            content = _Content(plain, "", file.stamp)
            content.read_hdus(asked, walk_on(plain) if asked is Every.DETECTOR else walk(plain))
            content.length = plain.size
            return content
        if not wrapper:
            raise _not_fits(path, start)
        with file.stream() as packed:
            stream = UnpackedBytes(path, unpack(packed, path, wrapper))
            _check_packed_start(stream)
            content = _Content(stream, wrapper, file.stamp)
            content.read_hdus(asked, walk(stream))
            content.fail_on_fault()
            content.length = _checked_length(stream, content.declared)
            return content
    finally:
        file.close()


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

    def __init__(self, stream: Bytes, wrapper: str, stamp: Stamp) -> None:
        self.stream, self.wrapper, self.stamp = stream, wrapper, stamp
        self.path = stream.path
        self.hdus: list[Hdu] = []
        self.samples: dict[int, bytes] = {}
        self.faults: dict[int, FrameError] = {}
        self.length = 0

    @property
    def declared(self) -> int:
        return max((hdu.data_end for hdu in self.hdus), default=0)

    def read_hdus(self, asked: Asked, found: Iterable[Hdu | FrameError]) -> None:
        """Walk the file, as far as the HDU `asked` where nothing later can matter."""
        try:
            for hdu in found:
                if isinstance(hdu, FrameError):
                    self.faults[hdu.hdu or 0] = hdu
                    continue
                self.hdus.append(hdu)
                if self.wrapper == "gzip" and hdu.data_end > _GZIP_RATIO * self.stamp.size:
                    raise self._truncated(hdu, self.stamp.size, "packed ")
                if is_image(hdu) and (_is(hdu, asked) or not is_companion(hdu)):
                    self.samples[hdu.index] = _sample(self.stream, hdu)
                if not self.wrapper and _is(hdu, asked):
                    return
        except FrameError as fault:
            if fault.reason in MAY_PASS:  # of the file as a whole, and perhaps only now
                raise
            self.faults[fault.hdu or 0] = fault

    def fail_on_fault(self) -> None:
        for fault in self.faults.values():
            raise fault

    def detectors(self) -> Outcome:
        """The frames of all detectors, and of the HDUs that cannot be read, why."""
        images = [hdu for hdu in self._images() if hdu.index not in self.faults]
        if not images or (len(images) == 1 and images[0].index == 0):
            self.fail_on_fault()  # as of any file with one image
        lost, frames = dict(self.faults), []
        for hdu in self._flat(images):
            try:
                frames.append(self._described(hdu))
                self._require_data(hdu)
            except FrameError as error:
                lost[hdu.index] = error
        groups = by_detector(frames) if _placed(images) else []
        if all(len(group) == 1 for group in groups):  # one HDU for each
            alike = {hdu.index for hdu in self._of_one_shape(images, usual=images[0].index > 0)}
            groups = [(frame,) for frame in frames if frame.source.hdu in alike]
            lost = {i: error for i, error in lost.items() if i in alike | set(self.faults)}
        return self._whole(groups, lost)

    def _whole(self, groups: list[tuple[Frame, ...]], lost: dict[int, FrameError]) -> Outcome:
        """The groups that have all of their HDUs, joined, and those that are lost."""
        parts = max((len(group) for group in groups), default=1)
        held = {frame.source.hdu for group in groups for frame in group}
        of = len(groups) + (sum(i not in held for i in lost) if parts == 1 else 0)
        outcomes: dict[int, Frame | Unreadable] = {}
        for group in groups:
            short = len(group) < parts and bool(self.faults)  # one of these is of this detector
            if not short and not any(frame.source.hdu in lost for frame in group):
                whole = join(group) if len(group) > 1 else group[0]
                outcomes[group[0].source.hdu] = replace(whole, of=of)
        names = {hdu.index: hdu.name for hdu in self.hdus if of * parts > 1}
        for index, error in lost.items():
            outcomes[index] = _unreadable(error, names.get(index, ""))
        return tuple(outcomes[index] for index in sorted(outcomes))

    def frame(self, hdu: Hdu) -> Frame:
        self._require_data(hdu)
        return self._described(hdu)

    def _require_data(self, hdu: Hdu) -> None:
        if hdu.data_end > self.length:
            raise self._truncated(hdu, self.length)

    def _described(self, hdu: Hdu) -> Frame:
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
            size=self.stamp.size,
            mtime_ns=self.stamp.mtime_ns,
            unpacked_size=self.length,
            tiles=image.tiles,
            tag=self.stamp.tag,
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
        alike = self._of_one_shape(self.images())
        if len(alike) > 1:
            raise FrameError(
                self.path,
                "several-detectors",
                f"the file has {len(alike)} images of one shape, several detectors or amplifiers: "
                f"{self._list(alike)}; open_mosaic opens them all, hdu= chooses one",
            )
        return alike[0]

    def images(self) -> list[Hdu]:
        """All images of two axes, of a file that is sound."""
        self.fail_on_fault()
        for hdu in self.hdus:
            self._require_data(hdu)
        return self._flat(self._images())

    def _images(self) -> list[Hdu]:
        return [hdu for hdu in self.hdus if is_image(hdu) and not is_companion(hdu)]

    def _flat(self, images: list[Hdu]) -> list[Hdu]:
        """Those of two axes; the first of any, where there is none of those."""
        if not images:
            raise FrameError(self.path, "no-image", f"no HDU is an image: {self._list()}")
        flat = [hdu for hdu in images if flat_shape(hdu) or is_compressed(hdu)]
        return flat or images[:1]  # of which `describe` says why it cannot be a frame

    def _of_one_shape(self, images: list[Hdu], usual: bool = False) -> list[Hdu]:
        """The images of the first one's shape, or of the `usual` one."""
        flat = self._flat(images)
        shapes = [flat_shape(hdu) for hdu in flat]
        shape = max(shapes, key=shapes.count) if usual else shapes[0]
        return [hdu for hdu in flat if flat_shape(hdu) == shape]

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


def _placed(images: list[Hdu]) -> bool:
    """Whether several images say where they lie, perhaps as amplifiers of one detector."""
    return sum(any(key in hdu.cards.values for key in PLACES) for hdu in images) > 1


def _is(hdu: Hdu, asked: Asked) -> bool:
    if isinstance(asked, str):
        return hdu.name == asked.strip().upper()
    return hdu.index == asked


def _sample(stream: Bytes, hdu: Hdu) -> bytes:
    """Bytes of the data that tell it from others: all of it where small, else evenly spread."""
    start, size = hdu.data_offset, hdu.data_size
    if size <= _SAMPLES * _SAMPLE:
        return stream.read(start, size)
    if start + size >= 1 << 62:
        return b""  # beyond any file, and found truncated later
    step = (size - _SAMPLE) // (_SAMPLES - 1)
    return b"".join(stream.read_each([(start + i * step, _SAMPLE) for i in range(_SAMPLES)]))
