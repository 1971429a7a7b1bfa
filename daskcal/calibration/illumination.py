"""Illumination: what a flat of a lamp gets wrong on large scales, and the sky gets right."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.flat import divide
from daskcal.calibration.masters import Master, as_master
from daskcal.errors import ArgumentError, CalibrationError
from daskcal.strict import strict_keywords

BOX = 64  # pixels: a median of 4096 pixels is good to 1 % of their noise · 1.25/64
NEIGHBOURS = 25  # boxes that tell what one without good pixels is
FULL = 0.25  # of a box must be good pixels, or the boxes around it say what it is


@strict_keywords
def illumination_frame(sky: Any, *, box: int = BOX) -> xr.Dataset:
    """Smooth a master of sky frames to what differs between the sky and the flat.

    A lamp does not light a telescope as the sky does. Flat-fielded sky or twilight frames show the
    ratio of both; it is smooth, so that the medians of large boxes give it, joined by a cubic
    spline (as IRAF's mkillumcor, with medians for clipped means).

    Parameters
    ----------
    sky : xarray.Dataset, CCDData or path
        Master (y, x) of sky frames that were flat-fielded, combined so that stars are gone.
    box : int
        Rows and columns of a box, about: from 8 to half of the frame.

    Returns
    -------
    xarray.Dataset
        ``image (y, x)``, float64, lazily, for `illumination_correct`. It has no variance: that of
        a box's median is thousands of times smaller than a pixel's.

    Raises
    ------
    ArgumentError
        `box` is too small or too large.
    CalibrationError
        No box has enough good pixels: raised when the frame is computed.

    Examples
    --------
    >>> sky = daskcal.combine(flats, scale="median")  # of the sky
    >>> science = daskcal.illumination_correct(
    ...     science, daskcal.illumination_frame(sky, box=32))
    """
    master = as_master(sky, "sky flat")
    shape = master.section.shape
    if not (isinstance(box, int) and 8 <= box <= min(shape) / 2):
        raise ArgumentError(
            f"box={box!r} should be a whole number of pixels from 8 to half of the sky flat, which "
            f"is {shape[0]} × {shape[1]}"
        )
    edges = [np.linspace(0, size, round(size / box) + 1).astype(int) for size in shape]
    attrs = {"file": f"illumination of {master.identity.file}"}
    image = _between(_boxes(master, *edges), *edges)
    return xr.Dataset({"image": (("y", "x"), image)}, coords=master.coords, attrs=attrs)


@strict_keywords
def illumination_correct(frames: xr.Dataset, illumination: Any) -> xr.Dataset:
    """Divide flat-fielded frames by an illumination frame.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``, flat-fielded; fringes, which the sky has and no flat, are
        subtracted afterwards.
    illumination : xarray.Dataset, CCDData or path
        From `illumination_frame`, of any level: its good pixels are scaled to a mean of 1.

    Returns
    -------
    xarray.Dataset
        The frames, lazily; variances are divided by its square, and its own, if it has one, enters
        ``variance_shared``. Pixels that it says nothing of are ``low_flat`` and NaN.

    Raises
    ------
    CalibrationError
        It was done already, or fringes were subtracted before; no pixel of the illumination frame
        is good (raised when the frames are computed).
    GeometryError
        The illumination frame does not cover the frames.

    Examples
    --------
    >>> done = daskcal.illumination_correct(science, "sky_V.fits")
    """
    action = "illumination_correct"
    require_order(frames, action, action, "subtract_fringe")
    what = "illumination frame"
    return divide(frames, illumination, action, what, min_value=None, normalise="mean")


def _boxes(master: Master, rows: np.ndarray, columns: np.ndarray) -> da.Array:
    """The median of the good pixels of each box (rows of boxes, columns of boxes), lazily."""
    heights = tuple(map(int, np.diff(rows)))
    args: list[Any] = []
    for name in ("image", "mask"):
        if name in master.planes:
            args += [master.planes[name].rechunk((heights, -1)), "yx"]
    return da.blockwise(
        _medians, "yb", *args, columns=tuple(map(int, columns)), new_axes={"b": len(columns) - 1},
        adjust_chunks={"y": 1}, concatenate=True, dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip


def _medians(
    image: np.ndarray, mask: np.ndarray | None = None, *, columns: tuple[int, ...]
) -> np.ndarray:
    """The median of the good pixels of each box of a row of boxes, (1, boxes)."""
    values = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
    if mask is not None:
        values[mask != 0] = np.nan
    found = []
    for x0, x1 in pairwise(columns):
        box = values[:, x0:x1]
        good = box[np.isfinite(box)]
        found.append(np.median(good) if good.size > FULL * box.size else np.nan)
    return np.array([found])


def _between(boxes: da.Array, rows: np.ndarray, columns: np.ndarray) -> da.Array:
    """The smooth surface through the boxes, (y, x), lazily."""
    lines = da.arange(rows[-1], chunks=(tuple(map(int, np.diff(rows))),))
    return da.blockwise(
        _surface, "yx", lines, "y", boxes, "ab", rows=rows, columns=columns, concatenate=True,
        new_axes={"x": int(columns[-1])}, dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip


def _surface(
    lines: np.ndarray, boxes: np.ndarray, *, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Some lines of the spline through the middles of the boxes."""
    from scipy.interpolate import RectBivariateSpline

    middles, values = [], _filled(boxes)
    for axis, edges in enumerate((rows, columns)):
        middle = (edges[:-1] + edges[1:] - 1) / 2
        middles.append(np.r_[0, middle, edges[-1] - 1])
        values = _to_edges(values.swapaxes(0, axis), middles[-1]).swapaxes(0, axis)
    degrees = [min(3, size - 1) for size in values.shape]
    spline = RectBivariateSpline(*middles, values, kx=degrees[0], ky=degrees[1], s=0)
    return np.asarray(spline(lines, np.arange(columns[-1])))


def _filled(boxes: np.ndarray) -> np.ndarray:
    """Boxes with something between those about them where they have no value."""
    from scipy.interpolate import RBFInterpolator

    known = np.isfinite(boxes)
    if not known.any():
        raise CalibrationError(
            "illumination_frame: no box of the sky flat has enough good pixels; are all masked?"
        )
    filled = boxes.copy()
    if not known.all():
        near = min(NEIGHBOURS, int(known.sum()))
        surface = RBFInterpolator(
            np.argwhere(known), boxes[known], neighbors=near, kernel="linear", degree=0
        )
        filled[~known] = surface(np.argwhere(~known))
    return filled


def _to_edges(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values at the inner places of `at`, with straight lines through two to the outer ones."""
    first = values[0] + (values[0] - values[1]) * (at[1] - at[0]) / (at[2] - at[1])
    last = values[-1] + (values[-1] - values[-2]) * (at[-1] - at[-2]) / (at[-2] - at[-3])
    return np.concatenate([first[None], values, last[None]])
