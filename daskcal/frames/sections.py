"""Rectangles of pixels: what people write for them, and detector coordinates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from daskcal.errors import GeometryError

_RANGE = re.compile(r"\s*([+-]?\d*)\s*(?::\s*([+-]?\d*)\s*)?$")


@dataclass(frozen=True, slots=True)
class Section:
    """Rows ``y0 <= y < y1`` and columns ``x0 <= x < x1``, 0-based."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    def shifted(self, dy: int, dx: int) -> Section:
        """The same rectangle moved by `dy` rows and `dx` columns."""
        return Section(self.y0 + dy, self.y1 + dy, self.x0 + dx, self.x1 + dx)

    def covers(self, other: Section) -> bool:
        """Whether `other` lies inside."""
        rows = self.y0 <= other.y0 and other.y1 <= self.y1
        return rows and self.x0 <= other.x0 and other.x1 <= self.x1

    def common(self, other: Section) -> Section:
        """What both cover; no rows or columns where that is nothing."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        y1, x1 = min(self.y1, other.y1), min(self.x1, other.x1)
        return Section(y0, max(y0, y1), x0, max(x0, x1))

    def within(self, outer: Section) -> tuple[slice, slice]:
        """Index of this rectangle in an array that holds `outer`."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )

    def __str__(self) -> str:
        return f"[{self.y0}:{self.y1}, {self.x0}:{self.x1}]"


def hull(sections: Iterable[Section]) -> Section:
    """The smallest rectangle that covers all `sections`, of which there is at least one."""
    held = list(sections)
    return Section(
        min(s.y0 for s in held),
        max(s.y1 for s in held),
        min(s.x0 for s in held),
        max(s.x1 for s in held),
    )


def python_section(text: str | slice | tuple[slice, ...], shape: tuple[int, int]) -> Section:
    """Read a section as Python writes it: rows first, 0-based, the end not included.

    Parameters
    ----------
    text : str, slice or tuple of slice
        ``"[:, 2055:]"`` or ``np.s_[:, 2055:]``; negative numbers count from the end.
    shape : tuple of int
        Rows and columns of the image.

    Raises
    ------
    GeometryError
        Not a section, an empty one, or one that leaves the image.
    """
    slices = _python_slices(text) if isinstance(text, str) else text
    if isinstance(slices, slice):
        slices = (slices,)
    if not isinstance(slices, tuple) or not all(isinstance(s, slice) for s in slices):
        raise GeometryError(
            f"{text!r} is not a section; write it as '[:, 2055:]' or np.s_[:, 2055:]"
        )
    if len(slices) > 2:
        raise GeometryError(
            f"section {text!r} has {len(slices)} axes; an image has rows and columns"
        )
    both = (*slices, slice(None))[:2]
    bounds = [_bounds(s, n, text) for s, n in zip(both, shape, strict=True)]
    return Section(*bounds[0], *bounds[1])


def after_fits(section: object) -> str | None:
    """The bracket of ``"fits [1:9,1:9]"``, a section in FITS form; None where that is not said."""
    word = section.strip() if isinstance(section, str) else ""
    return word[4:].strip() if word[:4].lower() == "fits" else None


def fits_section(text: str, shape: tuple[int, int]) -> Section:
    """Read a section as FITS headers write it: columns first, 1-based, the end included.

    Blanks are allowed, and so are reversed ranges (``[1432:1388,...]``) and ``*`` for a whole axis.

    Raises
    ------
    GeometryError
        Not a section, or one that leaves the image of `shape` (rows, columns).
    """
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if len(parts) != 2:
        raise GeometryError(f"FITS section {text!r} should look like '[1388:1432,1:1370]'")
    bounds = []
    for part, size in zip(reversed(parts), shape, strict=True):
        if part.strip() in ("*", "-*", ":"):
            bounds.append((0, size))
            continue
        found = _RANGE.match(part)
        if not found or not found[1] or found[2] == "":
            raise GeometryError(f"FITS section {text!r} should look like '[1388:1432,1:1370]'")
        first, last = int(found[1]), int(found[2] or found[1])
        low, high = min(first, last), max(first, last)
        if low < 1 or high > size:
            raise GeometryError(
                f"FITS section {text!r} leaves the image of {shape[1]} columns × {shape[0]} rows"
            )
        bounds.append((low - 1, high))
    return Section(*bounds[0], *bounds[1])


def _python_slices(text: str) -> tuple[slice, ...]:
    inside = text.strip()
    if not (inside.startswith("[") and inside.endswith("]")):
        raise GeometryError(f"section {text!r} should look like '[:, 2055:]'")
    slices = []
    for part in inside[1:-1].split(","):
        found = _RANGE.match(part)
        if not found or found[2] is None:
            raise GeometryError(f"section {text!r} should look like '[:, 2055:]'")
        slices.append(slice(*(int(n) if n else None for n in found.groups())))
    return tuple(slices)


def _bounds(part: slice, size: int, text: object) -> tuple[int, int]:
    if part.step not in (None, 1):
        raise GeometryError(f"section {text!r} has a step; a section is a whole rectangle")
    for end in (part.start, part.stop):
        if end is not None and abs(end) > size:
            raise GeometryError(f"section {text!r} leaves the image: {end} of {size} pixels")
    start, stop, _ = part.indices(size)
    if stop <= start:
        raise GeometryError(f"section {text!r} is empty for an axis of {size} pixels")
    return start, stop
