"""daskcal, as a user calls it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import daskcal


def combine(
    folder: str, out: str, planes: list[str] | None = None, options: dict[str, Any] | None = None
) -> None:
    """Combine the frames of a folder into a FITS file: all planes, or those given."""
    master = daskcal.combine(daskcal.open_frames(folder), **(options or {}))
    _write(master, out, planes)


def combine_as_the_guide(folder: str, out: str) -> None:
    """The call of ccdproc's guide, of what stands in for ccdproc."""
    from astropy.stats import mad_std

    from daskcal.compat import ccdproc

    ccdproc.combine(
        sorted(Path(folder).iterdir()),
        out,
        method="average",
        sigma_clip=True,
        sigma_clip_low_thresh=5,
        sigma_clip_high_thresh=5,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std,
        mem_limit=350e6,
        overwrite_output=True,
    )


def calibrated_combine(
    folder: str, out: str, masters: dict[str, str], noise: bool, sections: dict[str, str]
) -> None:
    """Overscan, trim, bias, scaled dark and flat, then combine; with variance and mask or not."""
    dark = {"dark": masters["dark"], "scale": True}
    frames = _calibrated(folder, noise, sections, masters | {"dark": dark})
    _write(daskcal.combine(frames), out, None)


def science(
    folder: str, out: str, masters: dict[str, str], noise: bool, sections: dict[str, str]
) -> None:
    """Science frames: overscan, trim, dark and flat, each to a FITS file of its own."""
    used = {kind: masters[kind] for kind in ("dark", "flat")}
    frames = _calibrated(folder, noise, sections, used)
    _write(frames, out, None if noise else ["image"])


def _calibrated(
    folder: str, noise: bool, sections: dict[str, str], masters: dict[str, Any]
) -> xr.Dataset:
    """Frames with overscan, trim and masters lazily applied; with variance and mask or not."""
    return daskcal.calibrate(
        daskcal.open_frames(folder),
        saturation=60_000 if noise else None,
        variance=noise,
        **masters,
        **sections,
    )


def combine_timed(folder: str, out: str, memory: str) -> dict[str, float]:
    """Seconds of opening and of combining to a file, apart, within a memory budget."""
    with dask.config.set({"daskcal.memory": memory}):
        start = time.perf_counter()
        frames = daskcal.open_frames(folder)
        opened = time.perf_counter()
        _write(daskcal.combine(frames), out, None)
        done = time.perf_counter()
    return {"open": opened - start, "combine": done - opened}


def rejections() -> list[str]:
    """Names of all rejections that daskcal has."""
    from daskcal.combination.reject import REJECTIONS

    return list(REJECTIONS)


def works_on(folder: str, reject: str) -> dict[str, Any]:
    """Whether a rejection takes the frames as they are or wants a variance; why it takes neither.

    Nothing is computed.
    """
    reason = ""
    for variance in (False, True):
        frames = _with_variance(folder) if variance else daskcal.open_frames(folder)
        try:
            daskcal.combine(frames, reject=reject)
        except daskcal.DaskcalError as error:
            reason = str(error)
        else:
            return {"variance": variance, "reason": ""}
    return {"variance": True, "reason": reason}


def combine_in_memory(folder: str, reject: str, variance: bool) -> None:
    """Combine with a rejection, all planes, to arrays."""
    frames = _with_variance(folder) if variance else daskcal.open_frames(folder)
    daskcal.combine(frames, reject=reject).compute()


def _with_variance(folder: str) -> xr.Dataset:
    return daskcal.create_variance(daskcal.open_frames(folder))


def _write(ds: xr.Dataset, out: str, planes: list[str] | None) -> None:
    Path(out).parent.mkdir(exist_ok=True)
    chosen = {} if planes is None else {"planes": planes}
    daskcal.to_fits(ds, out, overwrite=True, **chosen)
