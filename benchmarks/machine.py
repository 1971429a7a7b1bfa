"""What the figures were taken on: the machine and the versions of everything that took part."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.workers import ROOT

CORES = 2  # what the targets are written for
_PACKAGES = ("numba", "numpy", "dask", "xarray", "astropy", "ccdproc", "bottleneck", "astropop")


def keep_to_two_cores() -> int:
    """Bind this process and its children to two cores; how many there are then."""
    mine = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, mine)
    return len(mine)


def describe(work: Path) -> dict[str, str]:
    """The machine and the versions, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    described = {
        "processor": f"{_processor()}; {len(os.sched_getaffinity(0))} cores used",
        "memory": f"{memory / 2**30:.0f} GiB",
        "disk": _disk(work),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": platform.python_version(),
        "daskcal": _daskcal(),
    }
    for package in _PACKAGES:
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            described[package] = "not installed"
    described["Siril"] = _program("siril-cli", "--version")
    described["GNU Astronomy Utilities"] = _program("astarithmetic", "--version")
    return described


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(errors="replace")
    name = re.search(r"^model name\s*:\s*(.*)$", text, flags=re.M)
    wide = re.search(r"^flags\s*:.*\b(avx512f|avx2)\b", text, flags=re.M)
    said = name[1] if name else platform.processor() or "unknown"
    return f"{said}, {wide[1]}" if wide else said


def _disk(work: Path) -> str:
    """File system of the work folder."""
    best = ("", "unknown", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if work.is_relative_to(mount) and len(mount) > len(best[0]):
            best = (mount, kind, Path(device).name)
    return f"{best[1]} on {best[2]}"


def _daskcal() -> str:
    said = version("daskcal")
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    if shutil.which("git") is None:
        return said
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"{said} ({found.stdout.strip()})" if found.returncode == 0 else said


def _program(name: str, option: str) -> str:
    if shutil.which(name) is None:
        return "not installed"
    said = subprocess.run([name, option], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+(\.\d+)+", said)
    return number[0] if number else "unknown"
