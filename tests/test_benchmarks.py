"""The benchmark suite runs, keeps what it measured before, and refuses wrong results."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = ("calibrate-combine", "start-up", "cluster", "graphs")  # rows without peers


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_quick_rows(tmp_path: Path) -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_bytes()
    ran = _run("--quick", "--rows", ",".join(ALONE), "--work", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    for row in ALONE:
        assert f"\n## {row}\n" in ran.stdout
    for sign in ("skipped", "FAILED", "not measured", "nan"):
        assert sign not in ran.stdout
    assert "Checked: distance of the median from the truth" in ran.stdout
    assert "Checked: different products of the combine 10 × 64²: 1." in ran.stdout
    assert list(tmp_path.iterdir()) == []
    assert (ROOT / "benchmarks" / "README.md").read_bytes() == readme


def test_unknown_row() -> None:
    ran = _run("--rows", "combine")
    assert ran.returncode == 2
    assert "no row 'combine'" in ran.stderr
    assert "combine-4096" in ran.stderr


def test_a_row_is_refreshed_and_the_rest_stays(tmp_path: Path) -> None:
    from benchmarks.tables import BEGIN, END, Row, Target, refresh

    def row(id_: str, figure: float) -> Row:
        target = Target("faster", figure, 2.0)
        return Row(id_, "Work.", ("what", "s"), (("daskcal", f"{figure}"),), (target,))

    (tmp_path / "README.md").write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    refresh([row("b", 3.25), row("a", 1.5)], ("a", "b"), tmp_path)
    refresh([row("a", math.nan)], ("a", "b"), tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\n\nAfter.\n")
    assert "old" not in text
    assert "| [a](#a) | faster | ≥ 2 × | – | not measured |" in text
    assert "| [b](#b) | faster | ≥ 2 × | 3.25 × | yes |" in text
    assert text.index("## a") < text.index("## b")


def test_wrong_results_are_errors() -> None:
    from benchmarks.tables import check
    from benchmarks.workers import BenchmarkError

    assert check("share of equal pixels", 1.0, 0.99) == "Checked: share of equal pixels: 1."
    with pytest.raises(BenchmarkError, match="share of equal pixels"):
        check("share of equal pixels", 0.98, 0.99)
    with pytest.raises(BenchmarkError, match="distance"):
        check("distance", math.nan, 0.01, at_least=False)


_FAILING = """
import sys
from pathlib import Path
from benchmarks.measure import Contestant, race

calls = {"works": "number", "fails": "no_such_function"}
found = race(
    [Contestant(name, f"benchmarks.tables:{call}", {"value": 2.0}) for name, call in calls.items()],
    2, Path(sys.argv[1]), print,
)
print(found["works"].values, found["works"].peak > 5e6, found["works"].failed)
print(found["fails"].seconds, found["fails"].failed)
"""


def test_a_contestant_that_fails_is_named(tmp_path: Path) -> None:
    # in a process of its own: what starts contestants must be small, or it says so
    command = [sys.executable, "-c", _FAILING, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "('2.00', '2.00') True False" in ran.stdout
    assert "() True" in ran.stdout
