"""Which raw frames make one master together, and what the master is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daskcal.frames.detector_names import safe_name
from daskcal.masters.rules import KINDS, Kind, State

# Shutters repeat to some ms, and clocks in headers differ by more: darks within 0.1 % are one set
# (300.014 and 300.062 s). Their dark current then differs by as little.
EXPOSURE_RTOL = 1e-3
GAIN_RTOL = 1e-5  # a float32 in one header, a decimal in the next

__all__ = [
    "KINDS",
    "READOUT_COLUMNS",
    "Kind",
    "MasterGroup",
    "MasterKey",
    "Readout",
    "exposure_text",
    "group_masters",
    "largest",
    "name_groups",
    "safe_name",
    "same_gain",
    "same_number",
]

_MAX_NAME = 120
READOUT_COLUMNS = (
    "detector",
    "binning",
    "shape",
    "origin_y",
    "origin_x",
    "origin_known",
    "gain",
    "readout_mode",
    "amplifiers",
    "amplifier_gains",
)
_COLUMNS = ("imagetyp", "flat_kind", "exptime", "filter", "processed", *READOUT_COLUMNS)


def same_number(a: float | None, b: float | None) -> bool:
    """Whether two gains are one, allowing for rounding; unknown equals unknown."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=GAIN_RTOL)


def same_gain(a: Readout, b: Readout) -> bool:
    """Whether two readouts have one gain, or one in each of their amplifiers."""
    return same_number(a.gain, b.gain) and a.amplifier_gains == b.amplifier_gains


@dataclass(frozen=True, slots=True)
class Readout:
    """How a detector was read: frames must agree in this before anything else.

    Attributes
    ----------
    detector, binning, readout_mode : str
        "" where unknown.
    shape : tuple of int
        Raw rows and columns, before trimming.
    origin : tuple of int or None
        Detector row and column of pixel [0, 0]; None where unknown.
    gain : float or None
        electron/adu; None where unknown (a NaN would not equal itself).
    amplifiers : str
        Where the amplifiers lie, of a detector that is read through several; "" for one.
    amplifier_gains : str
        Their gains, where they differ.
    """

    detector: str = ""
    binning: str = ""
    shape: tuple[int, int] = (0, 0)
    origin: tuple[int, int] | None = None
    gain: float | None = None
    readout_mode: str = ""
    amplifiers: str = ""
    amplifier_gains: str = ""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Readout:
        """The readout of one row of the frame table."""
        gain = row.get("gain")
        shape = row.get("shape", (0, 0))
        origin = None
        if row.get("origin_known", False):
            origin = (int(row["origin_y"]), int(row["origin_x"]))
        return cls(
            detector=str(row.get("detector", "")),
            binning=str(row.get("binning", "")),
            shape=(int(shape[0]), int(shape[1])),
            origin=origin,
            gain=None if gain is None or math.isnan(gain) else float(gain),
            readout_mode=str(row.get("readout_mode", "")),
            amplifiers=str(row.get("amplifiers", "")),
            amplifier_gains=str(row.get("amplifier_gains", "")),
        )

    @property
    def gain_text(self) -> str:
        """The gain, or those of the amplifiers, for people."""
        known = "unknown" if self.gain is None else f"{self.gain:.6g}"
        return self.amplifier_gains or known

    @property
    def window(self) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Shape and origin."""
        return self.shape, self.origin

    @property
    def window_text(self) -> str:
        """Shape and origin, for people."""
        size = f"{self.shape[0]}×{self.shape[1]}"
        return f"{size} at row {self.origin[0]}, column {self.origin[1]}" if self.origin else size

    def covers(self, other: Readout) -> bool:
        """Whether this window holds every pixel of another; needs both origins."""
        if self.origin is None or other.origin is None:
            return False
        return all(
            mine <= theirs and theirs + n <= mine + m
            for mine, m, theirs, n in zip(
                self.origin, self.shape, other.origin, other.shape, strict=True
            )
        )


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What makes a master the master it is.

    Attributes
    ----------
    exptime : float or None
        Of a dark, in s; None for other kinds, and where unknown.
    filter, flat_kind : str
        Of a flat; "" for other kinds, and where unknown.
    processed : str
        What was done to its frames before daskcal had them; "" for raw frames.
    settings : tuple of (str, float or str)
        Of the camera, where rules with a tolerance tell its frames from others.
    """

    kind: Kind
    readout: Readout
    exptime: float | None = None
    filter: str = ""
    flat_kind: str = ""
    processed: str = ""
    settings: State = ()

    @property
    def name(self) -> str:
        """A file name without suffix, distinct where nothing but kind, exposure and filter vary."""
        if self.kind == "dark":
            exposure = "unknown" if self.exptime is None else exposure_text(self.exptime)
            return f"dark_{exposure.replace(' ', '')}"
        if self.kind == "flat" and self.filter:
            return f"flat_{safe_name(self.filter)}"
        return self.kind


