"""The list of what was done to frames: kept in ``attrs["steps"]``, written to product headers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr


@dataclass(frozen=True, slots=True)
class MasterId:
    """Which master: its file and checksum, or the name of the array where it has no file."""

    file: str
    checksum: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step that was done, with its parameters and the masters that it used."""

    step: str
    parameters: dict[str, Any]
    masters: tuple[MasterId, ...] = ()

    def to_json(self) -> str:
        """One line of JSON, the same for the same step."""
        out: dict[str, Any] = {"step": self.step, **self.parameters}
        if self.masters:
            out["masters"] = [asdict(master) for master in self.masters]
        return json.dumps(out, sort_keys=False, default=str)

    @classmethod
    def from_json(cls, text: str) -> StepRecord:
        """Read `to_json`'s line."""
        found = json.loads(text)
        masters = tuple(MasterId(**master) for master in found.pop("masters", ()))
        return cls(found.pop("step"), found, masters)


def steps_of(frames: xr.Dataset) -> list[StepRecord] | None:
    """What was done to frames or a master, in order; None where nobody recorded it."""
    texts: Sequence[str] | None = frames.attrs.get("steps")
    return None if texts is None else [StepRecord.from_json(text) for text in texts]


def last_step(frames: xr.Dataset, step: str) -> StepRecord | None:
    """The last record of one kind of step, if it was done."""
    return next((r for r in reversed(steps_of(frames) or []) if r.step == step), None)


def with_step(frames: xr.Dataset, record: StepRecord) -> xr.Dataset:
    """`frames` with one more record."""
    return frames.assign_attrs(steps=[*frames.attrs.get("steps", []), record.to_json()])


def keep_each(
    frames: xr.Dataset, coordinate: str, values: np.ndarray
) -> tuple[xr.Dataset, float | str]:
    """A value for each frame, for a record: a number where all are equal, else a reference.

    `values` are (frame,), or (frame, amplifier). Those that a record refers to are a coordinate of
    the frames, which a selection or a sort takes along; `spelled_out` puts them back.
    """
    unique = np.unique(values)
    if unique.size == 1:
        return frames, float(unique[0])
    dims = ("frame", "amplifier")[: values.ndim]
    return frames.assign_coords({coordinate: (dims, values)}), f"{_HELD}{coordinate}"


def spelled_out(frames: xr.Dataset) -> list[StepRecord]:
    """The records of `frames` with the values that they refer to, a list where they differ."""
    return [
        StepRecord(r.step, {k: _value(frames, v) for k, v in r.parameters.items()}, r.masters)
        for r in steps_of(frames) or []
    ]


def _value(frames: xr.Dataset, value: Any) -> Any:
    if not (isinstance(value, str) and value.startswith(_HELD)):
        return value
    name = value.removeprefix(_HELD)
    if name not in frames.coords:
        return value
    values = np.unique(frames[name].values, axis=0)
    return values[0].tolist() if len(values) == 1 else frames[name].values.tolist()


_HELD = "coordinate "
