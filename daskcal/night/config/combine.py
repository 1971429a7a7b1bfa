"""The keys of [combine.bias], [combine.dark] and [combine.flat]: what `combine` is called with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from daskcal.night.config.errors import Unset
from daskcal.night.config.table import AtLeastOne, Count, NotNegative, Table, parse_section


def _check_bracket(text: str) -> str:
    form, _ = parse_section(text)
    if form not in ("python", "fits"):
        raise ValueError("write it as '[100:200, :]' or 'fits [1:2048,101:200]'")
    return text


StatisticsSection = Annotated[str, AfterValidator(_check_bracket)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Limit = Annotated[NotNegative | Literal["default"] | None, Unset("none")]
Rejections = Literal[
    "sigma", "minmax", "percentile", "winsorised", "linear_fit", "esd", "averaged_sigma",
    "variance", "ccdclip", "crreject", "none",
]  # fmt: skip
STATISTICS = ("median", "mean", "mode")  # of combine, which is not imported to read a config

_CLIPS = ("low", "high", "maxiters", "n_keep")
# The keys of each rejection: its options in `combine`, as a test makes sure.
OPTIONS: dict[str, tuple[str, ...]] = {
    "sigma": (*_CLIPS, "center", "spread", "sigma_floor"),
    "minmax": ("n_low", "n_high"),
    "percentile": ("low", "high", "n_keep"),
    "winsorised": (*_CLIPS, "sigma_floor"),
    "linear_fit": (*_CLIPS, "sigma_floor"),
    "esd": ("fraction", "significance", "sigma_floor", "n_keep"),
    "averaged_sigma": (*_CLIPS, "center"),
    "variance": (*_CLIPS, "center"),
    "ccdclip": (*_CLIPS, "center", "snoise"),
    "crreject": ("high", "center", "maxiters", "snoise", "n_keep"),
    "none": (),
}


class Combine(Table):
    """How frames of one kind become a master."""

    method: Literal["average", "median", "lower_median", "sum"] = Field(
        default="average", description="How to combine."
    )
    reject: Rejections = Field(default="sigma", description="How outliers are rejected.")
    low: Limit = Field(
        default="default",
        description="Limit below the centre: 5 σ; percentile: 0.2 of the median.",
    )
    high: Limit = Field(
        default="default",
        description="Limit above the centre: 5 σ; percentile: 0.1 of the median.",
    )
    center: Literal["median", "mean"] = Field(
        default="median", description="sigma, averaged_sigma, variance, ccdclip, crreject: centre."
    )
    spread: Literal["mad_std", "std"] = Field(
        default="mad_std", description="sigma: the estimate of σ."
    )
    maxiters: Annotated[AtLeastOne | None, Unset("converge")] = Field(
        default=None,
        description="Number of passes of what iterates; 'converge' rejects until nothing changes.",
    )
    sigma_floor: NotNegative | Literal["auto"] = Field(
        default="auto",
        description="sigma, winsorised, linear_fit, esd: smallest σ, in units of the pixels; "
        "'auto' is the noise model where known, else 0.5 adu.",
    )
    n_low: Count | Fraction = Field(
        default=1, description="minmax: lowest values rejected of each pixel, or which share."
    )
    n_high: Count | Fraction = Field(
        default=1, description="minmax: highest values rejected of each pixel, or which share."
    )
    n_keep: Count = Field(
        default=0,
        description="All but minmax: values that stay at least, those nearest the centre.",
    )
    fraction: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.3, description="esd: largest share of outliers."
    )
    significance: Fraction = Field(
        default=0.05, description="esd: chance to find an outlier where there is none."
    )
    snoise: NotNegative = Field(
        default=0.0, description="ccdclip, crreject: sensitivity noise as a share of the signal."
    )
    grow: NotNegative = Field(
        default=0.0, description="Radius in pixels about a rejected value that is rejected too."
    )
    scale: Annotated[str | None, Unset("none")] = Field(
        default=None,
        description="Divide each frame by this before rejection: 'median', 'mean' or 'mode' of its "
        "good pixels, or a header keyword.",
    )
    zero: Annotated[str | None, Unset("none")] = Field(
        default=None, description="Subtract this from each frame before that; as for the scale."
    )
    weights: Annotated[str | None, Unset("none")] = Field(
        default=None,
        description="Weights of an average: as for the scale, or 'inverse_variance'.",
    )
    section: Annotated[StatisticsSection | None, Unset("all")] = Field(
        default=None,
        description="Pixels that such statistics are of: '[100:200, :]' as in Python, "
        "'fits [1:2048,101:200]' as in headers.",
    )
    min_frames: AtLeastOne = Field(default=1, description="With fewer frames no master is made.")

    @model_validator(mode="after")
    def _fits_together(self) -> Combine:
        if self.weights is not None and self.method != "average":
            raise ValueError(f"weights are for method = 'average', and method = {self.method!r}")
        if self.section is not None and not self.first_pass():
            raise ValueError("section is where statistics are taken, and none is asked for")
        if self.grow and self.reject == "none":
            raise ValueError("grow needs a rejection, and reject = 'none'")
        for name in dict.fromkeys(key for keys in OPTIONS.values() for key in keys):
            given = getattr(self, name)
            if name not in OPTIONS[self.reject] and given != type(self).model_fields[name].default:
                those = " or ".join(repr(word) for word, keys in OPTIONS.items() if name in keys)
                raise ValueError(
                    f"{name} = {given!r} is for reject = {those}, and reject = {self.reject!r}"
                )
        return self

    def leaves_nothing(self, n: int) -> str:
        """Why nothing would be left of `n` frames; "" where something is."""
        both = (self.n_low, self.n_high)
        lost = [int(one * n + 0.001) if isinstance(one, float) else one for one in both]
        share = sum(one for one in both if isinstance(one, float))
        if self.reject != "minmax" or (sum(lost) < n and share < 1):
            return ""
        return f"n_low = {self.n_low} and n_high = {self.n_high} leave nothing of {n} frames"

    def first_pass(self) -> bool:
        """Whether frames are read once for their statistics before they are combined."""
        return any(word in STATISTICS for word in (self.scale, self.zero, self.weights))


class CombineFlat(Combine):
    """How flats become a master."""

    scale: Annotated[str | None, Unset("none")] = Field(
        default="median",
        description="Divide each frame by this before rejection: 'median', 'mean' or 'mode' of its "
        "good pixels, or a header keyword.",
    )


class CombineKinds(Table):
    """How masters are made, for each kind."""

    bias: Combine = Field(default=Combine(), description="Master biases.")
    dark: Combine = Field(default=Combine(), description="Master darks.")
    flat: CombineFlat = Field(default=CombineFlat(), description="Master flats.")
