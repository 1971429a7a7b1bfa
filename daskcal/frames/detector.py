"""The coordinates ``y`` and ``x``: detector pixels, and what they say of the raw frame."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.errors import GeometryError
from daskcal.frames.sections import Section

if TYPE_CHECKING:
    from daskcal.frames.stack import Stack


@dataclass(frozen=True, slots=True)
class RawWindow:
    """The window of the detector that was read, and whether a header told where it lies."""

    section: Section
    known: bool


def detector_coords(raw: RawWindow) -> dict[str, xr.Variable]:
    """Coordinates ``y`` and ``x`` of frames as they were read.

    Their attributes say where the raw frame began, its size, and whether that place is known from
    the header or assumed to be 0; selections keep them.
    """
    section = raw.section
    spans = {"y": (section.y0, section.y1), "x": (section.x0, section.x1)}
    return {
        axis: xr.Variable(
            axis,
            np.arange(*span),
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


def require_same_origin(
    master: RawWindow | None, frames: RawWindow | None, here: Section, what: str
) -> None:
    """Raise `GeometryError` where the place of a master on the frames can only be guessed.

    Without an origin in a header, equal shapes are what tells that two images lie alike.
    """
    if master is None or frames is None or (master.known and frames.known):
        return
    own, raw = master.section.shape, frames.section.shape
    if own not in (raw, here.shape):
        unknown = "the frames'" if master.known else "its"
        raise GeometryError(
            f"{what} has {own[0]} rows × {own[1]} columns where the frames had {raw[0]} × {raw[1]} "
            f"when they were read, and {unknown} header does not say where on the detector that "
            "is (CCDSEC, or LTV1 and LTV2); give both the same shape"
        )
