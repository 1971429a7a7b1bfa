"""The keys of [gates]: by which numbers frames and masters are judged, and what then happens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from daskcal.night.config.errors import Unset
from daskcal.night.config.table import NotNegative, Positive, Table

Action = Literal["warn", "reject", "off"]
Share = Annotated[float, Field(ge=0, le=1)]

_ACTION = (
    "What happens beyond the limits: 'warn' says so, 'reject' leaves the frame out (or does not "
    "make the master); 'off' does not measure."
)


def _action(default: Action) -> Action:
    return Field(default=default, description=_ACTION)


class Undefined(Table):
    """Frames: share of their pixels without a value (NaN, BLANK)."""

    action: Action = _action("reject")
    high: Share = Field(default=0.5, description="Largest share.")


class Saturated(Table):
    """Frames: share of their pixels that are saturated."""

    action: Action = _action("reject")
    high: Share = Field(default=0.5, description="Largest share, in science frames.")
    high_calibration: Share = Field(
        default=0.05, description="Largest share, in bias, dark and flat frames."
    )


class Temperature(Table):
    """Biases, darks, flats: CCD temperature against the median of the others of the master."""

    action: Action = _action("reject")
    offset: Positive = Field(default=3.0, description="Largest difference in K.")


class FrameLevel(Table):
    """Biases and darks: median against that of the others of the master."""

    action: Action = _action("reject")
    sigmas: NotNegative = Field(
        default=1.0, description="Largest difference, in units of the noise of one pixel."
    )
    fraction: NotNegative = Field(
        default=0.5,
        description="Darks without their bias: it may be this share of the dark's level as well.",
    )


class FlatLevel(Table):
    """Flats: median signal over that of the others of the master."""

    action: Action = _action("warn")
    low: NotNegative = Field(default=0.1, description="Smallest ratio.")
    high: Positive = Field(default=10.0, description="Largest ratio.")


class SignalToNoise(Table):
    """Flats: median signal over its noise, for one pixel of one frame."""

    action: Action = _action("reject")
    low: NotNegative = Field(default=20.0, description="Smallest ratio.")


class Outliers(Table):
    """Biases, darks, flats: share of pixels that differ from the master of the others."""

    action: Action = _action("reject")
    sigmas: Positive = Field(
        default=6.0, description="A pixel differs by more than so many σ of the difference."
    )
    high: Share = Field(default=0.01, description="Largest share.")


class RejectedFraction(Table):
    """Biases, darks, flats: share of their values that was rejected as they were combined."""

    action: Action = _action("warn")
    high: Share = Field(default=0.1, description="Largest share.")


class BiasLevel(Table):
    """Master bias: level of its raw frames against instrument.bias_level, where that is given."""

    action: Action = _action("warn")
    offset: Positive = Field(default=20.0, description="Largest difference in adu.")


class ReadNoise(Table):
    """Master bias: read noise from pairs of its frames against the header's, by amplifier."""

    action: Action = _action("warn")
    fraction: Positive = Field(default=0.15, description="Largest difference, as a share of it.")


class DarkCurrent(Table):
    """Master dark: median over its dark time, in electron/s (needs the gain)."""

    action: Action = _action("warn")
    high: Annotated[Positive | None, Unset("none")] = Field(
        default=None, description="Largest dark current in electron/s."
    )


class HotPixels(Table):
    """Master dark: share of hot pixels, as dark.hot_threshold finds them."""

    action: Action = _action("warn")
    high: Share = Field(default=0.05, description="Largest share.")


class Gates(Table):
    """Numbers by which frames and masters are judged, all of them in the ledger."""

    datasum: bool = Field(
        default=True,
        description="Check the data of raw frames against their DATASUM, where they have one.",
    )
    undefined: Undefined = Field(default=Undefined(), description="")
    saturated: Saturated = Field(default=Saturated(), description="")
    temperature: Temperature = Field(default=Temperature(), description="")
    frame_level: FrameLevel = Field(default=FrameLevel(), description="")
    flat_level: FlatLevel = Field(default=FlatLevel(), description="")
    signal_to_noise: SignalToNoise = Field(default=SignalToNoise(), description="")
    outliers: Outliers = Field(default=Outliers(), description="")
    rejected_fraction: RejectedFraction = Field(default=RejectedFraction(), description="")
    bias_level: BiasLevel = Field(default=BiasLevel(), description="")
    read_noise: ReadNoise = Field(default=ReadNoise(), description="")
    dark_current: DarkCurrent = Field(default=DarkCurrent(), description="")
    hot_pixels: HotPixels = Field(default=HotPixels(), description="")
