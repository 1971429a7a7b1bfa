"""What the pages below docs/ show runs as printed."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from daskcal.cli import main

DOCS = Path(__file__).parents[1] / "docs"
KINDS = ("tutorial", "howto", "reference", "explanation")

# of pages that print or make something: lines (as patterns), and files
PRINTED = {
    "amplifiers": (r"'x': 152", r"\['bottom left' 'bottom right'\]", r"step: [01]\.\d adu"),
    "matching": (
        r"will be made:\n  masters/bias\.fits from 9 frames",
        r"pin n0421\.fits n0441\.fits\n",
        r"masters/flat_B\.fits: pinned by .*not serve: filter is 'B', wanted 'V'",
        r"n0341\.fits masters/dark_60s\.fits +exposure -1\.9",
        r"masters/dark_300s\.fits +2\n",
        r"\n19 \d+\n",
    ),
    "mosaics": (
        r"\['CCD1', 'CCD2', 'CCD3', 'CCD4'\]\nuint16 \(1, 64, 144\)\n",
        r"Counts\(found=68, used=68, skipped=0, failed=0\)\n8\n",
    ),
    "library": (
        r"\('masters/bias.fits', 'masters/dark_\d+s.fits', 'library/.*/flat_V-",
        r"\['bias', 'dark', 'dark', 'flat', 'flat'\]",
    ),
    "provenance": (
        r"flat \['masters/bias.fits', 'masters/dark_\d+s.fits'\]\n\['n0401.fits', ",
        r"\]\nTrue\n$",
    ),
    "storage": (r"first [1-9]\d* products made, True\nsecond 0 products made, True\n",),
    "nights": (r"^0\nTrue\n\('n0001.fits',\)\n$",),
    "quality_gates": (
        r"n0004\.fits reject its level is 7\d\.\d\d adu, .* is most\n",
        r"n0203\.fits reject its level is 8\d\.\d\d adu, .* is most\n",
        r"Counts\(found=35, used=33, skipped=2, failed=0\)\n",
    ),
}
_DRAWN = [each.name for each in sorted((DOCS / "howto" / "pictures").glob("*.png"))]
MADE = {
    "mosaics": (
        "bias_CCD2.fits",
        "reduced/masters/flat_g_CCD2.fits",
        "reduced/science/ngc7789_g_001_CCD2.fits",
    ),
    "pictures": ("reduced/report/index.html", "flat.png", "sigma.png", *_DRAWN),
    "quality_gates": ("reduced/science/n0321.fits", "later/raw/n0003.fits"),
}


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a page; the language may be several, as a pattern."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def pages(language: str) -> list[Path]:
    """The pages with such blocks."""
    found = (page for kind in KINDS for page in sorted((DOCS / kind).glob("*.md")))
    return [page for page in found if blocks(page, language)]


def name(page: Path) -> str:
    """What a page is called in the tests' ids."""
    return page.parent.name if page.stem == "index" else page.stem


TOLD = pages("(?:console|text)")


@pytest.mark.parametrize("page", TOLD, ids=name)
def test_what_is_shown_is_what_comes(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages that show output: all from top to bottom, as a reader types it."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    text = page.read_text(encoding="utf-8")
    printed = ""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S):
        if language != "text":
            assert not printed, f"{page.name} does not show {printed}"
        if language == "text":
            same_text(block, printed)
            printed = ""
        elif language == "python":
            exec(compile(block, page.name, "exec"), namespace)
            printed = capsys.readouterr().out
        elif language == "console":
            for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.M):
                same_text(output, printed_by(command))
        elif title := re.match(r"# (\w+\.toml)\n", block):
            Path(title[1]).write_text(block, encoding="utf-8")
    assert not printed


def printed_by(command: str) -> str:
    """Standard output of a command line, which ends as it says."""
    words = shlex.split(command, comments=True)
    assert words[0] == "daskcal"
    done = CliRunner().invoke(main, words[1:])
    said = re.search(r"# exit status (\d)", command)
    assert done.exit_code == (int(said[1]) if said else 0), done.output
    return done.stdout


def same_text(shown: str, came: str) -> None:
    """Alike, where what is shown stands for anything with three dots."""
    rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(shown, came, rules), came


@pytest.mark.parametrize("page", [p for p in pages("python") if p not in TOLD], ids=name)
def test_python_and_commands(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), namespace)
    printed = capsys.readouterr().out
    for line in "".join(blocks(page, "bash")).splitlines():
        done = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        said = re.search(r"# exit status (\d)", line)
        assert done.exit_code == (int(said[1]) if said else 0), done.output
    for pattern in PRINTED.get(page.stem, ()):
        assert re.search(pattern, printed), printed
    for name in MADE.get(page.stem, ()):
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("page", pages("toml"), ids=name)
def test_config(page: Path, tmp_path: Path) -> None:
    from daskcal.night.config.read import load_config

    for block in blocks(page, "toml"):
        for name in re.findall(r'^bad_pixels = "(.+?)"', block, flags=re.M):
            (tmp_path / name).touch()
        (tmp_path / "camera.toml").write_text(block, encoding="utf-8")
        load_config(tmp_path / "camera.toml")


def test_every_gate_is_in_its_table_with_its_defaults() -> None:
    from daskcal.night.config.gates import Gates

    text = (DOCS / "howto" / "quality_gates.md").read_text(encoding="utf-8")
    found = (row for row in text.splitlines() if row.startswith("| `") and row.count("|") == 6)
    rows = {row.split("`")[1]: row for row in found}
    for name, gate in Gates():
        if name == "datasum":
            continue
        limits = gate.model_dump()
        assert rows[name].split("|")[-2].strip() == limits.pop("action")
        for value in limits.values():
            assert ("none" if value is None else f"{value:g}") in rows[name], name
