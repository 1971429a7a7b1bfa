"""Every key that a night's configuration may hold: its meaning, its default, what is allowed."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from daskcal.errors import nearest
from daskcal.frames.amplifiers import CORNERS
from daskcal.masters.match import Rules
from daskcal.night.config.combine import CombineKinds
from daskcal.night.config.errors import Unset
from daskcal.night.config.gates import Gates
from daskcal.night.config.match import (
    NORMALISED_NAMES,
    Bad,
    FlatKind,
    MatchTable,
    Pin,
    checked_keyword,
)
from daskcal.night.config.pixels import CosmicRays, Mask
from daskcal.night.config.signature import (
    Crosstalk,
    Fringe,
    GainRatios,
    Illumination,
    Linearity,
    Saturation,
    Shutter,
)
from daskcal.night.config.table import (
    Count,
    FitsSection,
    NotNegative,
    Positive,
    Section,
    Table,
    Words,
    query_is_sound,
)

ImageType = Literal["bias", "dark", "flat", "science", "other"]
FrameType = Literal[
    "bias", "dark", "flat", "dome-flat", "sky-flat", "twilight-flat", "science", "other"
]
Switch = Literal["auto"] | bool


class Amplifier(Table):
    """One amplifier of a detector that is read through several, or several alike; the headers say
    what is not given. Sections are as FITS headers write them, and * is a whole axis."""

    name: str = Field(
        description="Its name: EXTNAME of its HDU, or a glob of several; with a data_section, any.",
        examples=["left"],
    )
    data_section: FitsSection = Field(
        default="", description="Its pixels that see light.", examples=["[1:1024,*]"]
    )
    overscan_section: FitsSection = Field(
        default="", description="Its overscan.", examples=["[2049:2080,*]"]
    )
    detector_section: FitsSection = Field(
        default="",
        description="Where its light falls on the detector, in unbinned pixels; ranges that run "
        "backwards are flips.",
        examples=["[1:1024,*]"],
    )
    readout: Literal["", *CORNERS] = Field(  # type: ignore[valid-type]
        default="", description="The corner that is read first."
    )
    gain: Annotated[Positive | None, Unset("header")] = Field(
        default=None, description="Gain in electron/adu."
    )
    rdnoise: Annotated[NotNegative | None, Unset("header")] = Field(
        default=None, description="Read noise in electron."
    )
    saturation: Annotated[Positive | None, Unset("header")] = Field(
        default=None, description="Raw value in adu at which a pixel counts as saturated."
    )


class Instrument(Table):
    """The camera, where the headers do not say it or say it wrongly."""

    name: Annotated[str | None, Unset("header")] = Field(
        default=None, description="Name of the camera, for the report."
    )
    unit: Annotated[Literal["adu", "electron"] | None, Unset("header")] = Field(
        default=None,
        description="Unit of the raw pixel values, where BUNIT does not say it or is no unit of "
        "pixels: one that says adu or electron counts before this.",
    )
    gain: Annotated[Positive | None, Unset("header")] = Field(
        default=None, description="Gain in electron/adu."
    )
    rdnoise: Annotated[NotNegative | None, Unset("header")] = Field(
        default=None, description="Read noise in electron."
    )
    saturation: Annotated[Positive | None, Unset("header")] = Field(
        default=None, description="Raw value in adu at which a pixel counts as saturated."
    )
    bias_level: Annotated[float | None, Unset("unknown")] = Field(
        default=None,
        description="Level of a bias frame in adu; the noise model needs it where the bias leaves "
        "only inside a dark and no overscan is used.",
    )
    detector: Annotated[str | None, Unset("header")] = Field(
        default=None, description="Name of the detector, given to every frame."
    )
    hdu: Annotated[Count | str | None, Unset("every detector")] = Field(
        default=None,
        description="Number or name of the HDU to read; without it every detector of a file is.",
    )
    amplifiers: tuple[Amplifier, ...] = Field(default=(), strict=False, description="")


class ClassifyRule(Table):
    """What a frame is, by its header or its name: the first rule that fits a frame decides."""

    when: str = Field(
        default="",
        description="Condition on header keywords (upper case, hyphens as underscores) and "
        "normalised names (lower case).",
        examples=["OBSTYPE == 'DARK' and EXPTIME == 0"],
    )
    files: str = Field(
        default="",
        description="Glob that the file's name, or its path within the night, must fit.",
        examples=["bias_*.fits"],
    )
    imagetyp: ImageType = Field(description="What such a frame is.", examples=["bias"])
    flat_kind: FlatKind = Field(default="", description="Which kind of flat it is.")
    filter: str | None = Field(
        default=None, description="The filter it was taken through.", examples=["V"]
    )

    _when_is_sound = field_validator("when")(query_is_sound)

    @model_validator(mode="after")
    def _has_a_condition(self) -> ClassifyRule:
        if not (self.when or self.files):
            raise ValueError("a rule needs a condition: give 'when' or 'files' (or both)")
        if self.flat_kind and self.imagetyp != "flat":
            raise ValueError(f"flat_kind is for flats only; here imagetyp = {self.imagetyp!r}")
        return self

    @property
    def said(self) -> str:
        """The rule's conditions as the user wrote them."""
        given = {"when": self.when, "files": self.files}
        return "[[classify]] " + ", ".join(
            f"{key} = {text!r}" for key, text in given.items() if text
        )


