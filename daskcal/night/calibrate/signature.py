"""What a config says of a camera's signature, as arguments of `calibrate` for one job's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from daskcal.night.config.read import NightConfig
    from daskcal.night.plan.plan import Job


def signature_arguments(
    config: NightConfig, job: Job, frames: xr.Dataset, overscan: bool
) -> dict[str, Any]:
    """Crosstalk, linearity, gain ratios, shutter, illumination and fringes of a job's frames.

    `overscan` says whether their overscan is subtracted.
    """
    lit = job.kind in ("flat", "science")
    arguments: dict[str, Any] = {
        "bleed": config.saturation.bleed or None,
        "crosstalk": config.crosstalk.matrix or None,
        "linearity": config.linearity.arguments(),
        "gain_ratios": config.gain_ratios.ratios or None,
        "shutter": config.shutter.map if lit else None,
    }
    if job.kind == "bias" and not overscan and "bias_level" not in frames.attrs:
        arguments["linearity"] = None  # a frame without signal is linear
    if job.kind == "science":
        filters = set(frames["filter"].values.tolist())
        name = str(filters.pop()) if len(filters) == 1 else ""
        arguments["illumination"] = config.illumination.frames.get(name)
        fringe = config.fringe.frames.get(name)
        if fringe is not None:
            arguments["fringe"] = {"fringe": fringe, "scale": config.fringe.scale}
    return arguments
