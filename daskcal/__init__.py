"""daskcal calibrates and combines CCD frames lazily, on threads, processes or a cluster."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("daskcal")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_WHERE = {
    "daskcal.frames.open": ("open_frames",),
    "daskcal.frames.mosaic": ("open_mosaic",),
    "daskcal.frames.blocks": ("blocks",),
    "daskcal.frames.ccddata": ("from_ccddata", "to_ccddata"),
    "daskcal.frames.instrument": ("AmplifierSetup", "Instrument"),
    "daskcal.frames.master": ("open_master",),
    "daskcal.calibration": (
        "bad_columns",
        "calibrate",
        "ccdmask",
        "correct_crosstalk",
        "correct_linearity",
        "cosmicray_lacosmic",
        "cosmicray_median",
        "create_variance",
        "equalise_gains",
        "flag_bad",
        "flag_bleed",
        "flag_hot",
        "flag_saturated",
        "flat_correct",
        "flat_level",
        "gain_correct",
        "gain_ratios",
        "hot_pixels",
        "illumination_correct",
        "illumination_frame",
        "measure_noise",
        "merge_masks",
        "open_mask",
        "shutter_correct",
        "shutter_map",
        "subtract_bias",
        "subtract_dark",
        "subtract_fringe",
        "subtract_overscan",
        "trim_image",
        "write_mask",
    ),
    "daskcal.combination": ("combine", "rejected_frames"),
    "daskcal.masters.library": ("Library",),
    "daskcal.masters.stability": ("unstable_pixels",),
    "daskcal.products": ("to_fits",),
    "daskcal.workers": ("cluster",),
    "daskcal.zarr": ("open_zarr", "to_zarr"),
    "daskcal.night.library": ("library_why",),
    "daskcal.night.marks": ("mark_bad", "unmark_bad"),
    "daskcal.night.plan.plan": ("plan_night",),
    "daskcal.night.run.run": ("reduce_night",),
    "daskcal.night.remake": ("rerun",),
    "daskcal.night.why": ("why",),
    "daskcal.simulate": ("simulate_night",),
    "daskcal.errors": (
        "ArgumentError",
        "CalibrationError",
        "ClusterError",
        "ConfigError",
        "DaskcalError",
        "DaskcalWarning",
        "FrameError",
        "GeometryError",
        "OutputError",
        "UnitError",
        "UnknownKeywordError",
    ),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing daskcal stays quick."""
    if name not in _MODULE:
        from daskcal.errors import nearest

        raise AttributeError(f"daskcal has no {name!r}; {nearest(name, _MODULE)}")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
