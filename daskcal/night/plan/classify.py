"""What each frame is: the config's rules applied to the table of frames."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.fits.urls import is_url
from daskcal.night.query import parse_query, query_mask

if TYPE_CHECKING:
    from daskcal.night.config.keys import ClassifyRule

DECIDED_BY = "decided_by"  # column of a night's table


def classify(table: Any, rules: Sequence[ClassifyRule], root: str | Path = "") -> Any:
    """Apply rules in order to a table of frames; the first that fits a frame decides.

    Parameters
    ----------
    table : pandas.DataFrame
        One row for each frame: normalised names, ``path`` and raw keywords as ``hdr_<name>``.
    rules : sequence of ClassifyRule
        From ``config.classify``.
    root : str or Path
        The night's folder, where the paths of `files` globs start.

    Returns
    -------
    pandas.DataFrame
        A copy with ``imagetyp``, ``flat_kind`` and ``filter`` as the rules say.

    Raises
    ------
    ConfigError
        A rule names a keyword that no frame has.
    """
    return reclassified(table, rules, decided_by(table, rules, root))


def decided_by(table: Any, rules: Sequence[ClassifyRule], root: str | Path = "") -> np.ndarray:
    """The number of the rule that decides of each frame, -1 where none does; see `classify`."""
    number = np.full(len(table), -1)
    for n, rule in enumerate(rules):
        fits = number < 0
        if rule.files:
            fits &= glob_mask(table["path"], [rule.files], root)
        if rule.when:
            fits &= query_mask(table, parse_query(rule.when))
        number[fits] = n
    return number


def reclassified(table: Any, rules: Sequence[ClassifyRule], number: np.ndarray) -> Any:
    """A copy of the table with what the rule `decided_by` says of each frame."""
    result = table.copy()
    for n, rule in enumerate(rules):
        fits = number == n
        result.loc[fits, "imagetyp"] = rule.imagetyp
        if rule.imagetyp != "flat":
            result.loc[fits, "flat_kind"] = ""
        elif rule.flat_kind:
            result.loc[fits, "flat_kind"] = rule.flat_kind
        if rule.filter is not None:
            result.loc[fits, "filter"] = rule.filter
    return result


def glob_mask(paths: Iterable[str], globs: Sequence[str], root: str | Path = "") -> np.ndarray:
    """Which paths fit one of the globs, by file name or by path within `root`; a bool array.

    A glob also fits as a plain name, so that names that hold ``[`` need no escape.
    """
    return np.array([_fits_glob(str(path), globs, str(root)) for path in paths], dtype=bool)


def _fits_glob(path: str, globs: Sequence[str], root: str) -> bool:
    within = root and (os.path.isabs(path) or is_url(path))
    inside = os.path.relpath(path, root) if within else path
    names = (os.path.basename(path), inside.replace(os.sep, "/"))
    return any(name == glob or fnmatch.fnmatchcase(name, glob) for name in names for glob in globs)
