"""Subtract a master dark: the nearest exposure, scaled or as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.bias import SubtractBias
from daskcal.calibration.facts import require_order
from daskcal.calibration.gain import CorrectGain
from daskcal.calibration.masters import Master, as_master, defined, fitted, require_alike
from daskcal.errors import ArgumentError, CalibrationError
from daskcal.frames.amplifiers import Amplifier, each_amplifier
from daskcal.frames.blocks import Stack, assign, recover
from daskcal.frames.coordinates import frame_name, known_values
from daskcal.frames.recipe import Input, Step, with_plane
from daskcal.frames.steps import StepRecord, keep_each, steps_of, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

BIAS_VARIANCE = "bias_variance"  # an input beside a dark's planes: what its own bias added


@dataclass(frozen=True, eq=False, kw_only=True)
class SubtractDark(Step):
    """image − k · dark, each frame with its own dark and k.

    The dark's noise is shared by the frames. Where dark and frames had the same bias B
    subtracted, frame − B − k·(D − B) holds B with the coefficient k − 1, so that the shared
    variance is (1 − k)²·V_B + k²·V_D, V_D the dark's own; V_B is in it once from `SubtractBias`.
    """

    names: tuple[tuple[str, ...], ...]  # the planes of each dark, in the order of the inputs
    which: np.ndarray
    factor: np.ndarray
    bias_scale: np.ndarray  # (frame, amplifier) of the variance of the bias, for a gain after it
    amplifiers: tuple[Amplifier, ...] = ()  # those of that gain
    per_frame: ClassVar[tuple[str, ...]] = ("which", "factor", "bias_scale")

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        noisy = any("variance" in names for names in self.names)
        return with_plane(before, "mask", *(("variance_shared",) if noisy else ()))

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        rest = iter(arrays)
        for n, names in enumerate(self.names):
            dark = {name: next(rest) for name in names}
            its_own = self.which[frames] == n
            k = np.where(its_own, self.factor[frames], np.nan)
            values, bits = defined(dark)
            program.subtract(values, k)
            program.flag(bits, k)
            if "variance" not in dark:
                continue
            if BIAS_VARIANCE in dark:
                for a in each_amplifier(program, self.amplifiers):
                    more = ((1 - k) ** 2 - 1) * self.bias_scale[frames, a]
                    program.share_two(dark["variance"], k**2, dark[BIAS_VARIANCE], more)
            elif "variance_shared" in dark:
                program.share_two(dark["variance"], k**2, dark["variance_shared"], k**2)
            else:
                program.share(dark["variance"], k**2)


@strict_keywords
def subtract_dark(
    frames: xr.Dataset,
    dark: Any,
    *,
    scale: bool = False,
    tolerance: float | None = 0.5,
    max_scale: float | None = 3.0,
) -> xr.Dataset:
    """Subtract a master dark from frames.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` and the coordinate ``darktime`` (s).
    dark : xarray.Dataset, CCDData or path, or an iterable of them
        Master dark (y, x), or several: each frame gets the one of the nearest exposure.
    scale : bool
        Multiply the dark by the frame's dark time over its own. Frame and dark must both be
        without bias then.
    tolerance : float or None
        Largest difference in dark time, in s, for a dark that is not scaled. None waives it.
    max_scale : float or None
        Largest factor to scale a dark up by, since that multiplies its noise. None waives it.

    Returns
    -------
    xarray.Dataset
        The frames, lazily; masks are merged, and the dark's variance enters ``variance_shared``.

    Raises
    ------
    CalibrationError
        No dark is near enough; a scaled dark with bias, or one that was treated unlike the
        frames; an exposure that is not known; a dark or a flat was applied already.
    GeometryError, UnitError
        The dark does not cover the frames, or is in another unit.

    Examples
    --------
    >>> science = daskcal.subtract_dark(without_bias, [dark, short_dark], scale=True)
    """
    stack = recover(frames)
    unit = require_unit(frames, "subtract_dark")
    require_order(frames, "subtract_dark", "subtract_dark", "flat_correct")
    for name, value in (("tolerance", tolerance), ("max_scale", max_scale)):
        if value is not None and not value >= 0:
            raise ArgumentError(f"{name}={value} should be 0 or more, or None to waive it")
    single = isinstance(dark, xr.Dataset | str) or not isinstance(dark, Iterable)
    given = [as_master(one, "master dark") for one in ([dark] if single else dark)]
    masters = [fitted(master, stack, frames, unit) for master in given]
    if not masters:
        raise ArgumentError("subtract_dark got an empty list of darks")
    for master in masters:
        _require_alike(frames, master, scale)
    which, factor = _choose(frames, masters, scale, tolerance, max_scale)
    used = [masters[i] for i in np.unique(which)]
    which = np.searchsorted(np.unique(which), which)
    bias = _subtracted_bias(stack)
    names, inputs, arrays = [], [], []
    for master in used:
        plane_names, refs, planes = _inputs(master, bias)
        names.append(plane_names)
        inputs += refs
        arrays += planes
    step = SubtractDark(
        inputs=tuple(inputs),
        names=tuple(names),
        which=which,
        factor=factor,
        bias_scale=np.ones((stack.n_frames, 1)) if bias is None else bias.scale,
        amplifiers=() if bias is None else bias.amplifiers,
    )
    frames, factors = keep_each(frames, "dark_factor", factor)
    parameters = {"scale": scale, "tolerance": tolerance, "factor": factors}
    if scale:
        parameters["max_scale"] = max_scale
    record = StepRecord("subtract_dark", parameters, tuple(master.identity for master in used))
    return with_step(assign(frames, stack.then(step, arrays)), record)


def nearest_exposure(times: np.ndarray, wanted: float) -> int:
    """Index of the dark time nearest to `wanted`; of two as near, the longer."""
    distance = np.abs(times - wanted)
    best = np.flatnonzero(distance == distance.min())
    return int(best[np.argmax(times[best])])


def _choose(
    frames: xr.Dataset,
    masters: list[Master],
    scale: bool,
    tolerance: float | None,
    max_scale: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Which dark each frame gets, and the factor that it is multiplied by."""
    times = np.array([_dark_time(master) for master in masters])
    wanted = known_values(frames, "darktime")
    which = np.zeros(wanted.size, dtype=np.intp)
    factor = np.ones(wanted.size)
    needs_time = scale or tolerance is not None or len(masters) > 1
    for i, time in enumerate(wanted):
        if not needs_time:
            break
        if not np.isfinite(time) or not np.isfinite(times).all():
            who = frame_name(frames, i) if not np.isfinite(time) else "the master dark"
            raise CalibrationError(
                f"subtract_dark: the exposure of {who} is not known (DARKTIME, EXPTIME); "
                "give it, or use scale=False with tolerance=None"
            )
        which[i] = nearest_exposure(times, time)
        nearest = times[which[i]]
        if scale:
            factor[i] = _factor(frames, i, time, nearest, max_scale)
        elif tolerance is not None and abs(nearest - time) > tolerance:
            raise CalibrationError(
                f"subtract_dark: no dark within {tolerance:g} s of {time:g} s for "
                f"{frame_name(frames, i)}; the nearest is {nearest:g} s. Scale it with scale=True "
                "(frames and dark without bias), or give a larger tolerance"
            )
    return which, factor


def _factor(
    frames: xr.Dataset, i: int, time: float, nearest: float, max_scale: float | None
) -> float:
    if nearest <= 0:
        raise CalibrationError(f"subtract_dark: a dark of {nearest:g} s cannot be scaled")
    factor = time / nearest
    if max_scale is not None and factor > max_scale:
        raise CalibrationError(
            f"subtract_dark: {frame_name(frames, i)} of {time:g} s needs the {nearest:g} s dark "
            f"times {factor:.3g}, and max_scale is {max_scale:g}; take a longer dark, or waive it "
            "with max_scale=None"
        )
    return factor


def _dark_time(master: Master) -> float:
    time = master.number("darktime")
    return time if np.isfinite(time) else master.number("exptime")


def _require_alike(frames: xr.Dataset, master: Master, scale: bool) -> None:
    """Raise where the pedestal of a dark and of the frames was not treated alike."""
    done = {record.step for record in steps_of(frames) or []}
    if scale and "subtract_bias" not in done:
        raise CalibrationError(
            "subtract_dark: scaling a dark scales the bias in it; subtract the bias from the "
            "frames and from the dark first"
        )
    for step, what in (("subtract_bias", "bias"), ("subtract_overscan", "overscan")):
        require_alike(frames, master, step, what, "subtract_dark")


@dataclass(frozen=True, eq=False)
class _Bias:
    """The bias that the frames had subtracted: which, its variance, and what gain did to that."""

    identity: str
    reference: Input
    variance: da.Array
    scale: np.ndarray
    amplifiers: tuple[Amplifier, ...]


def _subtracted_bias(stack: Stack) -> _Bias | None:
    """The bias whose variance is in the frames' ``variance_shared``, if there is one."""
    if "variance_shared" not in stack.recipe.planes:
        return None
    at = len(stack.recipe.source.inputs)
    for n, step in enumerate(stack.recipe.steps):
        if isinstance(step, SubtractBias) and "variance" in step.names:
            i = step.names.index("variance")
            scale = np.ones((stack.n_frames, 1))
            amps: tuple[Amplifier, ...] = ()
            for later in stack.recipe.steps[n:]:
                if isinstance(later, CorrectGain):
                    scale, amps = scale * later.gain**2, later.amplifiers
            return _Bias(step.identity, step.inputs[i], stack.arrays[at + i], scale, amps)
        at += len(step.inputs)
    return None


def _inputs(
    master: Master, bias: _Bias | None
) -> tuple[tuple[str, ...], list[Input], list[da.Array]]:
    """Planes of a dark that the step takes, and the variance of the bias it shares with frames."""
    names = master.names
    inputs, arrays = master.inputs(names)
    own = master.did("subtract_bias")
    same = bias is not None and own is not None and own.masters[0].checksum == bias.identity
    if bias is not None and same and "variance" in names:
        names, inputs = (*names, BIAS_VARIANCE), [*inputs, bias.reference]
        arrays = [*arrays, bias.variance]
    return names, inputs, arrays
