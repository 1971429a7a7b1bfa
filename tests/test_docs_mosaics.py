"""What docs/mosaics.md shows runs as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from daskcal.cli import main
from daskcal.night.config import load_config

TEXT = (Path(__file__).parents[1] / "docs" / "mosaics.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.M | re.S)


def test_python_and_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks("python"):
        exec(compile(block, "docs/mosaics.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "['CCD1', 'CCD2', 'CCD3', 'CCD4']",
        "uint16 (1, 64, 144)",
        "Counts(found=68, used=68, skipped=0, failed=0)",
        "8",
    ]
    for line in blocks("bash")[0].splitlines():
        done = CliRunner().invoke(main, shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "bias_CCD2.fits").is_file()
    assert (tmp_path / "reduced" / "masters" / "flat_g_CCD2.fits").is_file()
    assert (tmp_path / "reduced" / "science" / "ngc7789_g_001_CCD2.fits").is_file()


def test_configs(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    first, second = blocks("toml")
    path.write_text(first)
    config = load_config(path)
    assert config.of_detector("CCD2").crosstalk.matrix == ((0, 2e-4), (1e-4, 0))
    assert config.of_detector("CCD1").crosstalk.matrix == ()
    path.write_text(second)
    assert load_config(path).flat.normalise_over == "mosaic"
