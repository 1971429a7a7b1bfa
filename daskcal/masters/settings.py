"""Sets of frames that only a tolerance tells apart: by temperature, or by a keyword of the header.

A master is never made of frames that the rules would not match with one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from daskcal.masters.facts import stated
from daskcal.masters.groups import MasterGroup, MasterKey, but_settings, largest
from daskcal.masters.rules import Rules, keyword_column

Value = float | str

FEW = 3  # frames: a master of fewer cannot tell an outlier


def split_by_settings(
    groups: Sequence[MasterGroup], table: Any, rules: Rules
) -> tuple[MasterGroup, ...]:
    """The groups, each split where the rules for temperature and keywords would not match frames.

    Numbers belong together within the tolerance of the median of those that are left; texts, and
    missing values, where they are the same.

    Parameters
    ----------
    groups : sequence of MasterGroup
        Of the rows of `table`.
    table : pandas.DataFrame
        The frame table, with a column for each keyword of the rules.
    rules : Rules
        Those of the night.

    Returns
    -------
    tuple of MasterGroup
        With the settings in their keys, the most frames first among those of one group.
    """
    for kind, name, tolerance in _asked(rules):
        column = keyword_column(name)
        if column in table.columns:
            groups = [
                part
                for group in groups
                for part in (
                    _split(group, table[column].to_numpy(), name, tolerance)
                    if kind in (None, group.key.kind)
                    else [group]
                )
            ]
    return tuple(groups)


def odd_ones(
    groups: Sequence[MasterGroup], unused: Callable[[MasterGroup], bool]
) -> Iterator[tuple[MasterGroup, str]]:
    """Groups that nothing takes, and that are at most half as many as others of their kind.

    With what tells them from those, such as ``CCD temperature -10 °C, and 11 others have -20 °C``:
    a tolerance, or for less than `FEW` frames the shape.
    """
    alike, anyhow = largest(groups), largest(groups, _but_window)
    for group in groups:
        usual, window = alike[but_settings(group.key)], anyhow[_but_window(group.key)]
        if not unused(group):
            continue
        if _is_odd(group, usual):
            yield group, _setting_apart(group, usual)
        elif len(group.frames) < FEW and _is_odd(group, window):
            mine, theirs = (one.key.readout.window_text for one in (group, window))
            yield group, _apart("shape", mine, window, theirs)


def _is_odd(group: MasterGroup, usual: MasterGroup) -> bool:
    return 2 * len(group.frames) <= len(usual.frames)


def _setting_apart(group: MasterGroup, usual: MasterGroup) -> str:
    pairs = zip(group.key.settings, usual.key.settings, strict=True)
    (name, mine), (_, theirs) = next(pair for pair in pairs if pair[0] != pair[1])
    label = "CCD temperature" if name == "ccd_temp" else name
    return _apart(label, _said(name, mine), usual, _said(name, theirs))


def _apart(label: str, mine: str, usual: MasterGroup, theirs: str) -> str:
    n, kind = len(usual.frames), usual.key.kind
    return f"its {label} is {mine}, and that of {n} other {kind} frames {theirs}"


def _but_window(key: MasterKey) -> MasterKey:
    return replace(key, readout=replace(key.readout, shape=(0, 0), origin=None), settings=())


def _asked(rules: Rules) -> Iterator[tuple[str | None, str, float]]:
    """What sets apart: kind of master (None for all), name and tolerance."""
    if rules.temperature is not None:
        yield None, "ccd_temp", rules.temperature
    for rule in rules.keywords:
        for kind in rule.masters:
            yield kind, rule.keyword, rule.tolerance


def _split(
    group: MasterGroup, column: Sequence[Any], name: str, tolerance: float
) -> list[MasterGroup]:
    values = [(stated(column[i]), i) for i in group.frames]
    sets = [*_numbers([(v, i) for v, i in values if isinstance(v, float)], tolerance)]
    texts: dict[str, list[int]] = {}
    for value, i in values:
        if isinstance(value, str):
            texts.setdefault(value, []).append(i)
    return [
        MasterGroup(
            replace(group.key, settings=(*group.key.settings, (name, value))), tuple(sorted(frames))
        )
        for value, frames in (*sets, *texts.items())
    ]


def _numbers(
    values: list[tuple[float, int]], tolerance: float
) -> Iterator[tuple[Value, list[int]]]:
    left = sorted(values)
    while left:
        middle = left[(len(left) - 1) // 2][0]
        yield middle, [i for value, i in left if abs(value - middle) <= tolerance]
        left = [item for item in left if abs(item[0] - middle) > tolerance]


def _said(name: str, value: Value) -> str:
    if value == "":
        return "unknown"
    if isinstance(value, str):
        return repr(value)
    return f"{value:.6g} °C" if name == "ccd_temp" and math.isfinite(value) else f"{value:.6g}"
