"""Cut frames down to the part that sees light; detector coordinates are kept."""

from __future__ import annotations

import xarray as xr

from daskcal.errors import ArgumentError, CalibrationError, GeometryError
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.block import promoted
from daskcal.frames.blocks import assign, recover
from daskcal.frames.detector import raw_section
from daskcal.frames.recipe import Promote
from daskcal.frames.sections import Section, fits_section, hull, python_section
from daskcal.frames.steps import StepRecord, with_step
from daskcal.frames.table import header_name
from daskcal.strict import strict_keywords


@strict_keywords
def trim_image(
    frames: xr.Dataset,
    section: str | slice | tuple[slice, ...] | None = None,
    *,
    fits_section: str | None = None,
) -> xr.Dataset:
    """Keep one section of the frames.

    Without a section the overscans of a detector's amplifiers are cut away.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``image (frame, y, x)``.
    section : str, slice or tuple of slice, optional
        As Python writes it, of the frames as they are: ``"[:, :2048]"`` or ``np.s_[:, :2048]``.
    fits_section : str, optional
        As FITS writes it, of the raw frame: ``"[18:1382,1:1370]"``, or the header keyword that
        holds it: ``"TRIMSEC"``.

    Returns
    -------
    xarray.Dataset
        The kept part; ``y`` and ``x`` stay detector coordinates.

    Raises
    ------
    ArgumentError
        Neither or both of the sections are given; neither, only where amplifiers are known.
    GeometryError
        A section that is not one, or leaves the frame.

    Examples
    --------
    >>> as_python = daskcal.trim_image(frames, "[:, 16:144]")
    >>> as_fits = daskcal.trim_image(frames, fits_section="[17:144,1:128]")
    """
    here = recover(frames).section
    if section is None and fits_section is None and (found := amplifiers(frames)):
        kept = hull(amp.section for amp in found).common(here)
    else:
        kept = find_section(frames, section, fits_section, "trim_image")
    if not here.covers(kept):
        raise GeometryError(f"trim_image: {kept} is outside of the frames, which are {here}")
    rows, columns = kept.within(here)
    trimmed = frames.isel(y=rows, x=columns)
    stack = recover(trimmed)
    if stack.recipe.dtype != promoted(stack.recipe.dtype):
        trimmed = assign(trimmed, stack.then(Promote()))
    return with_step(trimmed, StepRecord("trim_image", {"section": str(kept)}))


def find_section(
    frames: xr.Dataset,
    section: str | slice | tuple[slice, ...] | None,
    fits: str | None,
    action: str,
) -> Section:
    """The section that two arguments describe, in detector coordinates."""
    if (section is None) == (fits is None):
        raise ArgumentError(f"{action} takes a section or a fits_section, and one of them")
    stack = recover(frames)
    if section is not None:
        here = stack.section
        return python_section(section, here.shape).shifted(here.y0, here.x0)
    raw = raw_section(frames, stack)
    text = str(fits)
    if not text.lstrip().startswith("["):
        text = header_section(frames, text, action)
    return fits_section(text, raw.shape).shifted(raw.y0, raw.x0)


def header_section(frames: xr.Dataset, keyword: str, action: str) -> str:
    """The section that a header keyword gives, the same for all frames."""
    name = header_name(keyword)
    if name not in frames.coords:
        raise CalibrationError(f"{action}: the frames have no {keyword.upper()} in their headers")
    texts = list(dict.fromkeys(str(value).replace(" ", "") for value in frames[name].values))
    if len(texts) > 1 or not texts[0]:
        found = ", ".join(repr(text) for text in texts)
        raise CalibrationError(f"{action}: {keyword.upper()} differs between the frames: {found}")
    return texts[0]
