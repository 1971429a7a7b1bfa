"""Which amplifiers read a detector, and where each one's pixels lie: what headers say of it.

Sections are those of NOAO and IRAF, ``[x first:x last,y first:y last]``, 1-based and inclusive; a
range that runs backwards is a flip. Keywords: "FITS Headers for NOAO Mosaic", NOAO Document
Library 1998; ARCON's ``DSEC11`` and its like, CTIO quadred.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite, nan
from typing import TYPE_CHECKING

from daskcal.fits.header import CARD, CardComments, Value
from daskcal.fits.keywords import Keywords, as_number, as_text, normalise

if TYPE_CHECKING:
    from daskcal.fits.frame import Frame

_RANGE = r"\s*(?:(\d+)\s*:\s*(\d+)|(-?\*))\s*"
_SECTION = re.compile(rf"\s*\[?{_RANGE},{_RANGE}\]?\s*")
PLACES = ("CCDSEC", "DETSEC")  # of the detector itself first: DETSEC may count over a mosaic

# what tells the detectors of one file apart, and a name in EXTNAME that only a detector has
_DETECTOR = ("CCDNAME", "DETECTOR", "DETNAME", "DETNAM", "CHIPID", "CCDID", "DETID", "DETSER",
             "CCDNUM", "CHIPNUM", "CCDCHIP", "DETPOS", "CCDSLOT")  # fmt: skip
_CHIP = re.compile(r"(?:CCD|CHIP|DET)\W*\d+", re.IGNORECASE)

# of several amplifiers in one HDU, each with a number or letter after the word
_NUMBERED = {
    "data": ("DATASEC", "DSEC", "TRIMSEC", "TSEC"),
    "overscan": ("BIASSEC", "BSEC"),
    "detector": ("CCDSEC", "CSEC", "DETSEC"),
    "amp": ("AMPSEC",),
    "gain": ("GAIN", "GTGAIN", "EGAIN"),
    "rdnoise": ("RDNOISE", "GTRON", "READNOI"),
    "saturation": ("SATURAT", "SATURATE"),
}
_WITH_DATA = re.compile(r"(?:DATASEC|DSEC|TRIMSEC|TSEC)(\d{1,2}|[A-H])")
SATURATION = ("SATURATE", "SATURATA", "SATLEVEL")


@dataclass(frozen=True, slots=True)
class Span:
    """A range of pixels, 1-based and inclusive; backwards where `first` is beyond `last`.

    The whole axis, or of another section, where both are 0 (-1: backwards).
    """

    first: int
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether it stands for a whole axis."""
        return self.first <= 0

    @property
    def is_reversed(self) -> bool:
        """Whether it runs backwards."""
        return self.first > self.last or self.first < 0

    @property
    def low(self) -> int:
        """The first pixel, 0-based."""
        return min(self.first, self.last) - 1

    @property
    def high(self) -> int:
        """One past the last pixel, 0-based."""
        return max(self.first, self.last)

    def of(self, size: int) -> Span:
        """The same where an axis of `size` pixels is the whole."""
        if not self.is_whole:
            return self
        return Span(size, 1) if self.is_reversed else Span(1, size)


@dataclass(frozen=True, slots=True)
class Readout:
    """One amplifier as headers or a camera file describe it.

    Attributes
    ----------
    name : str
        What the camera calls it.
    part : int
        Which of the frame's HDUs holds its pixels.
    data, overscan, detector, amp : str
        Sections as they are written, "" for none: pixels of the HDU that see light, its overscan,
        where the light falls on the detector, and the order in which they are read.
    corner : str
        The corner that is read first, where that is said.
    gain, rdnoise, saturation : float
        electron/adu, electron, adu; NaN where not known.
    """

    name: str
    part: int = 0
    data: str = ""
    overscan: str = ""
    detector: str = ""
    amp: str = ""
    corner: str = ""
    gain: float = nan
    rdnoise: float = nan
    saturation: float = nan


def parse_section(text: str) -> tuple[Span, Span] | None:
    """Columns and rows of a section; None where the text is not one."""
    found = _SECTION.fullmatch(text)
    if found is None:
        return None
    spans = []
    for first, last, whole in (found.group(1, 2, 3), found.group(4, 5, 6)):
        if whole:
            spans.append(Span(-1, -1) if whole == "-*" else Span(0, 0))
        elif int(first) < 1 or int(last) < 1:
            return None
        else:
            spans.append(Span(int(first), int(last)))
    return spans[0], spans[1]


# --- one HDU for each amplifier -------------------------------------------------------------------


def by_detector(frames: Sequence[Frame]) -> list[tuple[Frame, ...]]:
    """The images of one file gathered by detector: several are the amplifiers of one.

    Images belong to one detector where nothing tells their detectors apart (CCDNAME, DETECTOR,
    CCDNUM and the like that differ; EXTNAMEs such as ``CCD3``) and their CCDSEC, else their DETSEC,
    are parts of it that do not overlap. An image whose section is missing or malformed belongs to
    them too, where most have sound ones: assembling them names it.
    """
    groups: dict[object, list[Frame]] = {}
    words = _detector_words(frames)
    for frame, word in zip(frames, words, strict=True):
        groups.setdefault(word, []).append(frame)
    found: list[tuple[Frame, ...]] = []
    for group in groups.values():
        whole = len(group) > 1 and _place_keyword(group) != ""
        found += [tuple(group)] if whole else [(frame,) for frame in group]
    return found


