"""A scheduler and workers of this machine, each bound to its cores, that tell what they took."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

LOCAL = "127.0.0.1"
_ANSWERS = 60.0  # s
_BOUND = "import os, sys; os.sched_setaffinity(0, {cores}); from {module} import main; main()"


@dataclass
class OwnCluster:
    """Processes that end with this one.

    Attributes
    ----------
    cores : tuple of int
        Those of each worker, which has one thread.
    beside : tuple of int
        Those of the scheduler.
    limit : str
        Memory of each worker.
    """

    cores: tuple[int, ...]
    beside: tuple[int, ...]
    limit: str
    address: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        atexit.register(self._stack.close)
        port = _free_port()
        self.address = f"tcp://{LOCAL}:{port}"
        options = ["--host", LOCAL, "--port", str(port), "--no-dashboard"]
        self._start(self.beside, "distributed.cli.dask_scheduler", options)
        _listening(port)
        for core in self.cores:
            options = [self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
            options += ["--host", LOCAL, "--memory-limit", self.limit]
            self._start((core,), "distributed.cli.dask_worker", options)

    def _start(self, cores: tuple[int, ...], module: str, options: list[str]) -> None:
        code = _BOUND.format(cores=set(cores), module=module)
        self._stack.enter_context(_running([sys.executable, "-c", code, *options]))


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as some:
        some.bind((LOCAL, 0))
        return int(some.getsockname()[1])


def _listening(port: int) -> None:
    end = time.monotonic() + _ANSWERS
    while time.monotonic() < end:
        with socket.socket() as some:
            if some.connect_ex((LOCAL, port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no scheduler after {_ANSWERS:g} s")


# --- what they took -------------------------------------------------------------------------------


def of_scheduler(client: Any) -> dict[str, float]:
    """CPU seconds that the scheduler has taken so far, and tasks that came to an end."""

    def ask(dask_scheduler: Any) -> dict[str, float]:
        import time

        prefixes = dask_scheduler.task_prefixes.values()
        return {
            "seconds": time.process_time(),
            "tasks": sum(p.state_counts["memory"] + p.state_counts["erred"] for p in prefixes),
        }

    return dict(client.run_on_scheduler(ask))


def of_workers(client: Any) -> list[dict[str, int]]:
    """Of each worker: peak and limit of its memory, and what it has ever spilled, in bytes."""

    def ask(dask_worker: Any) -> dict[str, int]:
        from pathlib import Path

        said = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
        spilled = dask_worker.data.cumulative_metrics.get(("disk-write", "bytes"), 0)
        limit = dask_worker.memory_manager.memory_limit
        return {"peak": 1024 * int(said), "limit": int(limit), "spilled": int(spilled)}

    return list(client.run(ask).values())
