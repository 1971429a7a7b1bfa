"""The first pass of a combine: one factor for each frame, from its own good pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dask.array as da
import numpy as np

from daskcal.errors import ArgumentError, CalibrationError, choose
from daskcal.frames.blocks import Stack, pack

ScaleLike = str | Callable[[np.ndarray], float] | Sequence[float] | np.ndarray | None


def frame_scales(stack: Stack, scale: ScaleLike, names: Sequence[str]) -> da.Array | None:
    """Factors (frame,), float64, lazily; None for none.

    Parameters
    ----------
    stack : Stack
        The frames.
    scale : {"median", "mean"}, callable, sequence or None
        A word is one over that statistic of the frame's good pixels. A callable gets those (1-D)
        and returns the factor. Numbers are factors.
    names : sequence of str
        What to call the frames in messages.

    Raises
    ------
    ArgumentError
        An unknown word, or numbers that are not one positive one for each frame.
    """
    if scale is None:
        return None
    if isinstance(scale, str):
        choose("scale", scale, ("median", "mean"))
    elif not callable(scale):
        return _given(scale, stack.n_frames)
    mask_at = stack.recipe.planes.index("mask") if "mask" in stack.recipe.planes else None
    factors = da.blockwise(
        _frame_factor,
        "f",
        pack(stack, frame=1, rows=-1),
        "fyx",
        da.from_array(np.array(names, dtype=object), chunks=1),
        "f",
        concatenate=False,
        scale=scale,
        mask_at=mask_at,
        dtype=np.float64,
        meta=np.empty(0),
    )
    return factors.rechunk(-1)


def _given(scale: Sequence[float] | np.ndarray, n: int) -> da.Array:
    try:
        factors = np.asarray(scale, dtype=np.float64)
    except (TypeError, ValueError):
        factors = np.empty(0)
    if factors.shape != (n,) or not (np.isfinite(factors) & (factors > 0)).all():
        raise ArgumentError(
            f"scale should be 'median', 'mean', a callable, or {n} positive numbers, one for each "
            f"frame; found {scale!r:.80}"
        )
    return da.from_array(factors, chunks=-1)


def _frame_factor(
    packed: list, name: np.ndarray, *, scale: str | Callable, mask_at: int | None
) -> np.ndarray:
    planes = packed[0][0]
    image = planes[0][0]
    good = np.isfinite(image) if image.dtype.kind == "f" else np.ones(image.shape, bool)
    if mask_at is not None:
        good &= planes[mask_at][0] == 0
    values = image[good]
    factor = np.nan
    if values.size:
        if scale == "median":
            factor = _inverse(float(np.median(values)))
        elif scale == "mean":
            rows = np.where(good, image, 0).sum(axis=1, dtype=np.float64)
            factor = _inverse(float(np.add.reduce(rows)) / values.size)
        else:
            factor = float(scale(values))  # type: ignore[operator]
    if not (np.isfinite(factor) and factor > 0):
        what = f"the {scale}" if isinstance(scale, str) else "the scale function"
        raise CalibrationError(
            f"combine: {what} of {name[0]} gives the factor {factor}, which should be positive; "
            "leave the frame out or give the scale as numbers"
        )
    return np.array([factor])


def _inverse(value: float) -> float:
    return 1 / value if value else np.nan
