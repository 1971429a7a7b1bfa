"""What containers and units run, as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from processes import LOCAL, REPOSITORY, free_port, running, until

BOUND = 240  # s for a small night on a busy machine
PROGRAMS = {
    "dask": [sys.executable, "-m", "dask"],
    "daskcal": [sys.executable, "-c", "from daskcal.cli import main; main()"],
    "python": [sys.executable],
}


def here(words: list[str], names: Mapping[str, str]) -> list[str]:
    """A command with this interpreter's programs, and with what `names` has for its names."""
    for name, value in names.items():
        words = [word.replace(name, value) for word in words]
    return [*PROGRAMS[words[0].rpartition("/")[2]], *words[1:]]


def succeed(command: list[str], **env: str) -> str:
    """Run a command; what it prints. The test fails, with what it says, if it does."""
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | env, capture_output=True,
        text=True, check=False, timeout=BOUND,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def reduce_with(
    scheduler: list[str],
    worker: list[str],
    reduce: list[str],
    known: str,
    names: Mapping[str, str] | None = None,
    variable: str | None = None,
) -> None:
    """Reduce a night by the commands of a scheduler, a worker and daskcal.

    `known` is the scheduler's address in them, `names` is what else only containers know. A worker
    that is not told the address finds it in an environment `variable`.
    """
    port, page = free_port(), f"{LOCAL}:{free_port()}"
    address = f"tcp://{LOCAL}:{port}"
    at = {known: address, **(names or {})}
    env = {variable: address} if variable else None
    listen = ["--host", LOCAL, "--port", str(port), "--dashboard-address", page]
    probe = "import sys, urllib.request as u; u.urlopen(sys.argv[1])"
    with (
        running(*here(scheduler, at), *listen),
        running(*here(worker, at), "--host", LOCAL, "--no-dashboard", env=env),
    ):
        until(lambda: _ends_well([sys.executable, "-c", probe, f"http://{page}/health"]), "health")
        succeed(here(reduce, at))


def _ends_well(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
