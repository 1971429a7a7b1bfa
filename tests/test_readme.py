"""What the README shows runs as printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for block in _blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "did you mean 'sigma_floor'?" in printed
    assert "Counts(found=35, used=35, skipped=0, failed=0)" in printed
    assert len(list((tmp_path / "reduced-by-hand").glob("*.fits"))) == 1


def test_main_command(tmp_path: Path) -> None:
    (line,) = re.findall(r"<!-- main -->\n```bash\n(.*)\n```", README)
    steps = [step for step in line.split(" && ") if "/daskcal " in step]
    assert len(steps) == 2
    for step in steps:
        words = shlex.split(step)
        words[0] = str(Path(sys.executable).with_name("daskcal"))
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "reduced" / "report" / "index.html").stat().st_size > 10_000


def test_config(tmp_path: Path) -> None:
    from daskcal.night.config.read import load_config

    (text,) = _blocks("toml")
    path = tmp_path / "camera.toml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert [rule.imagetyp for rule in config.classify] == ["bias", "flat"]


def test_commands_exist() -> None:
    from daskcal.cli import main

    for block in _blocks("bash"):
        for name in re.findall(r"^daskcal (\S+)", block, flags=re.M):
            assert name in main.commands