class Select(Table):
    """Which frames of the folder are used."""

    query: str = Field(
        default="", description="Condition, written like [[classify]] when; '' uses every frame."
    )
    exclude: Words = Field(
        default=(), description="Globs of file names, or of paths within the night, to leave out."
    )

    _query_is_sound = field_validator("query")(query_is_sound)


class Overscan(Table):
    """Subtraction of the overscan level."""

    section: Section = Field(
        default="header",
        description="Overscan pixels: '[:, 2055:]' as in Python, 'fits [2056:2148,1:4128]' as in "
        "headers, 'header' (BIASSEC, where there is one, or each amplifier's own) or 'none'.",
    )
    method: Literal["median", "mean"] = Field(
        default="median", description="Statistic of the pixels."
    )
    axis: Annotated[Literal["row", "column"] | None, Unset("auto")] = Field(
        default=None,
        description="One level for each row, or one for each column; 'auto' goes by the shape of "
        "the section.",
    )
    clip: Annotated[Positive | None, Unset("none")] = Field(
        default=None, description="Pixels beyond so many σ of their row or column are left out."
    )
    model: Annotated[Literal["polynomial", "legendre", "spline"] | None, Unset("none")] = Field(
        default=None, description="Curve fitted to the levels; 'none' uses them as they are."
    )
    order: Count = Field(
        default=1, description="Degree of the curve; for a spline, its number of pieces."
    )

    @model_validator(mode="after")
    def _spline_has_a_piece(self) -> Overscan:
        if self.model == "spline" and self.order < 1:
            raise ValueError("overscan.order = 0: a spline needs at least one piece")
        return self


class Trim(Table):
    """The part of the frame that is kept."""

    section: Section = Field(
        default="header",
        description="Pixels to keep: written as for the overscan; 'header' is TRIMSEC, where there "
        "is one.",
    )


class Bias(Table):
    """Subtraction of the master bias."""

    subtract: Switch = Field(
        default="auto",
        description="'auto' subtracts it from everything where the night has bias frames; false "
        "makes it and does not use it: darks then keep their bias and cannot be scaled.",
    )


