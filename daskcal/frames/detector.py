"""The coordinates ``y`` and ``x``: detector pixels, and what they say of the raw frame."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.errors import GeometryError
from daskcal.frames.sections import Section

if TYPE_CHECKING:
    from daskcal.frames.stack import Stack


@dataclass(frozen=True, slots=True)
class RawWindow:
    """The window of the detector that was read, and whether a header told where it lies.

    `labelled` is false for an array without coordinates, of which only the shape is known.
    """

    section: Section
    known: bool
    labelled: bool = True


def detector_coords(raw: RawWindow, held: Section | None = None) -> dict[str, xr.Variable]:
    """Coordinates ``y`` and ``x`` of frames as they were read, or of the part `held` of them.

    Their attributes say where the raw frame began, its size, and whether that place is known from
    the header or assumed to be 0; selections keep them.
    """
    section, held = raw.section, held or raw.section
    spans = {"y": (section.y0, section.y1), "x": (section.x0, section.x1)}
    labels = {"y": (held.y0, held.y1), "x": (held.x0, held.x1)}
    return {
        axis: xr.Variable(
            axis,
            np.arange(*labels[axis]),
            {
                "long_name": f"detector {'row' if axis == 'y' else 'column'}",
                "raw_start": span[0],
                "raw_size": span[1] - span[0],
                "origin": "known" if raw.known else "assumed",
            },
        )
        for axis, span in spans.items()
    }


def raw_window(ds: xr.Dataset) -> RawWindow | None:
    """The raw window of frames or a master, None where it is not known (any more).

    Coordinates that lie outside of what was read were changed by the user, and tell nothing of it.
    """
    bounds, known = [], True
    for axis in ("y", "x"):
        labels = ds.indexes.get(axis)
        attrs: dict[Hashable, object] = ds[axis].attrs if axis in ds.coords else {}
        if labels is None or not len(labels) or not {"raw_start", "raw_size"} <= set(attrs):
            return None
        start = int(attrs["raw_start"])  # type: ignore[call-overload]
        stop = start + int(attrs["raw_size"])  # type: ignore[call-overload]
        if labels.min() < start or labels.max() >= stop:
            return None
        bounds.append((start, stop))
        known = known and attrs.get("origin") == "known"
    return RawWindow(Section(*bounds[0], *bounds[1]), known)


def place(ds: xr.Dataset) -> RawWindow | None:
    """As `raw_window`; of an image without coordinates, its shape at an unknown place."""
    if {"y", "x"} <= set(ds.indexes):
        return raw_window(ds)
    return RawWindow(Section(0, ds.sizes["y"], 0, ds.sizes["x"]), known=False, labelled=False)


def window_record(window: RawWindow | None) -> dict[str, list[int] | None]:
    """What a file of a master says of its raw window: None where it never had coordinates."""
    if window is None:
        return {}
    raw = window.section
    return {"raw": [raw.y0, raw.y1, raw.x0, raw.x1] if window.labelled else None}


def recorded_window(record: Mapping[str, Any], section: Section) -> RawWindow:
    """The raw window of a master in a file of daskcal's, which covers `section`."""
    raw = record.get("raw", section)
    if raw is None:
        return RawWindow(section, known=False)
    return RawWindow(raw if isinstance(raw, Section) else Section(*raw), known=True)


def raw_section(ds: xr.Dataset, stack: Stack) -> Section:
    """The window of the raw frames, which sections in FITS form count from."""
    known = raw_window(ds)
    return stack.recipe.source.section if known is None else known.section


def require_cover(outer: Section, inner: Section, what: str) -> None:
    """Raise `GeometryError` naming the rows or columns of `inner` that `outer` lacks."""
    if outer.covers(inner):
        return
    lacks = []
    for axis, (o0, o1), (i0, i1) in (
        ("rows", (outer.y0, outer.y1), (inner.y0, inner.y1)),
        ("columns", (outer.x0, outer.x1), (inner.x0, inner.x1)),
    ):
        if i0 < o0:
            lacks.append(f"{axis} {i0} to {min(o0, i1) - 1}")
        if i1 > o1:
            lacks.append(f"{axis} {max(o1, i0)} to {i1 - 1}")
    raise GeometryError(
        f"{what} covers {outer} of the detector and lacks {', '.join(lacks)} of the frames, "
        f"which cover {inner}; trim both alike"
    )


def laid_over(
    section: Section, master: RawWindow | None, frames: RawWindow | None, here: Section, what: str
) -> Section:
    """Where a master lies that has the coordinates `section`, over frames that cover `here`.

    Coordinates decide. Where a header or the user does not say what they are, equal shapes are
    what tells that two images lie alike.

    Raises
    ------
    GeometryError
        The shapes differ too.
    """
    if master is None or (frames is not None and master.known and frames.known):
        return section
    moved = _moved(section, master.section, None if frames is None else frames.section, here)
    if moved is None and frames is None and master.labelled:
        return section  # the user said where the frames lie
    if moved is None:
        raise GeometryError(_guess(what, section, master, frames, here))
    return section if master.known else moved


def _moved(section: Section, own: Section, raw: Section | None, here: Section) -> Section | None:
    """`section` of a master read as `own`, moved to where something of its shape lies.

    That is the raw frames, or what is left of them; None where neither has that shape.
    """
    if section == here:
        return section
    pairs = [(own, here)] if raw is None else [(own, raw), (own, here), (section, raw)]
    for like, target in pairs:
        if like.shape == target.shape:
            return section.shifted(target.y0 - like.y0, target.x0 - like.x0)
    return None


def _guess(
    what: str, section: Section, master: RawWindow, frames: RawWindow | None, here: Section
) -> str:
    """Why nobody can tell where a master lies on the frames."""
    raw = here if frames is None else frames.section
    found = f"{raw.shape[0]} × {raw.shape[1]}"
    had = f"have {found}" if raw == here else f"had {found} when they were read"
    detector = "coordinates; give y and x, the detector pixels of rows and columns"
    if not master.labelled:
        reason = f"it has no {detector}"
    elif frames is not None and not frames.labelled:
        reason = f"the frames have no {detector}"
    else:
        unknown = "the frames'" if master.known else "its"
        reason = (
            f"{unknown} header does not say where on the detector that is (CCDSEC, or LTV1 and "
            "LTV2); give both the same shape, or coordinates y and x"
        )
    rows, columns = section.shape
    return f"{what} has {rows} rows × {columns} columns where the frames {had}, and {reason}"
