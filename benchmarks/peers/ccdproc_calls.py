"""ccdproc: its fastest call, the one that its guide shows, and its calibration."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ccdproc
import numpy as np
from astropy.nddata import CCDData
from astropy.stats import mad_std
from astropy.utils.exceptions import AstropyWarning

_DEFAULT_LIMIT = 16e9  # ccdproc's own
_GUIDE_LIMIT = 350e6  # of the CCD Data Reduction Guide


def combine(folder: str, out: str, hdu: int = 0) -> None:
    """Average with a 5σ median/MAD clip, statistics by name: astropy's compiled loop clips."""
    _combine(folder, out, hdu, {"sigma_clip_func": "median", "sigma_clip_dev_func": "mad_std"})


def combine_as_the_guide(folder: str, out: str) -> None:
    """The call of the guide's chapters, its misspelt keyword written right."""
    statistics = {"sigma_clip_func": np.ma.median, "sigma_clip_dev_func": mad_std}
    _combine(folder, out, 0, statistics, mem_limit=_GUIDE_LIMIT)


def median(folder: str, out: str) -> None:
    """The median, nothing rejected."""
    with _quiet():
        made = ccdproc.combine(_files(folder), method="median", mem_limit=_limit())
        made.write(out, overwrite=True)


def science(folder: str, out: str, masters: dict[str, str], columns: int) -> None:
    """Overscan (a median for each row), trim, dark and flat; float32 images."""
    Path(out).mkdir(exist_ok=True)
    with _quiet():
        dark, flat = (CCDData.read(masters[name]) for name in ("dark", "flat"))
        for path in _files(folder):
            frame = CCDData.read(path)
            frame = ccdproc.subtract_overscan(
                frame, overscan=frame[:, columns:], overscan_axis=1, median=True
            )
            frame = ccdproc.trim_image(frame[:, :columns])
            frame = ccdproc.subtract_dark(
                frame, dark, exposure_time="EXPTIME", exposure_unit=_seconds(), scale=False
            )
            frame = ccdproc.flat_correct(frame, flat)
            frame.data = frame.data.astype(np.float32)
            frame.uncertainty = frame.mask = None
            frame.write(Path(out) / Path(path).name, overwrite=True)


def collect(folder: str) -> None:
    """The header table of a folder."""
    with _quiet():
        table = ccdproc.ImageFileCollection(folder).summary
    if len(table) != len(_files(folder)):
        raise ValueError(f"{len(table)} headers of {len(_files(folder))} files")


def _combine(
    folder: str, out: str, hdu: int, statistics: dict[str, str | Callable], **more: Any
) -> None:
    with _quiet():
        made = ccdproc.combine(
            _files(folder),
            method="average",
            sigma_clip=True,
            sigma_clip_low_thresh=5,
            sigma_clip_high_thresh=5,
            hdu=hdu,
            **statistics,
            **({"mem_limit": _limit()} | more),
        )
        made.write(out, overwrite=True)


def _limit() -> float:
    """Its default where the machine has that much, for few passes over the files."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_DEFAULT_LIMIT, 0.75 * memory)


def _files(folder: str) -> list[str]:
    return [str(path) for path in sorted(Path(folder).iterdir())]


def _seconds() -> Any:
    import astropy.units as u

    return u.second


class _quiet(warnings.catch_warnings):
    """Headers of masters hold keywords that astropy would warn of."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
