"""The same inputs give the same bits: for any chunking, any scheduler, any number of workers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import daskcal

ROWS, COLUMNS = 80, 50
N = 9
HEIGHTS = [1, 7, 64, ROWS]
COMBINES = [
    {"method": "average", "reject": "none"},
    {"method": "median", "reject": "none"},
    {"method": "sum", "reject": "minmax", "n_low": 1, "n_high": 2},
    {"method": "average", "low": 2, "high": 2},
    {"method": "median", "low": 1.5, "high": 3, "maxiters": 1, "scale": "median"},
    {"center": "mean", "spread": "std", "low": 2, "high": 2, "scale": "mean"},
    {"center": "median", "spread": "std", "low": 2, "high": 2, "sigma_floor": 0},
    {"scale": np.ptp, "low": 2, "high": None},
    {"reject": "averaged_sigma", "weights": "mode", "zero": "mean", "rejected": True},
    {"reject": "ccdclip", "method": "lower_median", "scale": "mode", "section": "[3:9, 2:]"},
    {"reject": "variance", "weights": "inverse_variance", "dtype": "float64"},
]
KINDS = ["raw", "floating", "calibrated"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Frames of falling level with outliers and an overscan of its own level in each row."""
    folder = tmp_path_factory.mktemp("bits")
    rng = np.random.default_rng(5)
    for i in range(N):
        image = rng.normal(3000 - 30 * i, 40, (ROWS, COLUMNS))
        image[:, 44:] = rng.normal(1000, 4, (ROWS, 6))
        image += rng.normal(0, 20, (ROWS, 1))
        image[rng.random(image.shape) < 0.02] += 20000
        header = fits.Header(
            {"BUNIT": "adu", "GAIN": 1.7, "RDNOISE": 6.0, "EXPTIME": 10.0 + i, "IMAGETYP": "object"}
        )
        fits.PrimaryHDU(image.astype("u2"), header).writeto(folder / f"f{i}.fits")
    return folder


def master(level, noise, masked, time=20.0):
    """A master (y, x) in memory."""
    rng = np.random.default_rng(int(level))
    planes = {
        "image": rng.normal(level, noise, (ROWS, COLUMNS)).astype("f4"),
        "variance": np.full((ROWS, COLUMNS), noise**2, "f4"),
        "mask": np.where(rng.random((ROWS, COLUMNS)) < masked, 1, 0).astype("u2"),
    }
    found = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()})
    found.attrs |= {"darktime": time, "exptime": time}
    found["image"].attrs["units"] = "adu"
    return found


def opened(folder, kind, master_rows=ROWS):
    """Frames of one kind, lazily; masters cut into bands of `master_rows`."""
    frames = daskcal.open_frames(folder)
    if kind == "floating":  # a user's own arithmetic
        return frames.assign(image=(frames.image.dims, frames.image.data * np.float64(1.1))).pipe(
            lambda ds: ds.assign(image=ds.image.assign_attrs(units="adu"))
        )
    if kind == "calibrated":
        dark, flat = (
            m.chunk({"y": master_rows, "x": -1})
            for m in (master(2, 1, 0.02), master(500, 20, 0.01))
        )
        return daskcal.calibrate(
            frames, saturation=20000, overscan={"overscan": "[:, 44:]", "method": "mean"},
            trim="[:, :44]", dark={"dark": dark, "tolerance": None}, flat=flat,
        )  # fmt: skip
    return frames


def bits(ds):
    """A digest of each variable, its type and shape included."""
    return {
        str(name): (v.dtype.str, v.shape, hashlib.sha256(v.values.tobytes()).hexdigest())
        for name, v in ds.data_vars.items()
    }


def combined(folder, kind, options, rows=None, **where):
    with pytest.MonkeyPatch.context() as patch:
        if rows is not None:
            patch.setattr("daskcal.combination.planes.band_rows", lambda *_, **__: rows)
        lazy = daskcal.combine(opened(folder, kind), **options)
        if rows is not None:
            assert lazy.image.data.chunks[0][0] == rows
    return bits(lazy.compute(**where))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("calibrated", o) for o in COMBINES] + [("raw", COMBINES[4]), ("floating", COMBINES[5])],
    ids=lambda o: (
        o if isinstance(o, str) else "-".join(getattr(v, "__name__", str(v)) for v in o.values())
    ),
)
def test_the_height_of_bands_does_not_matter(raw, kind, options):
    expected = combined(raw, kind, options)
    for rows in HEIGHTS:
        assert combined(raw, kind, options, rows) == expected, rows


def test_the_memory_budget_does_not_matter(raw):
    heights, found = set(), []
    for memory in ("13MB", "16MB", "1GB"):
        with dask.config.set({"daskcal.memory": memory, "num_workers": 2}):
            lazy = daskcal.combine(opened(raw, "calibrated"))
            heights.add(lazy.image.data.chunks[0][0])
            found.append(bits(lazy.compute()))
    assert len(heights) > 1
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_that_frames_come_in_do_not_matter(raw, kind):
    frames, options = opened(raw, kind), COMBINES[4]
    expected = bits(daskcal.combine(frames, **options).compute())
    for frame, rows in [(1, 3), (4, 17), (-1, 1), (2, -1)]:
        cut = daskcal.blocks(frames, frame, rows)
        assert bits(daskcal.combine(cut, **options).compute()) == expected
    own = frames.copy()  # and where no recipe stands behind the pixels any more
    layouts = {"image": (2, 13, 20), "variance": (3, 30, -1), "mask": (9, 1, -1)}
    for name in own.data_vars:
        chunks = layouts.get(name, (1, 80, 7))
        own[name] = own[name].copy(data=da.from_array(own[name].values, chunks=chunks))
    assert bits(daskcal.combine(own, **options).compute()) == expected


