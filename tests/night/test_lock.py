"""Two runs on one output: one of them works, and a lock of the dead holds nobody up."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import small_night
from click.testing import CliRunner

from daskcal.cli import main
from daskcal.errors import OutputError
from daskcal.night.output import lock
from daskcal.night.output.lock import NAME, held


def quiet(_: str) -> None:
    """Nobody listens."""


def left_by(folder: Path, **whose: Any) -> Path:
    """The lock file of a run that is gone."""
    given = {"host": socket.gethostname(), "process": 4194303, "since": "2024-03-01T22:00:00"}
    (folder / NAME).write_text(json.dumps(given | whose) + "\n7\n")
    return folder


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with held(tmp_path, quiet):
        while not (tmp_path / NAME).read_text().endswith("\n0\n"):
            time.sleep(0.01)
        with pytest.raises(OutputError) as refused, held(tmp_path, quiet):
            pass
        assert (tmp_path / NAME).is_file()
    said = str(refused.value)
    assert f"{tmp_path} is in use by another run: process {os.getpid()} on" in said
    assert socket.gethostname() in said
    assert f"since {time.strftime('%Y-%m', time.gmtime())}" in said
    assert os.listdir(tmp_path) == []
    with held(tmp_path, quiet):
        pass


def test_only_one_of_many_at_a_time(tmp_path: Path) -> None:
    inside, most, outcomes = [], [], []

    def one() -> None:
        for _ in range(20):
            try:
                with held(tmp_path, quiet):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    outcomes.append(True)
            except OutputError:
                outcomes.append(False)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(outcomes) == 160
    assert True in outcomes
    assert os.listdir(tmp_path) == []


STALLED = """
import sys, time
from daskcal.night.run import run
def stall(*args, **options):
    print("at work", flush=True)
    time.sleep(300)
run.combine = stall
from daskcal.cli import main
main(sys.argv[1:], prog_name="daskcal")
"""


def test_a_run_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", dark=0, flat=0, science=0)
    args = ["reduce", str(raw), "-o", str(tmp_path / "out")]
    first = subprocess.Popen([sys.executable, "-c", STALLED, *args], stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"at work\n"
        second = CliRunner().invoke(main, args)
        assert second.exit_code == 1
        assert f"is in use by another run: process {first.pid} on" in second.stderr
        assert not (tmp_path / "out" / "night.json").exists()
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert (tmp_path / "out" / NAME).exists()
    third = CliRunner().invoke(main, args)
    assert third.exit_code == 0, third.output
    assert not small_night.temporaries(tmp_path / "out")


def test_a_run_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system does not pass locks on, signs of life tell."""
    monkeypatch.setattr(lock, "PATIENCE", 0.4)
    said: list[str] = []
    with held(left_by(tmp_path, host="elsewhere"), said.append):  # dead: nothing moves
        pass
    assert "is of process 4194303 on elsewhere: waiting 0.4 s for a sign of life" in said[0]
    left_by(tmp_path, host="elsewhere")
    monkeypatch.setattr(lock, "PATIENCE", 60)
    moves = threading.Timer(0.1, (tmp_path / NAME).write_text, [
        json.dumps({"host": "elsewhere", "process": 7, "since": "now"}) + "\n8\n"
    ])  # fmt: skip
    moves.start()
    with pytest.raises(OutputError, match="process 4194303 on elsewhere"), held(tmp_path, quiet):
        pass


@pytest.mark.parametrize(
    ("process", "alive"),
    [pytest.param(os.getpid(), True, id="own"), (4194303, False), ("x", False)],
)
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, process: Any, alive: bool
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    left_by(tmp_path, process=process)
    if alive:
        with pytest.raises(OutputError, match=f"process {process}"), held(tmp_path, quiet):
            pass
    else:
        with held(tmp_path, quiet):
            assert (tmp_path / NAME).exists()
        assert os.listdir(tmp_path) == []


def test_rubbish_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff[1]")
    with held(tmp_path, quiet):
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_no_lock(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputError, match="cannot be made"), held(tmp_path, quiet):
        pass
