"""Work on whole frames: how many at once, and that the budget holds for any number of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from raw_fits import write_frames

from daskcal.frames.room import Room

REPOSITORY = Path(__file__).parents[2]


def test_whole_frames_wait_for_room():
    together, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal together, most
        with Room(40, 100).taken():
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.02)
            with lock:
                together -= 1

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == 2
    with Room(1000, 100).taken():  # too large for the limit: alone
        pass


# What a process grows by, from imported, while ever more frames go through a pass that sees each as
# a whole, and are combined.
GROWTH = """
import sys
import dask
import numpy as np
import xarray as xr
import daskcal

def status(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what))

ways = {
    "rays": lambda f: daskcal.combine(daskcal.cosmicray_lacosmic(f, niter=1)),
    "fringe": lambda f: daskcal.combine(daskcal.subtract_fringe(f, fringe)),
    "median": lambda f: daskcal.combine(f, scale="median"),
    "mode": lambda f: daskcal.combine(f, scale="mode", zero="mean"),
}
folder, way, side, budget = sys.argv[1:]
frames = daskcal.open_frames(folder).isel(y=slice(int(side)), x=slice(int(side)))
waves = np.sin(np.arange(int(side)) / 9).astype("f4")
fringe = xr.Dataset({"image": (("y", "x"), waves * waves[:, None], {"units": "adu"})})
with dask.config.set({"daskcal.memory": int(budget), "num_workers": 4}):
    ways[way](frames.isel(frame=[0, 1], y=slice(64), x=slice(64))).compute()
    before = status("VmRSS")
    for n in (4, 24):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the highest size so far
        lazy = ways[way](frames.isel(frame=slice(n)))
        lazy.isel(y=slice(8)).compute()  # the first pass sees all rows; their result is not counted
        print(n, status("VmHWM") - before)
"""


def _growth(raw, way, side, budget):
    """The number of frames, and bytes grown by, of each combine of `GROWTH`."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(raw), way, str(side), str(budget)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    # of all but the first, 4 frames at once would take more: 210, 157 and 210 MB
    ("way", "side", "budget"),
    [("rays", 700, 200), ("fringe", 1400, 150), ("median", 2800, 140), ("mode", 2800, 160)],
)
def test_a_process_stays_within_the_budget_for_any_number_of_frames(tmp_path, way, side, budget):
    rng = np.random.default_rng(0)
    first, *_ = write_frames(tmp_path / "raw", [rng.normal(1000, 5, (side, side)).astype("u2")])
    for i in range(1, 24):
        os.link(first, tmp_path / "raw" / f"f{i}.fits")
    _growth(
        tmp_path / "raw", way, 64, budget * 10**6
    )  # compiles, which takes memory, for the other to load
    grown = _growth(tmp_path / "raw", way, side, budget * 10**6)
    assert [n for n, _ in grown] == [4, 24]
    assert all(growth < budget * 1e6 for _, growth in grown), grown
