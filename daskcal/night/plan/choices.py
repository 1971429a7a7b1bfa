"""Which frames of a night are left out, by the user's choice or because they cannot count."""

from __future__ import annotations

import filecmp
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from daskcal.errors import ArgumentError, ConfigError
from daskcal.fits import Frame
from daskcal.night.config.match import Bad
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import Choice
from daskcal.night.plan.classify import glob_mask
from daskcal.night.query import parse_query, query_mask

if TYPE_CHECKING:
    import pandas as pd

OTHER = "neither bias, dark, flat nor science; [[classify]] in the config says what it is"


def choose_frames(
    table: pd.DataFrame,
    config: NightConfig,
    select: str | None,
    exclude: Sequence[str],
    folder: Path | str,
    names: Sequence[str],
) -> tuple[tuple[Choice, ...], dict[int, str]]:
    """What the user chose to leave out: records for the ledger, and frames with the reason.

    Parameters
    ----------
    table : pandas.DataFrame
        A row for each frame.
    config : NightConfig
        Its ``[select]`` comes first.
    select, exclude : str or None, sequence of str
        A condition and globs beside the config's.
    folder : Path or str
        The night's, where the paths that globs see start.
    names : sequence of str
        What the ledger calls the frames.

    Raises
    ------
    ConfigError, ArgumentError
        A condition that cannot be used; no frame that is left.
    """
    choices: list[Choice] = []
    skipped: dict[int, str] = {}
    paths = [str(path) for path in table["path"]]
    for bad in config.bad:
        out = _fitting(paths, bad.file, folder)
        choices.append(Choice("bad", f"{bad.said}: {bad.reason}", tuple(names[i] for i in out)))
        skipped = {int(i): f"marked bad: {bad.reason}" for i in out} | skipped
    for kind, expression, out in _left_out(table, config, select, exclude, folder, paths):
        choices.append(Choice(kind, expression, tuple(names[i] for i in out)))
        skipped = {int(i): f"left out by {said(choices[-1])}" for i in out} | skipped
    if len(skipped) == len(table):
        every = "; ".join(said(choice) for choice in choices)
        raise ArgumentError(f"{every}: none of the {len(table)} frames is left")
    return tuple(choices), skipped


def said(choice: Choice) -> str:
    """A choice as the user wrote it."""
    if choice.kind in ("select", "exclude"):
        return f"--{choice.kind} {choice.expression!r}"
    return choice.expression


def without_effect(choice: Choice) -> str:
    """What to say of a choice that concerns no frame."""
    what = {"pin": "fits no frame", "bad": "is no frame, and no master"}
    return f"{said(choice)} {what.get(choice.kind, 'leaves out no frame')}"


def bad_master(config: NightConfig, name: str) -> str:
    """Why the master called `name` is not to be used; "" where the config marks none such bad."""
    for bad in config.bad:
        if _fits_master(bad, name):
            return f"marked bad: {bad.reason}"
    return ""


def _fits_master(bad: Bad, name: str) -> bool:
    """A glob is for masters where it begins with their folder: names of raw frames are alike."""
    folder = name.partition("/")[0] + "/"
    names = (name, name.removesuffix(".fits"))
    return bad.file.startswith(folder) and any(
        one == bad.file or fnmatch.fnmatchcase(one, bad.file) for one in names
    )


def with_bad_masters(
    choices: Sequence[Choice], config: NightConfig, masters: Iterable[str]
) -> tuple[Choice, ...]:
    """The choices, those of the config's bad ones with the names of `masters` that they fit."""
    of = {f"{bad.said}: {bad.reason}": bad for bad in config.bad}
    known = tuple(masters)
    return tuple(
        replace(choice, frames=(*choice.frames, *(n for n in known if _fits_master(bad, n))))
        if (bad := of.get(choice.expression)) is not None
        else choice
        for choice in choices
    )


def _left_out(
    table: pd.DataFrame,
    config: NightConfig,
    select: str | None,
    exclude: Sequence[str],
    folder: Path | str,
    paths: list[str],
) -> Iterator[tuple[Literal["select", "exclude", "config"], str, np.ndarray]]:
    """Each choice: whose it is, what it says, and the frames that it leaves out."""
    if config.select.query:
        where = f"select.query = {config.select.query!r}"
        yield "config", where, _unselected(table, config.select.query, where)
    for glob in config.select.exclude:
        yield "config", f"select.exclude = {glob!r}", _fitting(paths, glob, folder)
    if select:
        yield "select", select, _unselected(table, select, f"--select {select!r}")
    for glob in exclude:
        yield "exclude", glob, _fitting(paths, glob, folder)


def _unselected(table: pd.DataFrame, query: str, where: str) -> np.ndarray:
    try:
        return np.flatnonzero(~query_mask(table, parse_query(query)))
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}") from None


def _fitting(paths: list[str], glob: str, folder: Path | str) -> np.ndarray:
    return np.flatnonzero(glob_mask(paths, [glob], folder))


def duplicates(
    frames: Sequence[Frame], skipped: dict[int, str], names: Sequence[str]
) -> dict[int, str]:
    """Frames whose bytes another file holds as well: they would count twice in a master."""
    first: dict[str, int] = {}
    doubles = {}
    for i, frame in enumerate(frames):
        if i in skipped:
            continue
        seen = first.setdefault(frame.fingerprint, i)
        if seen != i and _same_bytes(frames[seen], frame):
            doubles[i] = f"the same bytes as {names[seen]}"
    return doubles


def _same_bytes(one: Frame, other: Frame) -> bool:
    if one.source.path == other.source.path:
        return False  # two detectors of one file, however alike they are
    try:
        return filecmp.cmp(one.source.path, other.source.path, shallow=False)
    except OSError:  # whatever is wrong with a file is found, and named, when it is read
        return False


def others(table: pd.DataFrame, skipped: dict[int, str]) -> dict[int, str]:
    """Frames that are of no use here: arcs, focus frames and the like."""
    other = np.flatnonzero(table["imagetyp"] == "other")
    return {int(i): OTHER for i in other if int(i) not in skipped}
