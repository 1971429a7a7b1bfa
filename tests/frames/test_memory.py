"""The memory model: what it says is alive against what is, and the budget against a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import daskcal
from daskcal.combination.kernels import Reject, combine_block, new_planes
from daskcal.errors import ArgumentError
from daskcal.frames import memory
from daskcal.frames.block import Block
from daskcal.frames.blocks import pack, recover

REPOSITORY = Path(__file__).parents[2]
N, ROWS, COLUMNS = 36, 128, 1200


def master(level):
    """A master (y, x) with a variance and a mask."""
    planes = {
        "image": np.full((ROWS, COLUMNS), level, "f4"),
        "variance": np.ones((ROWS, COLUMNS), "f4"),
        "mask": np.zeros((ROWS, COLUMNS), "u2"),
    }
    found = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()})
    found["image"].attrs["units"] = "adu"
    return found.assign_attrs(darktime=10.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from astropy.io import fits

    folder = tmp_path_factory.mktemp("memory")
    header = fits.Header({"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 5.0, "EXPTIME": 10.0})
    pixels = np.random.default_rng(0).normal(1000, 5, (ROWS, COLUMNS)).astype("u2")
    fits.PrimaryHDU(pixels, header).writeto(folder / "f00.fits")
    for i in range(1, N):
        os.link(folder / "f00.fits", folder / f"f{i:02}.fits")
    return folder


CASES = {
    "raw": lambda f: f,
    "overscan": lambda f: daskcal.calibrate(f, overscan="[:, 1100:]", trim="[:, :1100]"),
    "wide overscan": lambda f: daskcal.trim_image(
        daskcal.subtract_overscan(f, "[:, 600:]", axis="row", clip=3.0), "[:, :600]"
    ),
    "dark": lambda f: daskcal.subtract_dark(f, master(3)),
    "flat": lambda f: daskcal.flat_correct(f, master(3)),
    "all": lambda f: daskcal.calibrate(
        f, saturation=6e4, overscan="[:, 1100:]", trim="[:, :1100]", dark=master(3), flat=master(9)
    ),
}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_model_bounds_what_is_alive_and_not_by_far(folder, name, whole):
    stack = recover(CASES[name](daskcal.open_frames(folder)))

    def combined(band):
        if whole:
            planes = dict(zip(stack.recipe.planes, band.planes(), strict=True))
            blocks = [Block.of(band.section, planes)]
        else:
            blocks = band.walk()
        out = new_planes(*band.shape[1:], np.dtype("f4"), "variance_shared" in stack.recipe.planes)
        for block in blocks:
            first = block.section.y0 - band.section.y0
            part = out.part(slice(first, first + block.image.shape[1]))
            planes = block.image, block.mask, block.variance, block.variance_shared
            combine_block(*planes, reject=Reject(), out=part)
        return np.zeros((1, 1, 1))

    done = da.blockwise(
        combined, "fyx", pack(stack, -1, -1), "fyx",
        adjust_chunks=dict.fromkeys("fyx", 1), dtype=float, meta=np.empty((0, 0, 0)),
    )  # fmt: skip
    done.compute(scheduler="sync")  # compiles what there is to compile
    tracemalloc.start()
    try:
        done.compute(scheduler="sync")
        alive = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    model = memory.task_bytes(stack, ROWS, whole)
    assert alive < model
    assert alive > model / 3


def test_bands_fit_into_the_budget_for_any_number_of_frames(folder):
    stack = recover(daskcal.open_frames(folder))
    with dask.config.set({"daskcal.memory": "64MB", "num_workers": 2}):
        heights = {}
        for n in (1, 12, 100, 1000, 10_000, 65_535):
            many = stack.take(np.arange(n) % N)
            heights[n] = memory.band_rows(many)
            assert heights[n] == 1 or memory.task_bytes(many, heights[n]) <= memory.SLACK * 64e6 / 2
    assert heights[1] == heights[12] == memory.USEFUL_ROWS  # enough bands for all threads
    assert 1 <= heights[10_000] < heights[1000] <= heights[100]


@pytest.mark.parametrize("memory_of_all", ["200MB", "1GB", "8GB"])
@pytest.mark.parametrize("name", CASES)
def test_bands_of_any_recipe_fit_and_use_the_budget(folder, name, memory_of_all):
    with dask.config.set({"daskcal.memory": memory_of_all, "num_workers": 2}):
        room = memory.SLACK * memory.budget() / 2
        for n in (20, 200, 2000):
            stack = recover(CASES[name](daskcal.open_frames(folder).isel(frame=np.arange(n) % N)))
            for whole in (False, True):
                rows = memory.band_rows(stack, whole)
                assert rows == 1 or memory.task_bytes(stack, rows, whole) <= room
                if rows < memory.USEFUL_ROWS:
                    assert memory.task_bytes(stack, 2 * rows, whole) > room


def test_more_threads_make_lower_bands(folder):
    stack = recover(daskcal.open_frames(folder)).take(np.arange(3000) % N)
    heights = []
    for workers in (1, 2, 4):
        with dask.config.set({"daskcal.memory": "200MB", "num_workers": workers}):
            heights.append(memory.band_rows(stack))
    assert heights[0] > heights[1] > heights[2] >= 1


def test_threads_are_those_of_the_active_scheduler():
    with dask.config.set(scheduler="sync"):
        assert memory.threads() == 1
    for scheduler in ("threads", "processes"):
        with dask.config.set(scheduler=scheduler, num_workers=3):
            assert memory.threads() == 3
    with ThreadPoolExecutor(5) as pool, dask.config.set(pool=pool):
        assert memory.threads() == 5
    assert memory.threads() == dask.system.CPU_COUNT


def test_a_cluster_has_a_budget_for_each_worker():
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "memory_limit": "400MB"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=3, **options) as cluster,
        distributed.Client(cluster),
    ):
        assert memory.threads() == 3
        assert memory.budget() == int(memory.SHARE * 400e6)
        with dask.config.set({"daskcal.memory": "100MB"}):
            assert memory.budget() == 100_000_000
    assert memory.threads() == dask.system.CPU_COUNT


@pytest.mark.parametrize("wanted", ["much", "10kB", 0, -1, "", [1]])
def test_a_budget_that_is_none(wanted):
    with dask.config.set({"daskcal.memory": wanted}), pytest.raises(ArgumentError, match="memory="):
        memory.budget()


def test_without_a_budget_a_share_of_the_machine():
    assert 1 << 26 < memory.budget() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# What a process grows by, from imported and compiled, while it combines ever more frames.
GROWTH = """
import sys
import dask
import numpy as np
import xarray as xr
import daskcal

