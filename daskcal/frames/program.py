"""What the steps of a recipe do to the pixels of a band, gathered so that it is done in one pass.

Numpy would take a whole band, or many small pieces of it, through one step after the other. Here
each step says what it does, for all rows of the band at once, and one compiled loop takes each line
of each frame through all of that while the line is in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from daskcal.frames import program_loop as loop
from daskcal.frames.block import PLANES, Block, promoted
from daskcal.frames.masks import Flag
from daskcal.frames.sections import Section

_AT_ONCE = 1 << 18  # pixels that a step looks at together
_FAR = 1 << 40
_EVERYWHERE = Section(-_FAR, _FAR, -_FAR, _FAR)

_EACH = (loop.SHARE, loop.SHARE_TWO, loop.MULTIPLY, loop.SHUTTER)  # by a number of the frame


class Program:
    """Operations on the frames of a band, in the order in which they are added.

    Planes that they take are (rows, columns) over the columns of `section` as it was when they
    were added; they are used in the type of the promoted image. Numbers of frames are (frames,).
    """

    def __init__(self, raw: Block) -> None:
        if raw.image.dtype.kind == "f":  # of float16 no loop can be compiled
            raw = _of_type(raw, promoted(raw.image.dtype))
        self.section = raw.section
        self.flags = raw.mask is not None  # whether a bit may be set
        self._raw = raw
        self._acting = _EVERYWHERE
        self._operations: list[tuple[int, int, int, int]] = []
        self._areas: list[Section] = []  # where each of them acts
        self._numbers: list[np.ndarray] = []
        self._planes: list[_Placed] = []
        self._bits: list[_Placed] = []
        self._of_rows: list[np.ndarray] = []
        self._of_columns: list[_Placed] = []
        self._knots: list[np.ndarray] = []

    @property
    def dtype(self) -> np.dtype:
        """The type of the promoted image."""
        return promoted(self._raw.image.dtype)

    def crop(self, x0: int, x1: int) -> None:
        """From now on only the columns from `x0` up to `x1` are wanted."""
        self.section = Section(self.section.y0, self.section.y1, x0, x1)

    @contextmanager
    def within(self, section: Section | None) -> Iterator[None]:
        """Operations that are added in here act on the pixels of `section` only; None: on all.

        What they take stays what it is without: planes and numbers of all rows and columns.
        """
        before = self._acting
        self._acting = before if section is None else before.common(section)
        try:
            yield
        finally:
            self._acting = before

    def pixels(self, x0: int, x1: int) -> Iterator[np.ndarray]:
        """The image as it is by now in columns from `x0` up to `x1`, NaN where a bit is set.

        A few rows at a time, (frames, rows, columns).
        """
        prepared = self.over(x0, x1)
        n, rows, _ = self._raw.image.shape
        height = max(1, _AT_ONCE // max(1, n * (x1 - x0)))
        for first in range(0, rows, height):
            last = min(first + height, rows)
            shape = n, last - first, x1 - x0
            image = np.empty(shape, self.dtype)
            mask = np.empty(shape if self.flags else (0, 0, 0), np.uint16)
            if prepared.run(slice(first, last), {"image": image, "mask": mask}):
                image[mask != 0] = np.nan
            yield image

    # --- operations -------------------------------------------------------------------------------

    def subtract(self, plane: np.ndarray, factor: np.ndarray | None = None) -> None:
        """image − factor · plane. Frames whose factor is NaN are left alone, here and below."""
        self._add(loop.SUBTRACT, self._plane(plane), -1, factor)

    def subtract_rows(self, levels: np.ndarray) -> None:
        """image − levels (frames, rows); where one is not finite the row has no data."""
        self.flags = self.flags or not np.isfinite(levels).all()
        self._of_rows.append(levels)
        self._add(loop.SUBTRACT_ROWS, len(self._of_rows) - 1)

    def subtract_columns(self, levels: np.ndarray) -> None:
        """image − levels (frames, columns); where one is not finite the column has no data."""
        self.flags = self.flags or not np.isfinite(levels).all()
        self._of_columns.append(_Placed(levels, self.section.x0))
        self._add(loop.SUBTRACT_COLUMNS, len(self._of_columns) - 1)

    def multiply(self, factor: np.ndarray) -> None:
        """image · factor, and the variances by its square."""
        self._add(loop.MULTIPLY, -1, -1, factor)

    def divide(self, plane: np.ndarray) -> None:
        """image / plane, and the variances by its square."""
        self._add(loop.DIVIDE, self._plane(plane))

    def own_noise(self, level: np.ndarray, poisson: np.ndarray, constant: np.ndarray) -> None:
        """variance = max(image − level, 0) · poisson + constant."""
        self._add(loop.OWN_NOISE, -1, -1, level, poisson, constant)

    def share(self, plane: np.ndarray, factor: np.ndarray | None = None) -> None:
        """variance_shared + factor · plane."""
        self._add(loop.SHARE, self._plane(plane), -1, factor)

    def share_two(
        self, first: np.ndarray, f: np.ndarray, second: np.ndarray, g: np.ndarray
    ) -> None:
        """variance_shared + (f · first + g · second), and not below 0."""
        self._add(loop.SHARE_TWO, self._plane(first), self._plane(second), f, g)

    def share_square(self, plane: np.ndarray) -> None:
        """variance_shared + image² · plane."""
        self._add(loop.SHARE_SQUARE, self._plane(plane))

    def flag(self, bits: np.ndarray | None, factor: np.ndarray | None = None) -> None:
        """mask | bits, (rows, columns), of the frames whose factor is not NaN; None for none."""
        if bits is not None and bits.max(initial=0):  # `any` is slower
            self.flags = True
            self._bits.append(_Placed(bits, self.section.x0))
            self._add(loop.FLAG, len(self._bits) - 1, -1, factor)

    def flag_from(self, level: np.ndarray, bit: np.uint16) -> None:
        """mask | bit where image ≥ level, the least that is not below it in the image's type."""
        self.flags = True
        value = self.dtype
        rounded = level.astype(value)
        up = np.nextafter(rounded, value.type(np.inf))
        self._add(loop.FLAG_FROM, -1, int(bit), np.where(rounded < level, up, rounded))

    def subtract_leak(
        self, factor: np.ndarray, at: int, *, mirrored: bool = False, facing: bool = False
    ) -> None:
        """image − factor · the raw value in column `at` + x, or `mirrored` `at` − x.

        Of the same row, or, `facing`, of the row that is read out with it at the other end. One
        without a value leaves the pixel alone.
        """
        x0 = self._raw.section.x0
        how = loop.MIRRORED * mirrored + loop.FACING * facing
        self._add(loop.LEAK, how, at - 2 * x0 if mirrored else at, factor)

    def linearise(
        self, level: np.ndarray, limit: np.ndarray, factors: Sequence[np.ndarray]
    ) -> None:
        """level + u·(1 + c₁·u + c₂·u² + ...), u = image − level; nonlinear where u > limit."""
        self.flags = True
        self._add(loop.LINEARISE, len(factors), -1, level, limit, *factors)

    def look_up(self, level: np.ndarray, limit: np.ndarray, knots: np.ndarray) -> None:
        """level + the line between `knots` (knots, 2) at u = image − level; nonlinear as above."""
        self.flags = True
        first = sum(map(len, self._knots))
        self._knots.append(knots)
        self._add(loop.LOOK_UP, first, first + len(knots), level, limit)

    def shutter(self, delay: np.ndarray, noise: np.ndarray | None, per_second: np.ndarray) -> None:
        """image / (1 + per_second · delay), and the variances; `noise` is that of the delay."""
        at = self._plane(delay)
        self._add(loop.SHUTTER, at, -1 if noise is None else self._plane(noise), per_second)

    def keep(self, planes: Sequence[str]) -> None:
        """The variances that are not among `planes` are 0 again; of the mask no_data is left."""
        dropped = 1 * ("variance" not in planes) + 2 * ("variance_shared" not in planes)
        bits = 0xFFFF if "mask" in planes else int(Flag.NO_DATA)
        self._add(loop.KEEP, dropped, bits)

    def _add(self, kind: int, a: int = -1, b: int = -1, *numbers: np.ndarray | None) -> None:
        given = [each for each in numbers if each is not None]
        self._operations.append((kind, a, b, len(self._numbers) if given else -1))
        self._areas.append(self._acting)
        self._numbers += given

    def _plane(self, plane: np.ndarray) -> int:
        self._planes.append(_Placed(plane, self.section.x0))
        return len(self._planes) - 1

    def over(self, x0: int, x1: int) -> Prepared:
        """The operations so far, for the columns from `x0` up to `x1`."""
        n, rows, _ = self._raw.image.shape
        y0 = self._raw.section.y0
        areas = self._reached(Section(y0, y0 + rows, x0, x1))
        return Prepared(
            self._raw,
            slice(x0 - self._raw.section.x0, x1 - self._raw.section.x0),
            np.array(self._operations, np.int64).reshape(-1, 4),
            areas,
            np.unique([0, x1 - x0, *areas[:, 2:].flat]),
            _table(self._numbers, (n,), self.dtype),
            np.concatenate([np.empty((0, 2)), *self._knots]).astype(self.dtype),
            [placed.over(x0, x1) for placed in self._planes],
            [placed.over(x0, x1) for placed in self._bits],
            _table(self._of_rows, (n, rows), self.dtype),
            _table([placed.over(x0, x1) for placed in self._of_columns], (n, x1 - x0), self.dtype),
            self._alike(),
        )

    def _reached(self, held: Section) -> np.ndarray:
        """Rows and columns of `held`, from its first ones, that each operation acts on."""
        areas = np.array([(a.y0, a.y1, a.x0, a.x1) for a in self._areas], np.int64)
        low, high = (held.y0, held.y0, held.x0, held.x0), (held.y1, held.y1, held.x1, held.x1)
        return np.clip(areas.reshape(-1, 4), low, high) - low

    def _alike(self) -> int:
        """After how many operations the shared variance is still the same for all frames."""
        if self._raw.variance_shared is not None:
            return 0
        shared = False  # whether there is any by now
        for at, (kind, _, b, first) in enumerate(self._operations):
            if kind == loop.SHARE_SQUARE or (kind == loop.SHUTTER and b >= 0):
                return at
            if shared and kind in (loop.LINEARISE, loop.LOOK_UP):
                return at
            shared = shared or kind in (loop.SHARE, loop.SHARE_TWO)
            if kind in _EACH and first >= 0:
                numbers = np.array(self._numbers[first : first + 1 + (kind == loop.SHARE_TWO)])
                one = numbers[:, :1]
                if not ((numbers == one) | (np.isnan(numbers) & np.isnan(one))).all():
                    return at
        return len(self._operations)


