"""The rejections that `combine` knows: what each leaves out, by which formula, after whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from daskcal.combination.kernels import Reject
from daskcal.errors import ArgumentError, choose


class Rejection:
    """What is left out of each pixel's values. Subclasses are frozen dataclasses; their fields are
    options of `combine`.

    Attributes
    ----------
    name : str
        The word for it.
    needs_noise, needs_variance : bool
        Whether the frames must have gain and read noise, or a variance.
    """

    __slots__ = ()
    name: ClassVar[str]
    needs_noise: ClassVar[bool] = False
    needs_variance: ClassVar[bool] = False

    def options(self) -> dict[str, Any]:
        """Its options by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def kernel(self) -> Reject:
        """What the compiled loops need to know."""
        known = {word: value for word, value in self.options().items() if word != "sigma_floor"}
        for word, off in (("low", np.inf), ("high", np.inf), ("maxiters", -1)):
            if word in known and known[word] is None:
                known[word] = off
        return Reject(kind=self.name, **known)

    def check(self, n: int) -> None:
        """Raise `ArgumentError` where the options do not suit `n` frames."""
        for word, value in self.options().items():
            _CHECKS[word](word, value)
        if (least := self.options().get("n_keep", 0)) > n:
            raise ArgumentError(f"n_keep={least} is more than there are frames ({n})")

    def floor(self) -> float | str | None:
        """The smallest σ: a number, "auto", or None where the rejection has none."""
        return self.options().get("sigma_floor")


