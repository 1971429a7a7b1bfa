"""The table that a night is planned by: a row for each frame, and what the config says in place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from daskcal.errors import ConfigError
from daskcal.fits import DEFAULT_KEYWORDS, Frame
from daskcal.frames.assembled import DetectorFrame
from daskcal.frames.card_problems import card_messages
from daskcal.frames.instrument import AmplifierSetup, Instrument
from daskcal.frames.processed import processed
from daskcal.frames.table import frame_table, header_columns
from daskcal.masters.rules import KINDS, keyword_column
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.classify import DECIDED_BY, decided_by, reclassified
from daskcal.night.query import parse_query, query_mask

if TYPE_CHECKING:
    import pandas as pd


def instrument_of(config: NightConfig) -> Instrument:
    """The camera that a config describes."""
    given = config.instrument
    aliases = {name: list(keys) for name, keys in config.keywords.items()}
    return Instrument(
        name=given.name or "",
        unit=given.unit,
        gain=given.gain,
        rdnoise=given.rdnoise,
        saturation=given.saturation,
        bias_level=given.bias_level,
        hdu=given.hdu,
        keywords=DEFAULT_KEYWORDS.extended(aliases, dict(config.types)),
        amplifiers=tuple(AmplifierSetup(**dict(each)) for each in given.amplifiers),
    )


def night_table(
    frames: Sequence[Frame],
    config: NightConfig,
    folder: Path | str,
    select: str | None = None,
) -> pd.DataFrame:
    """The frame table with what the config says of the camera and of types in place.

    Beside the columns of `frame_table` it has ``amplifiers`` (where those of a detector lie, "" for
    one), ``amplifier_gains`` (where they differ), ``processed`` (what was done before to bias, dark
    and flat frames, "" for raw ones), ``decided_by`` where there are rules of ``[[classify]]`` (the
    number of the one that decides of the frame, or -1), and ``hdr_<name>`` for the header keywords
    that the config's conditions and rules, or `select`, name.

    Raises
    ------
    ConfigError
        A condition of ``[[classify]]`` names a keyword that no frame has.
    """
    table = frame_table(frames, instrument_of(config).keywords)
    table = _with_headers(table, frames, _asked(config, select), _ruled(config))
    for name in ("gain", "rdnoise", "detector"):
        value = getattr(config.instrument, name)
        if value is not None:
            table[name] = value
    several = [frame if isinstance(frame, DetectorFrame) else None for frame in frames]
    table["amplifiers"] = [_layout(frame) for frame in several]
    table["amplifier_gains"] = [_gains(frame) for frame in several]
    if config.classify:
        number = decided_by(table, config.classify, folder)
        table = reclassified(table, config.classify, number).assign(**{DECIDED_BY: number})
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


def _ruled(config: NightConfig) -> Iterator[str]:
    """The names that rules for masters use."""
    return (rule.keyword for rule in config.match.keywords)


def card_notes(
    frames: Sequence[Frame],
    table: pd.DataFrame,
    names: Sequence[str],
    config: NightConfig,
    select: str | None = None,
) -> list[str]:
    """What there is to say of the cards of frames, by their rows of a `night_table`."""
    asked = {keyword_column(name) for name in (*_asked(config, select), *_ruled(config))}
    return card_messages(frames, table, names, instrument_of(config).keywords, asked)


def rows_that_fit(table: pd.DataFrame, frames: Sequence[Frame], condition: str) -> np.ndarray:
    """Which frames fit a condition, which may name any keyword of their headers; a bool array.

    Raises
    ------
    ConfigError
        It cannot be read, or names what no frame has.
    """
    query = parse_query(condition)
    return query_mask(_with_headers(table, frames, query.names), query)


def _with_headers(
    table: pd.DataFrame, frames: Sequence[Frame], asked: Iterable[str], ruled: Iterable[str] = ()
) -> pd.DataFrame:
    """The table with columns for the header keywords that conditions ask for, and rules name.

    For all where a condition asks for one that no frame has: the error then knows what there is.
    """
    import pandas as pd

    known = set(table.columns)
    need, rules = ({keyword_column(n) for n in names} - known for names in (asked, ruled))
    if not need | rules:
        return table
    columns = header_columns(frames, need | rules)
    if not need <= set(columns):
        columns = header_columns(frames)
        columns = {name: column for name, column in columns.items() if name not in known}
    return pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
