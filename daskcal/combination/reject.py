"""Which values a combine leaves out: the rejections by name, with their options checked."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from daskcal.combination.kernels import Reject
from daskcal.errors import ArgumentError, UnknownKeywordError, choose
from daskcal.strict import refuse_unknown


class Rejection:
    """What is left out of each pixel's values. Subclasses are frozen dataclasses; their fields are
    options of `combine`.
    """

    __slots__ = ()
    name: ClassVar[str]

    def kernel(self) -> Reject:
        """What the compiled loops need to know."""
        raise NotImplementedError

    def check(self, n: int) -> None:
        """Raise `ArgumentError` where the options do not suit `n` frames."""

    def floor(self) -> float | str | None:
        """The smallest σ: a number, "auto", or None where the rejection has no σ."""
        return None


@dataclass(frozen=True, slots=True)
class NoRejection(Rejection):
    """Every good value counts."""

    name: ClassVar[str] = "none"

    def kernel(self) -> Reject:
        return Reject(kind="none")


@dataclass(frozen=True, slots=True)
class MinMax(Rejection):
    """The `n_low` lowest and `n_high` highest values of each pixel are left out.

    Where masks leave no more values than that, the same fractions of them are, so that a pixel
    never loses all.
    """

    name: ClassVar[str] = "minmax"
    n_low: int = 1
    n_high: int = 1

    def kernel(self) -> Reject:
        return Reject(kind="minmax", n_low=int(self.n_low), n_high=int(self.n_high))

    def check(self, n: int) -> None:
        for name in ("n_low", "n_high"):
            value = getattr(self, name)
            if not _is_whole(value) or value < 0:
                raise ArgumentError(f"{name}={value!r} should be a whole number, 0 or more")
        if self.n_low + self.n_high >= n:
            raise ArgumentError(
                f"n_low={self.n_low} and n_high={self.n_high} leave nothing of {n} "
                f"frame{'s' if n > 1 else ''}"
            )


@dataclass(frozen=True, slots=True)
class SigmaClip(Rejection):
    """Values outside of centre − low·σ to centre + high·σ are left out, and again of the rest.

    Attributes
    ----------
    low, high : float or None
        Thresholds in σ, 0 or more; None or infinity turns a side off.
    center : {"median", "mean"}
        Centre of the values that are still in.
    spread : {"mad_std", "std"}
        σ of those: 1.4826 times the median absolute deviation, or the standard deviation.
    maxiters : int or None
        How often; None is until nothing changes.
    sigma_floor : float or "auto"
        σ is never taken smaller (in the unit of the scaled values). With few frames the spread is
        small by chance, and 0 for integer biases. "auto" is the frames' noise where they have a
        variance, else half a step of the converter (``image.attrs["quantum"]``, else 1), scaled
        as the frames are. 0 is what ccdproc and astropy do.
    """

    name: ClassVar[str] = "sigma"
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    spread: str = "mad_std"
    maxiters: int | None = None
    sigma_floor: float | str = "auto"

    def kernel(self) -> Reject:
        return Reject(
            kind="sigma",
            low=np.inf if self.low is None else float(self.low),
            high=np.inf if self.high is None else float(self.high),
            center=self.center,
            spread=self.spread,
            maxiters=-1 if self.maxiters is None else int(self.maxiters),
        )

    def check(self, n: int) -> None:
        for name in ("low", "high"):
            side = getattr(self, name)
            if side is not None and not (_is_number(side) and side >= 0):
                raise ArgumentError(f"{name}={side!r} should be 0 or more (in σ), or None for off")
        choose("center", self.center, ("median", "mean"))
        choose("spread", self.spread, ("mad_std", "std"))
        iterations = self.maxiters
        if iterations is not None and not (_is_whole(iterations) and iterations >= 1):
            raise ArgumentError(
                f"maxiters={iterations!r} should be 1 or more, or None for until nothing changes"
            )
        floor = self.sigma_floor
        is_auto = isinstance(floor, str) and floor == "auto"
        if not is_auto and not (_is_number(floor) and 0 <= float(floor) < np.inf):
            raise ArgumentError(f"sigma_floor={floor!r} should be 'auto' or a number, 0 or more")

    def floor(self) -> float | str | None:
        return self.sigma_floor


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


REJECTIONS: dict[str, type[Rejection]] = {
    kind.name: kind for kind in (SigmaClip, MinMax, NoRejection)
}
_OPTIONS = {
    name: [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name, kind in REJECTIONS.items()
}
_ELSEWHERE = {  # words of ccdproc, astropy and IRAF, and what says it here
    "sigma_clip": "reject", "minmax_clip": "reject", "clip_extrema": "reject",
    "sigma_clip_low_thresh": "low", "sigma_lower": "low", "lsigma": "low", "clip_low": "low",
    "sigma_clip_high_thresh": "high", "sigma_upper": "high", "hsigma": "high", "clip_high": "high",
    "sigma_clip_func": "center", "cenfunc": "center",
    "sigma_clip_dev_func": "spread", "stdfunc": "spread",
    "nlow": "n_low", "nhigh": "n_high",
}  # fmt: skip


def rejection(reject: str | Rejection | None, options: dict[str, Any], n: int) -> Rejection:
    """The rejection that combine's arguments describe, checked for `n` frames.

    Raises
    ------
    ArgumentError
        An unknown name, or an option whose value cannot be used.
    UnknownKeywordError
        An option that this rejection does not have.
    """
    if isinstance(reject, Rejection):
        _refuse_strangers(options)
        if options:
            raise ArgumentError(
                f"{next(iter(options))} belongs into the {type(reject).__name__} given as reject"
            )
        found = reject
    else:
        name = choose("reject", "none" if reject is None else reject, REJECTIONS)
        _refuse_strangers(options)
        _refuse_others(options, name)
        found = REJECTIONS[name](**options)
    found.check(n)
    return found


def _refuse_strangers(options: dict[str, Any]) -> None:
    """Refuse what is no keyword of combine at all, naming the word that was meant."""
    valid = {"method", "reject", "scale", *(word for words in _OPTIONS.values() for word in words)}
    for word in options:
        near = difflib.get_close_matches(word, [*valid, *_ELSEWHERE], n=1, cutoff=0.6)
        if word not in valid and near and near[0] in _ELSEWHERE:
            meant = _ELSEWHERE[near[0]]
            raise UnknownKeywordError(
                f"combine() has no keyword {word!r}; did you mean {meant!r}, as {near[0]!r} is "
                "called here?"
            )
    refuse_unknown("combine()", options, valid)


def _refuse_others(options: dict[str, Any], name: str) -> None:
    """Refuse options of another rejection."""
    for word in options:
        if word not in _OPTIONS[name]:
            owner = next(other for other, words in _OPTIONS.items() if word in words)
            raise ArgumentError(
                f"{word} is an option of reject={owner!r}, and reject={name!r} has "
                f"{', '.join(_OPTIONS[name]) or 'none'}"
            )
