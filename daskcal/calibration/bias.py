"""Subtract a master bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.masters import as_master, defined, fitted, require_alike
from daskcal.frames.blocks import assign, recover
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program


@dataclass(frozen=True, eq=False, kw_only=True)
class SubtractBias(Step):
    """image − bias; its noise is noise that the frames share."""

    names: tuple[str, ...]
    identity: str

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        shared = ("variance_shared",) if "variance" in self.names else ()
        return with_plane(before, "mask", *shared)

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        bias = dict(zip(self.names, arrays, strict=True))
        values, bits = defined(bias)
        program.subtract(values)
        for plane in ("variance", "variance_shared"):
            if plane in bias:
                program.share(bias[plane])
        program.flag(bits)


@strict_keywords
def subtract_bias(frames: xr.Dataset, bias: Any) -> xr.Dataset:
    """Subtract a master bias from frames.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    bias : xarray.Dataset, CCDData or path
        Master bias (y, x) in the unit of the frames. It must cover them; it may be larger.

    Returns
    -------
    xarray.Dataset
        The frames, lazily; masks are merged, and the bias's variance enters ``variance_shared``,
        since all frames get the same error from it and combining does not average it down.

    Raises
    ------
    CalibrationError
        A bias was subtracted already, or the frames were divided by a flat.
    GeometryError
        The bias lacks rows or columns of the frames.
    UnitError
        Frames and bias are in different units, or the frames' is not known.

    Examples
    --------
    >>> science = daskcal.subtract_bias(trimmed, bias)
    """
    stack, master = recover(frames), as_master(bias, "master bias")
    require_order(frames, "subtract_bias", "subtract_bias", "flat_correct")
    require_alike(frames, master, "subtract_overscan", "overscan", "subtract_bias")
    master = fitted(master, stack, frames, require_unit(frames, "subtract_bias"))
    inputs, arrays = master.inputs(master.names)
    step = SubtractBias(inputs=tuple(inputs), names=master.names, identity=master.identity.checksum)
    record = StepRecord("subtract_bias", {}, (master.identity,))
    return with_step(assign(frames, stack.then(step, arrays)), record)
