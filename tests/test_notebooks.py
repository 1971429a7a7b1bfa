"""The notebooks run from start to end, and print what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SAME = r"differs by \d\.\de-0[5-9]"
PRINTED = {  # by each, as patterns
    "calibrate_flats": ("7 s, 70.001 s", "no dark within 1 s", f"lfc: {SAME}", f"aspen: {SAME}"),
    "combine_biases": ("6 biases", f"lfc: {SAME}", f"aspen: {SAME}"),
    "combine_darks": ("7 s, 70 s, 300 s", f"lfc: {SAME}", f"aspen: {SAME}"),
    "combine_flats": ("lfc g'", "aspen r: 10 flats", r"the same in (99\.9|100)"),
    "first_night": (r"Counts\(found=23, used=23, skipped=0, failed=0\)",),
    "reduce_science": (r"i' \['ccd.043.0.fits'\]", f"lfc: {SAME}", f"aspen: {SAME}"),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # forget the folder found before
    runpy.run_path(str(path))
    printed = capsys.readouterr().out
    for pattern in PRINTED[path.stem]:
        assert re.search(pattern, printed), printed
