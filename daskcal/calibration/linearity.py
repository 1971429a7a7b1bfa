"""Make values proportional to the light again, where the detector's answer bends."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from daskcal.calibration.facts import for_amplifiers, require_order
from daskcal.calibration.variance import bias_is_gone
from daskcal.errors import ArgumentError, CalibrationError, UnitError
from daskcal.frames.blocks import assign, recover
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.sections import Section
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

Numbers = Sequence[float] | Mapping[str, Sequence[float]]
Knots = Sequence[Sequence[float]] | np.ndarray | Mapping[str, Any]
LARGEST = 65535.0  # adu: up to here a polynomial without a limit must rise


@dataclass(frozen=True, slots=True)
class Curve:
    """The answer of one amplifier: factors of a polynomial, or knots of a table, up to a limit."""

    section: Section | None
    limit: float
    factors: tuple[float, ...] = ()
    knots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectLinearity(Step):
    """level + f(image − level) by the curve of the amplifier, variance · f′²; nonlinear above."""

    curves: tuple[Curve, ...]
    level: np.ndarray
    per_frame: ClassVar[tuple[str, ...]] = ("level",)

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        level = self.level[frames]
        for curve in self.curves:
            limit = np.full(level.shape, curve.limit)
            with program.within(curve.section):
                if curve.knots:
                    program.look_up(level, limit, np.array(curve.knots))
                else:
                    factors = [np.full(level.shape, factor) for factor in curve.factors]
                    program.linearise(level, limit, factors)


@strict_keywords
def correct_linearity(
    frames: xr.Dataset,
    coefficients: Numbers | None = None,
    *,
    table: Knots | None = None,
    limit: float | Mapping[str, float] | None = None,
    bias_level: float | None = None,
) -> xr.Dataset:
    """Correct frames for the non-linearity of their detector.

    With u the value in adu above the bias (after overscan or bias were subtracted), the corrected
    value is

    u · (1 + c₁·u + c₂·u² + ...),

    or what a table says. Above the limit pixels are flagged ``nonlinear``; there the polynomial
    keeps the factor, and the table the difference, that it has at its end, so that the values go
    on rising.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` in adu, before gain, dark and flat.
    coefficients : sequence of float, or mapping of amplifier to it, optional
        c₁, c₂ ... in 1/adu, 1/adu² ...
    table : array of (measured, true), or mapping of amplifier to it, optional
        Knots (knots, 2) in adu above the bias, both rising; lines join them.
    limit : float or mapping of amplifier to float, optional
        Value u in adu up to which the correction holds; not needed for a table, which ends.
    bias_level : float, optional
        The bias in raw pixel values, for frames that still have it; if not given, that of the
        instrument which `open_frames` was told.

    Returns
    -------
    xarray.Dataset
        With ``mask (frame, y, x)``. A variance is multiplied by the square of the slope.

    Raises
    ------
    ArgumentError
        Not one of coefficients and table; a curve that does not rise; an amplifier that is not
        there, or has no curve.
    CalibrationError, UnitError
        The bias is still in the frames and its level not known; a later step was done already.

    Examples
    --------
    >>> frames = daskcal.subtract_overscan(frames, fits_section="BIASSEC")
    >>> frames = daskcal.correct_linearity(frames, [1.2e-6], limit=58_000)

    Each amplifier by its own curve:

    >>> frames = daskcal.subtract_overscan(two_amplifiers)
    >>> frames = daskcal.correct_linearity(
    ...     frames, {"LEFT": [1.2e-6], "RIGHT": [0.8e-6, 1e-12]}, limit=58_000)
    """
    stack = recover(frames)
    unit = require_unit(frames, "correct_linearity")
    if unit != "adu":
        raise UnitError(f"correct_linearity takes frames in adu, and these are in {unit}")
    require_order(
        frames, "correct_linearity", "correct_linearity", "create_variance", "subtract_dark",
        "flat_correct",
    )  # fmt: skip
    if (coefficients is None) == (table is None):
        raise ArgumentError("correct_linearity takes coefficients or a table, and one of them")
    name = "coefficients" if table is None else "table"
    given = for_amplifiers(frames, name, coefficients if table is None else table)
    limits = for_amplifiers(frames, "limit", limit)
    make = _polynomial if table is None else _table
    curves = tuple(
        make(amp, curve, top) for (amp, curve), (_, top) in zip(given, limits, strict=True)
    )
    levels = np.full(stack.n_frames, _level(frames, bias_level))
    step = CorrectLinearity(curves=curves, level=levels)
    parameters: dict[str, Any] = {
        name: [_said(curve) for curve in curves],
        "limit": [c.limit for c in curves],
    }
    if levels.any():
        parameters["bias_level"] = float(levels[0])
    return with_step(assign(frames, stack.then(step)), StepRecord("correct_linearity", parameters))


def _polynomial(section: Section | None, factors: Any, limit: float | None) -> Curve:
    numbers = _floats("coefficients", factors)
    if numbers.ndim != 1 or not numbers.size:
        raise ArgumentError(f"coefficients={factors!r:.80} should be numbers c₁, c₂ ...")
    top = _limit(limit, math.inf)
    at = np.linspace(0, min(top, LARGEST), 1001)
    powers = np.arange(1, numbers.size + 1)
    slope = 1 + ((powers + 1) * numbers * at[:, None] ** powers).sum(axis=1)
    if not (slope > 0).all():
        turn = at[np.argmax(~(slope > 0))]
        raise ArgumentError(
            f"coefficients={factors!r:.80}: the corrected value falls above {turn:.0f} adu; give "
            "a limit below that"
        )
    return Curve(section, top, factors=tuple(numbers.tolist()))


def _table(section: Section | None, knots: Any, limit: float | None) -> Curve:
    numbers = _floats("table", knots)
    if numbers.ndim != 2 or numbers.shape[1] != 2 or len(numbers) < 2:
        raise ArgumentError(f"table={knots!r:.80} should be two or more pairs (measured, true)")
    if not (np.diff(numbers.astype(np.float32), axis=0) > 0).all():
        raise ArgumentError("table: the measured and the true values should rise from knot to knot")
    top = _limit(limit, float(numbers[-1, 0]))
    if top > numbers[-1, 0]:
        raise ArgumentError(f"limit={top:g}: the table ends at {numbers[-1, 0]:g}")
    return Curve(section, top, knots=tuple(map(tuple, numbers.tolist())))


def _floats(name: str, values: Any) -> np.ndarray:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={values!r:.80} should be numbers") from None
    if not np.isfinite(numbers).all():
        raise ArgumentError(f"{name}={values!r:.80} should be finite numbers")
    return numbers


def _limit(limit: float | None, otherwise: float) -> float:
    if limit is None:
        return otherwise
    if not 0 < limit < math.inf:
        raise ArgumentError(f"limit={limit} should be a positive number of adu")
    return float(limit)


def _level(frames: xr.Dataset, given: float | None) -> float:
    """What of each raw value is bias."""
    if bias_is_gone(frames):
        return 0.0
    level = frames.attrs.get("bias_level") if given is None else given
    if level is None:
        raise CalibrationError(
            "correct_linearity counts the signal from the bias: subtract the overscan or the bias "
            "first, or give bias_level= in raw pixel values (bias_level under [instrument] in the "
            "config)"
        )
    return float(level)


def _said(curve: Curve) -> Any:
    """A curve for the record: the factors, or what tells one table from another."""
    if curve.factors:
        return list(curve.factors)
    digest = hashlib.sha256(np.array(curve.knots).astype("<f8").tobytes()).hexdigest()[:16]
    return f"{len(curve.knots)} knots, sha256 {digest}"
