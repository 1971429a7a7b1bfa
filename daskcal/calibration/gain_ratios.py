"""Gain ratios: what makes the amplifiers of a detector join, measured where they touch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.facts import for_amplifiers, require_order
from daskcal.calibration.robust import median_of_defined
from daskcal.errors import ArgumentError, GeometryError
from daskcal.frames.amplifiers import (
    DIM,
    Amplifier,
    amplifier_values,
    amplifiers,
    each_amplifier,
)
from daskcal.frames.blocks import Band, Stack, assign, pack, recover
from daskcal.frames.recipe import Step
from daskcal.frames.sections import Section
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

WIDTH = 32  # pixels to either side of a border that tell the level at it


@dataclass(frozen=True, slots=True)
class Border:
    """Where two amplifiers touch: the pixels to both sides of it, and the axis across it."""

    first: int
    second: int
    section: Section
    axis: str


@dataclass(frozen=True, eq=False, kw_only=True)
class EqualiseGains(Step):
    """image · ratio of its amplifier, variance · ratio²."""

    ratios: tuple[float, ...]
    amplifiers: tuple[Amplifier, ...]

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        for k in each_amplifier(program, self.amplifiers):
            program.multiply(np.full(frames.stop - frames.start, self.ratios[k]))


@strict_keywords
def gain_ratios(flats: xr.Dataset, *, width: int = WIDTH) -> xr.Dataset:
    """Measure by what the amplifiers of a detector must be multiplied to join.

    At each border of two amplifiers the level of either side comes from a line through the medians
    of the columns (or rows) beside it; ratios that make all borders join best are their least
    squares, with a geometric mean of 1. Where there are several flats, it is their median.

    Parameters
    ----------
    flats : xarray.Dataset
        Flats (frame, y, x) of a detector with amplifiers, without bias: with the overscan or the
        bias subtracted, linear, and not divided by a flat.
    width : int
        Pixels to either side of a border that are used, 4 or more.

    Returns
    -------
    xarray.Dataset
        Lazily ``ratio (amplifier)`` and its standard error ``ratio_error`` from the scatter of the
        flats (NaN for one), for `equalise_gains`.

    Raises
    ------
    ArgumentError, GeometryError, CalibrationError
        Frames without amplifiers; amplifiers that do not touch; frames divided by a flat.

    Examples
    --------
    >>> ratios = daskcal.gain_ratios(two_amplifiers).compute()
    >>> science = daskcal.equalise_gains(two_amplifiers, ratios)
    """
    stack, found = recover(flats), amplifiers(flats)
    require_order(flats, "gain_ratios", "equalise_gains", "flat_correct")
    if len(found) < 2:
        raise ArgumentError("gain_ratios takes flats of a detector with several amplifiers")
    if not (isinstance(width, int) and width >= 4):
        raise ArgumentError(f"width={width!r} should be a whole number of pixels, 4 or more")
    borders = tuple(_borders(found, stack.section, width))
    _require_joined(found, borders)
    steps = da.concatenate([_logarithms(stack, border)[None] for border in borders]).rechunk(-1)
    numbers = da.blockwise(
        _solved, "ka", steps, "bf", borders=borders, new_axes={"k": 2, "a": len(found)},
        concatenate=True, dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip
    names = np.array([amp.name for amp in found], object)
    return xr.Dataset(
        {"ratio": (DIM, numbers[0]), "ratio_error": (DIM, numbers[1])}, coords={DIM: names}
    )


@strict_keywords
def equalise_gains(
    frames: xr.Dataset, ratios: xr.Dataset | Mapping[str, float] | Sequence[float]
) -> xr.Dataset:
    """Multiply the amplifiers of a detector so that they join.

    Afterwards all have the same gain, the mean of what each one's was over its ratio, so that
    `create_variance` and `gain_correct` are right for them. Do it before both, and before the bias,
    to the frames of which that is made as well.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``, of a detector with amplifiers.
    ratios : xarray.Dataset, mapping or sequence
        From `gain_ratios`, or the ratio of each amplifier, by name or in their order.

    Returns
    -------
    xarray.Dataset
        The frames, lazily; the variance is multiplied by the square.

    Raises
    ------
    ArgumentError
        Not one positive ratio for each amplifier.
    CalibrationError
        It was done already, or a step that belongs after it.

    Examples
    --------
    >>> frames = daskcal.equalise_gains(two_amplifiers, {"LEFT": 1.0, "RIGHT": 1.03})
    """
    stack = recover(frames)
    require_unit(frames, "equalise_gains")
    require_order(
        frames, "equalise_gains", "equalise_gains", "gain_correct", "subtract_bias",
        "create_variance", "subtract_dark", "flat_correct",
    )  # fmt: skip
    numbers = np.array([float(ratio) for _, ratio in _by_name(frames, ratios)])
    if not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ArgumentError(f"ratios={numbers.tolist()}: each should be a positive number")
    step = EqualiseGains(ratios=tuple(numbers.tolist()), amplifiers=amplifiers(frames))
    out = assign(frames, stack.then(step))
    gain = _mean_of_known(amplifier_values(frames, "gain") / numbers)
    every = np.repeat(gain[:, None], numbers.size, axis=1)
    out = out.assign_coords(gain=("frame", gain), amp_gain=(("frame", DIM), every))
    return with_step(out, StepRecord("equalise_gains", {"ratios": numbers.tolist()}))


def _by_name(frames: xr.Dataset, ratios: Any) -> list[tuple[Section | None, Any]]:
    names = [amp.name for amp in amplifiers(frames)]
    if not names:
        raise ArgumentError("equalise_gains takes frames of a detector with several amplifiers")
    if isinstance(ratios, xr.Dataset):
        ratios = ratios["ratio"]
    if isinstance(ratios, xr.DataArray) and DIM in ratios.coords:
        ratios = dict(zip(map(str, ratios[DIM].values), ratios.values, strict=True))
    if not isinstance(ratios, Mapping):
        if np.shape(ratios) != (len(names),):
            raise ArgumentError(
                f"ratios should be {len(names)} numbers, one for each amplifier; found "
                f"{ratios!r:.80}"
            )
        ratios = dict(zip(names, np.asarray(ratios, np.float64), strict=True))
    return for_amplifiers(frames, "ratios", ratios)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean along the last axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# --- borders ----------------------------------------------------------------------------------


def _borders(found: Sequence[Amplifier], window: Section, width: int) -> Iterator[Border]:
    """Where amplifiers touch within the window: beside each other, and above each other."""
    for i, one in enumerate(found):
        for j, other in enumerate(found):
            a, b = one.section, other.section
            if a.x1 == b.x0:
                beside = Section(max(a.y0, b.y0), min(a.y1, b.y1), a.x1 - width, b.x0 + width)
                axis = "x"
            elif a.y1 == b.y0:
                beside = Section(a.y1 - width, b.y0 + width, max(a.x0, b.x0), min(a.x1, b.x1))
                axis = "y"
            else:
                continue
            whole = Section(min(a.y0, b.y0), max(a.y1, b.y1), min(a.x0, b.x0), max(a.x1, b.x1))
            if min(beside.shape) > 0 and whole.covers(beside) and window.covers(beside):
                yield Border(i, j, beside, axis)


def _require_joined(found: Sequence[Amplifier], borders: Sequence[Border]) -> None:
    joined = {0}
    for _ in found:
        for border in borders:
            if joined & {border.first, border.second}:
                joined |= {border.first, border.second}
    apart = [amp.name for i, amp in enumerate(found) if i not in joined]
    if apart:
        raise GeometryError(
            f"gain_ratios: amplifier {', '.join(apart)} does not touch the others in the frames, "
            "or is narrower than the pixels beside a border that are used (width)"
        )


def _logarithms(stack: Stack, border: Border) -> da.Array:
    """ln(level of the first side / level of the second) of each frame (frame,), lazily."""
    return da.blockwise(
        _logarithm, "f", pack(stack.windowed(border.section), frame=1, rows=-1), "fyx",
        axis=border.axis, dtype=np.float64, meta=np.empty(0),
    )  # fmt: skip


def _logarithm(packed: list, *, axis: str) -> np.ndarray:
    """ln(first / second) at the border of one frame (1,), NaN where that cannot be said."""
    band: Band = packed[0][0]
    pixels = band.defined()[0]
    lines = median_of_defined(pixels.T if axis == "x" else pixels)
    half = lines.size // 2
    at = np.arange(half) + 0.5  # from the border
    levels = [_at_border(at, side) for side in (lines[:half][::-1], lines[half:])]
    if not min(levels) > 0:
        return np.array([np.nan])
    return np.array([np.log(levels[0] / levels[1])])


def _at_border(at: np.ndarray, levels: np.ndarray) -> float:
    """A line through levels at some distances from a border, at the border."""
    good = np.isfinite(levels)
    if good.sum() < 2:
        return np.nan
    return float(np.polynomial.Polynomial.fit(at[good], levels[good], 1)(0.0))


def _solved(steps: np.ndarray, *, borders: Sequence[Border]) -> np.ndarray:
    """Ratios and their errors (2, amplifier), of the steps (border, frame)."""
    count = 1 + max(max(border.first, border.second) for border in borders)
    sides = np.zeros((len(borders), count))
    for row, border in zip(sides, borders, strict=True):
        row[border.first], row[border.second] = 1, -1
    # first · ratio = second · ratio; the shortest solution has a mean of 0
    logarithms = -np.linalg.pinv(sides) @ steps
    middle = median_of_defined(logarithms)
    known = np.isfinite(logarithms).all(axis=0)
    n = int(known.sum())
    error = np.full(count, np.nan)
    if n > 1:
        factor = np.sqrt(np.pi / 2) if n > 2 else 1.0  # of the median over the mean
        error = factor * logarithms[:, known].std(axis=1, ddof=1) / np.sqrt(n)
    return np.array([np.exp(middle), np.exp(middle) * error])
