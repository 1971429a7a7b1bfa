"""Frames become one image: rejection of outliers and combination, in one pass over the stack."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.combination.facts import master_attrs
from daskcal.combination.kernels import Reject, combine_block
from daskcal.combination.reject import MinMax, NoRejection, Rejection, SigmaClip, rejection
from daskcal.combination.scale import ScaleLike, frame_scales
from daskcal.errors import ArgumentError, choose
from daskcal.frames.blocks import Stack, pack, recover
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.memory import band_rows
from daskcal.frames.recipe import promoted
from daskcal.frames.steps import StepRecord
from daskcal.frames.units import require_unit

__all__ = ["MinMax", "NoRejection", "SigmaClip", "combine"]

METHODS = ("average", "median", "sum")
ADU_FLOOR = 0.5  # raw units: a converter's rounding hides what is smaller
MOST_FRAMES = 65535  # n_used and its like are uint16


def combine(
    frames: xr.Dataset,
    *,
    method: str = "average",
    reject: str | Rejection | None = "sigma",
    scale: ScaleLike = None,
    **options: Any,
) -> xr.Dataset:
    """Combine frames into one image, leaving outliers out.

    Masked and undefined values never count. Each value is first multiplied by its frame's scale;
    then outliers are rejected; then the survivors are combined.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``, and ``variance``, ``variance_shared`` and ``mask`` if any.
    method : {"average", "median", "sum"}
        ``sum`` is the number of frames times the mean of the survivors.
    reject : {"sigma", "minmax", "none"}
        What is left out. `options` are those of it: for ``sigma`` those of `SigmaClip` (``low``,
        ``high``, ``center``, ``spread``, ``maxiters``, ``sigma_floor``), for ``minmax`` those of
        `MinMax` (``n_low``, ``n_high``).
    scale : {"median", "mean"}, callable, sequence of float or None
        Factor of each frame: one over its median or mean; what a callable makes of its good
        pixels (1-D); numbers.

    Returns
    -------
    xarray.Dataset
        Of dims (y, x), lazily: ``image``; ``variance`` (propagated from the frames' where they
        have it, else from the scatter of the survivors; NaN for a single one); ``mask`` (bits
        only where no good value was left, and those are NaN and ``no_data``); ``n_used``; with
        rejection ``n_low`` and ``n_high``, how many were rejected on either side.

    Raises
    ------
    ArgumentError, UnknownKeywordError
        A word, number or keyword that cannot be used, before anything is read.
    UnitError
        The unit of the frames is not known.

    Examples
    --------
    >>> bias = daskcal.combine(biases, method="average", reject="sigma", low=5, high=5)  # doctest: +SKIP
    """
    choose("method", method, METHODS)
    stack = recover(frames)
    n = stack.n_frames
    if not 0 < n <= MOST_FRAMES:
        raise ArgumentError(f"combine takes 1 to {MOST_FRAMES} frames, found {n}")
    rules = rejection(reject, options, n)
    unit = require_unit(frames, "combine")
    names = frames["path"].values if "path" in frames.coords else np.arange(n).astype(object)
    scales = frame_scales(stack, scale, [str(name) for name in names])
    planes = _planes(stack, method, rules, scales)
    record = StepRecord("combine", _parameters(method, rules, scale))
    coords = {axis: frames[axis] for axis in ("y", "x") if axis in frames.coords}
    master = xr.Dataset(planes, coords=coords, attrs=master_attrs(frames, record))
    master["image"].attrs = {**frames["image"].attrs, "units": unit}
    master["mask"].attrs = dict(MASK_ATTRS)
    return master


def _planes(
    stack: Stack, method: str, rules: Rejection, scales: da.Array | None
) -> dict[str, tuple[tuple[str, str], da.Array]]:
    """The variables of a master, each (y, x), from one kernel call for each band."""
    kernel = rules.kernel()
    scaled = () if scales is None else (scales, "f")
    combined = da.blockwise(
        _combine_planes,
        "fyx",
        pack(stack, frame=-1, rows=band_rows(stack)),
        "fyx",
        *scaled,
        adjust_chunks={"f": 1},
        planes=stack.recipe.planes,
        method=method,
        reject=kernel,
        floor=rules.sigma_floor if isinstance(rules, SigmaClip) else None,
        dtype=object,
        meta=np.empty((0, 0, 0), object),
    )
    value = promoted(stack.recipe.dtype)
    count = np.dtype(np.uint16)
    out = {"image": (0, value), "variance": (1, value)}
    if "variance_shared" in stack.recipe.planes:
        out["variance_shared"] = (2, value)
    out |= {"mask": (3, count), "n_used": (4, count)}
    if not isinstance(rules, NoRejection):
        out |= {"n_low": (5, count), "n_high": (6, count)}
    return {
        name: (
            ("y", "x"),
            da.blockwise(
                _plane, "yx", combined, "fyx", i=i, concatenate=None, dtype=dtype,
                meta=np.empty((0, 0), dtype),
            ),
        )
        for name, (i, dtype) in out.items()
    }  # fmt: skip


def _combine_planes(
    block: tuple[np.ndarray, ...],
    scale: np.ndarray | None = None,
    *,
    planes: tuple[str, ...],
    method: str,
    reject: Reject,
    floor: float | str | None,
) -> tuple[np.ndarray | None, ...]:
    held = dict(zip(planes, block, strict=True))
    if floor == "auto":
        size = 1.0 if scale is None else float(np.mean(scale))
        floor = "variance" if "variance" in held else ADU_FLOOR * size
    return combine_block(
        held["image"],
        held.get("mask"),
        held.get("variance"),
        held.get("variance_shared"),
        method=method,
        reject=reject,
        scale=scale,
        floor=floor,
    )


def _plane(blocks: list[tuple[np.ndarray, ...]], *, i: int) -> np.ndarray:
    return blocks[0][i]


def _parameters(method: str, rules: Rejection, scale: ScaleLike) -> dict[str, Any]:
    parameters: dict[str, Any] = {"method": method, "reject": rules.name}
    parameters |= {name: getattr(rules, name) for name in rules.__slots__}
    if isinstance(scale, str):
        parameters["scale"] = scale
    elif callable(scale):
        parameters["scale"] = getattr(scale, "__name__", "callable")
    elif scale is not None:
        parameters["scale"] = [float(factor) for factor in scale]
    return parameters


