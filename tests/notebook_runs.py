"""Runs notebooks, and keeps of their outputs what is small and the same each time.

``python tests/notebook_runs.py [NAME...]`` runs those of ``notebooks/`` (all, without names) and
writes their outputs into them: look at ``git diff`` before they are committed. Two tags of a cell
say what is special: ``varies``, its text depends on versions or on the machine and is not compared;
``unpublished``, its pictures are not kept.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
VARIES, UNPUBLISHED = "varies", "unpublished"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_COLOURS = 32  # of a picture: noise in all greys does not compress
_DEPENDS = (  # on the machine and the version
    r"\b\d+\.\d\d s\b",
    r"\b\d+\.\d times as fast",
    r"\b\d+(\.\d+)? [kMGT]i?B\b",
    r"\b\d\.\de[-+]\d\d\b",
    r"\bdaskcal \d+\.\d+\.\d+\b",
    r"\b[0-9a-f]{12}\b",
    r"\b\d+ tasks\b",
)


def run(path: Path, folder: Path, **env: str) -> NotebookNode:
    """A notebook with the outputs of a kernel of its own, which works in `folder`.

    An error in a cell ends it, and is that cell's last output. `env` is set for the kernel.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in code(notebook):
        cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory(prefix="nb-") as sockets:  # whose names must be short
        kernel = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
        client = NotebookClient(
            notebook, timeout=600, record_timing=False, config=Config(KernelManager=kernel),
            resources={"metadata": {"path": str(folder)}},
        )  # fmt: skip
        with contextlib.suppress(CellExecutionError):
            client.execute(env=_environment(sockets) | env)
    _clean(notebook, folder)
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", []))


def printed(cell: NotebookNode) -> str:
    """What a cell printed, and the texts of what it returned."""
    texts = [
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]
    return "".join(texts)


def pictures(cell: NotebookNode) -> list[str]:
    """The pictures below a cell, in base 64."""
    found = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [picture for picture in found if picture]


def normalised(text: str) -> str:
    """A text without what depends on the machine.

    That is: times (``0.12 s``, of two decimals) and ratios of times (``3.4 times as fast``), bytes
    (``5.9 GiB``), tasks, differences by rounding (``1.2e-07``: with an exponent), the version of
    daskcal, and beginnings of checksums and keys (twelve digits), which depend on it.
    """
    for pattern in _DEPENDS:
        text = re.sub(pattern, "…", text)
    return text


def _environment(folder: str) -> dict[str, str]:
    """Of the kernel: the commands of this Python, and nothing of the user's settings."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    kept = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    return kept | {"PATH": commands, "IPYTHONDIR": folder, "MPLCONFIGDIR": folder}


def _clean(notebook: NotebookNode, folder: Path) -> None:
    """Leave nothing that depends on where and when it ran, and make pictures small."""
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in code(notebook):
        cell.metadata = nbformat.from_dict({"tags": tags(cell)} if tags(cell) else {})
        cell.outputs = [_cleaned(output, folder) for output in _joined(cell.outputs)]


def _joined(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Outputs, with what was printed in several pieces as one."""
    last = None
    for output in outputs:
        if last is not None and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
            continue
        if last is not None:
            yield last
        last = output
    if last is not None:
        yield last


def _cleaned(output: NotebookNode, folder: Path) -> NotebookNode:
    if output.output_type == "stream":
        output.text = output.text.replace("\r\n", "\n").replace(f"{folder}/", "")
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = _small(data["image/png"])
    return output


def _small(picture: str) -> str:
    """A picture in fewer colours."""
    found = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    png = io.BytesIO()
    rare = Image.Quantize.MAXCOVERAGE  # keeps them: the blue of masked pixels is one
    found.quantize(_COLOURS, method=rare, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return base64.b64encode(png.getvalue()).decode() + "\n"


def _refresh(path: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="nb-") as folder:
        notebook = run(path, Path(folder))
    for cell in code(notebook):
        if UNPUBLISHED in tags(cell):
            cell.outputs = [o for o in cell.outputs if "image/png" not in o.get("data", {})]
        for output in cell.outputs:
            if output.output_type == "error":
                print(path.name, *output.traceback, sep="\n", file=sys.stderr)
                return 1
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    chosen = sys.argv[1:] or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    sys.exit(max(_refresh(NOTEBOOKS / f"{name}.ipynb") for name in chosen))
