"""Workers of little memory: a night and a combine of more than they have spill nothing."""

from __future__ import annotations

import os

import numpy as np
import pytest
from astropy.io import fits

import daskcal

distributed = pytest.importorskip("distributed")
LIMIT = 700_000_000  # bytes of a worker; Dask spills from 70 % on, and libraries alone take 330 MB
SIZE, N = 1024, 400  # as raw integers 840 MB, as numbers twice that


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A folder of many frames, which are five by other names."""
    folder = tmp_path_factory.mktemp("stack")
    rng = np.random.default_rng(1)
    for i in range(N):
        path = folder / f"f{i:03d}.fits"
        if i < 5:
            image = rng.normal(1000, 8, (SIZE, SIZE)).astype(np.uint16)
            fits.PrimaryHDU(image, fits.Header({"BUNIT": "adu"})).writeto(path)
        else:
            os.link(folder / f"f{i % 5:03d}.fits", path)
    return folder


def told(dask_worker):
    """The process, the peak of its memory, and what it ever wrote to disk of what it held."""
    from pathlib import Path

    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    spilled = dask_worker.data.cumulative_metrics.get(("disk-write", "bytes"), 0)
    return os.getpid(), 1024 * int(peak), int(spilled)


def test_nothing_is_spilled_and_no_worker_ends(stack, night, tmp_path):
    _, raw, config = night
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=LIMIT, dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as own,
        distributed.Client(own) as client,
    ):  # fmt: skip
        ask = {"told": told}["told"]
        before = {pid for pid, _, _ in client.run(ask).values()}
        ledger = daskcal.reduce_night(raw, tmp_path / "out", config)
        daskcal.to_fits(daskcal.combine(daskcal.open_frames(stack)), tmp_path / "combined.fits")
        after = client.run(ask).values()
    assert ledger.exit_status() == 0
    assert {pid for pid, _, _ in after} == before
    assert [spilled for _, _, spilled in after] == [0, 0]
    assert max(peak for _, peak, _ in after) < LIMIT