@dataclass(frozen=True, slots=True)
class NoRejection(Rejection):
    """Every good value counts."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True, slots=True)
class MinMax(Rejection):
    """The lowest and the highest values of each pixel are left out, however good they are.

    Attributes
    ----------
    n_low, n_high : int or float
        How many. A float below 1 is a fraction f of the pixel's good values, ⌊f·n + 0.001⌋ as in
        IRAF's imcombine. Where masks leave no more values than a whole number of them, the same
        fraction number / frames of them goes, so that a pixel never loses all.
    """

    name: ClassVar[str] = "minmax"
    n_low: float = 1
    n_high: float = 1

    def check(self, n: int) -> None:
        lost = []
        for word, value in self.options().items():
            _CHECKS[word](word, value)
            lost.append(int(value * n + 0.001) if isinstance(value, float) else int(value))
        if sum(lost) >= n or sum(v for v in self.options().values() if isinstance(v, float)) >= 1:
            raise ArgumentError(
                f"n_low={self.n_low} and n_high={self.n_high} leave nothing of {n} "
                f"frame{'s' if n > 1 else ''}"
            )


@dataclass(frozen=True, slots=True)
class SigmaClip(Rejection):
    """Values outside of centre - low·σ to centre + high·σ are left out, and again of the rest.

    With ``sigma_floor=0`` it is ``astropy.stats.sigma_clip``.

    Attributes
    ----------
    low, high : float or None
        Thresholds in σ, 0 or more; None or infinity turns a side off, 0 leaves out all that lies
        on that side of the centre.
    center : {"median", "mean"}
        Centre of the values that are still in.
    spread : {"mad_std", "std"}
        σ of those: 1.4826 times the median absolute deviation, or the standard deviation (ddof 0).
    maxiters : int or None
        How often; None is until nothing changes.
    sigma_floor : float or "auto"
        σ is never taken smaller (in the unit of the scaled values). With few frames the spread is
        small by chance, and 0 for integer biases. "auto" is the frames' noise where they have a
        variance, else half a step of the converter (``image.attrs["quantum"]``, else 1), scaled
        as the frames are. 0 is what ccdproc and astropy do.
    n_keep : int
        So many values stay at least: those nearest to the centre come back, equally distant ones
        together (IRAF's nkeep).
    """

    name: ClassVar[str] = "sigma"
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    spread: str = "mad_std"
    maxiters: int | None = None
    sigma_floor: float | str = "auto"
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class PercentileClip(Rejection):
    """Values with ``m - x > low·|m|`` or ``x - m > high·|m|`` are left out, m the median; once.

    For a handful of frames, of which no spread can be told. The percentile clipping of PixInsight
    and Siril (which use m in place of ``|m|``); where the median is 0, and of two values, none
    goes.

    Attributes
    ----------
    low, high : float or None
        Shares of the median, 0 or more; None or infinity turns a side off.
    n_keep : int
        So many values stay at least, as for `SigmaClip`.
    """

    name: ClassVar[str] = "percentile"
    low: float | None = 0.2
    high: float | None = 0.1
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class Winsorised(Rejection):
    """Sigma clipping about the median m with a spread that outliers cannot inflate.

    σ starts as the standard deviation (ddof 1) of the values still in, and becomes 1.134 times
    that of the values pulled in to m ± 1.5·σ, until it changes by no more than 0.05 %; values
    outside of m - low·σ to m + high·σ go, and again of the rest. The winsorised sigma clipping of
    PixInsight and Siril, after P. J. Huber, Robust Statistics. Needs 3 values.

    Attributes
    ----------
    low, high, maxiters, sigma_floor, n_keep
        As for `SigmaClip`.
    """

    name: ClassVar[str] = "winsorised"
    low: float | None = 5.0
    high: float | None = 5.0
    maxiters: int | None = None
    sigma_floor: float | str = "auto"
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class LinearFit(Rejection):
    """Values off the straight line through the sorted values are left out, and again of the rest.

    To the sorted values x₀ <= x₁ <= ... that are still in, a line a·i + b is fitted by least
    squares; with σ = mean ``|xᵢ - a·i - b|``, a value below their median goes that lies more than
    low·σ below the line, one above it that lies more than high·σ above. For many frames whose level
    drifts, as of a sky that brightens. The linear-fit clipping of PixInsight and Siril. Needs 4
    values.

    Attributes
    ----------
    low, high, maxiters, sigma_floor, n_keep
        As for `SigmaClip`.
    """

    name: ClassVar[str] = "linear_fit"
    low: float | None = 5.0
    high: float | None = 5.0
    maxiters: int | None = None
    sigma_floor: float | str = "auto"
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class ESD(Rejection):
    """As many values are left out as the generalised ESD test finds outliers.

    For i = 1, 2, ... to fraction·n: Rᵢ = max ``|x - mean|`` / s of the values still in (s with ddof
    1), and the value of that distance leaves. The number of outliers is the largest i with Rᵢ > λᵢ,
    λᵢ = (m - 1)·t / √((m - 2 + t²)·m), m = n - i + 1, t = Student's t of m - 2 degrees of freedom
    at 1 - significance/(2·m). B. Rosner, Technometrics 25 (1983) 165. Needs 3 values.

    Attributes
    ----------
    fraction : float
        Largest share of outliers that is looked for, at most 0.5.
    significance : float
        Chance to find an outlier among normal values where there is none.
    sigma_floor, n_keep
        As for `SigmaClip`.
    """

    name: ClassVar[str] = "esd"
    fraction: float = 0.3
    significance: float = 0.05
    sigma_floor: float | str = "auto"
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class AveragedSigmaClip(Rejection):
    """Values outside of c - low·S to c + high·S are left out, S = s·√max(1, c); again of the rest.

    c is the centre of the pixel's values still in, and s² = Σ (x - c)² / max(1, c) / (M - 1) over
    all M good values of its row of the detector, measured once: noise that grows as the root of the
    signal, from many pixels because few frames cannot tell. IRAF's avsigclip; meant for counts.
    Needs 3 values.

    Attributes
    ----------
    low, high, center, maxiters, n_keep
        As for `SigmaClip`; the first mean leaves out the lowest and the highest value.
    """

    name: ClassVar[str] = "averaged_sigma"
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    maxiters: int | None = None
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class VarianceClip(Rejection):
    """Values outside of c - low·σᵢ to c + high·σᵢ are left out, and again of the rest.

    σᵢ² is the value's own variance, taken at the centre c of the values still in: in place of Vᵢ,
    whose own photon noise would make σᵢ large for high values, Vᵢ + (c - xᵢ)/gain (without a
    known gain Vᵢ: DRAGONS' varclip). The frames need a variance.

    Attributes
    ----------
    low, high, center, maxiters, n_keep
        As for `SigmaClip`; the first mean leaves out the lowest and the highest value.
    """

    name: ClassVar[str] = "variance"
    needs_variance: ClassVar[bool] = True
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    maxiters: int | None = None
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class CCDClip(Rejection):
    """Values outside of c - low·σ to c + high·σ are left out, and again of the rest.

    σ² = (rdnoise/gain)² + c/gain + (snoise·c)² for frames in adu, with the `gain` and `rdnoise` of
    the frame and c >= 0 the centre of the values still in, before zero and scale (IRAF's ccdclip).
    The bias must be gone from the frames.

    Attributes
    ----------
    low, high, center, maxiters, n_keep
        As for `SigmaClip`; the first mean leaves out the lowest and the highest value.
    snoise : float
        Sensitivity noise, as a share of the signal: what flats leave.
    """

    name: ClassVar[str] = "ccdclip"
    needs_noise: ClassVar[bool] = True
    low: float | None = 5.0
    high: float | None = 5.0
    center: str = "median"
    maxiters: int | None = None
    snoise: float = 0.0
    n_keep: int = 0


@dataclass(frozen=True, slots=True)
class CRReject(Rejection):
    """Values above c + high·σ are left out, σ as for `CCDClip`: cosmic rays (IRAF's crreject).

    Attributes
    ----------
    high, center, maxiters, snoise, n_keep
        As for `CCDClip`.
    """

    name: ClassVar[str] = "crreject"
    needs_noise: ClassVar[bool] = True
    high: float | None = 5.0
    center: str = "median"
    maxiters: int | None = None
    snoise: float = 0.0
    n_keep: int = 0


# --- checks -------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether it is a plain number."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a plain whole number."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check_threshold(word: str, value: Any) -> None:
    if value is not None and not (is_number(value) and value >= 0):
        raise ArgumentError(f"{word}={value!r} should be 0 or more, or None for off")


def _check_center(word: str, value: Any) -> None:
    choose(word, value, ("median", "mean"))


def _check_spread(word: str, value: Any) -> None:
    choose(word, value, ("mad_std", "std"))


def _check_maxiters(word: str, value: Any) -> None:
    if value is not None and not (is_whole(value) and value >= 1):
        raise ArgumentError(
            f"{word}={value!r} should be 1 or more, or None for until nothing changes"
        )


def _check_floor(word: str, value: Any) -> None:
    is_auto = isinstance(value, str) and value == "auto"
    if not is_auto and not (is_number(value) and 0 <= float(value) < np.inf):
        raise ArgumentError(f"{word}={value!r} should be 'auto' or a number, 0 or more")


def _check_lost(word: str, value: Any) -> None:
    fraction = isinstance(value, float) and 0 <= value < 1
    if not fraction and not (is_whole(value) and value >= 0):
        raise ArgumentError(
            f"{word}={value!r} should be a whole number, 0 or more, or a fraction below 1"
        )


def _check_keep(word: str, value: Any) -> None:
    if not is_whole(value) or value < 0:
        raise ArgumentError(f"{word}={value!r} should be a whole number, 0 or more")


def _check_fraction(word: str, value: Any) -> None:
    if not (is_number(value) and 0 < value <= 0.5):
        raise ArgumentError(f"{word}={value!r} should be a number above 0, at most 0.5")


def _check_significance(word: str, value: Any) -> None:
    if not (is_number(value) and 0 < value < 1):
        raise ArgumentError(f"{word}={value!r} should be a number between 0 and 1")


def _check_snoise(word: str, value: Any) -> None:
    if not (is_number(value) and 0 <= value < np.inf):
        raise ArgumentError(f"{word}={value!r} should be a number, 0 or more")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "low": _check_threshold,
    "high": _check_threshold,
    "center": _check_center,
    "spread": _check_spread,
    "maxiters": _check_maxiters,
    "sigma_floor": _check_floor,
    "n_low": _check_lost,
    "n_high": _check_lost,
    "n_keep": _check_keep,
    "fraction": _check_fraction,
    "significance": _check_significance,
    "snoise": _check_snoise,
}
