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
    result = table.copy()
    undecided = np.ones(len(table), bool)
    for rule in rules:
        fits = undecided.copy()
        if rule.files:
            fits &= glob_mask(table["path"], [rule.files], root)
        if rule.when:
            fits &= query_mask(table, parse_query(rule.when))
        undecided &= ~fits
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
