"""Schedulers and workers: reached in each way, refused or missed with one message, in time."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import pytest

import daskcal
from daskcal.errors import ArgumentError, ClusterError

pytest.importorskip("distributed")
REPOSITORY = Path(__file__).parents[1]


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextlib.contextmanager
def running(*command, env=None):
    """A process in a session of its own, ended with all that it started."""
    where = os.environ | {"PYTHONPATH": str(REPOSITORY)} | (env or {})
    with subprocess.Popen(
        command, env=where, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def scheduler(*more, protocol="tcp"):
    """A scheduler in a process of its own: its address, and the process."""
    port = free_port()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--no-dashboard", "--protocol", protocol, *more]
    with running(*command) as process:
        yield f"{protocol}://127.0.0.1:{port}", process


def worker_command(address, *more):
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
    return [*command, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *more]


def test_workers_of_this_machine_listen_to_it_alone():
    with daskcal.cluster(workers=2) as client:
        assert client.submit(operator.mul, 2, 21).result() == 42
        workers = client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert {info["nthreads"] for info in workers.values()} == {max(1, os.cpu_count() // 2)}
        assert all("://127.0.0.1:" in address for address in workers)
        assert "://127.0.0.1:" in client.dashboard_link


def test_a_scheduler_by_address_and_by_file(tmp_path):
    file = tmp_path / "scheduler.json"
    with (
        scheduler("--scheduler-file", str(file)) as (address, _),
        running(*worker_command(address)),
    ):
        with daskcal.cluster(scheduler=address) as client:
            assert client.submit(operator.mul, 2, 2).result() == 4
        with daskcal.cluster(scheduler_file=file) as client:
            assert client.scheduler.address == address


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of workers, scheduler, scheduler_file, slurm; none is given"),
        ({"workers": 2, "slurm": "slurm"}, "workers, slurm is given"),
        ({"workers": 0}, "workers=0 should be 1 or more"),
        ({"slurm": "slrum"}, "did you mean 'slurm'"),
        ({"slurm": "nowhere.yaml"}, "'nowhere.yaml' is no file that can be read"),
    ],
)
def test_what_cannot_be_meant(given, message):
    with pytest.raises(ArgumentError, match=re.escape(message)), daskcal.cluster(**given):
        pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scheduler": "tcp://127.0.0.1:1"}, "no scheduler can be reached at tcp://127.0.0.1:1"),
        ({"scheduler": "elsewhere"}, "elsewhere.*missing port number"),
        ({"scheduler_file": "/no/such.json"}, "/no/such.json is not there"),
    ],
)
def test_no_scheduler(given, message):
    begin = time.monotonic()
    with pytest.raises(ClusterError, match=message), daskcal.cluster(**given, wait=2):
        pass
    assert time.monotonic() - begin < 20


def test_a_scheduler_without_workers():
    with (
        scheduler() as (address, _),
        pytest.raises(
            ClusterError, match=r"has no worker after 2 s: start some \('dask worker tcp"
        ),
        daskcal.cluster(scheduler=address, wait=2),
    ):
        pass


def test_a_worker_of_another_version(tmp_path):
    other = tmp_path / "daskcal-99.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: daskcal\nVersion: 99.0\n")
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    with (
        scheduler() as (address, _),
        running(*worker_command(address), env=path),
        pytest.raises(ClusterError, match=r"has daskcal 99\.0, and here it is .*\(python: /"),
        daskcal.cluster(scheduler=address),
    ):
        pass


# A worker of an environment in which daskcal is not installed: neither found nor known.
WITHOUT = """
import importlib.metadata, sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "daskcal":
            raise ModuleNotFoundError(name)

known = importlib.metadata.Distribution.from_name
def from_name(name):
    if name == "daskcal":
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)

sys.meta_path.insert(0, Hidden())
importlib.metadata.Distribution.from_name = from_name
from distributed.cli.dask_worker import main
main(sys.argv[1:])
"""


def test_a_worker_without_daskcal():
    with scheduler() as (address, _):
        command = [sys.executable, "-c", WITHOUT, *worker_command(address)[3:]]
        with (
            running(*command),
            pytest.raises(ClusterError, match=r"tcp://127.* lacks daskcal, and here it is"),
            daskcal.cluster(scheduler=address),
        ):
            pass


def lose(process, client):
    """Kill a process in the middle of work, and wait for the work."""
    future = client.submit(time.sleep, 60)
    threading.Timer(0.5, os.killpg, (process.pid, signal.SIGKILL)).start()
    future.result()


def test_all_workers_are_lost_for_good():
    begin = time.monotonic()
    with (
        scheduler() as (address, _),
        running(*worker_command(address)) as worker,
        pytest.raises(ClusterError, match="all workers are lost, and none came back in 3 s"),
        daskcal.cluster(scheduler=address, wait=3) as client,
    ):
        lose(worker, client)
    assert time.monotonic() - begin < 40


def test_a_worker_that_comes_back_goes_on():
    with (
        scheduler() as (address, _),
        running(*worker_command(address)) as worker,
        daskcal.cluster(scheduler=address, wait=20) as client,
    ):
        os.killpg(worker.pid, signal.SIGKILL)
        future = client.submit(operator.mul, 2, 4)
        with running(*worker_command(address)):
            assert future.result() == 8


def test_the_scheduler_is_lost():
    limits = {"distributed.comm.timeouts.connect": "2s", "distributed.comm.retry.count": 0}
    with (
        dask.config.set(limits),
        scheduler() as (address, process),
        running(*worker_command(address)),
        pytest.raises(ClusterError, match=r"the scheduler at tcp://127\.0\.0\.1:\d+ is gone"),
        daskcal.cluster(scheduler=address, wait=3) as client,
    ):
        lose(process, client)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """Dask's settings of a key and a certificate signed by itself."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return [
        f"--tls-{name}={cert if name != 'key' else key}" for name in ("ca-file", "cert", "key")
    ], {
        "distributed.comm.tls.ca-file": str(cert),
        "distributed.comm.tls.client.cert": str(cert),
        "distributed.comm.tls.client.key": str(key),
    }


def test_tls_with_certificates_and_without(certificate):
    options, settings = certificate
    with (
        scheduler(*options, protocol="tls") as (address, _),
        running(*worker_command(address, *options)),
    ):
        with dask.config.set(settings), daskcal.cluster(scheduler=address) as client:
            assert client.submit(operator.mul, 2, 8).result() == 16
        with (
            pytest.raises(ClusterError, match=r"tls://.*distributed\.comm\.tls"),
            daskcal.cluster(scheduler=address, wait=3),
        ):
            pass
