"""Workers on several hosts, which are killed, cut off and started again: the same bits, in time."""

from __future__ import annotations

import contextlib
import sys
import threading

import pytest
from hosts_here import hosts
from processes import kill, running, scheduler_command, until, worker_command
from small_night import bits

import daskcal

distributed = pytest.importorskip("distributed")
BOUND = 240  # s for a night in which workers are lost, on a busy machine
# A host that is cut off says nothing: it is missed when the kernel's probes stay unanswered.
MISSED = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s"}


def has_work(client, address):
    """The address of a worker that has tasks to do: of this one, or of any."""
    found = client.processing(None if address is None else [address])
    return next((worker for worker, tasks in found.items() if tasks), None)


def test_hosts_that_are_killed_cut_off_and_started_again(night):
    folder, raw, config = night
    with contextlib.ExitStack() as stack:
        first, *others = stack.enter_context(hosts(4))
        command, address = scheduler_command(host=first.address)
        stack.enter_context(running(*first.command(command), env=MISSED))

        def start(host):
            port = f"tcp://{host.address}:5000"
            words = worker_command(address, "--worker-port", "5000", host=host.address)
            return stack.enter_context(running(*host.command(words), env=MISSED)), port

        (to_kill, killed), (_, cut), (_, left) = (start(host) for host in others)
        client = stack.enter_context(distributed.Client(address, timeout=60, set_as_default=False))
        client.wait_for_workers(3, timeout=120)
        words = [sys.executable, "-c", "from daskcal.cli import main; main()", "reduce", str(raw)]
        words += ["-o", str(folder / "hosts"), "-c", str(config), "--scheduler", address]
        reducing = stack.enter_context(running(*words))
        until(lambda: has_work(client, cut), "work of the host that is cut off", BOUND)
        others[1].cut_off()
        until(lambda: has_work(client, killed), "work of the worker that is killed", BOUND)
        kill(to_kill)
        assert reducing.poll() is None
        to_kill.wait()
        start(others[0])
        assert reducing.wait(timeout=BOUND) == 0
        until(lambda: {*client.scheduler_info()["workers"]} == {killed, left}, "the others", BOUND)
    assert bits(folder / "hosts") == bits(folder / "threads")


@pytest.fixture(scope="module")
def workers():
    with daskcal.cluster(workers=2) as client:
        yield client


@pytest.mark.parametrize("mode", ["sys.exit", "graceful", "segfault"])
def test_a_worker_is_lost_in_each_of_the_ways_of_distributed(night, workers, mode):
    folder, raw, config = night

    async def lose(dask_worker):
        from distributed.chaos import KillWorker

        await KillWorker(delay=0.01, mode=mode).setup(dask_worker)

    lost = []

    def lose_one_at_work():
        worker = until(lambda: has_work(workers, None), "work", BOUND)
        workers.run(lose, workers=[worker], wait=False)
        lost.append(worker)

    thread = threading.Thread(target=lose_one_at_work)
    thread.start()
    ledger = daskcal.reduce_night(raw, folder / mode, config)
    thread.join()
    assert ledger.exit_status() == 0
    assert lost
    until(lambda: not {*lost} & {*workers.scheduler_info()["workers"]}, "the loss")
    assert bits(folder / mode) == bits(folder / "threads")
