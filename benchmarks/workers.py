"""Child processes that do the work, each with its own memory, and what they took at most.

The parent imports nothing heavy: Linux counts the memory of the process that forks to the peak of
the one that it becomes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
_KIB = 1024
_LOG = "worker.log"
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # start-up would be the time to compile it
_LIGHT = 64 << 20  # bytes that the parent may have used itself
_TAIL, _LINE = 4000, 200  # characters of what a program said that are kept


class BenchmarkError(Exception):
    """A contestant failed, or its result is wrong."""


def tail_of_log(work: Path) -> str:
    """The last that workers said."""
    log = work / _LOG
    return log.read_text(errors="replace")[-_TAIL:] if log.exists() else ""


@dataclass(frozen=True)
class Ended:
    """A process that has run: wall time in s, peak memory in bytes, what it said."""

    seconds: float
    peak: int
    output: str


def environment(work: Path) -> dict[str, str]:
    """Variables of all children: caches and settings of the user are left alone."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    ours = {"HOME": home, "XDG_CONFIG_HOME": home, "DASKCAL_CACHE": work / "index"}
    given = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    return given | {name: str(path) for name, path in ours.items()} | {"LC_ALL": "C.UTF-8"}


def run_process(words: list[str], work: Path) -> Ended:
    """Run a program to its end.

    Raises
    ------
    BenchmarkError
        It failed.
    """
    log = work / "process.log"
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    answer, told = os.pipe()
    with log.open("wb") as said, os.fdopen(answer) as answers:
        started = subprocess.run(
            [*launcher, str(told), *words], stdout=said, stderr=said, stdin=subprocess.DEVNULL,
            cwd=ROOT, env=environment(work), pass_fds=(told,), check=False,
        )  # fmt: skip
        os.close(told)
        seconds, kib, status = answers.read().split() if started.returncode == 0 else (0, 0, -1)
    output = log.read_text(errors="replace")
    if int(status):
        print(output[-_TAIL:], file=sys.stderr)  # of a worker: into its log
        last = output.strip().rpartition("\n")[2]
        raise BenchmarkError(f"{Path(words[0]).name} ended with {status}: {last[:_LINE]}")
    return Ended(float(seconds), int(kib) * _KIB, output)


def _stay_light() -> None:
    status = Path("/proc/self/status").read_text()  # getrusage would tell of our own parent
    own = int(status.partition("VmHWM:")[2].split()[0]) * _KIB
    if own > _LIGHT:
        raise BenchmarkError(f"the parent took {own >> 20} MB itself; peaks of children would lie")


@dataclass
class Worker:
    """A Python process that calls functions of this suite by name."""

    work: Path
    hide: tuple[str, ...] = ()
    peak: int = 0
    _process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        _stay_light()
        self.log = self.work / _LOG
        with self.log.open("a") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serve", *self.hide],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, cwd=ROOT,
                env=environment(self.work),
            )  # fmt: skip

    def load(self, call: str) -> None:
        """Import what `call` needs, so that no call pays for it."""
        self._ask(call, {}, only_import=True)

    def call(self, call: str, **arguments: Any) -> tuple[float, Any]:
        """Seconds that a call took, and what it returned.

        Raises
        ------
        BenchmarkError
            It raised, or the process died.
        """
        return self._ask(call, arguments, only_import=False)

    def _ask(self, call: str, arguments: dict[str, Any], only_import: bool) -> tuple[float, Any]:
        request = {"call": call, "arguments": arguments, "only_import": only_import}
        line = ""
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line:
            raise BenchmarkError(f"{call}: its process died (out of memory?); log: {self.log}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{call}: {answer['error']}")
        return answer["seconds"], answer["value"]

    def close(self) -> int:
        """End the process; its peak memory in bytes."""
        if self._process.returncode is None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            _, status, usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._process.stdout.close()
            self.peak = usage.ru_maxrss * _KIB
        return self.peak

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()
