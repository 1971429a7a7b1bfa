"""What the pages below docs/ show runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a page."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def pages(language: str) -> list[Path]:
    """The pages with such blocks."""
    return [page for page in sorted(DOCS.glob("*.md")) if blocks(page, language)]


@pytest.mark.parametrize("page", pages("python"), ids=lambda page: page.stem)
def test_python(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", pages("toml"), ids=lambda page: page.stem)
def test_config(page: Path, tmp_path: Path) -> None:
    from daskcal.night.config import load_config

    for block in blocks(page, "toml"):
        for name in re.findall(r'^bad_pixels = "(.+?)"', block, flags=re.M):
            (tmp_path / name).touch()
        (tmp_path / "camera.toml").write_text(block, encoding="utf-8")
        load_config(tmp_path / "camera.toml")
