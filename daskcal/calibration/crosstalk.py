"""Take out what the amplifiers of a detector pick up from one another while they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from daskcal.calibration.flags import require_raw
from daskcal.errors import ArgumentError, GeometryError, nearest
from daskcal.frames.amplifiers import Amplifier, amplifiers
from daskcal.frames.blocks import Stack, assign, recover
from daskcal.frames.facing import with_facing
from daskcal.frames.recipe import Step
from daskcal.frames.sections import Section
from daskcal.frames.steps import StepRecord, with_step
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.frames.program import Program

Matrix = Sequence[Sequence[float]] | np.ndarray | xr.DataArray | Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Leak:
    """What the pixels of `victim` hold of those in column `at` + x, or `mirrored` `at` − x.

    Of the same row, or of the one that faces it.
    """

    victim: Section
    factor: float
    at: int
    mirrored: bool
    facing: bool

    def columns(self, section: Section) -> tuple[int, int] | None:
        """The columns that the pixels of the victim in `section` hold something of."""
        x0, x1 = max(section.x0, self.victim.x0), min(section.x1, self.victim.x1)
        if x0 >= x1:
            return None
        return (
            (self.at - x1 + 1, self.at - x0 + 1) if self.mirrored else (self.at + x0, self.at + x1)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectCrosstalk(Step):
    """image − Σ factor · raw value that was read at the same time."""

    leaks: tuple[Leak, ...]

    def reach(self, section: Section) -> Section:
        spans = [span for leak in self.leaks if (span := leak.columns(section))]
        first = min([section.x0, *(span[0] for span in spans)])
        last = max([section.x1, *(span[1] for span in spans)])
        return Section(section.y0, section.y1, first, last)

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        n = frames.stop - frames.start
        for leak in self.leaks:
            with program.within(leak.victim):
                program.subtract_leak(
                    np.full(n, leak.factor), leak.at, mirrored=leak.mirrored, facing=leak.facing
                )


@strict_keywords
def correct_crosstalk(frames: xr.Dataset, matrix: Matrix) -> xr.Dataset:
    """Subtract from each amplifier what it picked up from the others.

    Amplifiers are read at once, pixel by pixel, each from its own corner: a star in one leaves a
    faint copy in another, in the pixel that is as far from that one's corner. With c the matrix,
    x(victim) − Σ c(victim, source) · x(source) of the pixels that were read together, overscan
    with overscan, so that the bias level of the sources leaves with the victim's overscan. Raw
    values are taken on both sides (as by Rubin's pipeline and IRAF's xtalkcor), which is right to
    the square of c; the noise that this adds, c² of the source's, is not in any variance.

    Parameters
    ----------
    frames : xarray.Dataset
        Raw frames of a detector with several amplifiers, before any step but flags; with the
        overscan, if one is to be subtracted.
    matrix : array (amplifier, amplifier), or mapping
        In row v and column s the part of the source s that appears in the victim v; 0 on the
        diagonal. Or by names: ``{"1": {"2": 2e-4}}`` is what amplifier 1 has of amplifier 2.

    Returns
    -------
    xarray.Dataset
        The frames, lazily.

    Raises
    ------
    ArgumentError
        The matrix is not one of the amplifiers.
    CalibrationError
        A step has changed the pixels already.
    GeometryError
        Amplifiers that are not of one size, or do not read their rows together; pixels of a
        source that the frames do not hold.

    Notes
    -----
    Columns of the overscan pair up in the order in which the file holds them, which is that of
    reading wherever amplifiers have an HDU each.

    Where amplifiers at the bottom and the top disturb each other, each band of rows is read with
    the rows that face it, so that all pixels are read twice.

    Examples
    --------
    >>> frames = daskcal.correct_crosstalk(two_amplifiers, [[0, 2e-4], [1e-4, 0]])
    """
    stack = recover(frames)
    require_raw(frames, "correct_crosstalk")
    found = amplifiers(frames)
    if len(found) < 2:
        raise ArgumentError("correct_crosstalk takes frames of a detector with several amplifiers")
    factors = _factors(matrix, [amp.name for amp in found])
    leaks: list[Leak] = []
    mirrors: set[int | None] = set()
    for victim, row in zip(found, factors, strict=True):
        for source, factor in zip(found, row, strict=True):
            if factor:
                leaks += _leaks(victim, source, float(factor))
                mirrors |= {_mirror(victim, source)}
    stack = _reading(stack, tuple(leaks), {each for each in mirrors if each is not None})
    out = assign(frames, stack.then(CorrectCrosstalk(leaks=tuple(leaks))))
    return with_step(out, StepRecord("correct_crosstalk", {"matrix": factors.tolist()}))


def _factors(matrix: Any, names: list[str]) -> np.ndarray:
    """The matrix (victim, source), checked."""
    n = len(names)
    if isinstance(matrix, Mapping):
        factors = np.zeros((n, n))
        for victim, sources in matrix.items():
            for source, factor in sources.items():
                factors[_number(victim, names), _number(source, names)] = factor
    else:
        factors = np.array(matrix, np.float64)
    if factors.shape != (n, n) or not np.isfinite(factors).all():
        raise ArgumentError(
            f"the crosstalk matrix should be {n} × {n} numbers, one row for each amplifier; found "
            f"shape {factors.shape}"
        )
    if np.diag(factors).any():
        raise ArgumentError("the crosstalk matrix should be 0 on its diagonal")
    if not (np.abs(factors) < 1).all():
        raise ArgumentError("the crosstalk matrix should hold fractions, between -1 and 1")
    return factors


def _number(name: object, names: list[str]) -> int:
    if str(name) not in names:
        raise ArgumentError(f"crosstalk: no amplifier {str(name)!r}; {nearest(str(name), names)}")
    return names.index(str(name))


def _leaks(victim: Amplifier, source: Amplifier, factor: float) -> Iterator[Leak]:
    """What one amplifier has of another: its light-sensitive pixels, and its overscan."""
    if victim.section.shape != source.section.shape:
        raise GeometryError(
            f"correct_crosstalk: amplifiers {victim.name} {victim.section} and {source.name} "
            f"{source.section} have different sizes, so that their pixels are not read together"
        )
    own, other = victim.overscan, source.overscan
    if own is not None and (other is None or own.shape != other.shape):
        raise GeometryError(
            f"correct_crosstalk: amplifier {victim.name} has the overscan {own}, and {source.name} "
            f"{other or 'none'}: what one leaves in the other's cannot be told"
        )
    facing = _mirror(victim, source) is not None
    first, second = victim.section, source.section
    if _side(victim) == _side(source):
        yield Leak(first, factor, second.x0 - first.x0, False, facing)
    else:
        yield Leak(first, factor, second.x1 - 1 + first.x0, True, facing)
    if own is not None and other is not None:  # its columns lie as they are read, whatever the side
        yield Leak(own, factor, other.x0 - own.x0, False, facing)


def faces(found: Sequence[Amplifier], matrix: Sequence[Sequence[float]]) -> bool:
    """Whether amplifiers disturb others that are read from the opposite end of the detector."""
    return any(
        factor and victim.readout.split()[0] != source.readout.split()[0]
        for victim, row in zip(found, matrix, strict=False)
        for source, factor in zip(found, row, strict=False)
    )


def _mirror(victim: Amplifier, source: Amplifier) -> int | None:
    """The sum of the rows that are read together; None where those are the same."""
    own, other = victim.section, source.section
    if victim.readout.split()[0] != source.readout.split()[0]:
        return own.y0 + other.y1 - 1
    if own.y0 != other.y0:
        raise GeometryError(
            f"correct_crosstalk: amplifiers {victim.name} and {source.name} are both read from "
            f"the {victim.readout.split()[0]} and lie in different rows; their crosstalk cannot be "
            "corrected"
        )
    return None


def _side(amp: Amplifier) -> str:
    return amp.readout.split()[1]


def _reading(stack: Stack, leaks: tuple[Leak, ...], mirrors: set[int]) -> Stack:
    """The stack, whose source reads the rows that the leaks come from."""
    held = stack.recipe.source.section
    seen = CorrectCrosstalk(leaks=leaks).reach(stack.section)
    if not held.covers(seen):
        raise GeometryError(
            f"correct_crosstalk needs the pixels {seen}, and what was read is {held}; read whole "
            "frames"
        )
    if not mirrors:
        return stack
    mirror = mirrors.pop()
    if mirrors or mirror != held.y0 + held.y1 - 1:
        raise GeometryError(
            "correct_crosstalk: the rows of the amplifiers at the bottom and the top do not mirror "
            f"each other in the frames, which are rows {held.y0} to {held.y1 - 1}; read whole "
            "frames"
        )
    return with_facing(stack, mirror)
