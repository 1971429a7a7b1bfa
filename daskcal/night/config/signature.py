"""Keys of the config for what a camera's electronics, shutter and optics do to its frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from daskcal.night.config.errors import Unset
from daskcal.night.config.table import Count, Positive, Table

Numbers = Annotated[tuple[float, ...], Field(strict=False)]
Rows = Annotated[tuple[Numbers, ...], Field(strict=False)]
Files = dict[str, str]
_BY_FILTER = (
    " by the filter of the frames; frames in other filters are left as they are. A relative path "
    "starts at the folder of this file."
)


class Saturation(Table):
    """Pixels that are full; instrument.saturation or the header says from which value on."""

    bleed: Count = Field(
        default=0,
        description="Pixels of the same column so near to a saturated one are flagged as well: "
        "what is too much for it runs along the column.",
    )


class Crosstalk(Table):
    """What the amplifiers of a detector pick up from one another."""

    matrix: Rows = Field(
        default=(),
        description="A row for each amplifier, with the part of each one that appears in it: "
        "[[0, 2e-4], [1e-4, 0]]; [] for none.",
    )


class Linearity(Table):
    """Correction of values that are not proportional to the light: by a polynomial or a table."""

    coefficients: Numbers = Field(
        default=(),
        description="c₁, c₂ ... of value · (1 + c₁·value + c₂·value² + ...), the value in adu "
        "above the bias; [] for none.",
    )
    table: Rows = Field(
        default=(),
        description="Pairs of measured and true values in adu above the bias, joined by lines.",
    )
    limit: Annotated[Positive | None, Unset("none")] = Field(
        default=None,
        description="Value in adu above the bias from which on pixels are flagged nonlinear; a "
        "table ends there by itself.",
    )
    amplifier_coefficients: dict[str, Numbers] = Field(
        default={},
        description="The same for each amplifier by its name.",
        examples=["amp1 = [1.2e-6]"],
    )
    amplifier_table: dict[str, Rows] = Field(
        default={},
        description="The same for each amplifier by its name.",
        examples=["amp1 = [[0, 0], [30000, 30500], [60000, 62000]]"],
    )
    amplifier_limit: dict[str, Positive] = Field(
        default={},
        description="The same for each amplifier by its name.",
        examples=["amp1 = 58000"],
    )

    @model_validator(mode="after")
    def _has_one_curve(self) -> Linearity:
        given = [name for name in CURVES if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}")
        if self.limit is not None and self.amplifier_limit:
            raise ValueError("give one of limit and amplifier_limit")
        return self

    def arguments(self) -> dict[str, Any] | None:
        """What `correct_linearity` is called with; None where nothing is to be corrected."""
        name = next((name for name in CURVES if getattr(self, name)), None)
        if name is None:
            return None
        limit = self.amplifier_limit or self.limit
        return {name.removeprefix("amplifier_"): getattr(self, name), "limit": limit}


CURVES = ("coefficients", "table", "amplifier_coefficients", "amplifier_table")


class GainRatios(Table):
    """Factors that make the amplifiers of a detector join."""

    ratios: dict[str, Positive] = Field(
        default={},
        description="Factor of each amplifier by its name, as daskcal.gain_ratios measures them.",
        examples=["amp1 = 0.995"],
    )


class Shutter(Table):
    """Exposures that are longer or shorter than the header says, pixel by pixel."""

    map: Annotated[str | None, Unset("none")] = Field(
        default=None,
        description="FITS image of what is to be added to the exposure time, in s, as "
        "daskcal.shutter_map makes it. A relative path starts at the folder of this file.",
    )


class Illumination(Table):
    """What the flats get wrong on large scales: science frames are divided by it."""

    frames: Files = Field(
        default={},
        description="FITS image, as daskcal.illumination_frame makes it," + _BY_FILTER,
        examples=['V = "illumination_V.fits"'],
    )


class Fringe(Table):
    """Fringes of the sky's lines, subtracted from science frames."""

    scale: Annotated[float | None, Unset("fit")] = Field(
        default=None,
        description="What the fringe frame is multiplied by; 'fit' fits it to each frame.",
    )
    frames: Files = Field(
        default={},
        description="FITS image of the fringes," + _BY_FILTER,
        examples=['z = "fringe_z.fits"'],
    )


def files_of_signature(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Where an unchecked config names files: the table, the key in it, and the dotted key."""
    shutter = values.get("shutter")
    if isinstance(shutter, dict) and "map" in shutter:
        yield shutter, "map", "shutter.map"
    for name in ("illumination", "fringe"):
        table = values.get(name)
        files = table.get("frames") if isinstance(table, dict) else None
        if isinstance(files, dict):
            yield from ((files, key, f"{name}.frames.{key}") for key in files)
