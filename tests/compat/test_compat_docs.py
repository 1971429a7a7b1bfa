"""The page on ccdproc names all that ccdproc has, and says truly what of it is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import ccdproc
import pytest

import daskcal
import daskcal.compat.ccdproc as compat

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "coming_from_ccdproc.md").read_text(
    encoding="utf-8"
)
ROWS = re.findall(r"^\| `(\w+)` \| (yes|no) \| (.+) \|$", PAGE, flags=re.M)
PUBLIC = {name for name in dir(ccdproc) if not name.startswith("_")}
MODULES = {name for name in PUBLIC if inspect.ismodule(getattr(ccdproc, name))}


def test_every_name_has_a_row() -> None:
    assert [name for name, _, _ in ROWS] == sorted(PUBLIC)


@pytest.mark.parametrize(("name", "here", "own"), ROWS, ids=[name for name, _, _ in ROWS])
def test_row(name: str, here: str, own: str) -> None:
    if here == "yes":
        assert name in compat.__all__
    elif name not in MODULES:
        with pytest.raises(AttributeError, match=f"no {name}; use"):
            getattr(compat, name)
    for call in re.findall(r"`(\w+)\(", own):
        assert call in daskcal.__all__


def signature(function: object) -> dict[str, object]:
    """Names and defaults; statistics by their word, and a function's by its name."""
    words = {"std": "std", "mean": "mean", "nanstd": "std", "sigma_func": "mad_std"}
    return {
        name: words.get(getattr(p.default, "__name__", ""), p.default)
        for name, p in inspect.signature(function).parameters.items()
    }


def kinds(function: object) -> dict[str, object]:
    """How each argument may be given: by place, by name."""
    return {name: p.kind for name, p in inspect.signature(function).parameters.items()}


CALLS = [
    (name, f"{name}.{member}" if member else name)
    for name, here, _ in ROWS
    if here == "yes" and callable(getattr(ccdproc, name)) and name not in ("CCDData", "Conf")
    for member in ("", *(m for m in dir(getattr(ccdproc, name)) if not m.startswith("_")))
    if member == "" or inspect.isclass(getattr(ccdproc, name))
]


@pytest.mark.parametrize("path", [path for _, path in CALLS])
def test_signatures(path: str) -> None:
    """Every class has every member, and every function every argument, in the same order."""
    ours, theirs = compat, ccdproc
    for part in path.split("."):
        ours, theirs = getattr(ours, part), getattr(theirs, part)
    if callable(theirs):
        expected = signature(theirs)
        found = signature(ours)
        found.pop("add_keyword", None)
        if path == "combine":
            found |= {"sigma_clip_func": "mean", "sigma_clip_dev_func": "std"}
        if path == "Combiner.average_combine":
            found["sum_func"] = expected["sum_func"] = "sum"
        assert list(found) == list(expected)
        assert found == expected
        assert {name: kind for name, kind in kinds(ours).items() if name in expected} == kinds(
            theirs
        )


def test_what_is_misspelt_is_said() -> None:
    with pytest.raises(AttributeError, match="did you mean 'flat_correct'"):
        compat.flat_corect  # noqa: B018
