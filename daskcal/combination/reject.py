"""Which values a combine leaves out: the rejections by name, with their options checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from daskcal.combination.kernels import Reject
from daskcal.errors import ArgumentError, choose
from daskcal.strict import refuse_unknown


@dataclass(frozen=True, slots=True)
class NoRejection:
    """Every good value counts."""

    name: ClassVar[str] = "none"

    def kernel(self) -> Reject:
        """What the compiled loops need to know."""
        return Reject(kind="none")

    def check(self, n: int) -> None:
        """Raise `ArgumentError` where the options do not suit `n` frames."""


@dataclass(frozen=True, slots=True)
class MinMax:
    """The `n_low` lowest and `n_high` highest values of each pixel are left out.

    Where masks leave fewer values, the same fractions of them are (IRAF imcombine's minmax).
    """

    name: ClassVar[str] = "minmax"
    n_low: int = 1
    n_high: int = 1

    def kernel(self) -> Reject:
        """What the compiled loops need to know."""
        return Reject(kind="minmax", n_low=self.n_low, n_high=self.n_high)

    def check(self, n: int) -> None:
        """Raise `ArgumentError` where the options do not suit `n` frames."""
        for name in ("n_low", "n_high"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 0:
                raise ArgumentError(f"{name}={value!r} should be a whole number, 0 or more")
        if self.n_low + self.n_high >= n:
            raise ArgumentError(
                f"n_low={self.n_low} and n_high={self.n_high} leave nothing of {n} frames"
            )


@dataclass(frozen=True, slots=True)
class SigmaClip:
    """Values outside of centre − low·σ to centre + high·σ are left out, and again of the rest.

    Attributes
    ----------
    low, high : float or None
        Thresholds in σ; None turns a side off.
    center : {"median", "mean"}
        Centre of the values that are still in.
    spread : {"mad_std", "std"}
        σ of those: 1.4826 times the median absolute deviation, or the standard deviation.
    maxiters : int or None
        How often; None is until nothing changes.
    sigma_floor : float or "auto"
        σ is never taken smaller. With few frames the spread is small by chance, and 0 for integer
        biases. "auto" is the frames' noise where they have a variance, else 0.5 of a raw unit;
        0 is what ccdproc and astropy do.
    """

    name: ClassVar[str] = "sigma"
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    spread: str = "mad_std"
    maxiters: int | None = None
    sigma_floor: float | str = "auto"

    def kernel(self) -> Reject:
        """What the compiled loops need to know."""
        low, high = (float("inf") if side is None else float(side) for side in (self.low, self.high))
        maxiters = -1 if self.maxiters is None else self.maxiters
        return Reject(
            kind="sigma", low=low, high=high, center=self.center, spread=self.spread,
            maxiters=maxiters,
        )  # fmt: skip

    def check(self, n: int) -> None:
        """Raise `ArgumentError` where the options do not suit."""
        for name in ("low", "high"):
            side = getattr(self, name)
            if side is not None and not (_is_number(side) and side >= 0):
                raise ArgumentError(f"{name}={side!r} should be 0 or more (in σ), or None for off")
        choose("center", self.center, ("median", "mean"))
        choose("spread", self.spread, ("mad_std", "std"))
        iterations = self.maxiters
        if iterations is not None and not (
            isinstance(iterations, int | np.integer) and iterations >= 1
        ):
            raise ArgumentError(
                f"maxiters={iterations!r} should be 1 or more, or None for until nothing changes"
            )
        floor = self.sigma_floor
        if floor != "auto" and not (_is_number(floor) and 0 <= float(floor) < np.inf):
            raise ArgumentError(f"sigma_floor={floor!r} should be 'auto' or a number, 0 or more")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


Rejection = NoRejection | MinMax | SigmaClip
REJECTIONS: dict[str, type[Rejection]] = {
    kind.name: kind for kind in (SigmaClip, MinMax, NoRejection)
}


def rejection(reject: str | Rejection | None, options: dict[str, Any], n: int) -> Rejection:
    """The rejection that combine's arguments describe, checked for `n` frames.

    Raises
    ------
    ArgumentError
        An unknown name, or an option whose value cannot be used.
    UnknownKeywordError
        An option that this rejection does not have.
    """
    if isinstance(reject, NoRejection | MinMax | SigmaClip):
        found, fields = reject, [field.name for field in dataclasses.fields(reject)]
        refuse_unknown("combine()", options, [])
    else:
        kind = REJECTIONS[choose("reject", "none" if reject is None else reject, REJECTIONS)]
        fields = [field.name for field in dataclasses.fields(kind)]
        _refuse(options, kind, fields)
        found = kind(**options)
    found.check(n)
    return found


def _refuse(options: dict[str, Any], kind: type[Rejection], fields: list[str]) -> None:
    """Refuse options of no rejection, and of another one, naming the word that was meant."""
    everywhere = {field.name for k in REJECTIONS.values() for field in dataclasses.fields(k)}
    arguments = {"method", "reject", "scale"}
    for word in options:
        if word in everywhere and word not in fields:
            raise ArgumentError(
                f"{word} is no option of reject={kind.name!r}, which has "
                f"{', '.join(fields) or 'none'}"
            )
    refuse_unknown("combine()", options, everywhere | arguments)
