"""Subtract the fringes that the lines of the night sky make in a thin detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.masters import Master, as_master, defined, fitted
from daskcal.calibration.robust import clipped_fit
from daskcal.errors import ArgumentError, UnusableFrameError
from daskcal.frames.blocks import Band, Stack, assign, describe_input, pack, recover
from daskcal.frames.coordinates import frame_names
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.room import Room
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

CLIP = 3.0  # σ: a fit to the sky must not see the stars
WORKING = 96  # bytes for each pixel of a fit: its terms, value and distance, and what becomes them
SAMPLE = 1 << 20  # pixels of a frame that a fit takes at most, evenly spread over it


@dataclass(frozen=True, eq=False, kw_only=True)
class SubtractFringe(Step):
    """image − k·fringe, k from the last input; the fringe's noise is shared by the frames, · k²."""

    names: tuple[str, ...]

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        noisy = "variance" in self.names
        return with_plane(before, "mask", *(("variance_shared",) if noisy else ()))

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        *planes, scale = arrays
        fringe = dict(zip(self.names, planes, strict=True))
        values, bits = defined(fringe)
        program.subtract(values, scale)
        program.flag(bits)
        for plane in ("variance", "variance_shared"):
            if plane in fringe:
                program.share(fringe[plane], scale**2)


@strict_keywords
def subtract_fringe(
    frames: xr.Dataset, fringe: Any, *, scale: float | Sequence[float] | None = None
) -> xr.Dataset:
    """Subtract a fringe frame, scaled to the fringes of each frame.

    The sky's lines interfere in the detector; the pattern stays, its strength follows the sky.
    Fringes are light of the sky that no star sees: they are subtracted, after the flat (with which
    the fringe frame was corrected as well), and they are no part of a flat (Howell 2012, PASP 124,
    263).

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``, flat-fielded.
    fringe : xarray.Dataset, CCDData or path
        Fringe frame (y, x): many flat-fielded sky frames with their sky subtracted, combined
        without their stars.
    scale : float or sequence of float, optional
        What the fringe frame is multiplied by, for all frames or each. If not given it is fitted:
        frame = plane + k·fringe by least squares over pixels good in both, without those beyond
        3σ of the fit (stars), in a first pass over each frame (a million pixels of it, evenly
        spread).

    Returns
    -------
    xarray.Dataset
        The frames, lazily; masks are merged, and the fringe frame's variance enters
        ``variance_shared``, times the square of the scale.

    Raises
    ------
    ArgumentError
        Scales that are not one number for each frame.
    CalibrationError
        Fringes were subtracted already.
    GeometryError, UnitError
        The fringe frame does not cover the frames, or is in another unit.
    UnusableFrameError
        A frame with too few good pixels to fit: raised when the frames are computed.

    Examples
    --------
    >>> done = daskcal.subtract_fringe(science, "fringe_z.fits")
    """
    stack = recover(frames)
    unit = require_unit(frames, "subtract_fringe")
    require_order(frames, "subtract_fringe", "subtract_fringe")
    master = fitted(as_master(fringe, "fringe frame"), stack, frames, unit)
    if scale is None:
        scales = _fitted_scales(stack, master, frame_names(frames))
    else:
        scales = da.from_array(_given(scale, stack.n_frames), chunks=-1)
    inputs, arrays = master.inputs(master.names)
    step = SubtractFringe(inputs=(*inputs, describe_input(scales, "f")), names=master.names)
    record = StepRecord("subtract_fringe", {"scale": _said(scale)}, (master.identity,))
    return with_step(assign(frames, stack.then(step, [*arrays, scales])), record)


def _given(scale: float | Sequence[float], n: int) -> np.ndarray:
    numbers = np.asarray(scale, np.float64)
    if numbers.shape not in ((), (n,)) or not np.isfinite(numbers).all():
        raise ArgumentError(f"scale={scale!r:.80} should be a number, or {n}, one for each frame")
    return np.broadcast_to(numbers, n).copy()


def _said(scale: float | Sequence[float] | None) -> str | float | list[float]:
    return "fit" if scale is None else np.asarray(scale, np.float64).tolist()


# --- the fit ----------------------------------------------------------------------------------


def _fitted_scales(stack: Stack, master: Master, names: Sequence[str]) -> da.Array:
    """The scale of each frame (frame,), float64, from a first pass over the frames, lazily."""
    here = stack.section.within(master.section)
    planes = [master.planes[p][here] for p in ("image", "mask") if p in master.planes]
    rows, columns = stack.section.shape
    sampled = min(1.0, SAMPLE / max(1, rows * columns))
    return da.blockwise(
        _frame_scale,
        "f",
        pack(stack, frame=1, rows=-1),
        "fyx",
        *(part for plane in planes for part in (plane.rechunk(-1), "yx")),
        names=tuple(names),
        room=Room.of_frame(stack, int(np.ceil(sampled * WORKING))),
        dtype=np.float64,
        meta=np.empty(0),
    )


def _frame_scale(
    packed: list,
    fringes: list,
    masks: list | None = None,
    *,
    names: Sequence[str],
    room: Room,
) -> np.ndarray:
    """The scale (1,) of one frame, whose blocks are nested by row and column."""
    band: Band = packed[0][0]
    mask = None if masks is None else masks[0][0]
    with room.taken():
        planes = {name: plane[0] for name, plane in band.by_name().items()}
        scale, n = _scale(planes["image"], planes.get("mask"), fringes[0][0], mask)
    if not np.isfinite(scale):
        raise UnusableFrameError(
            names[band.frames.start],
            "unusable",
            f"subtract_fringe: its {n} good pixels are too few to fit the fringe frame, or that "
            "is even; give the scale, or leave the frame out",
        )
    return np.array([scale])


def _scale(
    image: np.ndarray, mask: np.ndarray | None, fringe: np.ndarray, unfit: np.ndarray | None
) -> tuple[float, int]:
    """k of image = a + b·y + c·x + k·fringe, over so many pixels good in both.

    Without those beyond 3σ of the fit. Of a large image an even sample is enough.
    """
    step = int(np.ceil(np.sqrt(max(1.0, image.size / SAMPLE))))
    thin = (slice(None, None, step),) * 2
    image, fringe = image[thin], fringe[thin]
    good = np.isfinite(image) & np.isfinite(fringe)
    for bits in (mask, unfit):
        if bits is not None:
            good &= bits[thin] == 0
    values = image[good].astype(np.float64)
    terms = np.ones((4, values.size))
    size = 0.0
    for term, each in zip(terms[1:], (*np.nonzero(good), fringe[good]), strict=True):
        term[:] = each
        size = float(term.std()) if term.size else 0.0
        term -= term.mean() if term.size else 0.0
        term /= size or np.inf
    return float(clipped_fit(values, terms, CLIP).terms[-1]) / (size or np.nan), values.size
