"""What a plan says that it takes, where bands are read with other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import small_night
from amplifier_files import quadrants, write_mef

import daskcal
from daskcal.frames.blocks import recover
from daskcal.frames.memory import task_bytes, threads
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.effort import _stack, effort
from daskcal.night.plan.plan import plan_night

NY, NX = 32, 48
BESIDE = [[0, 1e-3, 0, 0], [1e-3, 0, 0, 0], [0, 0, 0, 1e-3], [0, 0, 1e-3, 0]]
ACROSS = [[0, 0, 1e-3, 0], [0, 0, 0, 1e-3], [1e-3, 0, 0, 0], [0, 1e-3, 0, 0]]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three biases of a detector that is read from its four corners."""
    folder = tmp_path_factory.mktemp("raw")
    darks = [np.full((NY, 4), 1000, "u2")] * 4
    cards = [{"GAIN": 1.5, "RDNOISE": 5.0, "SATURATE": 60000}] * 4
    for i in range(3):
        image = np.full((NY, NX), 1000 + i, "u2")
        path = folder / f"bias_{i}.fits"
        write_mef(path, image, quadrants(NY, NX), darks, cards=cards, IMAGETYP="bias", EXPTIME=0.0)
    return folder


@pytest.mark.parametrize(
    ("matrix", "reach", "copies"), [(BESIDE, 0, 1), (ACROSS, 0, 2), (BESIDE, 2, 2), (ACROSS, 2, 4)]
)
def test_as_the_run_reads(raw: Path, matrix: Any, reach: int, copies: int) -> None:
    tables = {"crosstalk": {"matrix": matrix}, "saturation": {"bleed": reach}}
    plan = plan_night(raw, NightConfig.model_validate(tables))
    (job,) = plan.jobs
    frames = daskcal.open_frames(sorted(raw.iterdir()), unit="adu")
    if reach:
        frames = daskcal.flag_bleed(frames, reach)
    frames = daskcal.correct_crosstalk(frames, matrix)
    source = recover(frames).recipe.source
    mine = _stack(plan, job)
    assert mine.recipe.source.copies == source.copies == copies
    assert mine.section.shape[0] == source.section.shape[0]
    assert mine.section.shape[1] == source.section.shape[1]


def test_facing_rows_and_those_nearby_are_read_again(raw: Path) -> None:
    def read(**tables: Any) -> int:
        return effort(plan_night(raw, NightConfig.model_validate(tables))).bytes_in

    once = read()
    assert once == 3 * NY * (NX + 8) * 2
    assert read(crosstalk={"matrix": BESIDE}) == once
    assert read(crosstalk={"matrix": ACROSS}) == 2 * once
    with dask.config.set({"daskcal.memory": "1MB"}):  # bands of a row each
        assert read(saturation={"bleed": 2}) == once + once * 4 * (NY - 1) // NY


def test_a_band_of_one_row_that_is_more_than_the_budget(raw: Path) -> None:
    plan = plan_night(raw)
    with dask.config.set({"daskcal.memory": "1MB", "num_workers": 3}):
        need = effort(plan)
        assert need.memory == threads() * task_bytes(_stack(plan, plan.jobs[0]), 1) > 1_000_000
        assert need.tasks == NY


def test_a_small_night_holds_little_whatever_the_budget(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw")
    plan = plan_night(raw)
    with dask.config.set({"daskcal.memory": "8GB", "num_workers": 2}):
        need = effort(plan).memory
        each = [task_bytes(_stack(plan, job), small_night.SHAPE[0]) for job in plan.jobs]
        assert max(each) < need < 5 * max(each)
    with dask.config.set({"daskcal.memory": "40MB", "num_workers": 2}):
        assert effort(plan).memory == 40_000_000


def test_more_frames_than_are_in_the_making_hold_no_more(tmp_path: Path) -> None:
    def memory(n: int) -> int:
        folder = tmp_path / f"{n}"
        for i in range(n):
            small_night.write(folder / f"n{i}.fits", "object", 60.0, 100.0)
        return effort(plan_night(folder)).memory

    with dask.config.set({"daskcal.memory": "8GB", "num_workers": 2}):
        one, four, six = (memory(n) for n in (1, 4, 6))
    assert six == four == 4 * one < 100_000_000


def test_frames_whose_cosmic_rays_are_looked_for_are_held_whole(tmp_path: Path) -> None:
    small_night.write(tmp_path / "n.fits", "object", 60.0, 100.0, shape=(400, 600))
    rays = NightConfig.model_validate({"cosmic_rays": {"method": "lacosmic"}})
    with dask.config.set({"daskcal.memory": "1MB", "num_workers": 2}):
        assert effort(plan_night(tmp_path)).memory == 1_000_000
        assert effort(plan_night(tmp_path, rays)).memory > 400 * 600 * 84


def test_a_plan_that_makes_nothing_holds_nothing(tmp_path: Path) -> None:
    assert (
        effort(plan_night(small_night.write(tmp_path / "n" / "x.fits", "arc").parent)).memory == 0
    )