class Dark(Table):
    """Subtraction of the master dark."""

    subtract: Switch = Field(
        default="auto", description="'auto' subtracts one where the night has dark frames."
    )
    scale: Switch = Field(
        default="auto",
        description="Scale darks by their dark time: true always, false never, 'auto' where no "
        "dark lies within the tolerance. Needs a master bias.",
    )
    tolerance: NotNegative = Field(
        default=0.5, description="Largest difference in s between dark times for an unscaled dark."
    )
    max_scale: Positive = Field(
        default=3.0,
        description="Largest ratio by which a dark may be scaled up; down has no limit, since it "
        "only lowers the dark's noise.",
    )
    hot_threshold: Annotated[Positive | Literal["auto"] | None, Unset("none")] = Field(
        default="auto",
        description="Dark current in electron/s above which a pixel is flagged hot; 'auto' is 8 "
        "robust σ above the median of the master dark.",
    )


class Flat(Table):
    """Division by the master flat."""

    correct: Switch = Field(
        default="auto", description="'auto' divides by one where the night has flat frames."
    )
    subtract_dark: Switch = Field(
        default="auto",
        description="Take the dark off the flats too; 'auto' does where a dark fits.",
    )
    normalise: Literal["mean", "median"] = Field(
        default="mean", description="Statistic of its good pixels that becomes 1."
    )
    normalise_over: Literal["detector", "mosaic"] = Field(
        default="detector",
        description="Over what that is 1: each detector, or all of a mosaic together, which takes "
        "their relative throughput out too (with output.gain_correct; else that in adu).",
    )
    min_value: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Pixels of the normalised flat below this are masked as low_flat."
    )


class Variance(Table):
    """Uncertainties."""

    create: Switch = Field(
        default="auto", description="'auto' makes them where gain and read noise are known."
    )


