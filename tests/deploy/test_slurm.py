"""A night on a real SLURM, by the files of deploy/slurm: the same bits, also when a job is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from slurm_here import jobs, slurm

import daskcal

pytest.importorskip("dask_jobqueue")
REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy" / "slurm"


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The profile of deploy/slurm with what this machine has."""
    folder = tmp_path_factory.mktemp("profile")
    settings = yaml.safe_load((DEPLOY / "daskcal.yaml").read_text())
    settings["jobqueue"]["daskcal"] |= {
        "daskcal-jobs": 2, "cores": 1, "memory": "2GB", "walltime": "00:10:00", "interface": "lo",
        "scheduler-options": {"interface": "lo"}, "log-directory": str(folder),
        "local-directory": str(folder), "python": sys.executable,
        "job-script-prologue": [f"export PYTHONPATH={REPOSITORY}"],
    }  # fmt: skip
    path = folder / "here.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A small simulated night, and its products by threads."""
    folder = tmp_path_factory.mktemp("night")
    daskcal.simulate_night(folder / "n", size=(96, 128))
    raw, (config,) = folder / "n" / "raw", (folder / "n").glob("*.toml")
    daskcal.reduce_night(raw, folder / "threads", config)
    return folder, raw, config


def products(folder):
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for part in ("masters", "science")
        for path in sorted((folder / part).iterdir())
    }


def test_a_batch_survives_the_loss_of_a_worker_job(env, profile, night, tmp_path):
    folder, raw, config = night
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "daskcal").write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from daskcal.cli import main; main()' \"$@\"\n"
    )
    (bin_ / "daskcal").chmod(0o755)
    given = os.environ | env | {
        "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY),
        "RAW": str(raw), "OUT": str(folder / "slurm"), "PROFILE": str(profile),
        "CONFIG": str(config),
    }  # fmt: skip
    log = tmp_path / "night.log"
    batch = ["sbatch", "--wait", f"--output={log}", str(DEPLOY / "night.sbatch")]
    with subprocess.Popen(batch, env=given, stdout=subprocess.DEVNULL) as waiting:
        try:
            lost = _worker_once_it_works(env, folder / "slurm", waiting)
            subprocess.run(["scancel", lost], env=os.environ | env, check=True)
            assert waiting.wait(timeout=240) == 0, log.read_text()
        finally:
            waiting.kill()
    assert products(folder / "slurm") == products(folder / "threads")


def _worker_once_it_works(env, out, batch):
    """The number of a job of workers, when a first product is there."""
    for _ in range(600):
        assert batch.poll() is None
        found = [line.split()[0] for line in jobs(env) if "daskcal-worker" in line]
        if found and list((out / "masters").glob("*.fits")):
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no worker, or no product")


def test_a_notebook_keeps_so_many_jobs(env, profile, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with daskcal.cluster(slurm=str(profile)) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.submit(pow, 2, 5).result() == 32
        assert len([line for line in jobs(env) if "daskcal-worker" in line]) == 2
