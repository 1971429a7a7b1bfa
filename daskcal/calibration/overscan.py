"""Subtract the level of the overscan, row by row, column by column, or fitted along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.calibration.facts import require_order
from daskcal.calibration.robust import HALF_STEP, MAD_TO_SIGMA, median_of_defined
from daskcal.calibration.trim import find_section
from daskcal.errors import ArgumentError, GeometryError, choose
from daskcal.frames.amplifiers import Amplifier, amplifiers
from daskcal.frames.blocks import Stack, assign, describe_input, pack, recover
from daskcal.frames.recipe import Step, with_plane
from daskcal.frames.sections import Section, hull
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.units import require_unit
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

MODELS = ("polynomial", "legendre", "spline")
FIT_CLIP = 5.0  # σ: lines this far from a fit (a bad row, a bright star's bleed) do not shape it
NEIGHBOURS = 5  # lines to either side that a level is first compared with
SPARE = 4  # levels that a fit needs beyond its order: fewer would be followed, and not averaged


@dataclass(frozen=True, slots=True)
class LineLevel:
    """How the overscan pixels of one line become its level."""

    method: str
    clip: float | None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Levels of pixels (..., n), float64; NaN where all n are undefined."""
        from daskcal.calibration.loops import line_levels

        lines = np.ascontiguousarray(pixels).reshape(-1, pixels.shape[-1])
        levels = np.empty(len(lines))
        clip = np.inf if self.clip is None else float(self.clip)
        line_levels(lines, self.method == "median", clip, HALF_STEP, MAD_TO_SIGMA, levels)
        return levels.reshape(pixels.shape[:-1])