@dataclass(frozen=True, slots=True)
class MasterGroup:
    """The frames of one master, by their positions in the frame table."""

    key: MasterKey
    frames: tuple[int, ...]


def group_masters(table: Any) -> tuple[MasterGroup, ...]:
    """Group the bias, dark and flat frames of a night into masters.

    Always apart: detector, binning, shape and window, gain, readout mode, amplifiers, and frames
    that were processed before from raw ones. Darks are apart by exposure (within 0.1 %), flats by
    filter and kind; biases and darks ignore the filter.

    Parameters
    ----------
    table : pandas.DataFrame
        One row for each frame: the normalised names, and ``shape`` (rows, columns). Values count as
        they stand, so those that the config overrides must be in place.

    Returns
    -------
    tuple of MasterGroup
        Sorted by kind, then by key; frames keep the table's order.
    """
    readouts: dict[Readout, list[Readout]] = {}  # gains that differ by rounding are one
    found: dict[MasterKey, list[int]] = {}
    darks: dict[MasterKey, list[tuple[float, int]]] = {}
    needed = [name for name in _COLUMNS if name in table.columns]
    chosen = np.flatnonzero(table["imagetyp"].isin(KINDS).to_numpy())
    rows = table[needed].iloc[chosen].to_dict("records")
    for position, row in zip(chosen.tolist(), rows, strict=True):
        kind = row["imagetyp"]
        flat = kind == "flat"
        key = MasterKey(
            kind,
            _known(Readout.of_row(row), readouts),
            filter=str(row["filter"]) if flat else "",
            flat_kind=str(row["flat_kind"]) if flat else "",
            processed=str(row.get("processed", "")),
        )
        if kind == "dark":
            darks.setdefault(key, []).append((float(row["exptime"]), position))
        else:
            found.setdefault(key, []).append(position)
    for key, exposures in darks.items():
        for exptime, positions in _by_exposure(exposures):
            found[replace(key, exptime=exptime)] = positions
    ordered = sorted(found, key=_sorting)
    return tuple(MasterGroup(key, tuple(sorted(found[key]))) for key in ordered)


def name_groups(groups: Sequence[MasterGroup]) -> dict[MasterKey, str]:
    """A name for each master: safe as a file name on any system, distinct, the same every time.

    What tells masters of one name apart (kind of flat, detector, binning, shape, gain, mode) is
    added, the first of these that do; a number follows where the texts themselves look alike on
    disk. Settings are added to all but the largest of the groups that nothing else tells apart, so
    that an odd frame does not rename the others.
    """
    of = {
        group.key: replace(group.key, settings=()) if group in usual else group.key
        for usual in [set(largest(groups).values())]
        for group in groups
    }
    names = _distinct_names(of.values())
    return {group.key: names[of[group.key]] for group in groups}


def but_settings(key: MasterKey) -> MasterKey:
    """The key without the settings."""
    return replace(key, settings=())


def largest(
    groups: Iterable[MasterGroup], but: Callable[[MasterKey], MasterKey] = but_settings
) -> dict[MasterKey, MasterGroup]:
    """The group with most frames of those whose keys are the same `but` for something."""
    found: dict[MasterKey, MasterGroup] = {}
    for group in groups:
        bare = but(group.key)
        if bare not in found or len(group.frames) > len(found[bare].frames):
            found[bare] = group
    return found


