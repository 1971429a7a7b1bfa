"""Frames become one image: rejection of outliers and combination, in one pass over the stack."""

from __future__ import annotations

import dataclasses
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.combination.facts import master_attrs
from daskcal.combination.kernels import Reject, combine_block, working_dtype
from daskcal.combination.reject import MinMax, NoRejection, Rejection, SigmaClip, rejection
from daskcal.combination.scale import ScaleLike, frame_scales
from daskcal.errors import ArgumentError, choose
from daskcal.frames.blocks import Stack, pack, recover
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.memory import band_rows
from daskcal.frames.steps import StepRecord
from daskcal.frames.units import require_unit

__all__ = ["MinMax", "NoRejection", "Rejection", "SigmaClip", "combine"]

METHODS = ("average", "median", "sum")
HALF_STEP = 0.5  # of the converter: its rounding hides what is smaller
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
    reject : {"sigma", "minmax", "none"} or Rejection
        What is left out. `options` are those of it, with their defaults: for ``sigma`` ``low=5``,
        ``high=5``, ``center="median"``, ``spread="mad_std"``, ``maxiters=None`` and
        ``sigma_floor="auto"`` (see `SigmaClip`); for ``minmax`` ``n_low=1`` and ``n_high=1`` (see
        `MinMax`).
    scale : {"median", "mean"}, callable, sequence of float or None
        Factor of each frame: one over its median or mean; what a callable makes of its good
        pixels (1-D, float64); numbers.

    Returns
    -------
    xarray.Dataset
        Of dims (y, x), lazily: ``image``; ``variance`` (propagated from the frames' where they
        have it, else from the scatter of the survivors; NaN for a single one);
        ``variance_shared`` where the frames have it (the mean of theirs: it does not average
        down); ``mask`` (bits only where no good value was left, and those are NaN and
        ``no_data``); ``n_used``; with rejection ``n_low`` and ``n_high``, how many were rejected
        on either side.

    Raises
    ------
    ArgumentError, UnknownKeywordError
        A word, number or keyword that cannot be used, before anything is read.
    UnitError
        The unit of the frames is not known.

    Examples
    --------
    >>> bias = daskcal.combine(biases, reject="sigma", low=5, high=5)  # doctest: +SKIP
    """
    choose("method", method, METHODS)
    stack = recover(frames)
    n = stack.n_frames
    if not 0 < n <= MOST_FRAMES:
        raise ArgumentError(f"combine takes 1 to {MOST_FRAMES} frames, found {n}")
    _check_types(frames)
    rules = rejection(reject, options, n)
    unit = require_unit(frames, "combine")
    names = frames["path"].values if "path" in frames.coords else [f"frame {i}" for i in range(n)]
    scales = frame_scales(stack, scale, [str(name) for name in names])
    planes = _planes(stack, method, rules, scales, _quantum(frames))
    record = StepRecord("combine", _parameters(method, rules, scale))
    coords = {name: c for name, c in frames.coords.items() if "frame" not in c.dims}
    master = xr.Dataset(planes, coords=coords, attrs=master_attrs(frames, record))
    attrs = {**frames["image"].attrs, "units": unit}
    attrs.pop("quantum", None)  # a mean of integers has no step
    master["image"].attrs = attrs
    master["mask"].attrs = dict(MASK_ATTRS)
    return master


def _quantum(frames: xr.Dataset) -> float | None:
    """The step of the converter in the unit of the frames, their mean; None where not known."""
    raw = frames["image"].attrs.get("quantum")
    if raw is None:
        return None
    gains = frames["applied_gain"].values if "applied_gain" in frames.coords else 1.0
    return float(raw * np.mean(gains))


def _check_types(frames: xr.Dataset) -> None:
    """Raise `ArgumentError` for arrays that the kernels cannot read."""
    try:
        for plane in ("image", "variance", "variance_shared"):
            if plane in frames:
                working_dtype(frames[plane].dtype)
    except ValueError:
        raise ArgumentError(
            f"{plane} is {frames[plane].dtype}; combine takes integer and floating numbers"
        ) from None
    if "mask" in frames and frames["mask"].dtype.kind not in "bui":
        raise ArgumentError(
            f"mask is {frames['mask'].dtype}; combine takes bit planes (integers) or bool, 0 = good"
        )


def _planes(
    stack: Stack, method: str, rules: Rejection, scales: da.Array | None, quantum: float | None
) -> dict[str, tuple[tuple[str, str], da.Array]]:
    """The variables of a master, each (y, x), from one kernel call for each band."""
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
        reject=rules.kernel(),
        floor=rules.floor(),
        quantum=quantum,
        dtype=object,
        meta=np.empty((0, 0, 0), object),
    )
    value, count = working_dtype(stack.recipe.dtype), np.dtype(np.uint16)
    out = {"image": (0, value), "variance": (1, value)}
    if "variance_shared" in stack.recipe.planes:
        out["variance_shared"] = (2, value)
    out |= {"mask": (3, count), "n_used": (4, count)}
    if not isinstance(rules, NoRejection):
        out |= {"n_low": (5, count), "n_high": (6, count)}
    return {name: (("y", "x"), _plane(combined, i, dtype)) for name, (i, dtype) in out.items()}


def _combine_planes(
    block: tuple[np.ndarray, ...],
    scale: np.ndarray | None = None,
    *,
    planes: tuple[str, ...],
    method: str,
    reject: Reject,
    floor: float | str | None,
    quantum: float | None,
) -> tuple[np.ndarray | None, ...]:
    held = dict(zip(planes, block, strict=True))
    size = 1.0 if scale is None else float(np.mean(scale))
    if floor == "auto":
        half_step = HALF_STEP * (1.0 if quantum is None else quantum)
        floor = "variance" if "variance" in held else half_step * size
    combined = combine_block(
        held["image"],
        held.get("mask"),
        held.get("variance"),
        held.get("variance_shared"),
        method=method,
        reject=reject,
        scale=scale,
        floor=floor,
    )
    if "variance" not in held and combined.variance is not None:
        times = len(held["image"]) if method == "sum" else 1
        rounding = np.nan if quantum is None else (quantum * size * times) ** 2 / 12
        _not_certain(combined.variance, combined.n_used, rounding)
    return combined


def _not_certain(variance: np.ndarray, n_used: np.ndarray, rounding: float) -> None:
    """Values that rounding made equal have its variance over n; with an unknown step, NaN."""
    equal = variance == 0
    variance[equal] = rounding / n_used[equal]


def _plane(combined: da.Array, i: int, dtype: np.dtype) -> da.Array:
    """One of the arrays in the tuples of `combined`, without the axis of frames."""
    return da.blockwise(
        _only, "yx", combined, "fyx", i=i, concatenate=None, dtype=dtype,
        meta=np.empty((0, 0), dtype),
    )  # fmt: skip


def _only(blocks: list[tuple[np.ndarray, ...]], *, i: int) -> np.ndarray:
    return blocks[0][i]


def _parameters(method: str, rules: Rejection, scale: ScaleLike) -> dict[str, Any]:
    parameters: dict[str, Any] = {"method": method, "reject": rules.name}
    options = dataclasses.asdict(rules)  # type: ignore[call-overload]
    parameters |= {name: _plain(value) for name, value in options.items()}
    if isinstance(scale, str):
        parameters["scale"] = scale
    elif callable(scale):
        parameters["scale"] = getattr(scale, "__name__", "callable")
    elif scale is not None:
        parameters["scale"] = [float(factor) for factor in scale]
    return parameters


def _plain(value: Any) -> Any:
    """A value as JSON has it; an infinite threshold is one that is off."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value == float("inf") else value
