"""daskcal on headers alone: scans, as `ls` and `plan` do them, and plans."""

from __future__ import annotations

import shutil
import time
from typing import Any

from benchmarks.peers.limits import forget
from daskcal.fits import scan
from daskcal.night.plan.effort import effort
from daskcal.night.plan.plan import Plan, plan_night


def first_scan(folder: str, index: str) -> dict[str, float]:
    """Scan files that no index knows."""
    shutil.rmtree(index, ignore_errors=True)
    start = time.perf_counter()
    scan(folder, detectors=True)
    return {"scan": time.perf_counter() - start}


def cold_scan(folder: str, index: str) -> dict[str, float]:
    """The same, of files that the page cache was told to forget."""
    forget(folder)
    return first_scan(folder, index)


def scan_again(folder: str) -> None:
    """Scan files that the index knows."""
    scan(folder, detectors=True)


def plan(folder: str) -> dict[str, Any]:
    """Plan a folder and say it; how much that is."""
    made = plan_night(folder)
    if not str(made):
        raise ValueError("the plan says nothing")
    return {"jobs": len(made.jobs), "missing": len(made.missing), "tasks": effort(made).tasks,
            **_largest(made)}  # fmt: skip


def _largest(made: Plan) -> dict[str, int]:
    """Frames and graph keys of the combine with most frames, built and not computed."""
    import daskcal
    from daskcal.frames.open import frames_dataset
    from daskcal.night.plan.plan import instrument_of

    combined = [job for job in made.jobs if job.kind != "science"]
    if not combined:
        return {}
    rows = list(max(combined, key=lambda job: len(job.frames)).frames)
    frames = frames_dataset(
        [made.frames[i] for i in rows], made.table.iloc[rows], instrument_of(made.config)
    )
    return {"frames": len(rows), "graph": len(dict(daskcal.combine(frames).__dask_graph__()))}