def _distinct_names(given: Iterable[MasterKey]) -> dict[MasterKey, str]:
    keys = sorted(given, key=_sorting)
    alike: dict[str, list[MasterKey]] = {}
    for key in keys:
        plain = key.filter.lower() if key.kind == "flat" else key.name
        alike.setdefault(f"{key.kind} {plain}", []).append(key)
    wanted = {key: name for same in alike.values() for key, name in _with_parts(same).items()}
    names: dict[MasterKey, str] = {}
    taken: set[str] = set()
    # texts that are safe as they are come first and keep their names; then the first of each name;
    # what is left gives way to all of those
    for key in sorted(keys, key=lambda k: (safe_name(k.filter) != k.filter, _sorting(k))):
        if wanted[key].lower() not in taken:
            names[key] = wanted[key]
            taken.add(wanted[key].lower())
    for key in keys:
        if key not in names:
            names[key] = _untaken(wanted[key], taken)
            taken.add(names[key].lower())
    return {key: names[key] for key in keys}


def exposure_text(seconds: float) -> str:
    """An exposure with four significant digits (as many as grouping tells apart): ``300 s``."""
    if not math.isfinite(seconds):
        return "unknown"
    digits = 3 - math.floor(math.log10(abs(seconds))) if seconds else 0
    text = f"{round(seconds, digits):.{max(digits, 0)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " s"


def _known(readout: Readout, readouts: dict[Readout, list[Readout]]) -> Readout:
    """The first readout seen that is the same as this but for the rounding of its gain."""
    alike = readouts.setdefault(replace(readout, gain=None), [])
    for seen in alike:
        if same_number(seen.gain, readout.gain):
            return seen
    alike.append(readout)
    return readout


def _by_exposure(exposures: list[tuple[float, int]]) -> list[tuple[float | None, list[int]]]:
    """Split darks by exposure; each set's exposure is its median frame's."""
    sets: list[list[tuple[float, int]]] = []
    unknown = [position for seconds, position in exposures if math.isnan(seconds)]
    for item in sorted(e for e in exposures if not math.isnan(e[0])):
        if sets and item[0] - sets[-1][0][0] <= EXPOSURE_RTOL * item[0]:
            sets[-1].append(item)
        else:
            sets.append([item])
    split: list[tuple[float | None, list[int]]] = [
        (items[(len(items) - 1) // 2][0], [position for _, position in items]) for items in sets
    ]
    return [*split, (None, unknown)] if unknown else split


def _sorting(key: MasterKey) -> tuple[Any, ...]:
    readout = key.readout
    return (
        KINDS.index(key.kind),
        readout.detector,
        readout.binning,
        readout.shape,
        readout.origin or (-1, -1),
        -1.0 if readout.gain is None else readout.gain,
        readout.readout_mode,
        -1.0 if key.exptime is None else key.exptime,
        key.filter,
        key.flat_kind,
        readout.amplifiers,
        readout.amplifier_gains,
        key.processed,
        [(name, isinstance(value, str), value) for name, value in key.settings],
    )


_PARTS: tuple[Callable[[MasterKey], str], ...] = (
    lambda key: key.flat_kind or "unknown",
    lambda key: key.readout.detector or "unknown",
    lambda key: key.readout.binning or "unknown",
    lambda key: f"{key.readout.shape[0]}x{key.readout.shape[1]}",
    lambda key: "at{}-{}".format(*key.readout.origin) if key.readout.origin else "unplaced",
    lambda key: "unknown" if key.readout.gain is None else f"gain{key.readout.gain:.4g}",
    lambda key: key.readout.readout_mode or "unknown",
    lambda key: f"{key.readout.amplifiers.count(';') + 1}amplifiers",
    lambda key: f"gain{key.readout.gain_text}",
    lambda key: key.processed or "raw",
    lambda key: "_".join(_short(name, value) for name, value in key.settings),
)


def _short(name: str, value: float | str) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value or "unknown"
    return f"T{text}C" if name == "ccd_temp" else f"{name}{text}"


def _with_parts(alike: list[MasterKey]) -> dict[MasterKey, str]:
    """The keys' name, and each property that tells more of them apart than those before it."""
    parts: dict[MasterKey, tuple[str, ...]] = dict.fromkeys(alike, ())
    for part in _PARTS:
        longer = {key: (*told, part(key)) for key, told in parts.items()}
        if len(set(longer.values())) > len(set(parts.values())):
            parts = longer
    return {
        key: "_".join([key.name, *map(safe_name, filter(None, told))])[:_MAX_NAME].rstrip("_.-")
        for key, told in parts.items()
    }


def _untaken(name: str, taken: set[str]) -> str:
    number, trial = 2, name
    while trial.lower() in taken:  # case does not tell files apart everywhere
        trial, number = f"{name}_{number}", number + 1
    return trial
