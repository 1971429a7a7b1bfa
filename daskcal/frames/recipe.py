"""What stands behind lazy pixels: which frames, and the steps that calibrate a block of them.

A recipe is plain data that travels to workers as one key of a graph. It says nothing of how the
work is cut; `daskcal.frames.blocks` cuts it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
from dask.base import tokenize

from daskcal.fits import AssembledImage, ImageSource, read_each
from daskcal.frames.block import PLANES, Block, promoted
from daskcal.frames.masks import Flag
from daskcal.frames.sections import Section

if TYPE_CHECKING:
    from daskcal.frames.program import Program


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

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        """Add to `program`, which is for `frames` of the recipe, what the step does.

        `arrays` are the bands of `inputs`.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Keep(Step):
    """The user dropped the other planes. Undefined pixels stay known, so that they never count."""

    kept: tuple[str, ...]

    def planes(self, before: tuple[str, ...]) -> tuple[str, ...]:
        return self.kept

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        program.keep(self.kept)


@dataclass(frozen=True, eq=False, kw_only=True)
class Promote(Step):
    """Pixels as floats, and nothing else: the user's own arithmetic then never wraps."""

    def add(self, program: Program, frames: slice, arrays: Sequence[np.ndarray]) -> None:
        pass


def with_plane(planes: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """`planes` and `names`, in the order of `PLANES`."""
    return tuple(plane for plane in PLANES if plane in planes or plane in names)


class Source(Protocol):
    """Where the raw pixels of a recipe come from; `copies` of them are held while they are read."""

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
    @property
    def copies(self) -> int: ...
    def take(self, positions: np.ndarray) -> Self: ...
    def reading(self, inputs: tuple[Input, ...]) -> Self: ...
    def read(self, frames: slice, section: Section, arrays: Sequence[np.ndarray]) -> Block: ...


@dataclass(frozen=True, eq=False)
class Files:
    """Raw pixels on disk: a table of byte ranges, several for a frame that is assembled of them."""

    sources: tuple[ImageSource | AssembledImage, ...]
    section: Section
    token: str
    inputs: tuple[Input, ...] = ()
    copies: ClassVar[int] = 1

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
        rows, columns = ((s.start, s.stop) for s in section.within(self.section))
        block = Block(section, np.empty((len(sources), *section.shape), self.dtype))
        for i, (values, undefined) in enumerate(read_each(sources, rows, columns, block.image)):
            image = block.image[i]
            if not np.may_share_memory(values, image):
                image[:] = values
            if undefined is not None:
                if block.mask is None:
                    block.mask = np.zeros(block.image.shape, np.uint16)
                block.mask[i][undefined] = Flag.NO_DATA
                if image.dtype.kind == "f":
                    image[undefined] = np.nan
        return block


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
    copies: ClassVar[int] = 2  # the user's own, and another where something is amiss

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
        given = dict(zip(self.planes, arrays, strict=True))  # somebody else's: not written to
        types = {"image": self.dtype, "mask": np.dtype(np.uint16)}
        value = promoted(self.dtype)
        block = Block.of(
            section,
            {p: np.require(a, types.get(p, value), "C") for p, a in given.items()},
        )
        if self.dtype.kind == "f":
            self._undefine(block)
        return block

    def _undefine(self, block: Block) -> None:
        """Give pixels without a value a bit, and those with the bit no value."""
        undefined = ~np.isfinite(block.image)
        if block.mask is None:
            if undefined.any():
                block.mask = np.where(undefined, Flag.NO_DATA, np.uint16(0))
            return
        bare = undefined & (block.mask == 0)
        if bare.any():
            block.mask = np.where(bare, Flag.NO_DATA, block.mask)
        undefined = (block.mask & Flag.NO_DATA) != 0
        if undefined.any():
            block.image = np.where(undefined, block.image.dtype.type(np.nan), block.image)


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
        """Type of the image that comes out: the stored one until the first step."""
        return promoted(self.source.dtype) if self.steps else self.source.dtype

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

    def program(
        self, raw: Block, section: Section, frames: slice, arrays: Sequence[np.ndarray]
    ) -> Program:
        """What makes calibrated pixels of `section` of raw ones of some frames.

        `arrays` are the bands of the steps' inputs, in order.
        """
        from daskcal.frames.program import Program  # numba takes its time to import

        program, rest = Program(raw), iter(arrays)
        for step, held in zip(self.steps, self.reaches(section), strict=False):
            program.crop(held.x0, held.x1)
            step.add(program, frames, [next(rest) for _ in step.inputs])
        return program


def _fields(step: Step) -> tuple[object, ...]:
    return tuple(getattr(step, field.name) for field in dataclasses.fields(step))
