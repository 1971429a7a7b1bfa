"""Whether sections and regions of a config lie in the frames: known before a pixel is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import ConfigError, FrameError, GeometryError
from daskcal.frames.sections import Section, fits_section, python_section
from daskcal.night.config.read import NightConfig, parse_section

if TYPE_CHECKING:
    import pandas as pd


def section_notes(config: NightConfig, table: pd.DataFrame) -> Iterator[str]:
    """What to say of sections that some frames do not have, and of regions that none has.

    Parameters
    ----------
    config : NightConfig
        The night's.
    table : pandas.DataFrame
        A row for each frame that is used.

    Raises
    ------
    ConfigError
        No frame has one; a list of bad pixels is of another detector.
    """
    of = table["detector"].astype(str)
    for detector in dict.fromkeys(of) if config.detectors else [""]:
        rows = table[of == detector] if config.detectors else table
        own = config.of_detector(detector)
        for key in ("overscan", "trim"):
            said = f"detectors.{detector}.{key}" if _is_own(config, detector, key) else key
            yield from _note(f"{said}.section", getattr(own, key).section, rows)
        if own.mask.bad_pixels is not None:
            yield from _outside(own.mask.bad_pixels, rows)


def _outside(path: str, rows: pd.DataFrame) -> Iterator[str]:
    from daskcal.calibration.mask_files import regions_outside  # with numba; few nights have one

    every = set(zip(rows["origin_y"], rows["origin_x"], rows["shape"], strict=True))
    windows = [Section(y, y + ny, x, x + nx) for y, x, (ny, nx) in every]
    with contextlib.suppress(FrameError):  # is said where the file is used
        outside, total = regions_outside(path, windows)
        if outside == total > 0:
            raise ConfigError(
                f"mask.bad_pixels: every one of the {total} regions of {path} lies outside of "
                "every frame; they count detector pixels from 1, columns first"
            )
        if outside:
            yield (
                f"mask.bad_pixels: {outside} of {total} regions of {path} lie outside of every "
                "frame, and mask nothing"
            )


def _is_own(config: NightConfig, detector: str, key: str) -> bool:
    """Whether a table is given for one detector alone."""
    tables = config.detectors.get(detector)
    return tables is not None and getattr(tables, key) is not None


def _note(key: str, text: str, rows: pd.DataFrame) -> Iterator[str]:
    form, bracket = parse_section(text)
    if form not in ("python", "fits"):
        return
    read = python_section if form == "python" else fits_section
    troubles: dict[tuple[int, int], str] = {}
    for shape in set(rows["shape"]):
        try:
            read(bracket, shape)
        except GeometryError as error:
            troubles[shape] = str(error)
    lacking = np.array([shape in troubles for shape in rows["shape"]], bool)
    if not lacking.any():
        return
    first = rows[lacking].iloc[0]
    if lacking.all():
        raise ConfigError(f"{key} = {text!r}: no frame has it: {troubles[first['shape']]}")
    yield (
        f"{key} = {text!r}: {lacking.sum()} of {len(rows)} frames do not have it, the first is "
        f"{first['path']}: {troubles[first['shape']]}"
    )
