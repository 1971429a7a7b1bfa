"""Schedulers and workers: reached in each way, refused or missed with one message, in time."""

from __future__ import annotations

import contextlib
import operator
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import pytest
from processes import LOCAL, REPOSITORY, running, scheduler, until, worker_command

import daskcal
from daskcal.alike import _AsText, _versions
from daskcal.errors import ArgumentError, ClusterError

distributed = pytest.importorskip("distributed")


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
    assert dask.config.get("scheduler", None) is None  # threads, as before


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_what_answers_is_no_scheduler(says):
    """Something that takes the connection and keeps still, or talks of something else."""
    begin = time.monotonic()
    with socket.create_server((LOCAL, 0)) as server, contextlib.ExitStack() as taken:

        def answer():
            with contextlib.suppress(OSError):  # once the server is closed
                while True:
                    connection = taken.enter_context(server.accept()[0])
                    connection.sendall(says)

        threading.Thread(target=answer, daemon=True).start()
        with (
            pytest.raises(ClusterError, match="what answers there does not greet as a scheduler"),
            daskcal.cluster(scheduler=f"tcp://{LOCAL}:{server.getsockname()[1]}", wait=1),
        ):
            pass
        server.shutdown(socket.SHUT_RDWR)
    assert time.monotonic() - begin < 40


def command(*words):
    """What the command line says of an error, and its exit status."""
    words = [sys.executable, "-c", "from daskcal.cli import main; main()", *words]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_the_command_line_says_it_in_one_message(of_another_version, tmp_path):
    """Of a file that is not there, of a scheduler and of a worker of another version."""
    reduce = ["reduce", str(tmp_path), "-o", str(tmp_path / "out")]
    said = [command(*reduce, "--scheduler-file", "/no/such.json")]
    with scheduler(env=of_another_version) as (address, _), running(*worker_command(address)):
        said.append(command(*reduce, "--scheduler", address))
    with scheduler() as (address, _), running(*worker_command(address), env=of_another_version):
        said.append(command(*reduce, "--scheduler", address))
    for (status, text), message in zip(
        said,
        (
            r"/no/such\.json is not there",
            r"tcp://\S+ \(the scheduler\) has daskcal 99\.0, and here it is",
            r"tcp://\S+ has daskcal 99\.0, and here it is",
        ),
        strict=True,
    ):
        assert status == 1
        assert re.fullmatch(rf"Error: {message}.*\n", text)
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_workers():
    with (
        scheduler() as (address, _),
        pytest.raises(
            ClusterError, match=r"has no worker after 2 s: start some \('dask worker tcp"
        ),
        daskcal.cluster(scheduler=address, wait=2),
    ):
        pass


@pytest.fixture
def of_another_version(tmp_path):
    """The environment of a worker that finds another version of daskcal."""
    other = tmp_path / "daskcal-99.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: daskcal\nVersion: 99.0\n")
    # the safe path: of what lies in the current folder nothing comes first, such as an egg-info
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}", "PYTHONSAFEPATH": "1"}


def test_a_scheduler_that_is_frozen():
    """It holds the connection, and never answers."""

    def freeze(address, process):
        with daskcal.cluster(scheduler=address, wait=2) as client:
            future = client.submit(time.sleep, 600)
            os.kill(process.pid, signal.SIGSTOP)
            future.result(timeout=60)

    with (
        scheduler() as (address, process),
        running(*worker_command(address)),
        pytest.raises(ClusterError, match="has not answered for 2 s; what is complete stays"),
    ):
        freeze(address, process)


def test_a_worker_of_another_version(of_another_version):
    with (
        scheduler() as (address, _),
        running(*worker_command(address), env=of_another_version),
        pytest.raises(ClusterError, match=r"has daskcal 99\.0, and here it is .*\(python: /"),
        daskcal.cluster(scheduler=address),
    ):
        pass


