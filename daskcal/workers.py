"""Where work is done: which scheduler and workers, what they must have, and when they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from dask.system import CPU_COUNT

from daskcal.alike import guarded, require_alike
from daskcal.errors import ArgumentError, ClusterError, nearest
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from distributed import Client

WAIT = 60.0  # s for a scheduler to answer, for the first worker, and for one where all are gone
GREETING = 5.0  # s, for one that took the connection to say that it is a scheduler
LOCAL = "127.0.0.1"
_log = logging.getLogger(__name__)


@contextlib.contextmanager
@strict_keywords
def cluster(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    scheduler_file: str | PathLike[str] | None = None,
    slurm: str | None = None,
    wait: float = WAIT,
) -> Iterator[Client]:
    """Workers for all that is computed meanwhile; without one, threads of this process compute.

    Exactly one of the first four says which. Nothing listens beyond this machine unless the
    scheduler that is named does.

    Parameters
    ----------
    workers : int
        So many processes of this machine, which share its cores.
    scheduler : str
        Address of a scheduler that runs: ``tcp://host:8786``, or ``tls://host:8786`` with the
        certificates of Dask's own configuration (``distributed.comm.tls``).
    scheduler_file : path
        The file that a scheduler has left its address in (``dask scheduler --scheduler-file``).
    slurm : str
        Jobs of a batch system: a section of ``jobqueue`` in Dask's configuration, or a YAML file
        with one; its ``daskcal-jobs`` is how many (1). A job that is lost is replaced.
    wait : float
        Seconds in which the scheduler must answer and a worker must be there, at first and
        whenever all are lost.

    Yields
    ------
    distributed.Client
        Connected to a scheduler and workers that all have this version of daskcal, and of what
        decides its bits.

    Raises
    ------
    ArgumentError
        Not exactly one of them, or one that says nothing.
    ClusterError
        No scheduler answers, no worker comes, or all are lost; a worker without daskcal, or with
        another version of it.

    Examples
    --------
    >>> with daskcal.cluster(workers=1) as client:
    ...     bias = daskcal.combine(biases).compute()
    """
    given = {
        "workers": workers,
        "scheduler": scheduler,
        "scheduler_file": scheduler_file,
        "slurm": slurm,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1:
        said = ", ".join(chosen) or "none"
        raise ArgumentError(f"give one of {', '.join(given)}; {said} is given")
    _require_distributed()
    with contextlib.ExitStack() as stack:
        before = dask.config.get("scheduler", None)  # which a client that fails does not put back
        stack.enter_context(dask.config.set(scheduler=before))
        log = logging.getLogger("distributed.client")
        stack.callback(log.setLevel, log.level)
        if workers is not None:
            client = stack.enter_context(_own_workers(_count(workers)))
        elif slurm is not None:
            client = stack.enter_context(_slurm_jobs(slurm))
        else:
            client = stack.enter_context(_connected(scheduler, scheduler_file, wait))
        _require_workers(client, wait)
        require_alike(client)
        watch = stack.enter_context(_Watch(client, wait))
        stack.enter_context(guarded(client, watch.refuse))
        try:
            yield client
        except (CancelledError, OSError) as error:
            lost = watch.lost or _closed(client)
            if not lost:
                raise
            log.setLevel(logging.CRITICAL)  # it tells how it fails to connect again, at length
            raise ClusterError(f"{lost}; what is complete stays: run the same again") from error


def _count(workers: int) -> int:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ArgumentError(f"workers={workers!r} should be 1 or more")
    return workers


def _require_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "workers need dask.distributed, which is not installed: pip install "
            "'daskcal[distributed]'"
        ) from None


# --- ways to a scheduler --------------------------------------------------------------------------


@contextlib.contextmanager
def _own_workers(n: int) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    try:
        own = LocalCluster(
            n_workers=n,
            threads_per_worker=max(1, CPU_COUNT // n),
            host=LOCAL,
            dashboard_address=f"{LOCAL}:0",
        )
    except (RuntimeError, OSError) as error:
        raise ClusterError(
            f"{n} workers of this machine could not be started: {_first_line(error)} (a script "
            "that starts some does so below: if __name__ == '__main__')"
        ) from error
    with own, Client(own) as client:
        yield client


@contextlib.contextmanager
def _connected(
    address: str | None, file: str | PathLike[str] | None, wait: float
) -> Iterator[Client]:
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    name = address if file is None else f"the scheduler of {os.fspath(file)}"
    if file is not None and not Path(file).is_file():
        raise ClusterError(
            f"{os.fspath(file)} is not there: 'dask scheduler --scheduler-file' writes it, to a "
            "folder that all hosts share"
        )
    try:
        _require_answer(address or _address_in(file), wait)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # `require_alike` says it
            client = Client(address, scheduler_file=file and os.fspath(file), timeout=wait)
    except Exception as error:  # of sockets, of TLS, of addresses: each of its own class
        raise ClusterError(
            f"no scheduler can be reached at {name} within {wait:g} s: {_first_line(error)}; is "
            f"it running, and is that its address?{_of_tls(address)}"
        ) from error
    with client:
        yield client


def _address_in(file: str | PathLike[str] | None) -> str:
    found = json.loads(Path(os.fspath(file or "")).read_bytes())
    return str(found["address"])


def _require_answer(address: str, wait: float) -> None:
    """Greet a scheduler: Dask's own client waits for ever where the greeting is not returned."""
    from distributed.comm import connect
    from distributed.security import Security

    async def greet() -> None:
        arguments = Security().get_connection_args("client")
        comm = await asyncio.wait_for(connect(address, timeout=wait, **arguments), wait + GREETING)
        comm.abort()

    try:
        with ThreadPoolExecutor(1) as one:  # a notebook's own thread has a loop that runs
            one.submit(asyncio.run, greet()).result()
    except (TimeoutError, MemoryError) as error:
        raise ClusterError("what answers there does not greet as a scheduler does") from error


