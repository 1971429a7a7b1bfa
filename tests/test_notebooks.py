"""The notebooks run from top to bottom, and say what their committed outputs say.

Not compared: times, bytes, differences by rounding (of which the notebooks assert that they are
small), checksums, cells tagged ``varies``, and what is in pictures. `notebook_runs.normalised` has
how these are written; ``python tests/notebook_runs.py`` writes the outputs anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from notebook_runs import (
    NOTEBOOKS,
    UNPUBLISHED,
    VARIES,
    code,
    normalised,
    pictures,
    printed,
    run,
    tags,
)

NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
BESIDE_CCDPROC = {
    "calibrate_flats": 2,
    "combine_biases": 2,
    "combine_darks": 2,
    "combine_flats": 3,
    "real_frames": 1,
    "reduce_science": 4,
}
LARGEST, ALTOGETHER = 300_000, 2_000_000  # bytes


def committed(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_says_what_is_committed(
    name: str, tmp_path: Path, realdata: Callable[[str], Path]
) -> None:
    env = {}
    if name == "real_frames":
        realdata("lick_kast_2amp")
        env["DASKCAL_REALDATA"] = str(realdata("lowell_hall42_5945").parent)
    notebook = run(NOTEBOOKS / f"{name}.ipynb", tmp_path, **env)
    for cell, before in zip(code(notebook), code(committed(name)), strict=True):
        for output in cell.outputs:
            assert output.output_type != "error", "\n".join(output.traceback)
            assert output.get("name") != "stderr", output.text
        assert "Warning" not in printed(cell)
        if UNPUBLISHED in tags(cell):
            assert pictures(cell)
            assert not before.outputs
            continue
        if VARIES not in tags(cell):
            assert normalised(printed(cell)) == normalised(printed(before))
        assert bool(cell.outputs) == bool(before.outputs), cell.source
        assert len(pictures(cell)) == len(pictures(before)), cell.source


def test_real_frames_that_are_absent_are_no_error_of_ours(tmp_path: Path) -> None:
    notebook = run(NOTEBOOKS / "real_frames.ipynb", tmp_path, DASKCAL_REALDATA=str(tmp_path))
    (last,) = [cell.outputs[-1] for cell in code(notebook) if cell.outputs]
    assert last.output_type == "error"
    (line,) = last.traceback
    assert re.match(r"Skipped: the real frames are not here.*DASKCAL_REALDATA", line)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_is_complete_small_and_nobodys(name: str) -> None:
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = committed(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [cell.execution_count for cell in code(notebook)] == [
        i + 1 for i in range(len(code(notebook)))
    ]
    assert sum(len(pictures(cell)) for cell in code(notebook)) >= 1
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert not re.search(r'["\s(]/(tmp|home|root|Users|work|private)/', text)


def test_all_are_small() -> None:
    files = [path for path in NOTEBOOKS.rglob("*") if path.suffix in (".ipynb", ".png")]
    assert sum(path.stat().st_size for path in files) < ALTOGETHER


@pytest.mark.parametrize("name", BESIDE_CCDPROC)
def test_says_how_it_compares_with_ccdproc(name: str) -> None:
    """The notebooks assert the differences; each comparison is told, with its times."""
    text = "".join(printed(cell) for cell in code(committed(name)))
    times = re.findall(
        r"daskcal (\d+\.\d\d) s.*?ccdproc (\d+\.\d\d) s.*?: \d+\.\d times", text, re.S
    )
    assert len(times) == BESIDE_CCDPROC[name]