@pytest.mark.parametrize("nanny", [False, True])
def test_a_worker_of_another_version_that_comes_late(of_another_version, nanny, caplog):
    """It ends before it begins anything, and the run goes on without it."""

    def process(seconds):  # within the test: so it travels whole
        time.sleep(seconds)
        return os.getpid()

    with scheduler() as (address, _), running(*worker_command(address)) as own:
        with daskcal.cluster(scheduler=address) as client:
            waiting = [client.submit(process, 0.1, key=f"p{i}", priority=i) for i in range(1000)]
            late = [word for word in worker_command(address) if not nanny or word != "--no-nanny"]
            with running(*late, env=of_another_version) as other:
                assert other.wait(timeout=60) == 0
            said = until(lambda: caplog.messages, "what is said of it")
            assert re.search(r"that joined is sent away: tcp://.* has daskcal 99\.0", said[0])
            done = [future for future in waiting if future.done()]
            assert {*client.gather(done)} == {own.pid}
            assert suspects(client) == 0
            client.cancel(waiting)
        # the next run knows nothing of it
        with distributed.Client(address, set_as_default=False) as client:
            assert not [name for name in guards(client) if name.startswith("daskcal")]


def guards(client):
    return client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.worker_plugins])


def suspects(client):
    """How often a task was held to have killed its worker."""
    return client.run_on_scheduler(
        lambda dask_scheduler: sum(task.suspicious for task in dask_scheduler.tasks.values())
    )


def test_guards_of_runs_that_were_killed_are_taken_away():
    code = (
        "import daskcal, sys, time\n"
        "with daskcal.cluster(scheduler=sys.argv[1]):\n"
        "    time.sleep(600)"
    )
    with (
        scheduler() as (address, _),
        running(*worker_command(address)),
        distributed.Client(address, set_as_default=False) as client,
    ):
        with running(sys.executable, "-c", code, address):
            left = until(lambda: guards(client)[1:], "its guard")
        until(lambda: len(clients(client)) == 1, "its end")
        with daskcal.cluster(scheduler=address):
            assert len(guards(client)) == 2
            assert guards(client)[1:] != left


def clients(client):
    """Names of those that are connected."""
    return client.run_on_scheduler(
        lambda dask_scheduler: [name for name in dask_scheduler.clients if "Client-" in name]
    )


def test_what_is_asked_of_workers_travels_as_text():
    """Bytecode would crash another Python, and daskcal may not be there."""
    sent = distributed.protocol.pickle.dumps(_AsText(_versions))
    assert b"cloudpickle" not in sent
    assert b"daskcal" not in sent
    assert pickle.loads(sent)(["dask"]) == _versions(["dask"])


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


def test_the_scheduler_is_lost(caplog):
    limits = {"distributed.comm.timeouts.connect": "2s", "distributed.comm.retry.count": 0}
    with (
        dask.config.set(limits),
        scheduler() as (address, process),
        running(*worker_command(address)),
        pytest.raises(ClusterError, match=r"the scheduler at tcp://127\.0\.0\.1:\d+ is gone"),
        daskcal.cluster(scheduler=address, wait=3) as client,
    ):
        lose(process, client)
    assert [one.message for one in caplog.records if one.levelname == "ERROR"] == []


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


# --- frames that kill workers ---------------------------------------------------------------------

# A decoder that crashes in every worker, on two files of a night.
CRASHING = """
import os, signal
import daskcal.fits.source as source

def crashing(fill):
    def crash(one, *more):
        if one.path.endswith(("n0003.fits", "n0321.fits")):
            os.kill(os.getpid(), signal.SIGSEGV)
        return fill(one, *more)
    return crash

source.fill = crashing(source.fill)
"""


def test_frames_that_kill_workers_cost_themselves(tmp_path, monkeypatch):
    night = daskcal.simulate_night(tmp_path / "night", size=(64, 80))
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with scheduler() as (address, _):
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", LOCAL]
        worker += ["--nthreads", "1", "--no-dashboard", "--preload", str(tmp_path / "crashing.py")]
        with running(*worker), daskcal.cluster(scheduler=address):  # its nanny starts it anew
            ledger = daskcal.reduce_night(night.folder, tmp_path / "out", night.config)
    lost = {frame.path: frame.reason for frame in ledger.frames if frame.status != "used"}
    assert sorted(lost) == ["n0003.fits", "n0321.fits"]
    assert all("kills the workers that read it" in reason for reason in lost.values())
    assert ledger.exit_status() == 3
