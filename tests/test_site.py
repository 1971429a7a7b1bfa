"""The site's pages: no public name, command, flag, card or promise that is missing or made up."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits

import daskcal

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DOCS = ROOT / "docs"
KINDS = ("tutorial", "howto", "reference", "explanation")
PAGES = {  # of the reference, and the module whose public names they have
    "python.rst": "daskcal",
    "plot.rst": "daskcal.plot",
    "simulate.rst": "daskcal.simulate",
    "compat.rst": "daskcal.compat.ccdproc",
    "errors.rst": "daskcal.errors",
    "rejections.rst": "daskcal.combination",
}
ASTROPY = {"CCDData", "fits_ccddata_reader", "fits_ccddata_writer"}


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def listed(page: str) -> set[str]:
    """The objects that a page of the reference documents, with their modules."""
    names = set()
    module = ""
    for line in text_of(f"reference/{page}").splitlines():
        if found := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"(?: {3}|\.\. (?:auto\w+|data):: )([A-Za-z_][\w.]*)$", line):
            names.add(f"{module}.{found[1]}")
    return names


def test_every_public_name_is_in_the_reference() -> None:
    there = set().union(*(listed(page) for page in PAGES))
    wanted = {f"daskcal.{name}" for name in daskcal.__all__ if name != "__version__"}
    for module in ("daskcal.plot", "daskcal.simulate", "daskcal.compat.ccdproc"):
        public = set(importlib.import_module(module).__all__) - ASTROPY
        wanted |= {f"{module}.{name}" for name in public}
    wanted.remove("daskcal.simulate.simulate_night")  # it is daskcal.simulate_night
    own = importlib.import_module("daskcal.combination").__all__
    wanted |= {f"daskcal.combination.{name}" for name in own if name not in daskcal.__all__}
    assert not wanted - there


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_the_reference_is_there(page: str) -> None:
    names = listed(page)
    assert names
    for name in names:
        module, _, last = name.rpartition(".")
        assert getattr(importlib.import_module(module), last).__doc__


def test_every_promise_has_its_test() -> None:
    rows = re.findall(r"^\| (.+) \| (`.+`) \|$", text_of("explanation/promises.md"), flags=re.M)
    assert len(rows) > 40
    for promise, tests in rows:
        for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", tests):
            assert f"\ndef {name}(" in (TESTS / file).read_text(encoding="utf-8"), promise
        assert re.fullmatch(r"(`[\w/]+\.py::\w+`(, )?)+", tests)


def test_the_flags_are_those_of_masks() -> None:
    from daskcal.frames.masks import FLAGS

    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text_of("explanation/data_model.md"), flags=re.M)
    assert {name: int(bit) for bit, name in rows} == {n: int(bit) for n, bit in FLAGS.items()}


def test_the_coordinates_are_named() -> None:
    from daskcal.frames.table import COORDINATES

    text = text_of("explanation/data_model.md")
    assert not [name for name in COORDINATES if f"`{name}`" not in text]


def test_the_output_page_has_what_reduce_writes(tmp_path: Path) -> None:
    """Each card and HDU that no raw frame has, and each key of the ledger."""
    from daskcal.night.ledger import Ledger

    text = text_of("reference/output.md")
    night = daskcal.simulate_night(
        tmp_path / "night", size=(32, 48), n_bias=3, n_dark=3, n_flat=3, n_science=1
    )
    daskcal.reduce_night(night.folder, tmp_path / "out", night.config)
    layout = {"EXTEND", "XTENSION", "PCOUNT", "GCOUNT", "EXTNAME", "UTYPE", "COMMENT"}
    raw = set().union(*(fits.getheader(path) for path in Path(night.folder).glob("*.fits")))
    found = set()
    for path in (tmp_path / "out").rglob("*.fits"):
        with fits.open(path) as hdus:
            found |= {hdu.name for hdu in hdus[1:]}
            found |= set().union(*(hdu.header for hdu in hdus)) - raw - layout
    found = {name for name in found if not re.fullmatch(r"FLAG\d+", name)}
    assert {"UNCERT", "DASKKEY", "NCOMBINE"} <= found
    assert not [name for name in found if f"`{name}`" not in text]
    assert not [f.name for f in dataclasses.fields(Ledger) if f"`{f.name}`" not in text]


def texts() -> Iterator[tuple[Path, str]]:
    """Pages, READMEs and notebooks, with their text."""
    for pattern in ("README.md", "docs/*.md", *(f"docs/{kind}/*.md" for kind in KINDS)):
        for page in ROOT.glob(pattern):
            yield page, page.read_text(encoding="utf-8")
    for page in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        told = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        yield page, "\n".join(told)


def test_links_lead_somewhere() -> None:
    for page, text in texts():
        for link in re.findall(r"\]\((?!https?:|attachment:)([^)#\s]+)", text):
            built = link.replace("notebooks/index.md", "conf.py")  # an index made by conf.py
            assert (page.parent / built).exists(), f"{page.name}: {link}"
