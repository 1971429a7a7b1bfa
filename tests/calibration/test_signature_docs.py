"""What docs/detector_signature.md shows runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

from daskcal.night.config import load_config

TEXT = (Path(__file__).parents[2] / "docs" / "detector_signature.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.M | re.S)


def test_python(capsys) -> None:
    namespace: dict[str, object] = {"__name__": "docs"}
    blocks = _blocks("python")
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "detector_signature.md", "exec"), namespace)
    assert "read noise" in capsys.readouterr().out


def test_config(tmp_path: Path) -> None:
    (text,) = _blocks("toml")
    path = tmp_path / "camera.toml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.saturation.bleed == 20
    assert config.linearity.arguments() == {"coefficients": (1e-6, -2e-12), "limit": 55000}
