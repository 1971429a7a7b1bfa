"""Programs that are run whole, and what their logs say of the step itself."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.workers import Ended, run_process

_SEQUENCE = "b_"
_TIME = re.compile(
    r"Execution time: (?:(\d+) h )?(?:(\d+) min )?(\d+(?:\.\d+)?) (ms|s)\b"
)  # Siril writes "859.65 ms.", "3.67 s.", "1 min 04 s."


def link(folder: str, target: str) -> None:
    """A folder with the names that Siril's sequences have, linked to the files of another."""
    Path(target).mkdir(exist_ok=True)
    for i, path in enumerate(sorted(Path(folder).iterdir()), start=1):
        (Path(target) / f"{_SEQUENCE}{i:05d}.fit").symlink_to(path)


def siril(folder: str, command: str) -> dict[str, Any]:
    """One command on a linked folder: seconds of the whole process and of the step.

    Sequence files of an earlier run are removed first, so that each run is a first one.
    """
    for known in Path(folder).glob("*.seq"):
        known.unlink()
    script = Path(folder) / "script.ssf"
    lines = ["requires 1.0.0", "set32bits", "setcpu 2", command.format(seq=_SEQUENCE)]
    script.write_text("\n".join(lines) + "\n")
    ended = run_process(["siril-cli", "-d", folder, "-s", str(script)], Path(folder).parent)
    return _facts(ended) | {"step": _seconds(ended.output)}


def astarithmetic(folder: str, out: str, operands: str) -> dict[str, Any]:
    """GNU Astronomy Utilities on all files of a folder: seconds of the whole process."""
    files = [str(path) for path in sorted(Path(folder).iterdir())]
    words = ["astarithmetic", *files, str(len(files)), *operands.split(), "--globalhdu=0"]
    words += ["--numthreads=2", "--quiet", f"--output={out}"]
    return _facts(run_process(words, Path(folder).parent))


def daskcal_combine(folder: str, out: str, memory: str = "") -> dict[str, Any]:
    """``daskcal combine``: seconds and peak memory of the whole process."""
    words = [_daskcal(), "combine", folder, "-o", out]
    words += ["--memory", memory] if memory else []
    return _facts(run_process(words, Path(folder).parent))


def daskcal_help(work: str) -> dict[str, Any]:
    """``daskcal --help``."""
    return _facts(run_process([_daskcal(), "--help"], Path(work)))


def python(work: str, program: str) -> dict[str, Any]:
    """A Python program given as text."""
    return _facts(run_process([sys.executable, "-c", program], Path(work)))


def _facts(ended: Ended) -> dict[str, Any]:
    return {"whole": ended.seconds, "peak": ended.peak}


def _daskcal() -> str:
    beside = Path(sys.executable).with_name("daskcal")
    return str(beside) if beside.exists() else shutil.which("daskcal") or "daskcal"


def _seconds(log: str) -> float:
    found = _TIME.findall(log)
    if not found:
        raise ValueError(f"Siril's log tells no time: {log[-500:]}")
    hours, minutes, number, unit = found[-1]
    seconds = float(number) / (1000 if unit == "ms" else 1)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds
