"""What a config says and no frame of the night has: a word misspelt is said, not swallowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from daskcal.fits import Frame
from daskcal.fits.keywords import type_words
from daskcal.masters.rules import keyword_column
from daskcal.night.config.read import NightConfig, camera_names, load_camera
from daskcal.night.plan.classify import DECIDED_BY

if TYPE_CHECKING:
    import pandas as pd

    from daskcal.fits.keywords import Keywords


def idle_keys(
    config: NightConfig, keywords: Keywords, frames: Sequence[Frame], table: pd.DataFrame
) -> list[str]:
    """A line for each keyword, type and rule of a config that no frame has or fits.

    What a shipped camera says too is passed over: that is written for all of its nights.

    Parameters
    ----------
    config : NightConfig
        The night's.
    keywords : Keywords
        The same config's alias table.
    frames, table : sequence of Frame, pandas.DataFrame
        All frames, and a row for each.
    """
    found = [
        *_keywords(config, frames),
        *_types(config, keywords, frames),
        *_rules(config, table),
        *_matched(config, table),
    ]
    if not found:
        return []
    shipped = {said for camera in _cameras(config) for said in _entries(camera)}
    return [line for said, line in found if said not in shipped]


def _cameras(config: NightConfig) -> Iterator[NightConfig]:
    """The shipped cameras that a config is of."""
    for name in camera_names():
        camera = load_camera(name)
        mine = camera.instrument.name
        if name == config.extends or (mine and mine == config.instrument.name):
            yield camera


def _entries(config: NightConfig) -> Iterator[object]:
    """What stands in a config, each thing by itself."""
    yield from config.keywords.items()
    yield from config.types.items()
    yield from config.classify
    yield from config.match.keywords


def _keywords(config: NightConfig, frames: Sequence[Frame]) -> Iterator[tuple[object, str]]:
    for name, given in config.keywords.items():
        if given and not any(_has(frame, alias) for frame in frames for alias in given):
            yield (name, given), f"keywords.{name}: no frame has {' or '.join(given)}"


def _has(frame: Frame, alias: str) -> bool:
    headers = [one.header for one in (frame, *frame.parts)]
    return any(all(key.upper() in header for key in alias.split("+")) for header in headers)


def _types(
    config: NightConfig, keywords: Keywords, frames: Sequence[Frame]
) -> Iterator[tuple[object, str]]:
    if not config.types:
        return
    there = {word for frame in frames for word in type_words(frame.header, keywords)}
    for word, kind in config.types.items():
        if not there & set(type_words({"IMAGETYP": word})):
            yield (word, kind), f"types.{word} = {kind!r}: no frame has this word for its type"


def _rules(config: NightConfig, table: pd.DataFrame) -> Iterator[tuple[object, str]]:
    deciding = set(table[DECIDED_BY]) if config.classify else set()
    for number, rule in enumerate(config.classify):
        if number not in deciding:
            yield rule, f"{rule.said} decides of no frame"


def _matched(config: NightConfig, table: pd.DataFrame) -> Iterator[tuple[object, str]]:
    for one in config.match.keywords:
        if keyword_column(one.keyword) not in table:
            yield one, f"[[match.keywords]] keyword = {one.keyword!r}: no frame has it"