class Output(Table):
    """What is written."""

    products: Annotated[
        tuple[Literal["image", "uncert", "mask"], ...], Field(strict=False, min_length=1)
    ] = Field(
        default=("image", "uncert", "mask"),
        description="Planes of science products, and of calibrated frames that are kept; masters "
        "have all of them.",
    )
    format: Literal["fits", "zarr"] = Field(
        default="fits", description="Form of the science products."
    )
    compress: Literal["none", "rice"] = Field(
        default="none", description="Compression of FITS images."
    )
    gain_correct: bool = Field(
        default=False,
        description="Products in electron (true) or in the unit of the raw frames (false).",
    )
    keep_calibrated: bool = Field(
        default=False, description="Write the calibrated bias, dark and flat frames as well."
    )

    @field_validator("products")
    @classmethod
    def _has_an_image(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if "image" not in words or len(set(words)) < len(words):
            raise ValueError("products need 'image', and each word once")
        return words


class DetectorTables(Table):
    """What differs for one detector of a mosaic: tables in place of those of all detectors."""

    saturation: Saturation | None = Field(default=None, description="")
    crosstalk: Crosstalk | None = Field(default=None, description="")
    overscan: Overscan | None = Field(default=None, description="")
    linearity: Linearity | None = Field(default=None, description="")
    trim: Trim | None = Field(default=None, description="")
    gain_ratios: GainRatios | None = Field(default=None, description="")
    shutter: Shutter | None = Field(default=None, description="")
    illumination: Illumination | None = Field(default=None, description="")
    fringe: Fringe | None = Field(default=None, description="")
    mask: Mask | None = Field(default=None, description="")


class NightConfig(Table):
    """A night's configuration. Every key has a default, so that none need be given."""

    extends: str = Field(
        default="", description="Name of a shipped camera that this file starts from; '' for none."
    )
    instrument: Instrument = Field(default=Instrument(), description="")
    keywords: dict[str, Words] = Field(
        default={},
        description="Header keywords tried first for a normalised name: "
        + ", ".join(NORMALISED_NAMES)
        + ".",
        examples=['exptime = ["EXPOSURE"]'],
    )
    types: dict[str, FrameType] = Field(
        default={},
        description="What the camera's words for a frame's type (IMAGETYP, OBSTYPE) mean: "
        + ", ".join(get_args(FrameType))
        + ".",
        examples=['FLATFIELD = "flat"'],
    )
    classify: Annotated[tuple[ClassifyRule, ...], Field(strict=False)] = Field(
        default=(), description="", examples=["rule"]
    )
    select: Select = Field(default=Select(), description="")
    saturation: Saturation = Field(default=Saturation(), description="")
    crosstalk: Crosstalk = Field(default=Crosstalk(), description="")
    overscan: Overscan = Field(default=Overscan(), description="")
    linearity: Linearity = Field(default=Linearity(), description="")
    trim: Trim = Field(default=Trim(), description="")
    gain_ratios: GainRatios = Field(default=GainRatios(), description="")
    bias: Bias = Field(default=Bias(), description="")
    dark: Dark = Field(default=Dark(), description="")
    shutter: Shutter = Field(default=Shutter(), description="")
    flat: Flat = Field(default=Flat(), description="")
    illumination: Illumination = Field(default=Illumination(), description="")
    fringe: Fringe = Field(default=Fringe(), description="")
    combine: CombineKinds = Field(default=CombineKinds(), description="")
    mask: Mask = Field(default=Mask(), description="")
    cosmic_rays: CosmicRays = Field(default=CosmicRays(), description="")
    match: MatchTable = Field(default=MatchTable(), description="")
    pin: Annotated[tuple[Pin, ...], Field(strict=False)] = Field(default=(), description="")
    bad: Annotated[tuple[Bad, ...], Field(strict=False)] = Field(default=(), description="")
    gates: Gates = Field(default=Gates(), description="")
    variance: Variance = Field(default=Variance(), description="")
    output: Output = Field(default=Output(), description="")
    detectors: dict[str, DetectorTables] = Field(
        default={},
        description="Tables of single detectors of a mosaic, by the name that `daskcal ls` shows, "
        "in place of those above: " + ", ".join(DetectorTables.model_fields) + ".",
        examples=["CCD1.crosstalk.matrix = [[0, 2e-4], [1e-4, 0]]"],
    )

    @field_validator("keywords")
    @classmethod
    def _keywords_are_known(cls, given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in given:
            if name not in NORMALISED_NAMES:
                raise ValueError(f"unknown name {name!r}; {nearest(name, NORMALISED_NAMES)}")
        return {
            name: tuple(checked_keyword(name, card) for card in cards)
            for name, cards in given.items()
        }

    @model_validator(mode="after")
    def _scaled_darks_need_a_bias(self) -> NightConfig:
        if self.dark.scale is True and self.bias.subtract is False:
            raise ValueError(
                "dark.scale = true needs the bias subtracted, and bias.subtract = false: a dark "
                "that holds its bias cannot be scaled"
            )
        return self

    def of_detector(self, name: str) -> NightConfig:
        """The config that holds for one detector."""
        own = self.detectors.get(name)
        if own is None:
            return self
        return self.model_copy(update={key: table for key, table in own if table is not None})

    def effective(self) -> NightConfig:
        """The config with defaults in place of what has no effect on any pixel or header."""
        rays = self.cosmic_rays.arguments() or {}
        update: dict[str, Table] = {"cosmic_rays": CosmicRays(**rays)}
        if self.overscan.model is None:
            order = Overscan.model_fields["order"].default
            update["overscan"] = self.overscan.model_copy(update={"order": order})
        if not self.fringe.frames:
            update["fringe"] = Fringe()
        return self.model_copy(update=update)

    def rules(self, *, has_bias: bool) -> Rules:
        """The rules by which frames find their masters.

        Parameters
        ----------
        has_bias : bool
            Whether the bias has been taken off the darks and can be taken off the frame.
        """
        return Rules(
            **dict(self.match) | {"keywords": tuple(one.rule() for one in self.match.keywords)},
            exposure_tolerance=self.dark.tolerance,
            scale_darks=self.dark.scale,
            max_scale=self.dark.max_scale,
            has_bias=has_bias and self.bias.subtract is not False,
        )
