"""The same night and the same combine by threads and by workers, all bound to so many cores.

daskcal and Dask are imported only when this process is bound: they count the cores that they have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.peers.own_cluster import OwnCluster, of_scheduler, of_workers

LIMIT = "2GB"  # of a worker


def night(workers: int, cores: int, folder: str, out: str, config: str) -> dict[str, Any]:
    """Reduce a night into an empty folder; a digest of all its products."""
    shutil.rmtree(out, ignore_errors=True)

    def reduce() -> tuple[int, str]:
        import daskcal

        ledger = daskcal.reduce_night(folder, out, config)
        if ledger.exit_status():
            raise ValueError(f"{ledger.counts()}")
        said = sorted(f"{entry.name} {entry.checksum}" for entry in ledger.products)
        return len(said), hashlib.sha256("\n".join(said).encode()).hexdigest()

    return _measured(workers, cores, reduce)


def combine(workers: int, cores: int, folder: str, out: str) -> dict[str, Any]:
    """Combine the frames of a folder, all planes to a FITS file; its checksum."""
    Path(out).parent.mkdir(exist_ok=True)

    def one() -> tuple[int, str]:
        import daskcal

        (written,) = daskcal.to_fits(
            daskcal.combine(daskcal.open_frames(folder)), out, overwrite=True
        )
        return 1, written.checksum

    return _measured(workers, cores, one)


def _measured(workers: int, cores: int, work: Callable[[], tuple[int, str]]) -> dict[str, Any]:
    """Seconds, products and checksum of some work; and what client, scheduler and workers took."""
    mine = _bind(cores)
    with _computing(workers, mine) as client:
        before = of_scheduler(client) if client else {}
        cpu, start = time.process_time(), time.perf_counter()
        products, checksum = work()
        found: dict[str, Any] = {
            "seconds": time.perf_counter() - start,
            "client": time.process_time() - cpu,
            "products": products,
            "checksum": checksum,
        }
        if client:
            after = of_scheduler(client)
            found |= {name: after[name] - before[name] for name in ("tasks",)}
            found |= {"scheduler": after["seconds"] - before["seconds"]}
            found |= {"workers": of_workers(client)}
    return found


@cache
def _bind(cores: int) -> tuple[int, ...]:
    """Bind this process to so many of its cores: which."""
    mine = tuple(sorted(os.sched_getaffinity(0))[:cores])
    os.sched_setaffinity(0, mine)
    return mine


@contextlib.contextmanager
def _computing(workers: int, cores: tuple[int, ...]) -> Iterator[Any]:
    """Workers, one on each of the first cores; or as many threads of this process as cores."""
    import dask

    import daskcal

    if not workers:
        with dask.config.set(scheduler="threads", num_workers=len(cores)):
            yield None
        return
    own = _own_cluster(cores[:workers], cores[workers:] or cores)
    with daskcal.cluster(scheduler=own.address) as client:
        client.wait_for_workers(workers)
        yield client


@cache
def _own_cluster(cores: tuple[int, ...], beside: tuple[int, ...]) -> OwnCluster:
    """Kept for the next run: a cluster is up already when work is sent to it."""
    return OwnCluster(cores, beside, LIMIT)


# --- graphs ---------------------------------------------------------------------------------------


def graph(folder: str, masters: dict[str, str], sections: dict[str, str]) -> dict[str, float]:
    """What a calibrated combine of a folder's frames sends to a scheduler; nothing is computed."""
    import dask

    import daskcal

    opened = daskcal.open_frames(folder)
    start = time.perf_counter()
    frames = daskcal.calibrate(opened, saturation=60_000, variance=True, **masters, **sections)
    master = daskcal.combine(frames)
    sinks = daskcal.to_fits(master, f"{folder}.fits", compute=False, overwrite=True)
    found: dict[str, float] = {"frames": opened.sizes["frame"]}

    def sent(expr: Any, keys: Any, **_: Any) -> Any:
        from distributed.protocol import serialize, to_serialize
        from distributed.utils import nbytes

        header, pieces = serialize(to_serialize(expr), on_error="raise")  # as its client does it
        found["bytes"] = sum(map(nbytes, [header, *pieces]))
        found["seconds"] = time.perf_counter() - start
        tasks = dict(expr.__dask_graph__()).values()
        found["tasks"] = sum(type(task).__name__ != "Alias" for task in tasks)
        return keys

    dask.compute(*sinks, scheduler=sent)
    return found
