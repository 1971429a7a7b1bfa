"""Where the pixels of each amplifier lie on the detector, from sections; their overscans beside it.

The detector comes first; the overscan columns follow at its right edge, those of amplifiers that
share rows one after the other, in the rows that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daskcal.errors import GeometryError
from daskcal.fits.amplifiers import Readout, Span, parse_section
from daskcal.fits.geometry import covers
from daskcal.frames.amplifiers import Amplifier
from daskcal.frames.sections import Section, hull

_SPARSE = 2  # times as many pixels as the amplifiers have: sections that do not belong together
_WORDS = (("row", "bottom", "top"), ("column", "left", "right"))
Range = tuple[int, int]
_Axes = tuple[Span, Span]  # rows, columns


@dataclass(frozen=True, slots=True)
class Placed:
    """An amplifier on the detector, and the rectangles of its HDU (rows, columns; 0-based).

    `flipped` says whether its rows, and its columns, lie there in reversed order.
    """

    readout: Readout
    amplifier: Amplifier
    data: tuple[Range, Range]
    overscan: Range | None
    flipped: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Layout:
    """All amplifiers of a detector; whether their place on it is known; what is odd about them."""

    placed: tuple[Placed, ...]
    known: bool
    problems: tuple[str, ...]

    @property
    def section(self) -> Section:
        """The image: the detector's pixels and the overscans."""
        held = [p.amplifier.section for p in self.placed]
        held += [p.amplifier.overscan for p in self.placed if p.amplifier.overscan]
        return hull(held)


@dataclass(frozen=True, slots=True)
class _Read:
    """What the sections of one amplifier say, before it is placed."""

    readout: Readout
    data: _Axes
    overscan: Range | None
    detector: tuple[Range, Range] | None
    flipped: tuple[bool, bool]


def lay_out(
    readouts: Sequence[Readout],
    shapes: Sequence[tuple[int, int]],
    binning: tuple[int, int],
    origin: tuple[int, int] | None,
) -> Layout:
    """Place amplifiers on their detector.

    Parameters
    ----------
    readouts : sequence of Readout
        At least one.
    shapes : sequence of (int, int)
        Rows and columns of the HDUs that they refer to.
    binning : (int, int)
        Of rows and columns: sections of the detector count unbinned pixels.
    origin : (int, int) or None
        Detector coordinates of an HDU's first pixel, for sections that take the HDU's own.

    Raises
    ------
    GeometryError
        A section that is malformed, leaves its HDU, or does not fit the others.
    """
    problems: list[str] = []
    reads = [_read(r, shapes[r.part], binning, origin, problems) for r in readouts]
    lacking = [r.readout.name for r in reads if r.detector is None]
    if lacking and len(lacking) < len(reads):
        raise GeometryError(f"{', '.join(lacking)}: no CCDSEC or DETSEC says where they lie")
    known = not lacking and all(
        origin is not None or not any(span.is_whole for span in _axes(r, "detector", r.detector))
        for r in readouts
    )
    if lacking:
        places = _packed([r.data for r in reads])
    else:
        places = [r.detector for r in reads if r.detector is not None]
    sections = [Section(*rows, *columns) for rows, columns in places]
    _check_apart(readouts, sections)
    overscans = _beside(sections, [r.overscan for r in reads])
    edges = hull(sections)
    several = len({r.part for r in readouts}) > 1
    placed = tuple(
        Placed(
            read.readout,
            Amplifier(read.readout.name, section, dark, _corner(read, section, edges, several)),
            ((read.data[0].low, read.data[0].high), (read.data[1].low, read.data[1].high)),
            read.overscan,
            read.flipped,
        )
        for read, section, dark in zip(reads, sections, overscans, strict=True)
    )
    return Layout(placed, known, tuple(problems))


def _read(
    readout: Readout,
    shape: tuple[int, int],
    binning: tuple[int, int],
    origin: tuple[int, int] | None,
    problems: list[str],
) -> _Read:
    data = _inside(readout, "data", readout.data or "[*,*]", shape)
    overscan = _overscan(readout, data, shape, problems) if readout.overscan else None
    if not readout.detector:
        return _Read(readout, data, overscan, None, (False, False))
    ranges, flipped = [], []
    given = _axes(readout, "detector", readout.detector)
    for axis, (span, own, factor) in enumerate(zip(given, data, binning, strict=True)):
        first = 0 if origin is None else origin[axis]
        if span.is_whole:
            low = own.low + first
        else:
            low = _binned(readout, span, own, factor, _WORDS[axis][0])
        ranges.append((low, low + own.high - own.low))
        flipped.append(span.is_reversed != own.is_reversed)
    place = ranges[0], ranges[1]
    return _Read(readout, data, overscan, place, (flipped[0], flipped[1]))


def _axes(readout: Readout, what: str, text: str) -> _Axes:
    """Rows and columns of a section."""
    spans = parse_section(text)
    if spans is None:
        raise GeometryError(
            f"{readout.name}: the {what} section {text!r} should look like '[1:512,1:2002]'"
        )
    return spans[1], spans[0]