@pytest.mark.parametrize(
    "overscan",
    [
        "[:, 44:]",
        {"overscan": "[:, 44:]", "clip": 3.0},
        {"overscan": "[:, 44:]", "model": "legendre", "order": 3},
        {"overscan": "[:, 44:]", "model": "spline", "order": 2},
        {"overscan": "[70:, :]", "axis": "column"},
    ],
    ids=str,
)
def test_calibrated_frames_have_the_same_bits_in_any_blocks(raw, overscan):
    found = []
    for master_rows, frame, rows in [(ROWS, 1, -1), (7, -1, 7), (64, 4, 1), (1, 1, 64)]:
        bias, dark, flat = (
            m.chunk({"y": master_rows, "x": -1})
            for m in (master(20, 2, 0.02), master(2, 1, 0.02), master(500, 20, 0.01))
        )
        dark.attrs["steps"] = bias.attrs["steps"] = ['{"step": "subtract_overscan"}']
        frames = daskcal.calibrate(
            daskcal.open_frames(raw), overscan=overscan, trim="[:70, :44]", gain=None,
            dark={"dark": dark, "tolerance": None}, flat={"flat": flat, "min_value": 0.9},
        )  # fmt: skip
        found.append(bits(daskcal.blocks(frames, frame, rows).compute()))
    assert set(found[0]) == {"image", "variance", "variance_shared", "mask"}
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("compress", ["none", "rice"])
def test_files_have_the_same_bytes(raw, tmp_path, compress):
    digests = set()
    for i, rows in enumerate(HEIGHTS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("daskcal.combination.planes.band_rows", lambda *_, rows=rows, **__: rows)
            patch.setattr("daskcal.products._BAND", rows * COLUMNS)
            frames = opened(raw, "calibrated")
            made = daskcal.to_fits(
                daskcal.combine(frames, scale="median"), tmp_path / f"{i}.fits", compress=compress
            )
            made += daskcal.to_fits(
                frames.isel(frame=[0, 5]), tmp_path / f"frames{i}", compress=compress
            )
        digests.add(tuple(hashlib.sha256(Path(m.path).read_bytes()).hexdigest() for m in made))
        assert len({m.checksum for m in made}) == 3
    assert len(digests) == 1


# --- schedulers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def expected(raw):
    """Bits of a few combines, by the plainest way."""
    return {(kind, i): combined(raw, kind, COMBINES[i], ROWS, scheduler="sync") for kind, i in SOME}


SOME = [("calibrated", 4), ("floating", 5), ("raw", 3), ("calibrated", 2)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_do_not_matter(raw, expected, workers):
    with dask.config.set(scheduler="threads", num_workers=workers):
        for kind, i in SOME:
            assert combined(raw, kind, COMBINES[i], 7) == expected[kind, i]


def test_processes_do_not_matter(raw, expected):
    lazy = [daskcal.combine(opened(raw, kind), **COMBINES[i]) for kind, i in SOME[:2]]
    found = dask.compute(*lazy, scheduler="processes", num_workers=2)
    assert [bits(ds) for ds in found] == [expected[key] for key in SOME[:2]]


@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_does_not_matter(raw, expected, processes, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(processes=processes, **options) as cluster,
        distributed.Client(cluster),
    ):
        for kind, i in SOME[:2]:
            assert combined(raw, kind, COMBINES[i], 7) == expected[kind, i]
        lazy = daskcal.combine(opened(raw, "calibrated"))
        (there,) = daskcal.to_fits(lazy, tmp_path / "cluster.fits")
    (here,) = daskcal.to_fits(lazy, tmp_path / "threads.fits")
    assert there.checksum == here.checksum


@dataclass(frozen=True)
class DiesOnce:
    """A scale that kills the process that works on frame 5, the first time."""

    mark: Path

    def __call__(self, good):
        level = float(np.median(good))
        if 1840 < level < 1860 and not self.mark.exists():  # that of frame 5, calibrated
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1000 / level


def test_a_worker_killed_halfway_does_not_matter(raw, tmp_path):
    distributed = pytest.importorskip("distributed")
    scale = DiesOnce(tmp_path / "died")
    (tmp_path / "died").touch()
    lazy = daskcal.combine(opened(raw, "calibrated"), scale=scale)
    expected = bits(lazy.compute(scheduler="sync"))
    scale.mark.unlink()
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        before = set(client.run(os.getpid).values())
        assert bits(lazy.compute()) == expected
        client.wait_for_workers(2, timeout=60)
        assert scale.mark.exists()
        assert set(client.run(os.getpid).values()) != before


ELSEWHERE = """
import json, sys
from pathlib import Path
import numba
from test_bits import COMBINES, SOME, combined
assert numba.config.CPU_NAME == "generic"
found = [combined(Path(sys.argv[1]), kind, COMBINES[i], scheduler="sync") for kind, i in SOME[::2]]
print(json.dumps(found))
"""


def test_the_cpu_does_not_matter(raw, expected):
    environment = os.environ | {
        "NUMBA_CPU_NAME": "generic",  # no wider SIMD than the architecture's first
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    said = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(raw)], env=environment, check=True,
        capture_output=True, text=True, timeout=300,
    ).stdout  # fmt: skip
    found = [{name: tuple(plane) for name, plane in ds.items()} for ds in json.loads(said)]
    for ours, key in zip(found, SOME[::2], strict=True):
        assert {n: (d, tuple(s), h) for n, (d, s, h) in ours.items()} == expected[key]
