"""Steps that see whole frames: each done once, kept on disk, gone afterwards, in the budget."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import dask
import numpy as np
import pytest
import xarray as xr
from raw_fits import counted_reads, no_computing, write_frames

import daskcal
from daskcal.errors import OutputError
from daskcal.fits.content import spool_folder
from daskcal.frames.block import Block, promoted
from daskcal.frames.blocks import assign, recover
from daskcal.frames.scratch import (
    Scratch,
    ScratchFolder,
    WholeFrameStep,
    scratch_removed,
    through_scratch,
)

REPOSITORY = Path(__file__).parents[2]
N, NY, NX = 5, 70, 48
IMAGES = [np.random.default_rng(i).integers(500, 60000, (NY, NX), np.uint16) for i in range(N)]


@dataclass(frozen=True, eq=False, kw_only=True)
class LessItsMedian(WholeFrameStep):
    """Subtracts the median of the whole frame, and a number of the frame."""

    numbers: np.ndarray
    done: ClassVar[list[int]] = []
    working_bytes: ClassVar[int] = 8

    def dtype(self, before):
        return promoted(before)

    def apply(self, block, i):
        self.done.append(i)
        image = block.image - np.median(block.image).astype("f4") - np.float32(self.numbers[i])
        return Block(block.section, image, block.variance, block.variance_shared, block.mask)


def less_median(frames):
    step = LessItsMedian(numbers=np.arange(frames.sizes["frame"]) * 10.0)
    return assign(frames, through_scratch(recover(frames), step))


def expected(i):
    return IMAGES[i].astype("f4") - np.median(IMAGES[i]).astype("f4") - np.float32(10 * i)


@pytest.fixture
def frames(tmp_path):
    LessItsMedian.done.clear()
    return daskcal.open_frames(write_frames(tmp_path / "raw", IMAGES))


def kept():
    """Folders of frames that are in scratch."""
    return [p for p in spool_folder().iterdir() if p.name.startswith(".frames.")]


def test_building_computes_nothing_and_makes_no_folder(frames, monkeypatch):
    with counted_reads(monkeypatch) as reads, no_computing():
        whole = less_median(frames)
        daskcal.combine(daskcal.trim_image(whole, "[3:60, 5:]").isel(frame=[2, 0]))
        repr(daskcal.blocks(whole, rows=8))
    assert reads.bytes == 0
    assert kept() == []


@pytest.mark.parametrize("layout", [(1, -1), (1, 7), (-1, 16), (2, 33)])
def test_any_layout_gives_the_same_pixels_and_does_the_step_once(frames, layout):
    whole = daskcal.blocks(less_median(frames), *layout)
    np.testing.assert_array_equal(whole.image.values, [expected(i) for i in range(N)])
    assert sorted(LessItsMedian.done) == list(range(N))


def test_a_selection_does_the_step_for_its_frames_only(frames, monkeypatch):
    chosen = less_median(frames).isel(frame=[3, 1], y=slice(10, 30), x=slice(7, 20))
    assert isinstance(recover(chosen).recipe.source, Scratch)
    np.testing.assert_array_equal(
        daskcal.blocks(chosen, rows=3).image.values,
        [expected(i)[10:30, 7:20] for i in (3, 1)],
    )
    assert sorted(LessItsMedian.done) == [1, 3]


def test_steps_before_and_after(frames):
    whole = less_median(daskcal.flag_bad(frames, IMAGES[0] > 50000).isel(y=slice(8, 60)))
    done = daskcal.gain_correct(daskcal.trim_image(whole, "[2:40, 4:]"), 2.0)
    image = IMAGES[2][8:60].astype("f4")
    image = 2 * (image - np.median(image).astype("f4") - np.float32(20))
    np.testing.assert_array_equal(done.image.values[2], image[2:40, 4:])
    np.testing.assert_array_equal(done.mask.values[2], (IMAGES[0] > 50000)[10:48, 4:])
    assert done.y.values.tolist() == list(range(10, 48))


def test_a_combination_reads_scratch_in_bands_and_each_raw_pixel_once(frames, monkeypatch):
    lazily = daskcal.combine(less_median(frames), reject="none")
    more, fewer = (
        len(dict(dask.optimize(daskcal.combine(less_median(some)).image)[0].__dask_graph__()))
        for some in (frames, frames.isel(frame=slice(2)))
    )
    assert more - fewer <= 3 * (N - 2)  # the step, and the name of its file: nothing for each band
    with counted_reads(monkeypatch) as reads:
        image = lazily.image.compute()
    raw = [name for name in reads.files if name.endswith(".fits")]
    assert sorted(raw) == [f"f{i}.fits" for i in range(N)]
    assert sorted(LessItsMedian.done) == list(range(N))
    np.testing.assert_allclose(
        image.values, np.mean([expected(i) for i in range(N)], axis=0), rtol=1e-6
    )


def test_scratch_goes_with_the_graph(frames):
    whole = less_median(frames)
    first = whole.image[0].compute()
    assert len(kept()) == 1
    again = whole.image[0].compute()  # made anew: nothing depends on what is left on disk
    np.testing.assert_array_equal(first, again)
    del whole
    gc.collect()
    assert kept() == []


def test_scratch_of_a_graph_that_was_copied_goes_when_told(frames):
    with scratch_removed():
        whole = less_median(frames)
        copy = pickle.loads(pickle.dumps(whole))
        del whole
        gc.collect()
        np.testing.assert_array_equal(copy.image[1].values, expected(1))
        assert len(kept()) == 1
    assert kept() == []


def test_scratch_of_a_process_goes_with_it(tmp_path):
    write_frames(tmp_path / "raw", IMAGES[:1], GAIN=2.0, RDNOISE=5.0)
    code = (
        "import sys, pickle, daskcal\n"
        "whole = daskcal.cosmicray_lacosmic(daskcal.open_frames(sys.argv[1]))\n"
        "copy = pickle.loads(pickle.dumps(whole))\n"
        "copy.compute()\n"
        "from daskcal.fits.content import spool_folder\n"
        "print(len(list(spool_folder().iterdir())))"
    )
    scratch = tmp_path / "scratch"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "raw")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "DASKCAL_SCRATCH": str(scratch)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1"]
    assert [p for p in scratch.rglob("*") if p.is_file()] == []


def test_a_cluster_of_processes_shares_the_folder(frames):
    distributed = pytest.importorskip("distributed")
    lazily = daskcal.combine(daskcal.cosmicray_lacosmic(frames, gain=1.5, readnoise=5.0))
    options = {"processes": True, "dashboard_address": "127.0.0.1:0", "threads_per_worker": 1}
    wanted = lazily.compute(scheduler="threads")
    with (
        distributed.LocalCluster(n_workers=2, **options) as cluster,
        distributed.Client(cluster),
        scratch_removed(),
    ):
        xr.testing.assert_identical(
            daskcal.combine(daskcal.cosmicray_lacosmic(frames, gain=1.5, readnoise=5.0)).compute(),
            wanted,
        )
    del lazily
    gc.collect()
    assert kept() == []


def test_a_full_scratch_folder_is_named(frames, monkeypatch):
    whole = less_median(frames)
    monkeypatch.setattr(os, "makedirs", _no_room)
    with pytest.raises(OutputError, match=r"cannot be kept in .*DASKCAL_SCRATCH"):
        whole.compute()


def test_a_folder_that_workers_do_not_share_is_named(frames, monkeypatch):
    monkeypatch.setattr(ScratchFolder, "write", lambda *_: "/on/another/host/0.planes")
    with pytest.raises(
        OutputError, match=r"/on/another/host/0\.planes is not there.*workers share"
    ):
        less_median(frames).compute()


def _no_room(*_, **__):
    raise OSError(28, "No space left on device")
