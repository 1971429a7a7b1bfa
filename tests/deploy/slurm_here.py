"""A real SLURM on this machine, for as long as a test runs: all its files and ports are its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("node1", "node2")


def require_slurm() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
        )
    if os.getuid() != 0:
        pytest.skip("slurmd must be started by root")


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """SLURM with two nodes of this machine; yields the environment that finds it."""
    require_slurm()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    names = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--{name}{'-file' if name != 'socket' else ''}={at}" for name, at in names.items()]
    config = folder / "slurm.conf"
    config.write_text(_config(folder, names["socket"]))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool.{node}").mkdir()
    env = os.environ | {"SLURM_CONF": str(config)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(munge, env))
        _until(names["socket"].exists, "munged")
        stack.enter_context(_daemon(["slurmctld", "-D"], env))
        for node in NODES:
            stack.enter_context(_daemon(["slurmd", "-D", "-N", node], env))
        _until(lambda: _idle(env) == len(NODES), "slurmd")
        yield {"SLURM_CONF": str(config)}
        subprocess.run(["scancel", "--user=root"], env=env, check=False, capture_output=True)
        _until(lambda: not jobs(env), "the end of jobs")


def jobs(env: dict[str, str]) -> list[str]:
    """Numbers of the jobs that run or wait."""
    done = subprocess.run(
        ["squeue", "-h", "-o", "%i %j"], env=os.environ | env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def _idle(env: dict[str, str]) -> int:
    done = subprocess.run(
        ["sinfo", "-h", "-t", "idle", "-o", "%D"], env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return int(done.stdout or 0)


@contextlib.contextmanager
def _daemon(command: list[str], env: dict[str, str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.kill()


def _until(holds, what: str) -> None:
    for _ in range(300):
        if holds():
            return
        time.sleep(0.1)
    pytest.fail(f"{what} did not come within 30 s")


def _port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def _config(folder: Path, munge: Path) -> str:
    host = socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={n} NodeHostname={host} NodeAddr=127.0.0.1 Port={_port()} CPUs=4 RealMemory=4000"
        for n in NODES
    )
    return f"""\
ClusterName=daskcal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldLogFile={folder}/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=5
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP
"""
