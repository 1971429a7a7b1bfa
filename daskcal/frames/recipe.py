"""What stands behind lazy pixels: which frames, and the steps that calibrate a block of them.

A recipe is plain data that travels to workers as one key of a graph. It says nothing of how the
work is cut; `daskcal.frames.blocks` cuts it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from dask.base import tokenize

from daskcal.fits import ImageSource, read_pixels
from daskcal.frames.masks import Flag
from daskcal.frames.sections import Section

PLANES = ("image", "variance", "variance_shared", "mask")


@dataclass(slots=True)
class Block:
    """Some frames × rows × columns while one task works on them; steps change the arrays in place.

    `section` is the rectangle of detector coordinates that the arrays hold.
    """

    section: Section
    image: np.ndarray
    variance: np.ndarray | None = None
    variance_shared: np.ndarray | None = None
    mask: np.ndarray | None = None

    def promote(self) -> np.ndarray:
        """Make the image floating (undefined pixels become NaN), and return it."""
        if self.image.dtype != promoted(self.image.dtype):
            self.image = self.image.astype(promoted(self.image.dtype))
        elif not self.image.flags.writeable:
            self.image = self.image.copy()
        if self.mask is not None:
            np.copyto(self.image, np.nan, where=(self.mask & Flag.NO_DATA) != 0)
        return self.image

    def masked(self) -> np.ndarray:
        """The mask, made where there is none yet (pixels that are not finite are no_data)."""
        if self.mask is None:
            self.mask = np.zeros(self.image.shape, np.uint16)
            if self.image.dtype.kind == "f":
                self.mask[~np.isfinite(self.image)] = Flag.NO_DATA
        elif not self.mask.flags.writeable:
            self.mask = self.mask.copy()
        return self.mask

    def zeros(self, plane: str) -> np.ndarray:
        """The plane, writeable, and made of zeros where there is none yet."""
        array = getattr(self, plane)
        if array is None:
            array = np.zeros(self.image.shape, promoted(self.image.dtype))
        elif not array.flags.writeable:
            array = array.copy()
        setattr(self, plane, array)
        return array

    def crop(self, section: Section) -> None:
        """Keep only the pixels of `section`."""
        if section == self.section:
            return
        index = (slice(None), *section.within(self.section))
        for plane in PLANES:
            array = getattr(self, plane)
            if array is not None:
                setattr(self, plane, array[index])
        self.section = section


def promoted(dtype: np.dtype) -> np.dtype:
    """The floating type that arithmetic uses: float32, or float64 for what float32 cannot hold."""
    small = dtype.kind in "iu" and dtype.itemsize <= 2
    small = small or (dtype.kind == "f" and dtype.itemsize <= 4)
    return np.dtype(np.float32 if small else np.float64)


@dataclass(frozen=True, slots=True)
class Input:
    """An array that a step or a source takes from the graph, band by band.

    `index` names its axes (``fyx``, ``yx``, ``fy`` or ``fx``); `y0` and `x0` are the detector
    coordinates of its first row and column.
    """

    name: str
    chunks: tuple[tuple[int, ...], ...]
    dtype: str
    index: str
    y0: int = 0
    x0: int = 0

    def covers(self, section: Section) -> bool:
        """Whether it has all rows and columns of `section`, as far as it has such axes."""
        first = {"y": (section.y0, section.y1, self.y0), "x": (section.x0, section.x1, self.x0)}
        for axis, sizes in zip(self.index, self.chunks, strict=True):
            if axis in first:
                start, stop, own = first[axis]
                if start < own or stop > own + sum(sizes):
                    return False
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One step of calibration. Subclasses are frozen and picklable; fields with one value for each
    frame are arrays and named in `per_frame`.
    """

    inputs: tuple[Input, ...] = ()

    per_frame: ClassVar[tuple[str, ...]] = ()  # names of fields

    def take(self, positions: np.ndarray) -> Self:
        """The same step for some of the frames."""
        chosen = {name: getattr(self, name)[positions] for name in self.per_frame}
        return dataclasses.replace(self, **chosen)

    def reach(self, section: Section) -> Section:
        """The pixels that the step must see to give `section`: more columns, never other rows."""
        return section

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        """The planes that a block has after the step."""
        return before

    def dtype(self, before: np.dtype) -> np.dtype:
        """The type of the image after the step."""
        return promoted(before)

    def apply(self, block: Block, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        """Change `block`, which holds `frames` of the recipe; `arrays` are bands of `inputs`."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Keep(Step):
    """The user dropped the other planes. Undefined pixels stay known, so that they never count."""

    kept: tuple[str, ...]

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return self.kept

    def apply(self, block: Block, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        block.promote()
        for plane in ("variance", "variance_shared"):
            if plane not in self.kept:
                setattr(block, plane, None)
        if "mask" not in self.kept and block.mask is not None:
            block.mask = block.mask & Flag.NO_DATA


def with_plane(planes: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """`planes` and `names`, in the order of `PLANES`."""
    return tuple(plane for plane in PLANES if plane in planes or plane in names)


class Source(Protocol):
    """Where the raw pixels of a recipe come from."""

    @property
    def n_frames(self) -> int: ...
    @property
    def section(self) -> Section: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def planes(self) -> tuple[str, ...]: ...
    @property
    def inputs(self) -> tuple[Input, ...]: ...
    @property
    def token(self) -> str: ...
    def take(self, positions: np.ndarray) -> Self: ...
    def reading(self, inputs: tuple[Input, ...]) -> Self: ...
    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block: ...


@dataclass(frozen=True, eq=False)
class Files:
    """Raw pixels on disk: a table of byte ranges."""

    sources: tuple[ImageSource, ...]
    section: Section
    token: str
    inputs: tuple[Input, ...] = ()

    @property
    def n_frames(self) -> int:
        return len(self.sources)

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*{source.dtype for source in self.sources})

    @property
    def planes(self) -> tuple[str, ...]:
        undefined = any(source.can_be_undefined for source in self.sources)
        return ("image", "mask") if undefined else ("image",)

    def take(self, positions: np.ndarray) -> Files:
        chosen = tuple(self.sources[i] for i in positions)
        return Files(chosen, self.section, tokenize(self.token, positions))

    def reading(self, inputs: tuple[Input, ...]) -> Files:
        return self

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        sources = self.sources[frames]
        rows, columns = (slice(s.start, s.stop) for s in section.within(self.section))
        shape = (len(sources), *section.shape)
        image = np.empty(shape, self.dtype)
        mask = np.zeros(shape, np.uint16) if "mask" in self.planes else None
        for i, source in enumerate(sources):
            values, undefined = read_pixels(
                source, (rows.start, rows.stop), (columns.start, columns.stop)
            )
            image[i] = values
            if undefined is not None and mask is not None:
                mask[i][undefined] = Flag.NO_DATA
                if image.dtype.kind == "f":
                    image[i][undefined] = np.nan
        return Block(section, image, mask=mask)


@dataclass(frozen=True, eq=False)
class Arrays:
    """Raw pixels that are arrays already: a user's own, or what came out of their arithmetic.

    They come out as a reader's would: variances in the type of the promoted image, masks of bits
    (true is bad), and no pixel without a value that is not masked.
    """

    n_frames: int
    section: Section
    planes: tuple[str, ...]
    inputs: tuple[Input, ...]

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.inputs[0].dtype).newbyteorder("=")

    @property
    def token(self) -> str:
        return str(tokenize(self.inputs, self.section, self.planes))

    def take(self, positions: np.ndarray) -> Arrays:
        return dataclasses.replace(self, n_frames=len(positions))

    def reading(self, inputs: tuple[Input, ...]) -> Arrays:
        return dataclasses.replace(self, inputs=inputs)

    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        given = dict(zip(self.planes, arrays, strict=True))  # somebody else's: copied, not used
        types = {"image": self.dtype, "mask": np.dtype(np.uint16)}
        value = promoted(self.dtype)
        block = Block(section, **{n: np.array(a, types.get(n, value)) for n, a in given.items()})
        if block.mask is not None and self.dtype.kind == "f":
            block.mask[~np.isfinite(block.image) & (block.mask == 0)] = Flag.NO_DATA
            block.image[(block.mask & Flag.NO_DATA) != 0] = np.nan
        return block


@dataclass(frozen=True, eq=False)
class Recipe:
    """Frames and what is done to them, in order; `planes` are those handed out."""

    source: Source
    steps: tuple[Step, ...]
    planes: tuple[str, ...]
    token: str

    @classmethod
    def of(cls, source: Source) -> Recipe:
        """The recipe that only reads."""
        return cls(source, (), source.planes, source.token)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Inputs of the source, then of each step, in order."""
        return self.source.inputs + tuple(i for step in self.steps for i in step.inputs)

    @property
    def dtype(self) -> np.dtype:
        """Type of the image that comes out."""
        dtype = self.source.dtype
        for step in self.steps:
            dtype = step.dtype(dtype)
        return dtype

    def plane_dtype(self, plane: str) -> np.dtype:
        """Type of one plane that comes out."""
        if plane == "mask":
            return np.dtype(np.uint16)
        return self.dtype if plane == "image" else promoted(self.dtype)

    def then(self, step: Step) -> Recipe:
        """This recipe and one more step."""
        token = tokenize(self.token, type(step).__qualname__, _fields(step))
        return Recipe(self.source, (*self.steps, step), step.planes(self.planes), token)

    def take(self, positions: np.ndarray) -> Recipe:
        """The same for some of the frames."""
        steps = tuple(step.take(positions) for step in self.steps)
        token = tokenize(self.token, positions)
        return Recipe(self.source.take(positions), steps, self.planes, token)

    def only(self, planes: tuple[str, ...]) -> Recipe:
        """The same, handing out fewer planes."""
        return self if planes == self.planes else self.then(Keep(kept=planes))

    def reaches(self, section: Section) -> list[Section]:
        """What must be held before each step, and at the end, to give `section`."""
        held = [section]
        for step in reversed(self.steps):
            held.append(step.reach(held[-1]))
        return held[::-1]

    def cut(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block:
        """Read one block and calibrate it; `arrays` are the bands of `inputs`, in order."""
        held = self.reaches(section)
        rest = list(arrays)

        def first(n: int) -> list[np.ndarray]:
            taken, rest[:n] = rest[:n], []
            return taken

        block = self.source.read(frames, held[0], first(len(self.source.inputs)))
        for step, after in zip(self.steps, held[1:], strict=True):
            step.apply(block, frames, first(len(step.inputs)))
            block.crop(after)
        return block


def _fields(step: Step) -> tuple[object, ...]:
    return tuple(getattr(step, field.name) for field in dataclasses.fields(step))
