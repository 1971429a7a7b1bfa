"""The first pass of a combine: one factor for each frame, from its own good pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dask.array as da
import numpy as np

from daskcal.errors import ArgumentError, UnusableFrameError, choose
from daskcal.frames.blocks import Stack, pack

ScaleLike = str | Callable[[np.ndarray], float] | Sequence[float] | np.ndarray | None


def frame_scales(stack: Stack, scale: ScaleLike, names: Sequence[str]) -> da.Array | None:
    """Factors (frame,), float64, in one block, lazily; None for none.

    Parameters
    ----------
    stack : Stack
        The frames.
    scale : {"median", "mean"}, callable, sequence or None
        A word is one over that statistic of the frame's good pixels. A callable gets those (1-D,
        float64) and returns the factor. Numbers are factors.
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
    found = da.blockwise(  # whole frames: a statistic must not depend on how they are cut
        _frame_statistic,
        "gyx",
        pack(stack, frame=1, rows=-1),
        "gyx",
        adjust_chunks={"y": 1, "x": 1},
        planes=stack.recipe.planes,
        scale=scale,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )
    return da.blockwise(
        _factors,
        "f",
        found,
        "gyx",
        new_axes={"f": stack.n_frames},
        scale=scale,
        names=tuple(names),
        dtype=np.float64,
        meta=np.empty(0),
    )


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


def _frame_statistic(
    block: tuple[np.ndarray, ...], *, planes: tuple[str, ...], scale: str | Callable
) -> np.ndarray:
    """What a frame's good pixels give, (1, 1, 1); NaN where there is none."""
    held = dict(zip(planes, block, strict=True))
    image = held["image"][0]
    good = np.isfinite(image)
    if "mask" in held:
        good &= held["mask"][0] == 0
    if not good.any():
        value = np.nan
    elif scale == "median":
        value = _median(image[good])
    elif scale == "mean":
        rows = np.where(good, image, 0).sum(axis=1, dtype=np.float64)
        value = float(np.add.reduce(rows)) / np.count_nonzero(good)
    else:  # floating, or the callable's own arithmetic would wrap
        value = float(scale(image[good].astype(np.float64)))  # type: ignore[operator]
    return np.full((1, 1, 1), value)


def _median(values: np.ndarray) -> float:
    """The exact median; numpy's own is rounded to float32 for those."""
    middle = [(values.size - 1) // 2, values.size // 2]
    return float(np.partition(values, middle)[middle].mean(dtype=np.float64))


def _factors(found: list, *, scale: str | Callable, names: tuple[str, ...]) -> np.ndarray:
    """All frames' factors, of blocks nested by frame, row and column."""
    values = np.array([frame[0][0].item() for frame in found])
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        what = f"{scale} of the good pixels" if isinstance(scale, str) else "scale function's value"
        said = ", ".join(f"{names[i]} ({values[i]:g})" for i in wrong[:3])
        more = f" and {wrong.size - 3} more" if wrong.size > 3 else ""
        raise UnusableFrameError(
            names[wrong[0]],
            "no-signal",
            f"combine: the {what} should be positive, and is not (nan: no good pixel) for "
            f"{said}{more}; leave those frames out or give the scale as numbers",
        )
    return 1 / values if isinstance(scale, str) else values