@dataclass(frozen=True, eq=False, kw_only=True)
class RowOverscan(Step):
    """image − level of the overscan pixels in the same row."""

    section: Section
    level: LineLevel

    def reach(self, section: Section) -> Section:
        return Section(
            section.y0,
            section.y1,
            min(section.x0, self.section.x0),
            max(section.x1, self.section.x1),
        )

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        seen = program.pixels(self.section.x0, self.section.x1)
        program.subtract_rows(np.concatenate([self.level(some) for some in seen], axis=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class AmplifierOverscan(Step):
    """The pixels of each amplifier − the level of its own overscan pixels in the same row."""

    amplifiers: tuple[Amplifier, ...]
    level: LineLevel

    def reach(self, section: Section) -> Section:
        darks = [amp.overscan for amp in self.amplifiers if amp.overscan]
        whole = hull([section, *darks])
        return Section(section.y0, section.y1, whole.x0, whole.x1)

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        here = program.section
        for amp in self.amplifiers:
            dark = amp.overscan
            if dark is None or here.y0 >= dark.y1 or dark.y0 >= here.y1:
                continue
            seen = program.pixels(dark.x0, dark.x1)
            levels = np.concatenate([self.level(some) for some in seen], axis=1)
            for area in amp.areas:
                with program.within(area):
                    program.subtract_rows(levels)


@dataclass(frozen=True, eq=False, kw_only=True)
class LevelOverscan(Step):
    """image − levels that a first pass over the overscan found: one for each row, or column.

    Only the pixels of `areas`, where they are given.
    """

    areas: tuple[Section | None, ...] = (None,)

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return with_plane(before, "mask")

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        rows = self.inputs[0].index == "fy"
        for area in self.areas:
            with program.within(area):
                (program.subtract_rows if rows else program.subtract_columns)(arrays[0])


@strict_keywords
def subtract_overscan(
    frames: xr.Dataset,
    overscan: str | slice | tuple[slice, ...] | None = None,
    *,
    fits_section: str | None = None,
    axis: str | None = None,
    method: str = "median",
    clip: float | None = None,
    model: str | None = None,
    order: int = 1,
) -> xr.Dataset:
    """Subtract the overscan level from raw frames.

    Without a section, each amplifier's own overscan from its own pixels, row by row.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)`` that still holds the overscan.
    overscan : str, slice or tuple of slice, optional
        The overscan pixels, as Python writes it: ``"[:, 2055:]"`` or ``np.s_[:, 2055:]``.
    fits_section : str, optional
        The same as FITS writes it, or the header keyword that holds it: ``"BIASSEC"``.
    axis : {"row", "column"}, optional
        One level for each row (overscan columns) or for each column (overscan rows). If not given,
        what the section spans whole: all rows or all columns of the frames, else the longer side.
    method : {"median", "mean"}
        How the overscan pixels of one row (or column) make its level.
    clip : float, optional
        Leave out overscan pixels further than this many σ from their median; σ is 1.4826 times
        their median absolute deviation, and not below 0.5.
    model : {"polynomial", "legendre", "spline"}, optional
        Fit the levels along the rows (or columns) and subtract the fit. Levels further than 5σ
        from the fit (a bad row) do not shape it.
    order : int
        Degree of the polynomial; number of pieces of the cubic spline. The overscan should have
        four lines more than that. In a frame where fewer have values no pixel gets one.

    Returns
    -------
    xarray.Dataset
        The frames, lazily, with the overscan pixels still there: `trim_image` removes them.

    Raises
    ------
    ArgumentError, GeometryError, CalibrationError
        An unknown word; a section outside of the frame, or with too few lines for the order; a
        header without the keyword; frames without bias already.

    Examples
    --------
    >>> frames = daskcal.subtract_overscan(frames, "[:, 144:]", model="legendre", order=2)
    """
    stack = recover(frames)
    require_unit(frames, "subtract_overscan")
    require_order(
        frames, "subtract_overscan", "subtract_bias", "subtract_dark", "flat_correct",
        "create_variance",
    )  # fmt: skip
    choose("method", method, ("median", "mean"))
    if model is not None:
        choose("model", model, MODELS)
    if order < 0 or (model == "spline" and order < 1):
        raise ArgumentError(f"order={order} should be 0 or more (for a spline, 1 or more)")
    if clip is not None and not clip > 0:
        raise ArgumentError(f"clip={clip} should be positive, or None for no clipping")
    level = LineLevel(method, clip)
    if overscan is None and fits_section is None and (found := amplifiers(frames)):
        return _of_amplifiers(frames, stack, found, axis, level, model, order)
    section = find_section(frames, overscan, fits_section, "subtract_overscan")
    held = stack.recipe.source.section
    if not held.covers(section):
        raise GeometryError(
            f"subtract_overscan: {section} is outside of the frames, which are {held}"
        )
    axis = _axis(section, stack.section, axis)
    if model is None:
        _require_lines(section, stack.section, axis)
    if axis == "row" and model is None:
        done = stack.then(RowOverscan(section=section, level=level))
    else:
        step, levels = _first_pass(stack, section, axis, level, model, order)
        done = stack.then(step, [levels])
    record = _record(str(section), [section], axis, level, model, order)
    return with_step(assign(frames, done), record)


def _record(
    said: str,
    sections: Sequence[Section],
    axis: str,
    level: LineLevel,
    model: str | None,
    order: int,
) -> StepRecord:
    """What was done; `pixels` are those of one level, the fewest of several overscans."""
    parameters: dict[str, Any] = {
        "section": said,
        "axis": axis,
        "method": level.method,
        "clip": level.clip,
    }
    shapes = [section.shape if axis == "row" else section.shape[::-1] for section in sections]
    if model is None:
        pixels = min(pixels for _, pixels in shapes)
    else:
        parameters |= {"model": model, "order": order}
        # a fit of few parameters averages over all lines
        pixels = min(pixels * max(1, lines // (order + 1)) for lines, pixels in shapes)
    parameters["pixels"] = pixels
    return StepRecord("subtract_overscan", parameters)


def _of_amplifiers(
    frames: xr.Dataset,
    stack: Stack,
    found: Sequence[Amplifier],
    axis: str | None,
    level: LineLevel,
    model: str | None,
    order: int,
) -> xr.Dataset:
    """Each amplifier less its own overscan."""
    if axis == "column":
        raise ArgumentError(
            "axis='column' needs the section of an overscan across the columns; the amplifiers' "
            "own give a level for each row"
        )
    held = stack.recipe.source.section
    darks = []
    for amp in found:
        if amp.overscan is None:
            raise GeometryError(
                f"subtract_overscan: {amp.name} has no overscan (BIASSEC); give overscan=, or "
                "overscan_section = ... for it under [[instrument.amplifiers]] in the config"
            )
        dark = amp.overscan.common(Section(held.y0, held.y1, amp.overscan.x0, amp.overscan.x1))
        if not held.covers(dark):
            raise GeometryError(
                f"subtract_overscan: {dark}, the overscan of {amp.name}, is outside of the frames, "
                f"which are {held}"
            )
        darks.append(dark)
    if model is None:
        done = stack.then(AmplifierOverscan(amplifiers=tuple(found), level=level))
    else:
        done = stack
        for amp, dark in zip(found, darks, strict=True):
            step, levels = _first_pass(stack, dark, "row", level, model, order)
            done = done.then(replace(step, areas=amp.areas), [levels])
    names = ", ".join(f"{amp.name} {amp.overscan}" for amp in found)
    return with_step(assign(frames, done), _record(names, darks, "row", level, model, order))


def _axis(section: Section, window: Section, axis: str | None) -> str:
    if axis is not None:
        return choose("axis", axis, ("row", "column"))
    has = [line for line in ("row", "column") if _has_lines(section, window, line)]
    if len(has) == 1:
        return has[0]
    rows, columns = section.shape
    return "row" if rows >= columns else "column"


def _has_lines(section: Section, window: Section, axis: str) -> bool:
    """Whether every row (or column) of the window has overscan pixels."""
    if axis == "row":
        return section.y0 <= window.y0 and window.y1 <= section.y1
    return section.x0 <= window.x0 and window.x1 <= section.x1


def _require_lines(section: Section, window: Section, axis: str) -> None:
    if not _has_lines(section, window, axis):
        raise GeometryError(
            f"subtract_overscan: {section} has no pixels in some {axis}s of the frames, which are "
            f"{window}; give {axis}s that cover them, or a model to fit along the {axis}s"
        )


def _require_fit(section: Section, axis: str, model: str, order: int) -> None:
    lines = section.shape[0 if axis == "row" else 1]
    if lines < order + SPARE:
        most = lines - SPARE
        lower = f"order={most} or less, " if most >= (model == "spline") else ""
        raise GeometryError(
            f"subtract_overscan: a {model} of order={order} needs {order + SPARE} {axis}s of "
            f"overscan, and {section} has {lines}; give {lower}a longer overscan, or no model"
        )


def _first_pass(
    stack: Stack, section: Section, axis: str, level: LineLevel, model: str | None, order: int
) -> tuple[LevelOverscan, da.Array]:
    """A step whose levels come from a first pass over the overscan pixels only, and they."""
    if model is not None:
        _require_fit(section, axis, model, order)
    pixels = pack(stack.windowed(section), frame=1, rows=-1)
    out = "fy" if axis == "row" else "fx"
    window = stack.section
    wanted = (window.y0, window.y1) if axis == "row" else (window.x0, window.x1)
    first = section.y0 if axis == "row" else section.x0
    size = wanted[1] - wanted[0]
    levels = da.blockwise(
        _frame_levels,
        "fl",
        pixels,
        "fyx",
        concatenate=False,
        new_axes={"l": size},
        along_rows=axis == "row",
        level=level,
        model=model,
        order=order,
        first=first,
        wanted=wanted,
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    reference = describe_input(levels, out, window.y0, window.x0)
    return LevelOverscan(inputs=(reference,)), levels


def _frame_levels(
    packed: list,
    *,
    along_rows: bool,
    level: LineLevel,
    model: str | None,
    order: int,
    first: int,
    wanted: tuple[int, int],
) -> np.ndarray:
    """Levels (1, lines) of one frame at the `wanted` lines, from its overscan pixels."""
    band = packed[0][0]
    pixels = band.defined()[0]
    found = level(pixels if along_rows else pixels.T)
    lines = np.arange(first, first + found.size)
    at = np.arange(*wanted)
    if model is None:
        return found[None, at - first]
    return _fit(lines, found, at, model, order)[None]


def _fit(
    lines: np.ndarray, levels: np.ndarray, at: np.ndarray, model: str, order: int
) -> np.ndarray:
    """The fit of levels along lines, evaluated `at` lines; NaN where there are too few levels.

    Levels that stand out of their neighbours, or are beyond FIT_CLIP of the fit, do not count.
    """
    good = np.isfinite(levels) & ~_spikes(levels)
    for _ in range(10):
        if good.sum() < order + SPARE:
            return np.full(at.shape, np.nan)
        try:
            curve = _curve(lines[good], levels[good], model, order, (lines[0], lines[-1]))
        except (ValueError, np.linalg.LinAlgError):  # a piece of the spline has no levels left
            return np.full(at.shape, np.nan)
        keep = np.isfinite(levels) & ~_outlying(levels - curve(lines), good)
        if np.array_equal(keep, good):
            break
        good = keep
    return np.asarray(curve(at))


def _spikes(levels: np.ndarray) -> np.ndarray:
    """Levels that stand far out of the median of their neighbours, a common slope taken off.

    They would pull a first fit so far, from the end of the lines above all, that they fit it.
    """
    slope = median_of_defined(np.diff(levels)) if levels.size > 1 else 0.0
    straight = levels - slope * np.arange(levels.size)
    reach = min(NEIGHBOURS, levels.size - 1)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(straight, reach, mode="reflect"), 2 * reach + 1
    )
    return _outlying(straight - median_of_defined(windows), np.isfinite(levels), 4 * FIT_CLIP)


def _outlying(values: np.ndarray, good: np.ndarray, clip: float = FIT_CLIP) -> np.ndarray:
    """Where values are beyond `clip`·σ of the median of the good ones."""
    if not good.any():
        return np.ones(values.shape, bool)
    offset = np.abs(values - np.median(values[good]))
    spread = MAD_TO_SIGMA * np.median(offset[good])
    return np.asarray(~(offset <= clip * max(spread, HALF_STEP)))


def _curve(
    x: np.ndarray, y: np.ndarray, model: str, order: int, span: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    if model == "spline":
        from scipy.interpolate import make_lsq_spline

        first, last = map(float, span)
        inner = np.linspace(first, last, order + 1)[1:-1]
        knots = np.r_[[first] * 4, inner, [last] * 4]
        return make_lsq_spline(x, y, knots, k=3)
    family = {"polynomial": np.polynomial.Polynomial, "legendre": np.polynomial.Legendre}[model]
    return family.fit(x, y, order, domain=span)
