"""Plans: the darks they promise are the darks that are used, and their text stays readable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_night
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

from daskcal.calibration.dark import nearest_exposure
from daskcal.errors import UnitError
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.effort import effort
from daskcal.night.plan.jobs import Jobs, plan_jobs
from daskcal.night.plan.plan import plan_night
from daskcal.night.run.run import reduce_night

NAN = float("nan")


def table(*frames: dict[str, Any]) -> pd.DataFrame:
    unknown = {
        "imagetyp": "bias", "flat_kind": "", "exptime": 0.0, "filter": "", "ccd_temp": -20.0,
        "gain": 1.0, "rdnoise": 5.0, "binning": "", "detector": "", "detectors": 1,
        "readout_mode": "", "hdu": 0, "shape": (8, 8), "origin_y": 0, "origin_x": 0,
        "origin_known": False,
    }  # fmt: skip
    rows = [unknown | {"path": f"/night/{i:04}.fits"} | frame for i, frame in enumerate(frames)]
    made = pd.DataFrame([{"darktime": row["exptime"]} | row for row in rows])
    made["date_obs"] = np.array([row.get("date", "NaT") for row in rows], "datetime64[us]")
    return made


def jobs_of(made: pd.DataFrame, **config: Any) -> Jobs:
    return plan_jobs(NightConfig.model_validate(config), made, np.ones(len(made), bool))


exposures = st.floats(0.1, 700).map(lambda t: round(t, 2))


@settings(max_examples=150, deadline=None)
@given(
    darks=st.lists(exposures, min_size=1, max_size=5),
    flats=st.lists(exposures, min_size=1, max_size=6),
    tolerance=st.sampled_from([0.0, 0.5, 30.0]),
    scale=st.sampled_from([True, False, "auto"]),
)
def test_each_frame_gets_the_dark_that_was_planned(
    darks: list[float], flats: list[float], tolerance: float, scale: Any
) -> None:
    made = table(
        {},
        *({"imagetyp": "dark", "exptime": t} for t in darks),
        *({"imagetyp": "flat", "exptime": t, "filter": "V"} for t in flats),
    )
    planned = jobs_of(made, dark={"tolerance": tolerance, "scale": scale})
    job = next(job for job in planned.made if job.kind == "flat")
    names = job.masters.get("dark", ())
    if not names:
        assert any("without a dark" in message for message in planned.messages)
        return
    of = {j.name: made["darktime"].iloc[list(j.frames)].mean() for j in planned.made}
    times = np.array([of[name] for name in names])
    for i in job.frames:
        wanted = made["darktime"].iloc[i]
        done = names[nearest_exposure(times, wanted)]
        near = abs(of[done] - wanted) <= tolerance
        assert near or job.scale_dark
        assert not job.scale_dark or wanted / of[done] <= 3
        told = [r for r in job.reasons if r.startswith(f"{done}:")]
        assert told
        assert all(("unscaled" in reason) != job.scale_dark for reason in told)


def test_frames_that_need_darks_which_exclude_each_other() -> None:
    made = table(
        {},
        {"imagetyp": "dark", "exptime": 10.0, "date": "2024-01-01"},
        {"imagetyp": "dark", "exptime": 20.0, "date": "2024-03-01"},
        {"imagetyp": "flat", "exptime": 20.0, "filter": "V", "date": "2024-01-01"},
        {"imagetyp": "flat", "exptime": 20.0, "filter": "V", "date": "2024-03-01"},
    )
    some = {"match": {"days": 5.0}, "bias": {"subtract": False}, "dark": {"tolerance": 60.0}}
    planned = jobs_of(made, **some)
    flat = next(job for job in planned.made if job.kind == "flat")
    assert "dark" not in flat.masters
    assert "its frames need different darks" in planned.messages[0]
    strict = jobs_of(made, **some, flat={"subtract_dark": True})
    assert [m.kind for m in strict.missing] == ["flat"]


def test_a_set_of_frames_that_is_too_small() -> None:
    planned = jobs_of(table({}, {"imagetyp": "science"}), combine={"bias": {"min_frames": 3}})
    assert [m.name for m in planned.missing] == ["masters/bias.fits", "science/0001.fits"]
    assert planned.missing[0].reason == "has 1 frames, and combine.bias.min_frames = 3"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return small_night.make(tmp_path / "raw")


def test_the_text_grows_with_what_is_new(tmp_path: Path) -> None:
    few = str(plan_night(small_night.make(tmp_path / "few", science=1)))
    many = small_night.make(tmp_path / "many", science=1)
    for i in range(200):
        small_night.write(many / f"n{i:03}.fits", "object", 60 + i / 100, filter="V")
        small_night.write(many / f"u{i:03}.fits", "object", 60, filter="U")
    said = str(plan_night(many))
    assert len(said.splitlines()) <= len(few.splitlines()) + 4
    assert "science/m67_V_0.fits, science/n000.fits, science/n001.fits and 198 more" in said
    assert "science/u000.fits, science/u001.fits, science/u002.fits and 197 more: no flat" in said
    assert "201 science V of 60 to 61.99 s" in said
    assert max(map(len, few.splitlines())) < 200


def test_the_tasks_of_a_plan_are_those_of_the_run(raw: Path, tmp_path: Path) -> None:
    counted: Counter[str] = Counter()

    class Counting(Callback):
        def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
            counted[str(key[0] if isinstance(key, tuple) else key)] += 1

    plan = plan_night(raw)
    with Counting():
        reduce_night(raw, tmp_path / "out")
    bands = sum(n for name, n in counted.items() if "fits-band" in name)  # or fused with others
    scales = sum(n for name, n in counted.items() if "frame_statistic" in name)
    assert scales == 6
    assert effort(plan).tasks == bands + scales


def test_the_bytes_of_a_plan(raw: Path, tmp_path: Path) -> None:
    need = effort(plan_night(raw))
    whole = small_night.SHAPE[0] * small_night.SHAPE[1]
    assert need.bytes_in == whole * 2 * (4 + 3 + 2 * 6 + 4)
    assert need.bytes_out == whole * (4 * 12 + 4 * 10)
    assert need.memory > 1 << 20


def test_a_plan_reads_no_pixel(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import daskcal.fits.assembled as assembled

    def forbidden(*args: Any) -> None:
        raise AssertionError("a pixel was read")

    monkeypatch.setattr(assembled, "read_pixels", forbidden)
    assert "will be made" in str(plan_night(raw))


def test_darks_that_may_be_biases_are_noted_with_the_rule_that_says_so(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", bias=0, dark=0)
    for i in range(3):
        small_night.write(raw / f"zero_{i}.fits", "dark", 0.0, minute=i)
    (note,) = (note for note in plan_night(raw).messages if "no exposure" in note)
    assert note.startswith("3 darks have no exposure; if they are biases")
    rule = {"when": "EXPTIME == 0", "imagetyp": "bias"}
    assert all(word in note for pair in rule.items() for word in pair)
    plan = plan_night(raw, NightConfig.model_validate({"classify": [rule]}))
    assert [job.name for job in plan.jobs if job.kind == "bias"] == ["masters/bias.fits"]
    assert not any("no exposure" in note for note in plan.messages)


def test_a_frame_without_a_unit_is_named_with_what_to_do(tmp_path: Path) -> None:
    raw = small_night.make(tmp_path / "raw", BUNIT=None)
    with pytest.raises(UnitError, match=r"BUNIT.* --template.*\[instrument\] unit = \"adu\""):
        plan_night(raw)
