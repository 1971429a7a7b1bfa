"""From a config to what the steps of calibration are called with, for one job's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.calibration import noise_is_known
from daskcal.calibration.flags import saturation_levels
from daskcal.errors import FrameError, GeometryError
from daskcal.frames.amplifiers import amplifiers
from daskcal.frames.sections import fits_section
from daskcal.frames.table import header_name
from daskcal.frames.units import counted
from daskcal.night.calibrate.signature import signature_arguments
from daskcal.night.config.read import parse_section

if TYPE_CHECKING:
    import xarray as xr

    from daskcal.night.config.combine import Combine
    from daskcal.night.config.read import NightConfig
    from daskcal.night.plan.plan import Job


def calibration_arguments(
    config: NightConfig, job: Job, frames: xr.Dataset, masters: dict[str, list[xr.Dataset]]
) -> tuple[dict[str, Any], list[str]]:
    """Keyword arguments of `calibrate` for the frames of a job, and what there is to say of them.

    Parameters
    ----------
    config : NightConfig
        The night's.
    job : Job
        The product that the frames are for.
    frames : xarray.Dataset
        Its raw frames.
    masters : dict of str to list of xarray.Dataset
        The opened masters by kind, as the job names them; ``hot`` is the map of hot pixels, and
        ``bad`` the mask of bad ones, or its path.
    """
    messages: list[str] = []
    arguments: dict[str, Any] = {
        "saturation": _saturation(frames, messages),
        "overscan": _overscan(config, frames, messages),
        "trim": _trim(config, frames, messages),
        "gain": True if config.output.gain_correct else None,
        "variance": _variance(config),
    }
    arguments |= signature_arguments(config, job, frames, arguments["overscan"] is not None)
    if masters.get("bias"):
        arguments["bias"] = masters["bias"][0]
    if masters.get("dark"):
        arguments["dark"] = {
            "dark": masters["dark"],
            "scale": job.scale_dark,
            "tolerance": None if job.waives_exposure else config.dark.tolerance,
            "max_scale": None if job.waives_exposure else config.dark.max_scale,
        }
    if masters.get("flat"):
        arguments["flat"] = {
            "flat": masters["flat"][0],
            "min_value": config.flat.min_value,
            "normalise": config.flat.normalise,
        }
    if job.kind in ("flat", "science"):  # a flat's scale and norm must not see bad pixels
        arguments["bad_pixel_mask"] = next(iter(masters.get("bad", [])), None)
    if job.kind == "science":
        arguments["hot"] = next(iter(masters.get("hot", [])), None)
        arguments["cosmic_rays"] = config.cosmic_rays.arguments()
    return arguments, messages


def combine_arguments(settings: Combine) -> dict[str, Any]:
    """Keyword arguments of `combine` for one kind of master."""
    from daskcal.combination.reject import KEYWORDS, OPTIONS

    names = [name for name in KEYWORDS if hasattr(settings, name)] + OPTIONS[settings.reject]
    chosen = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in chosen.items() if value != "default"}


def noise_unknown(config: NightConfig, frames: xr.Dataset, calibrated: xr.Dataset) -> list[str]:
    """Why calibrated frames have no uncertainties of their own, where they were to have them."""
    if config.variance.create is False or "variance" in calibrated:
        return []
    unit = str(frames["image"].attrs.get("units", ""))
    if unit and not counted(unit):
        return [
            f"some frames are in {unit}, and noise is known of counts alone, in adu or electron: "
            "they get no uncertainties of their own"
        ]
    if not noise_is_known(frames):
        return [
            "the gain or the read noise of some frames is not known: they get no uncertainties of "
            "their own; gain and rdnoise under [instrument] in the config give them"
        ]
    return [
        "the bias leaves some frames only with the dark, so their signal is not known: they get no "
        "uncertainties of their own; bias_level under [instrument] in the config gives them"
    ]


def _variance(config: NightConfig) -> Any:
    return None if config.variance.create is False else config.variance.create


def _saturation(frames: xr.Dataset, messages: list[str]) -> Any:
    known = np.isfinite(saturation_levels(frames)).all(axis=1)
    if known.any() and not known.all():
        first = frames["path"].values[~known][0]
        messages.append(f"{first} and frames with it are not flagged saturated: it lacks SATURATE")
    return True if known.all() else None


def _trim(config: NightConfig, frames: xr.Dataset, messages: list[str]) -> Any:
    given = config.trim.section
    if parse_section(given)[0] == "header" and amplifiers(frames):
        return {}  # the overscans of all of them
    return _section(given, frames, "TRIMSEC", "section", messages)


def _overscan(config: NightConfig, frames: xr.Dataset, messages: list[str]) -> Any:
    given = config.effective().overscan
    section: dict[str, Any] | None = {}
    if parse_section(given.section)[0] == "header" and (found := amplifiers(frames)):
        lacking = [amp.name for amp in found if amp.overscan is None]
        if lacking:
            section = None
            if len(lacking) < len(found):
                messages.append(
                    f"no overscan is subtracted, since {', '.join(lacking)} has none: give "
                    "overscan_section under [[instrument.amplifiers]] in the config"
                )
    else:
        section = _section(given.section, frames, "BIASSEC", "overscan", messages)
    if section is None:
        return None
    return section | {
        "axis": given.axis,
        "method": given.method,
        "clip": given.clip,
        "model": given.model,
        "order": given.order,
    }


def _section(
    text: str, frames: xr.Dataset, keyword: str, argument: str, messages: list[str]
) -> dict[str, Any] | None:
    """The section as an argument; from the header only where the header gives a sound one."""
    form, bracket = parse_section(text)
    if form == "none":
        return None
    if form == "python":
        return {argument: bracket}
    if form == "fits":
        return {"fits_section": bracket}
    found = _common_card(frames, keyword)
    if not found:
        return None  # frames without the card have nothing to subtract or cut
    try:
        fits_section(found, (frames.sizes["y"], frames.sizes["x"]))
    except GeometryError as error:
        messages.append(f"the header's {keyword} is not used: {error}")
        return None
    return {"fits_section": keyword}


def _common_card(frames: xr.Dataset, keyword: str) -> str:
    """What a header keyword says in all frames of a job; a frame that differs is not used."""
    name = header_name(keyword)
    if name not in frames.coords:
        return ""
    texts = [str(text).replace(" ", "") for text in frames[name].values]
    usual = max(dict.fromkeys(texts), key=texts.count)
    for text, path, hdu in zip(texts, frames["path"].values, frames["hdu"].values, strict=True):
        if text != usual:
            raise FrameError(
                str(path),
                "shape",
                f"its {keyword} is {text or 'missing'!r}, and that of the frames it belongs to is "
                f"{usual or 'missing'!r}; a section in the config serves all",
                int(hdu),
            )
    return usual