def join(frames: Sequence[Frame]) -> Frame:
    """The amplifiers' images of one detector as one frame, with what their headers agree upon.

    Its source is still that of the first; `parts` are the frames themselves.
    """
    first = frames[0]
    common = set(_cards(first.cards)).intersection(*(_cards(f.cards) for f in frames[1:]))
    header = {
        key: value
        for key, value in first.header.items()
        if all(frame.header.get(key) == value for frame in frames[1:])
    }
    mark = hashlib.blake2b(digest_size=20)
    for frame in frames:
        mark.update(frame.fingerprint.encode("ascii"))
    return replace(
        first,
        cards="".join(card for card in _cards(first.cards) if card in common),
        header=header,
        fingerprint=mark.hexdigest(),
        problems=tuple(dict.fromkeys(line for frame in frames for line in frame.problems)),
        parts=tuple(frames),
    )


def _cards(text: str) -> list[str]:
    return [text[at : at + CARD] for at in range(0, len(text), CARD)]


def _detector_words(frames: Sequence[Frame]) -> list[str]:
    """A word for the detector of each image; all the same where nothing tells them apart."""
    for key in _DETECTOR:
        words = [as_text(frame.header.get(key, "")) for frame in frames]
        if all(words) and len(set(words)) > 1:
            return words
    chips = [_CHIP.match(as_text(frame.header.get("EXTNAME", ""))) for frame in frames]
    words = [chip[0] if chip else "" for chip in chips]
    return words if all(words) else [""] * len(frames)


def _place_keyword(frames: Sequence[Frame]) -> str:
    """The keyword that says where each image lies on their detector, "" for none."""
    for key in PLACES:
        sections = [parse_section(as_text(frame.header.get(key, ""))) for frame in frames]
        sound = [s for s in sections if s and not (s[0].is_whole or s[1].is_whole)]
        if len(sound) > 1 and 2 * len(sound) >= len(frames) and not any(_overlaps(sound)):
            return key
    return ""


def _overlaps(sections: Sequence[tuple[Span, Span]]) -> Iterator[bool]:
    for i, one in enumerate(sections):
        for other in sections[:i]:
            yield all(a.low < b.high and b.low < a.high for a, b in zip(one, other, strict=True))


# --- what headers say -----------------------------------------------------------------------------


def readouts(frame: Frame, keywords: Keywords) -> tuple[Readout, ...]:
    """The amplifiers that the headers of a frame describe; none for a frame of one amplifier."""
    if frame.parts:
        return _of_parts(frame.parts, keywords)
    return _numbered(frame.header)


def _of_parts(parts: Sequence[Frame], keywords: Keywords) -> tuple[Readout, ...]:
    place = _place_keyword(parts)
    found, taken = [], set()
    for i, part in enumerate(parts):
        header = part.header
        words = (as_text(header.get(key, "")) for key in ("EXTNAME", "AMPNAME"))
        name = next((word for word in words if word), "")
        name = name if name and name not in taken else f"hdu{part.source.hdu}"
        taken.add(name)
        values = normalise(header, keywords, CardComments(part.cards))
        found.append(
            Readout(
                name,
                i,
                data=_text(header, "DATASEC") or _text(header, "TRIMSEC"),
                overscan=_text(header, "BIASSEC"),
                detector=_text(header, place),
                amp=_text(header, "AMPSEC"),
                gain=values.gain,
                rdnoise=values.rdnoise,
                saturation=positive(header, SATURATION),
            )
        )
    return tuple(found)


def _numbered(header: Mapping[str, Value]) -> tuple[Readout, ...]:
    """Amplifiers in one HDU by numbered keywords: DATASEC1, DATASECA, DSEC11, ..."""
    suffixes = _suffixes(tuple(header))
    processed = any(as_text(header.get(key, "")) for key in ("CCDPROC", "TRIM"))
    if len(suffixes) < 2 or processed:  # IRAF trimmed it, and its sections are those of before
        return ()

    def text(what: str, suffix: str) -> str:
        return next((t for word in _NUMBERED[what] if (t := _text(header, word + suffix))), "")

    def number(what: str, suffix: str) -> float:
        return positive(header, [word + suffix for word in _NUMBERED[what]])

    return tuple(
        Readout(
            f"amp{suffix}",
            data=text("data", suffix),
            overscan=text("overscan", suffix),
            detector=text("detector", suffix),
            amp=text("amp", suffix),
            gain=number("gain", suffix),
            rdnoise=number("rdnoise", suffix),
            saturation=number("saturation", suffix),
        )
        for suffix in sorted(suffixes)
    )


@lru_cache(maxsize=256)  # headers of a night have few sets of keywords
def _suffixes(keywords: tuple[str, ...]) -> tuple[str, ...]:
    """The numbers or letters of the amplifiers that some keywords are of."""
    found = (m[1] for key in keywords if (m := _WITH_DATA.fullmatch(key)))
    return tuple(dict.fromkeys(found))


def _text(header: Mapping[str, Value], key: str) -> str:
    return as_text(header.get(key, ""))


def positive(header: Mapping[str, Value], keys: Sequence[str]) -> float:
    """The first positive number of some keywords; NaN where there is none."""
    numbers = (as_number(header.get(key, "")) for key in keys)
    return next((n for n in numbers if isfinite(n) and n > 0), nan)