def _of_tls(address: str | None) -> str:
    if address is None or not address.startswith("tls://"):
        return ""
    return " The certificates are those of distributed.comm.tls in Dask's configuration"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def _slurm_jobs(profile: str) -> Iterator[Client]:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ClusterError(
            "SLURM needs dask-jobqueue, which is not installed: pip install 'daskcal[slurm]'"
        ) from None
    from distributed import Client

    with _profile(profile) as (name, settings):
        jobs = settings.get("daskcal-jobs", 1)
        options = {"dashboard_address": f"{LOCAL}:0"} | dict(
            settings.get("scheduler-options") or {}
        )
        try:
            made = SLURMCluster(config_name=name, scheduler_options=options)
        except (ValueError, TypeError) as error:
            raise ClusterError(f"slurm={profile!r}: {_first_line(error)}") from error
        with made, Client(made) as client:
            made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # `scale` does not replace lost jobs
            yield client


@contextlib.contextmanager
def _profile(profile: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the settings of a section of ``jobqueue``, read from a file if it names one."""
    known = dict(dask.config.get("jobqueue", {}) or {})
    name, what = profile, "is no such section"
    if profile.endswith((".yaml", ".yml")):
        own = _read_yaml(profile).get("jobqueue") or {}
        name, what = next(iter(own), ""), "has not one section under jobqueue"
        known = {**known, **own} if len(own) == 1 else {}
    if not isinstance(known.get(name), Mapping):
        raise ArgumentError(
            f"slurm={profile!r} {what}: give a section of jobqueue in Dask's configuration, or a "
            f"YAML file with one; {nearest(profile, known)}"
        )
    settings = {**known["slurm"], **known[name]}  # dask-jobqueue wants every key in each
    with dask.config.set({f"jobqueue.{name}": settings}):
        yield name, settings


def _read_yaml(path: str) -> Mapping[str, Any]:
    if not os.access(path, os.R_OK):
        raise ArgumentError(f"slurm={path!r} is no file that can be read")
    try:
        (found,) = dask.config.collect_yaml([path])
    except ValueError as error:
        raise ArgumentError(f"slurm={path!r} is no YAML: {_first_line(error)}") from error
    return found


# --- what must be there ---------------------------------------------------------------------------


def _require_workers(client: Client, wait: float) -> None:
    try:
        client.wait_for_workers(1, timeout=wait)
    except TimeoutError:
        raise ClusterError(
            f"the scheduler at {client.scheduler.address} has no worker after {wait:g} s: start "
            f"some ('dask worker {client.scheduler.address}'), or see why its jobs wait"
        ) from None


# --- when it is lost ------------------------------------------------------------------------------


def _closed(client: Client) -> str:
    if client.status == "running":
        return ""
    return f"the scheduler at {client.scheduler.address} is gone"


@dataclass(eq=False)
class _Watch:
    """Ends what waits for workers that will not come: Dask itself would wait for ever."""

    client: Client
    wait: float
    lost: str = ""
    refused: list[str] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> _Watch:
        self._thread = threading.Thread(target=self._look, name="daskcal-workers", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def refuse(self, worker: str) -> None:
        """A worker came that differs, and was sent away: say so."""
        self.refused.append(worker)
        _log.warning("a worker that joined is sent away: %s", worker)

    def _look(self) -> None:
        without, asked, since = 0.0, self._ask(), time.monotonic()
        step = min(1.0, self.wait / 5)
        while not self._done.wait(step):
            if not asked.done():
                if time.monotonic() - since >= self.wait:
                    address = self.client.scheduler.address
                    self._end(f"the scheduler at {address} has not answered for {self.wait:g} s")
                    return
                continue
            if (workers := self._answer(asked)) is not None:
                without = 0.0 if workers else without + step
            if without >= self.wait:
                none = f"none came back in {self.wait:g} s"
                if self.refused:
                    none += f" but such as were sent away: {self.refused[-1]}"
                self._end(f"all workers are lost, and {none}")
                return
            asked, since = self._ask(), time.monotonic()

    def _ask(self) -> Future[int]:
        """How many workers there are; of one that is frozen the answer never comes."""

        async def count() -> int:
            return len((await self.client.scheduler.identity())["workers"])

        return asyncio.run_coroutine_threadsafe(count(), self.client.loop.asyncio_loop)

    @staticmethod
    def _answer(asked: Future[int]) -> int | None:
        with contextlib.suppress(Exception):  # a scheduler that is gone: what waits for it is told
            return asked.result()
        return None

    def _end(self, why: str) -> None:
        self.lost = why
        self.client.close()
