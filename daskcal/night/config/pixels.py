"""The keys of [mask] and [cosmic_rays]: which single pixels of the frames are not to be used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from daskcal.night.config.errors import Unset
from daskcal.night.config.table import AtLeastOne, Count, NotNegative, Positive, Table

Share = Annotated[float, Field(ge=0, lt=1)]


class Mask(Table):
    """Pixels of the detector that are bad."""

    bad_pixels: Annotated[str | None, Unset("none")] = Field(
        default=None,
        description="FITS image that is not 0 at bad pixels, or a list of regions ('x1 x2 y1 y2' "
        "as for IRAF's fixpix, or DS9's boxes); a relative path starts at the folder of this file.",
    )
    from_flats: bool = Field(
        default=False,
        description="Mask pixels of science frames as bad that differ from their neighbours in the "
        "master flat, as ccdmask finds them.",
    )
    from_darks: bool = Field(
        default=False,
        description="Mask pixels of flats and science frames as bad that vary unlike others from "
        "one dark to the next; needs five darks or more.",
    )
    bad_columns: Annotated[Share | None, Unset("none")] = Field(
        default=None,
        description="Mask columns as bad as a whole of which more than this share is bad.",
    )


class CosmicRays(Table):
    """Cosmic rays in science frames; their pixels get the bit cosmic_ray."""

    method: Annotated[Literal["lacosmic", "median"] | None, Unset("none")] = Field(
        default=None,
        description="lacosmic: by sharp edges (needs gain and read noise); median: above what is "
        "around them, for frames without stars.",
    )
    sigclip: Positive = Field(default=4.5, description="lacosmic: limit in σ.")
    sigfrac: Positive = Field(
        default=0.3, description="lacosmic: share of that limit for neighbours of a cosmic ray."
    )
    objlim: Positive = Field(
        default=5.0,
        description="lacosmic: least contrast with the fine structure; more where the cores of "
        "stars are flagged.",
    )
    satlevel: Positive = Field(
        default=65535.0, description="lacosmic: level in electron of a saturated star."
    )
    niter: AtLeastOne = Field(default=4, description="lacosmic: most iterations.")
    sepmed: bool = Field(default=True, description="lacosmic: separable medians, quicker.")
    cleantype: Literal["meanmask", "medmask", "median", "idw"] = Field(
        default="meanmask", description="lacosmic: by what cosmic rays are replaced."
    )
    fsmode: Literal["median", "convolve"] = Field(
        default="median",
        description="lacosmic: the fine structure by a median, or by the PSF that follows.",
    )
    psfmodel: Literal["gauss", "gaussx", "gaussy", "moffat"] = Field(
        default="gauss", description="lacosmic, convolve: model of the PSF."
    )
    psffwhm: Positive = Field(default=2.5, description="lacosmic, convolve: its width in pixels.")
    psfsize: AtLeastOne = Field(
        default=7, description="lacosmic, convolve: its size in pixels, an odd number."
    )
    psfbeta: Positive = Field(default=4.765, description="lacosmic, moffat: its exponent.")
    grow: NotNegative = Field(
        default=0.0, description="lacosmic: radius in pixels about a cosmic ray that is masked too."
    )
    clean: bool = Field(
        default=False, description="lacosmic: replace the image there; it is masked all the same."
    )
    thresh: Positive = Field(default=5.0, description="median: limit in σ.")
    mbox: AtLeastOne = Field(default=11, description="median: side in pixels of its box.")
    gbox: Count = Field(
        default=0, description="median: side of a box around cosmic rays that is masked too."
    )
    rbox: Count = Field(
        default=0,
        description="median: side of the box whose median replaces the image there; 0 for none.",
    )

    @model_validator(mode="after")
    def _size_is_odd(self) -> CosmicRays:
        if self.psfsize % 2 == 0:
            raise ValueError(f"psfsize = {self.psfsize} should be odd")
        return self

    def arguments(self) -> dict[str, Any] | None:
        """How `calibrate` is to find them; None for not at all."""
        if self.method is None:
            return None
        of_median = ("thresh", "mbox", "gbox", "rbox")
        given = self.model_dump(exclude={"method"})
        own = {k: v for k, v in given.items() if (k in of_median) == (self.method == "median")}
        return {"method": self.method, **own}
