"""The table that a night is planned by: a row for each frame, and what the config says in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import ConfigError
from daskcal.fits import Frame
from daskcal.frames.assembled import DetectorFrame
from daskcal.frames.instrument import Instrument
from daskcal.frames.processed import processed
from daskcal.frames.table import frame_table, header_columns
from daskcal.masters.rules import KINDS, keyword_column
from daskcal.night.classify import classify
from daskcal.night.config import NightConfig
from daskcal.night.query import parse_query

if TYPE_CHECKING:
    import pandas as pd


def night_table(
    frames: Sequence[Frame],
    config: NightConfig,
    camera: Instrument,
    folder: Path,
    select: str | None = None,
) -> pd.DataFrame:
    """The frame table with what the config says of the camera and of types in place.

    Beside the columns of `frame_table` it has ``amplifiers`` (where those of a detector lie, "" for
    one), ``amplifier_gains`` (where they differ), ``processed`` (what was done before to bias, dark
    and flat frames, "" for raw ones), and ``hdr_<name>`` for the header keywords that the config's
    conditions and rules, or `select`, name.

    Raises
    ------
    ConfigError
        A condition of ``[[classify]]`` names a keyword that no frame has.
    """
    table = frame_table(frames, camera.keywords)
    table = _with_headers(table, frames, config, select)
    for name in ("gain", "rdnoise", "detector"):
        value = getattr(config.instrument, name)
        if value is not None:
            table[name] = value
    several = [frame if isinstance(frame, DetectorFrame) else None for frame in frames]
    table["amplifiers"] = [_layout(frame) for frame in several]
    table["amplifier_gains"] = [_gains(frame) for frame in several]
    table = classify(table, config.classify, folder)
    done = np.full(len(table), "", object)
    for i in np.flatnonzero(table["imagetyp"].isin(KINDS).to_numpy()).tolist():
        done[i] = processed(frames[i])
    table["processed"] = done
    return table


def _layout(frame: DetectorFrame | None) -> str:
    if frame is None:
        return ""
    return "; ".join(f"{amp.name} {amp.section}" for amp in frame.amplifiers)


def _gains(frame: DetectorFrame | None) -> str:
    """Gains that are not one, which is in the table itself."""
    if frame is None or len(set(frame.values["gain"])) < 2:
        return ""
    return ", ".join(f"{gain:.6g}" for gain in frame.values["gain"])


def _asked(config: NightConfig, select: str | None) -> Iterator[str]:
    """The names that conditions on frames use."""
    conditions = (
        *(rule.when for rule in config.classify),
        *(pin.when for pin in config.pin),
        config.select.query,
        select,
    )
    for text in filter(None, conditions):
        with contextlib.suppress(ConfigError):  # is said where the condition is used
            yield from parse_query(text).names


def _with_headers(
    table: pd.DataFrame, frames: Sequence[Frame], config: NightConfig, select: str | None
) -> pd.DataFrame:
    """The table with columns for the header keywords that are asked for.

    For all where a condition asks for one that no frame has: the error then knows what there is.
    """
    import pandas as pd

    asked = {keyword_column(name) for name in _asked(config, select)} - set(table.columns)
    ruled = {keyword_column(rule.keyword) for rule in config.match.keywords} - set(table.columns)
    if not asked | ruled:
        return table
    columns = header_columns(frames, asked | ruled)
    if not asked <= set(columns):
        columns = header_columns(frames)
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