def _inside(readout: Readout, what: str, text: str, shape: tuple[int, int]) -> _Axes:
    """Rows and columns of a section of the HDU."""
    axes = _axes(readout, what, text)
    rows, columns = (span.of(size) for span, size in zip(axes, shape, strict=True))
    if rows.high > shape[0] or columns.high > shape[1]:
        raise GeometryError(
            f"{readout.name}: the {what} section {text!r} leaves its image of {shape[1]} columns × "
            f"{shape[0]} rows"
        )
    return rows, columns


def _overscan(
    readout: Readout, data: _Axes, shape: tuple[int, int], problems: list[str]
) -> Range | None:
    """Columns of the overscan in the rows of the data; None for one that has other rows."""
    rows, columns = _inside(readout, "overscan", readout.overscan, shape)
    if rows.low > data[0].low or rows.high < data[0].high:
        problems.append(
            f"{readout.name}: the overscan {readout.overscan!r} lacks rows of its data "
            f"{readout.data!r}; it is not used"
        )
        return None
    if columns.low < data[1].high and data[1].low < columns.high:
        raise GeometryError(
            f"{readout.name}: its overscan {readout.overscan!r} and its data {readout.data!r} "
            "overlap"
        )
    return columns.low, columns.high


def _binned(readout: Readout, span: Span, own: Span, factor: int, word: str) -> int:
    """The first row or column on the detector, counted in pixels of the frame."""
    size, length = span.high - span.low, own.high - own.low
    if size == length:
        return span.low  # the section counts binned pixels
    if not covers(size, length, factor):
        binned = f", which are binned by {factor}" if factor > 1 else ""
        raise GeometryError(
            f"{readout.name}: the detector section {readout.detector!r} has {size} {word}s, and "
            f"the data {readout.data!r} {length}{binned}"
        )
    if span.low % factor:
        raise GeometryError(
            f"{readout.name}: the detector section {readout.detector!r} begins within a {word} "
            f"that is binned by {factor}: it cannot be aligned"
        )
    return span.low // factor


def _packed(data: Sequence[_Axes]) -> list[tuple[Range, Range]]:
    """Places of amplifiers in the order of their pixels in the HDU, what lies between left out."""
    moved = []
    for axis in (0, 1):
        spans = sorted({(d[axis].low, d[axis].high) for d in data})
        starts: dict[Range, Range] = {}
        end = 0
        for low, high in spans:
            if starts and low < max(h for _, h in starts):
                raise GeometryError(
                    "the data sections of amplifiers overlap, and no CCDSEC or DETSEC says where "
                    "they lie"
                )
            starts[low, high] = (end, end + high - low)
            end += high - low
        moved.append([starts[d[axis].low, d[axis].high] for d in data])
    return list(zip(*moved, strict=True))


def _check_apart(readouts: Sequence[Readout], sections: Sequence[Section]) -> None:
    for i, one in enumerate(sections):
        for j in range(i):
            if 0 not in one.common(sections[j]).shape:
                raise GeometryError(
                    f"{readouts[j].name} and {readouts[i].name} overlap on the detector: "
                    f"{readouts[j].detector or readouts[j].data!r} and "
                    f"{readouts[i].detector or readouts[i].data!r}"
                )
    held = sum(_pixels(section) for section in sections)
    whole = hull(sections)
    if _pixels(whole) > _SPARSE * held:
        raise GeometryError(
            f"the sections of {len(sections)} amplifiers are strewn over {whole.shape[1]} columns "
            f"× {whole.shape[0]} rows and leave most of them empty"
        )


def _beside(sections: Sequence[Section], widths: Sequence[Range | None]) -> list[Section | None]:
    """Overscans at the right edge of the detector, each behind those that share its rows."""
    edge = hull(sections).x1
    found: list[Section | None] = []
    for section, columns in zip(sections, widths, strict=True):
        if columns is None:
            found.append(None)
            continue
        rows = section.y0, section.y1
        ends = [o.x1 for o in found if o and o.y0 < rows[1] and rows[0] < o.y1]
        x0 = max([edge, *ends])
        found.append(Section(*rows, x0, x0 + columns[1] - columns[0]))
    return found


def _corner(read: _Read, section: Section, edges: Section, several: bool) -> str:
    """The corner of an amplifier that is read first.

    AMPSEC tells the order of reading. Without it the pixels of an HDU of its own, or flipped ones,
    stand in that order; others were sorted by the camera, and go to the nearest corner.
    """
    if read.readout.corner:
        return read.readout.corner
    order = parse_section(read.readout.amp) if read.readout.amp else None
    words = []
    own = (section.y0, section.y1), (section.x0, section.x1)
    outer = (edges.y0, edges.y1), (edges.x0, edges.x1)
    for axis, (_, low, high) in enumerate(_WORDS):
        runs = read.flipped[axis]
        if order is not None:
            backwards = runs != order[1 - axis].is_reversed
        elif several or runs:
            backwards = runs
        else:
            backwards = own[axis][0] - outer[axis][0] > outer[axis][1] - own[axis][1]
        words.append(high if backwards else low)
    return " ".join(words)


def _pixels(section: Section) -> int:
    return section.shape[0] * section.shape[1]
