"""The gates of frames: each by itself, and those of a master against one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daskcal.calibration.robust import MAD_TO_SIGMA, median_of_defined
from daskcal.night.config.gates import Gates
from daskcal.night.gates.number import Number
from daskcal.night.gates.sample import Compared, RawNumbers, Sample, compare

SCATTER = 5.0  # σ of the others' levels within which a level is one of them
ENOUGH = 4  # other levels whose scatter tells something

Numbers = dict[int, list[Number]]  # of frames, by their place in the job


def of_raw(limits: Gates, raw: RawNumbers, calibration: bool) -> Numbers:
    """What raw frames are judged by, each by itself."""
    found: Numbers = {}
    lost, full = limits.undefined, limits.saturated
    highest = full.high_calibration if calibration else full.high
    for at, (undefined, saturated) in enumerate(zip(raw.undefined, raw.saturated, strict=True)):
        found[at] = list(
            _measured(
                Number(
                    "undefined", float(undefined), lost.action, high=lost.high,
                    text=f"{undefined:.1%} of its pixels are undefined; {lost.high:.1%} is most",
                ),
                Number(
                    "saturated", float(saturated), full.action, high=highest,
                    text=f"{saturated:.1%} of its pixels are saturated; {highest:.1%} is most",
                ),
            )
        )  # fmt: skip
    return found


def of_signal(limits: Gates, sample: Sample, places: Sequence[int]) -> Numbers:
    """What flats are judged by, each by itself."""
    low = limits.signal_to_noise.low
    return {
        at: list(
            _measured(
                Number(
                    "signal_to_noise", float(value), limits.signal_to_noise.action, low=low,
                    text=f"its signal to noise is {value:.1f} a pixel; {low:g} is least",
                )
            )
        )
        for at, value in zip(places, sample.signal_to_noise(), strict=True)
    }  # fmt: skip


def of_rejected(limits: Gates, fractions: np.ndarray) -> Numbers:
    """By how much of each frame was rejected as they were combined."""
    table = limits.rejected_fraction
    return {
        at: list(
            _measured(
                Number(
                    "rejected_fraction", float(value), table.action, high=table.high,
                    text=f"{value:.1%} of its values were rejected as the frames were combined; "
                    f"{table.high:.1%} is most",
                )
            )
        )
        for at, value in enumerate(fractions)
    }  # fmt: skip


def _measured(*numbers: Number) -> Iterator[Number]:
    """Those that are asked for and can be told."""
    return (n for n in numbers if n.action != "off" and not math.isnan(n.value))


@dataclass(frozen=True, slots=True)
class Group:
    """Calibrated frames of one master, to be held against one another.

    Attributes
    ----------
    limits : Gates
    kind : str
        ``bias``, ``dark`` or ``flat``.
    sample : Sample
    temperatures : ndarray of float64
        Of the CCD; NaN where not known.
    unit : str
        Of the pixels.
    has_bias : bool
        Whether the frames hold their bias.
    """

    limits: Gates
    kind: str
    sample: Sample
    temperatures: np.ndarray
    unit: str
    has_bias: bool

    def judge(self, places: Sequence[int]) -> Numbers:
        """Numbers of the frames at `places` of a job.

        The worst of those that are to be rejected is taken away, and the others are judged again
        without it, until no more is to be: so one bad frame does not spoil the looks of good ones.
        Where that would take half of them away, nobody can tell who is right, and all stay.
        """
        n = len(places)
        if n < 2:
            return {}
        found: Numbers = {}
        kept = list(range(n))
        numbers = before = self._numbers(kept)
        while (worst := _worst(numbers, self.sample.levels()[kept])) is not None:
            if 2 * (len(kept) - 1) <= n:
                return {
                    at: list(map(_unsure, each)) for at, each in zip(places, before, strict=True)
                }
            found[places[kept[worst]]] = numbers[worst]
            del kept[worst]
            numbers = self._numbers(kept)
        return found | {places[k]: each for k, each in zip(kept, numbers, strict=True)}

    def _numbers(self, kept: list[int]) -> list[list[Number]]:
        flats = self.kind == "flat"
        seen = compare(self.sample.of(kept), scaled=flats, sigmas=self.limits.outliers.sigmas)
        return [
            list(_measured(*each))
            for each in zip(
                self._temperature(self.temperatures[kept]),
                self._flat_level(seen) if flats else self._level(seen),
                self._outliers(seen),
                strict=True,
            )
        ]

    def _temperature(self, values: np.ndarray) -> Iterator[Number]:
        limit = self.limits.temperature
        for i, value in enumerate(values):
            offset = float(value - median_of_defined(np.delete(values, i)))
            yield Number(
                "temperature", offset, limit.action, low=-limit.offset, high=limit.offset,
                unit="K", text=f"its CCD is at {value:.1f} °C, {offset:+.1f} K from the others of "
                f"the master; {limit.offset:g} K is most",
            )  # fmt: skip

    def _level(self, seen: Compared) -> Iterator[Number]:
        limit = self.limits.frame_level
        for i, (level, others) in enumerate(zip(seen.level, seen.others, strict=True)):
            rest = np.delete(seen.level, i)
            room = limit.sigmas * seen.noise
            if self.kind == "dark" and not self.has_bias:
                room = max(room, limit.fraction * abs(others))
            if len(rest) >= ENOUGH:
                room = max(room, SCATTER * MAD_TO_SIGMA * float(np.median(np.abs(rest - others))))
            offset = float(level - others)
            yield Number(
                "frame_level", offset, limit.action, low=-room, high=room, unit=self.unit,
                text=f"its level is {level:.2f} {self.unit}, {offset:+.2f} from the others of the "
                f"master; {room:.2f} is most",
            )  # fmt: skip

    def _flat_level(self, seen: Compared) -> Iterator[Number]:
        limit = self.limits.flat_level
        for level, others in zip(seen.level, seen.others, strict=True):
            ratio = float(level / others) if others > 0 else math.nan
            yield Number(
                "flat_level", ratio, limit.action, low=limit.low, high=limit.high,
                text=f"its level is {level:.1f} {self.unit}, {ratio:.3g} times that of the others "
                f"of the master; {limit.low:g} to {limit.high:g} is usual",
            )  # fmt: skip

    def _outliers(self, seen: Compared) -> Iterator[Number]:
        limit = self.limits.outliers
        for share in seen.outliers:
            yield Number(
                "outliers", float(share), limit.action, high=limit.high,
                text=f"{share:.1%} of its pixels differ by more than {limit.sigmas:g} σ from the "
                f"others of the master; {limit.high:.1%} is most",
            )  # fmt: skip


def _unsure(number: Number) -> Number:
    """The same, which can only warn."""
    if number.verdict != "reject":
        return number
    text = f"{number.text} (no majority of the frames agrees: which are wrong?)"
    return replace(number, action="warn", text=text)


def _worst(numbers: Sequence[Sequence[Number]], levels: np.ndarray) -> int | None:
    """The frame that is furthest beyond its limits, of those alike the brighter one."""
    excess = [
        max((n.excess for n in each if n.verdict == "reject"), default=0.0) for each in numbers
    ]
    if not any(excess):
        return None
    return max(range(len(excess)), key=lambda k: (round(excess[k], 6), levels[k]))
