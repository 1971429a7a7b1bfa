"""What docs/amplifiers.md shows runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "amplifiers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.M | re.S)


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for block in blocks("python"):
        exec(compile(block, "docs/amplifiers.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "'x': 152" in printed
    assert "['bottom left' 'bottom right']" in printed
    assert float(re.findall(r"step: (\S+) adu", printed)[0]) < 2


def test_config(tmp_path: Path) -> None:
    from daskcal.night.config import load_config
    from daskcal.night.plan import instrument_of

    (text,) = blocks("toml")
    path = tmp_path / "camera.toml"
    path.write_text(text, encoding="utf-8")
    camera = instrument_of(load_config(path))
    assert [(amp.name, amp.gain) for amp in camera.amplifiers] == [("left", 1.2), ("right", 1.3)]
