"""Schedulers and workers as processes of their own, as one starts them by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LOCAL = "127.0.0.1"


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as some:
        some.bind((LOCAL, 0))
        return int(some.getsockname()[1])


@contextlib.contextmanager
def running(*command, env=None) -> Iterator[subprocess.Popen]:
    """A process in a session of its own, ended with all that it started."""
    where = os.environ | {"PYTHONPATH": str(REPOSITORY)} | (env or {})
    with subprocess.Popen(
        command, env=where, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            kill(process)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for a process of `running`, and for all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def scheduler_command(*more: str, host: str = LOCAL, protocol: str = "tcp") -> tuple[list, str]:
    """What starts a scheduler, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host]
    command += ["--port", str(port), "--no-dashboard", "--protocol", protocol, *more]
    return command, f"{protocol}://{host}:{port}"


@contextlib.contextmanager
def scheduler(
    *more: str, protocol: str = "tcp", env: dict[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler in a process of its own, which answers: its address, and the process."""
    command, address = scheduler_command(*more, protocol=protocol)
    port = int(address.rpartition(":")[2])
    with running(*command, env=env) as process:
        until(lambda: _listens(port), "the scheduler")
        yield address, process


def _listens(port: int) -> bool:
    with socket.socket() as some:
        return some.connect_ex((LOCAL, port)) == 0


def worker_command(address: str, *more: str, host: str = LOCAL) -> list[str]:
    """What starts a worker of one thread, without a nanny."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
    return [*command, "--nthreads", "1", "--no-dashboard", "--host", host, *more]


def until(holds: Callable[[], object], what: str, seconds: float = 60) -> object:
    """What `holds()` returns once that is true; the test fails if it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    pytest.fail(f"{what}: not within {seconds:g} s")
