"""The amplifiers of a detector: where each one's pixels lie in its frames, and its own numbers.

A detector that is read through several amplifiers is one image in detector coordinates: the pixels
that see light of all of them, as they lie on the chip, and the overscan of each in the same rows,
in the columns after the last of the detector. What is known of each amplifier are coordinates of
the Dataset along the dimension ``amplifier``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from daskcal.frames.coordinates import frame_name, known_values
from daskcal.frames.sections import Section, python_section

if TYPE_CHECKING:
    from daskcal.frames.program import Program

DIM = "amplifier"
VALUES = ("gain", "rdnoise", "saturation")  # coordinates amp_<name> (frame, amplifier)
CORNERS = tuple(f"{row} {column}" for row in ("bottom", "top") for column in ("left", "right"))
_ANY_SHAPE = (1 << 40, 1 << 40)


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One amplifier of a detector, in detector coordinates.

    Attributes
    ----------
    name : str
        What the camera calls it.
    section : Section
        Its pixels that see light.
    overscan : Section or None
        Its overscan: the same rows, columns beyond those of the detector.
    readout : str
        The corner that is read first: ``"bottom left"``, ``"top right"`` and so on; ``bottom`` is
        row 0, ``left`` column 0 of the detector.
    """

    name: str
    section: Section
    overscan: Section | None
    readout: str

    @property
    def areas(self) -> tuple[Section, ...]:
        """All of its pixels: those that see light, and its overscan."""
        return (self.section,) if self.overscan is None else (self.section, self.overscan)


def amplifiers(frames: xr.Dataset) -> tuple[Amplifier, ...]:
    """The amplifiers of the frames' detector; none where it has one only, or nobody knows."""
    if "amp_section" not in frames.coords:
        return ()
    rows = zip(
        frames[DIM].values,
        frames["amp_section"].values,
        frames["amp_overscan"].values,
        frames["amp_readout"].values,
        strict=True,
    )
    return tuple(
        Amplifier(str(name), _section(seen), _section(dark) if dark else None, str(readout))
        for name, seen, dark, readout in rows
    )


def amplifier_values(frames: xr.Dataset, name: str) -> np.ndarray:
    """A number that each amplifier has of its own, (frame, amplifier); NaN where it is unknown.

    Parameters
    ----------
    frames : xarray.Dataset
        Of a detector with amplifiers.
    name : {"gain", "rdnoise", "saturation"}
        In electron/adu, electron, adu.
    """
    shape = frames.sizes["frame"], frames.sizes[DIM]
    if f"amp_{name}" not in frames.coords:
        return np.full(shape, np.nan)
    values = frames[f"amp_{name}"].transpose(..., DIM).values
    return np.broadcast_to(np.asarray(values, np.float64), shape).copy()


def own_values(frames: xr.Dataset, name: str) -> np.ndarray:
    """What is known of each amplifier, (frame, amplifier); of the only one where there are none."""
    if amplifiers(frames):
        return amplifier_values(frames, name)
    return known_values(frames, name)[:, None]


def said_place(frames: xr.Dataset, i: int, k: int) -> str:
    """What to call amplifier `k` of frame `i` in a message: the frame, where it has one only."""
    found = amplifiers(frames)
    return f"{frame_name(frames, i)}{f', amplifier {found[k].name},' if found else ''}"


def each_amplifier(program: Program, found: Sequence[Amplifier]) -> Iterator[int]:
    """The number of each amplifier, while operations added to `program` act on its pixels only.

    0, and all pixels, where a detector has no more than one.
    """
    if not found:
        yield 0
    for k, amp in enumerate(found):
        for area in amp.areas:
            with program.within(area):
                yield k


def amplifier_coords(
    found: Sequence[Amplifier], values: Mapping[str, np.ndarray]
) -> dict[str, xr.Variable]:
    """The coordinates that say all that; `values` are (frame, amplifier), by name."""

    def texts(words: Sequence[str]) -> xr.Variable:
        return xr.Variable(DIM, np.array(words, dtype=object))

    coords = {
        DIM: texts([amp.name for amp in found]),
        "amp_section": texts([str(amp.section) for amp in found]),
        "amp_overscan": texts([str(amp.overscan or "") for amp in found]),
        "amp_readout": texts([amp.readout for amp in found]),
    }
    for name in VALUES:
        coords[f"amp_{name}"] = xr.Variable(("frame", DIM), np.asarray(values[name], np.float64))
    return coords


def common_value(values: np.ndarray) -> np.ndarray:
    """What stands for all amplifiers of a frame: (frame, amplifier) to (frame,).

    Their common value, else their mean, which serves tables and matching; NaN where one is unknown.
    """
    same = (values == values[:, :1]).all(axis=1)
    return np.where(same, values[:, 0], values.mean(axis=1))


def _section(text: object) -> Section:
    return python_section(str(text), _ANY_SHAPE)
