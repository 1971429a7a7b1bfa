"""Nights of mosaics: what is known of all their detectors together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from daskcal.errors import ConfigError, nearest
from daskcal.fits import Frame
from daskcal.night.config.read import NightConfig

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 4


def require_one_detector(config: NightConfig, frames: Sequence[Frame]) -> None:
    """Raise where the config gives one name to the detectors of a mosaic.

    Raises
    ------
    ConfigError
        Names a file of several detectors.
    """
    if config.instrument.detector is None:
        return
    several = next((frame for frame in frames if frame.of > 1), None)
    if several is not None:
        raise ConfigError(
            f"instrument.detector = {config.instrument.detector!r} names every frame alike, and "
            f"{several.source.path} holds {several.of} detectors: leave it out, name the header "
            "keyword in [keywords] detector, or read one of them with instrument.hdu"
        )


def unknown_detectors(config: NightConfig, table: pd.DataFrame) -> Iterator[str]:
    """A line for each detector that the config has tables for and no frame is of."""
    known = set(table["detector"])
    for name in config.detectors:
        if name not in known:
            yield f"detectors.{name} in the config is of no frame; {nearest(name, known)}"


def lacking_detectors(table: pd.DataFrame, folder: Path | str) -> Iterator[str]:
    """A line for the files that lack the same detectors, which most files of the camera have."""
    mosaics = table[table["detectors"] > 1]
    for _, camera in mosaics.groupby("instrument"):
        files = camera.groupby("path", sort=False)["detector"].agg(frozenset)
        counts = camera["detector"].value_counts(sort=False)
        usual = {name: n for name, n in counts.items() if 2 * n > len(files)}
        without: dict[tuple[str, ...], list[str]] = {}
        for path, names in files.items():
            lost = tuple(str(name) for name in usual if name not in names)
            if lost:
                without.setdefault(lost, []).append(os.path.relpath(str(path), folder))
        for lost, paths in without.items():
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            yield (
                f"{', '.join(paths[:_NAMED])}{more}: no {', '.join(lost)}, which other files of "
                "the mosaic have"
            )
