"""What to reject: as it is asked for (`Reject`), and as the compiled loops take it (`Rules`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from daskcal.combination.kernels.esd import critical_values
from daskcal.combination.kernels.minmax import minmax_counts
from daskcal.combination.kernels.noise_clip import noise_table

NONE, SIGMA, MINMAX, PERCENTILE, WINSORISED, LINEAR_FIT, ESD, AVERAGED = range(8)
VARIANCE, MODEL = 8, 9
KINDS = {
    "none": NONE,
    "sigma": SIGMA,
    "minmax": MINMAX,
    "percentile": PERCENTILE,
    "winsorised": WINSORISED,
    "linear_fit": LINEAR_FIT,
    "esd": ESD,
    "averaged_sigma": AVERAGED,
    "variance": VARIANCE,
    "ccdclip": MODEL,
    "crreject": MODEL,
}


@dataclass(frozen=True, slots=True)
class Reject:
    """Which values of a pixel's stack are left out.

    Attributes
    ----------
    kind : str
        One of `KINDS`; each has its formula and its source where its loop is: "sigma"
        `clip.sigma_lanes`, "minmax" `minmax.minmax_lanes`, "percentile"
        `percentile.kept_percentile`, "winsorised" `winsorised.kept_winsorised`, "linear_fit"
        `linear_fit.kept_linear_fit`, "esd" `esd.esd_lanes`, "averaged_sigma"
        `averaged.kept_averaged`, "variance", "ccdclip" and "crreject" `noise_clip.noise_lanes`.
    low, high : float
        Thresholds: in σ, or for "percentile" in shares of the median; inf turns a side off.
        "crreject" has the high side only.
    center : {"median", "mean"}
        Centre of "sigma", "averaged_sigma", "variance", "ccdclip" and "crreject".
    spread : {"mad_std", "std"}
        σ of "sigma": 1.4826·MAD about the median, or the standard deviation (ddof 0) about the
        mean.
    maxiters : int
        Iterations of those that iterate; -1 until nothing changes.
    n_low, n_high : int or float
        How many of the lowest and highest values "minmax" leaves out; a float is a fraction.
    n_keep : int
        So many values are kept at least: of the rejected ones, those nearest to the centre come
        back, equally distant ones together. "sigma" with 0 can reject all values of a pixel
        (thresholds of 0 do), "minmax" never does; the others always keep one.
    fraction : float
        The largest share of outliers that "esd" looks for, 0.5 at most.
    significance : float
        Of the test of "esd": the chance to find an outlier where there is none.
    snoise : float
        Sensitivity noise of "ccdclip" and "crreject", as a share of the signal.
    """

    kind: str = "none"
    low: float = 5.0
    high: float = 5.0
    center: str = "median"
    spread: str = "mad_std"
    maxiters: int = -1
    n_low: float = 0
    n_high: float = 0
    n_keep: int = 0
    fraction: float = 0.3
    significance: float = 0.05
    snoise: float = 0.0

    def __post_init__(self) -> None:
        choices = {
            "kind": (self.kind, tuple(KINDS)),
            "center": (self.center, ("median", "mean")),
            "spread": (self.spread, ("mad_std", "std")),
        }
        for name, (value, valid) in choices.items():
            if value not in valid:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(valid)}")
        if not (self.low >= 0 and self.high >= 0):
            raise ValueError(f"low={self.low} and high={self.high} must be 0 or more")
        if self.maxiters < -1:
            raise ValueError(f"maxiters={self.maxiters} must be 0 or more, or -1 for no limit")
        if not (self.n_low >= 0 and self.n_high >= 0 and self.n_keep >= 0):
            raise ValueError(
                f"n_low={self.n_low}, n_high={self.n_high} and n_keep={self.n_keep} must be 0 or"
                " more"
            )
        if not 0 <= self.fraction <= 0.5:
            raise ValueError(f"fraction={self.fraction} is not between 0 and 0.5")
        if not 0 < self.significance < 1:
            raise ValueError(f"significance={self.significance} is not between 0 and 1")
        if not 0 <= self.snoise < np.inf:
            raise ValueError(f"snoise={self.snoise} must be 0 or more")

    def check(self, n: int, has_variance: bool, has_noise: bool) -> None:
        """Raise ValueError where it does not suit `n` frames, or lacks the noise that it needs."""
        if self.kind == "minmax":
            shares = [s if isinstance(s, float) else s / n for s in (self.n_low, self.n_high)]
            if sum(shares) >= 1:
                raise ValueError(
                    f"n_low={self.n_low} and n_high={self.n_high} leave nothing of {n} frames"
                )
        if self.kind == "variance" and not has_variance:
            raise ValueError("kind='variance' needs a variance")
        if self.kind in ("ccdclip", "crreject") and not (has_noise or self.snoise > 0):
            raise ValueError(f"kind={self.kind!r} needs read, slope or snoise")


class Rules(NamedTuple):
    """`Reject` as the compiled loops take it."""

    by_median: bool
    by_mad: bool
    low: float
    high: float
    maxiters: int
    least: int  # values that are kept at least
    fraction: float
    lost: np.ndarray  # (2, n + 1) of minmax, else (2, 0)
    critical: np.ndarray  # (n + 1,) of esd, else empty
    noise: np.ndarray  # (4, n) of variance, ccdclip and crreject, else (4, 0)
    snoise: float


def rules(
    reject: Reject,
    n: int,
    scale: np.ndarray,
    zero: np.ndarray,
    read: np.ndarray | None,
    slope: np.ndarray | None,
) -> Rules:
    """The rules for stacks of `n` frames (`noise_table` says what the arrays are)."""
    kind = KINDS[reject.kind]
    low = np.inf if reject.kind == "crreject" else reject.low
    lost, critical, noise = np.empty((2, 0), np.int32), np.empty(0), np.empty((4, 0))
    if kind == MINMAX:
        lost = np.array(minmax_counts(n, reject.n_low, reject.n_high), np.int32)
    if kind == ESD:
        critical = critical_values(n, float(reject.significance))
    if kind in (VARIANCE, MODEL):
        noise = noise_table(n, scale, zero, read, slope)
    for table in (lost, critical, noise):
        table.flags.writeable = False
    return Rules(
        by_median=reject.center == "median",
        by_mad=reject.spread == "mad_std",
        low=float(low),
        high=float(reject.high),
        maxiters=int(reject.maxiters),
        least=int(reject.n_keep) if kind == SIGMA else max(int(reject.n_keep), 1),
        fraction=float(reject.fraction),
        lost=lost,
        critical=critical,
        noise=noise,
        snoise=float(reject.snoise),
    )