def status(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what))

def master(level):
    planes = {"image": np.full((64, 1000), level, "f4"), "variance": np.ones((64, 1000), "f4"),
              "mask": np.ones((64, 1000), "u2")}
    planes["mask"][:, ::2] = 0
    coords = {"y": np.arange(64), "x": np.arange(1000)}
    found = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()}, coords)
    found["image"].attrs["units"] = "adu"
    return found.assign_attrs(darktime=10.0)

frames = daskcal.open_frames(sys.argv[1]).isel(y=slice(int(sys.argv[2])))
ways = [lambda f: f, lambda f: daskcal.calibrate(
    f, saturation=6e4, overscan="[:, 1000:]", trim="[:, :1000]", dark=master(3), flat=master(9)
)]
with dask.config.set({"daskcal.memory": "256MB", "num_workers": 2}):
    for way in ways:
        daskcal.combine(way(frames.isel(frame=[0, 1]))).compute()
    before = status("VmRSS")
    for way in ways:
        for n in (20, 200, 2000):
            lazy = daskcal.combine(way(frames.isel(frame=slice(n))))
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # forget the highest size so far
            lazy.compute()
            print(n, lazy.image.data.chunks[0][0], status("VmHWM") - before)
"""


def _growth(raw, rows):
    """The number of frames, rows of a band, and bytes grown by, of each combine of `GROWTH`."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(raw), str(rows)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_a_process_stays_within_the_budget_for_any_number_of_frames(tmp_path, dtype):
    from astropy.io import fits

    header = fits.Header({"BUNIT": "adu", "GAIN": 2.0, "RDNOISE": 5.0, "EXPTIME": 10.0})
    pixels = np.random.default_rng(0).normal(1000, 5, (64, 1024)).astype(dtype)
    (tmp_path / "raw").mkdir()
    fits.PrimaryHDU(pixels, header).writeto(tmp_path / "raw" / "f0000.fits")
    for i in range(1, 2000):  # 262 or 524 MB to combine, more than the budget
        os.link(tmp_path / "raw" / "f0000.fits", tmp_path / "raw" / f"f{i:04}.fits")
    _growth(tmp_path / "raw", rows=1)  # compiles, which takes 130 MB, for the other to load
    grown = _growth(tmp_path / "raw", rows=64)
    assert [n for n, *_ in grown] == [20, 200, 2000] * 2
    assert all(growth < 256e6 for *_, growth in grown), grown  # SLACK is within this already
    # the share of the budget that many frames use, or the model would waste it
    assert all(growth > 256e6 / 4 for n, _, growth in grown if n == 2000), grown
