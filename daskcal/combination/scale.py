"""Scale, zero and weight of each frame: numbers, header keywords, or of a first pass over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.combination.statistics import Statistic, frame_statistic
from daskcal.errors import ArgumentError, GeometryError, UnusableFrameError, nearest
from daskcal.frames.blocks import Band, Stack, pack, recover
from daskcal.frames.coordinates import frame_name, frame_names
from daskcal.frames.detector import raw_section
from daskcal.frames.room import Room
from daskcal.frames.sections import Section, after_fits, fits_section, python_section
from daskcal.frames.table import header_name

FrameNumbers = str | Sequence[float] | np.ndarray | xr.DataArray | None
ScaleLike = FrameNumbers | Callable[[np.ndarray], float]
SectionLike = str | slice | tuple[slice, ...] | None

STATISTICS = ("median", "mean", "mode")
SCALE, ZERO, WEIGHTS = "scale", "zero", "weights"
ROWS = (SCALE, ZERO, WEIGHTS)  # of the array of all numbers
WORKING = 32  # bytes of a pixel that a statistic takes: good ones, their copy, sorted or as float64
NEUTRAL = {SCALE: 1.0, ZERO: 0.0, WEIGHTS: 1.0}


@dataclass(frozen=True, slots=True)
class PerFrame:
    """What one of the three arguments means: numbers that are known, or a statistic to find."""

    argument: str
    numbers: np.ndarray | None = None
    statistic: Statistic | None = None

    @property
    def inverse(self) -> bool:
        """Whether frames are divided by the statistic: a callable says the factor itself."""
        return self.argument == SCALE and isinstance(self.statistic, str)


def per_frame(argument: str, value: Any, frames: xr.Dataset) -> PerFrame | None:
    """Read one of the arguments `scale`, `zero` and `weights`.

    Parameters
    ----------
    argument : {"scale", "zero", "weights"}
    value : str, sequence of float, callable or None
        "median", "mean" or "mode"; the name of a coordinate or header keyword; a number for each
        frame; for the scale a callable. What is named divides as a scale, is subtracted as a zero
        and multiplies as a weight; numbers are meant as they stand.

    Raises
    ------
    ArgumentError
        An unknown word, or numbers that are not one good one for each frame.
    """
    if value is None:
        return None
    if isinstance(value, str):
        if value in STATISTICS:
            return PerFrame(argument, statistic=value)
        numbers = _keyword(argument, value, frames)
        return PerFrame(argument, numbers=1 / numbers if argument == SCALE else numbers)
    if callable(value) and not isinstance(value, np.ndarray | xr.DataArray):
        if argument == SCALE:
            return PerFrame(argument, statistic=value)
        raise ArgumentError(f"{argument} cannot be a callable; {_expected(argument, frames)}")
    return PerFrame(argument, numbers=_given(argument, value, frames))


def _expected(argument: str, frames: xr.Dataset) -> str:
    n = frames.sizes["frame"]
    kind = {SCALE: "positive numbers", ZERO: "numbers", WEIGHTS: "numbers, 0 or more and not all 0"}
    words = "'median', 'mean', 'mode'" + (", 'inverse_variance'" if argument == WEIGHTS else "")
    function = " a callable," if argument == SCALE else ""
    return (
        f"it should be {words}, the name of a header keyword,{function} or {n} {kind[argument]}, "
        "one for each frame"
    )


def _keyword(argument: str, word: str, frames: xr.Dataset) -> np.ndarray:
    """The numbers of a coordinate or header keyword, checked."""
    names = [name for name, c in frames.coords.items() if c.dims == ("frame",)]
    found = next((n for n in (word, header_name(word), word.lower()) if n in names), None)
    if found is None:
        own = [*STATISTICS, *(("inverse_variance",) if argument == WEIGHTS else ())]
        known = [str(name).removeprefix("hdr_") for name in names]
        raise ArgumentError(
            f"{argument}={word!r} is neither a statistic ({', '.join(own)}) nor a header keyword "
            f"of the frames; {nearest(word, [*own, *known])}"
        )
    try:
        numbers = np.array(frames[found].values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{argument}={word!r}: {found} of the frames is no number") from None
    wrong = ~np.isfinite(numbers) if argument == ZERO else ~(np.isfinite(numbers) & (numbers > 0))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        wanted = "known" if argument == ZERO else "known and positive"
        raise ArgumentError(
            f"{argument}={word!r}: {found} should be {wanted} for all frames, and is "
            f"{numbers[i]:g} for {frame_name(frames, i)}"
        )
    return numbers


def _given(argument: str, value: Any, frames: xr.Dataset) -> np.ndarray:
    """Numbers as the user wrote them, checked."""
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    good = numbers.shape == (frames.sizes["frame"],) and bool(np.isfinite(numbers).all())
    if good and argument == SCALE:
        good = bool((numbers > 0).all())
    elif good and argument == WEIGHTS:
        good = bool((numbers >= 0).all() and numbers.any())
    if not good:
        raise ArgumentError(f"{argument}={value!r:.80}: {_expected(argument, frames)}")
    return numbers


def statistics_section(section: SectionLike, frames: xr.Dataset, stack: Stack) -> Section:
    """The pixels that statistics are of, in detector coordinates; all where no section is given.

    Raises
    ------
    GeometryError
        Not a section, or one that leaves the frames.
    """
    here = stack.section
    if section is None:
        return here
    bracket = after_fits(section)
    if bracket is not None:
        raw = raw_section(frames, stack)
        found = fits_section(bracket, raw.shape).shifted(raw.y0, raw.x0)
        if not here.covers(found):
            raise GeometryError(
                f"section={section!r}: {found} is outside of the frames, which are {here}"
            )
        return found
    return python_section(section, here.shape).shifted(here.y0, here.x0)


# --- the first pass -----------------------------------------------------------------------------


def numbers_of_frames(
    stack: Stack, wanted: Sequence[PerFrame], section: Section, names: Sequence[str]
) -> da.Array | None:
    """Scale, zero and weight of each frame (3, frame), float64, in one block, lazily.

    None where none is wanted. All statistics come out of one pass, which reads each frame's
    section once.
    """
    if not wanted:
        return None
    known = np.empty((len(ROWS), stack.n_frames))
    for row, argument in enumerate(ROWS):
        known[row] = NEUTRAL[argument]
    for one in wanted:
        if one.numbers is not None:
            known[ROWS.index(one.argument)] = one.numbers
    statistics = tuple(dict.fromkeys(w.statistic for w in wanted if w.statistic is not None))
    if not statistics:
        return da.from_array(known, chunks=-1)
    seen = stack.windowed(section)
    found = da.blockwise(  # whole frames: a statistic must not depend on how they are cut
        _frame_statistics,
        "gyx",
        pack(seen, frame=1, rows=-1),
        "gyx",
        adjust_chunks={"y": 1, "x": len(statistics)},
        statistics=statistics,
        room=Room.of_frame(seen, WORKING),
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )
    searched = tuple(
        _Searched(one, statistics.index(one.statistic)) for one in wanted if one.statistic
    )
    return da.blockwise(
        _with_statistics,
        "kf",
        found,
        "gyx",
        new_axes={"k": len(ROWS), "f": stack.n_frames},
        known=known,
        searched=searched,
        names=tuple(names),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )


def frame_scales(frames: xr.Dataset, scale: str, section: SectionLike) -> np.ndarray:
    """The factor of each frame that `combine` finds for `scale`, a word: it reads the frames."""
    wanted = [w for w in [per_frame(SCALE, scale, frames)] if w is not None]
    stack = recover(frames)
    where = statistics_section(section, frames, stack)
    numbers = numbers_of_frames(stack, wanted, where, frame_names(frames))
    assert numbers is not None
    return np.asarray(numbers.compute()[ROWS.index(SCALE)])


class _Searched(NamedTuple):
    """An argument whose numbers stand in one column of what the first pass found."""

    wanted: PerFrame
    column: int


def _frame_statistics(band: Band, *, statistics: tuple[Statistic, ...], room: Room) -> np.ndarray:
    """The statistics of one frame, (1, 1, statistics)."""
    with room.taken():
        held = band.by_name()
        image = held["image"][0]
        good = np.isfinite(image)
        if "mask" in held:
            good &= held["mask"][0] == 0
        return np.array([[[frame_statistic(image, good, s) for s in statistics]]])


def _with_statistics(
    found: list, *, known: np.ndarray, searched: tuple[_Searched, ...], names: tuple[str, ...]
) -> np.ndarray:
    """All numbers (3, frame), of blocks nested by frame, row and statistic."""
    values = np.concatenate([frame[0][0][0] for frame in found])
    numbers = known.copy()
    for one, column in searched:
        of_frames = values[:, column]
        _require_good(one, of_frames, names)
        numbers[ROWS.index(one.argument)] = 1 / of_frames if one.inverse else of_frames
    return numbers


def _require_good(wanted: PerFrame, values: np.ndarray, names: Sequence[str]) -> None:
    good = np.isfinite(values)
    if wanted.argument != ZERO:
        good &= values > 0
    wrong = np.flatnonzero(~good)
    if wrong.size:
        what = "scale function's value"
        if isinstance(wanted.statistic, str):
            what = f"{wanted.statistic} of the good pixels"
        said = ", ".join(f"{names[i]} ({values[i]:g})" for i in wrong[:3])
        more = f" and {wrong.size - 3} more" if wrong.size > 3 else ""
        wish = "known" if wanted.argument == ZERO else "positive"
        raise UnusableFrameError(
            names[wrong[0]],
            "no-signal",
            f"combine: the {what} should be {wish}, and is not (nan: no good pixel) for "
            f"{said}{more}; leave those frames out or give the {wanted.argument} as numbers",
        )