def _table(arrays: Sequence[np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Arrays of one shape, perhaps none, in one array of a type."""
    table = np.empty((len(arrays), *shape), dtype)
    for i, array in enumerate(arrays):
        table[i] = array
    return table


def _tuple(arrays: Sequence[np.ndarray], dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Arrays (rows, columns) as they are where they have that type and lie in one piece.

    Filled up with empty ones to 8, 16 and so on, since a loop is compiled for each length.
    """
    size = max(8, 1 << (len(arrays) - 1).bit_length()) if arrays else 8
    rest = [np.empty((0, 0), dtype)] * (size - len(arrays))
    return tuple(_locked(np.require(array, dtype, "C")) for array in (*arrays, *rest))


@dataclass(frozen=True, slots=True)
class _Placed:
    """An array whose last axis begins at column `x0`."""

    array: np.ndarray
    x0: int

    def over(self, x0: int, x1: int) -> np.ndarray:
        return self.array[:, x0 - self.x0 : x1 - self.x0]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program over some columns of its band, as the compiled loop takes it."""

    raw: Block
    columns: slice
    operations: np.ndarray
    areas: np.ndarray
    cuts: np.ndarray
    numbers: np.ndarray
    knots: np.ndarray
    planes: list[np.ndarray]
    bits: list[np.ndarray]
    of_rows: np.ndarray
    of_columns: np.ndarray
    alike: int

    def run(self, rows: slice, out: Mapping[str, np.ndarray], into: int = 0) -> int:
        """Calibrate some rows of the band, and put them into planes (frames, rows, columns).

        `into` is the row of the planes where the first one goes. `out` has the image; planes that
        are not in it are not computed. Returns all bits that are set in the mask.
        """
        value = promoted(self.raw.image.dtype)
        nothing = {p: np.empty((0, 0, 0), np.uint16 if p == "mask" else value) for p in PLANES}
        given = {plane: getattr(self.raw, plane) for plane in PLANES}
        facing = self.raw.facing
        none = np.empty((0, 0, 0), self.raw.image.dtype)
        found: int = loop.run(
            *(_locked(nothing[p] if array is None else array) for p, array in given.items()),
            _locked(none if facing is None else facing.image),
            _locked(nothing["mask"] if facing is None or facing.mask is None else facing.mask),
            rows.start,
            self.columns.start,
            self.operations,
            self.areas,
            self.cuts,
            self.numbers,
            self.knots,
            _tuple([plane[rows] for plane in self.planes], value),
            _tuple([plane[rows] for plane in self.bits], np.dtype(np.uint16)),
            self.of_rows,
            self.of_columns,
            self.alike,
            rows.stop - rows.start,
            into,
            *(out.get(plane, nothing[plane]) for plane in PLANES),
        )
        return found


def _of_type(raw: Block, dtype: np.dtype) -> Block:
    """A block, and the rows that face it, with an image of a type."""
    facing = None if raw.facing is None else _of_type(raw.facing, dtype)
    return replace(raw, image=raw.image.astype(dtype, copy=False), facing=facing)


def _locked(array: np.ndarray) -> np.ndarray:
    """The array, not to be written to: always, so that the loop is compiled for one type only."""
    view = array.view()
    view.flags.writeable = False
    return view
