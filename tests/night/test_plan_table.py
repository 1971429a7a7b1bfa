"""A plan as a table, as arrays and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_night
from click.testing import CliRunner

from daskcal.cli import main
from daskcal.errors import ConfigError
from daskcal.night.config.read import NightConfig
from daskcal.night.plan.matches import COLUMNS
from daskcal.night.plan.plan import Plan, plan_night


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small_night.make(tmp_path_factory.mktemp("night") / "raw")
    small_night.write(made / "long.fits", "object", 600.0, filter="V")
    small_night.write(made / "red.fits", "object", 60.0, filter="R")
    return made


@pytest.fixture(scope="module")
def plan(raw: Path) -> Plan:
    pins = [{"when": "OBJECT == 'M 67' and FILTER == 'B'", "flat": "flat_V"}]
    return plan_night(raw, NightConfig.model_validate({"pin": pins}))


def test_every_frame_candidate_and_rule(plan: Plan) -> None:
    table = plan.matches()
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["frame", "candidate", "rule"]).any()
    for product in (*plan.jobs, *plan.missing):
        rows = table[table["product"] == product.name]
        assert set(rows["frame"]) == {plan.label(i) for i, _ in product.matched}
        chosen = rows[rows["chosen"]]
        masters = getattr(product, "masters", None)
        if masters is not None:
            assert set(chosen["candidate"]) == set(product.master_names)  # type: ignore[union-attr]
            held = chosen[~chosen["pinned"]]
            assert held["passed"].all()


def test_what_failed_and_by_how_much(plan: Plan) -> None:
    table = plan.matches("filter == 'V' and EXPTIME == 600")
    assert set(table["frame"]) == {"long.fits"}
    (row,) = table[~table["passed"]].query("kind == 'dark'").to_dict("records")
    assert (row["rule"], row["found"], row["margin"]) == ("exposure", "60 s (10×)", -7.0)
    assert not row["chosen"]
    with pytest.raises(ConfigError, match="did you mean 'EXPTIME'"):
        plan.matches("EXPTIM == 600")


def test_pins_are_told_from_what_the_rules_chose(plan: Plan) -> None:
    table = plan.matches("filter == 'B' and imagetyp == 'science'")
    pinned = table[table["pinned"]]
    assert set(pinned["candidate"]) == {"masters/flat_V.fits"}
    assert set(pinned[~pinned["passed"]]["rule"]) == {"filter"}  # what it would have failed


def test_arrays(plan: Plan) -> None:
    table, cube = plan.matches(), plan.to_xarray()
    assert cube["passed"].dims == ("frame", "candidate", "rule")
    assert int((cube["passed"] == 1).sum()) == int(table["passed"].sum())
    assert int((cube["passed"] == -1).sum()) == cube["passed"].size - len(table)
    long = cube.sel(frame="long.fits")
    assert float(long["margin"].sel(candidate="masters/dark_60s.fits", rule="exposure")) == -7
    assert long["product"] == "science/long.fits"
    assert str(cube["kind"].sel(candidate="masters/bias.fits").item()) == "bias"
    assert bool(cube["chosen"].sel(frame="m67_B_0.fits", candidate="masters/flat_V.fits"))
    none = plan.to_xarray("filter == 'Z'")
    assert none["passed"].size == 0
    assert np.issubdtype(none["margin"].dtype, np.floating)


def test_json_on_standard_output(raw: Path, tmp_path: Path) -> None:
    (raw / "broken.fits").write_bytes(b"SIMPLE  = ")
    try:
        command = ["plan", str(raw), "--json", "--exclude", "dark_0*", "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(main, command)
    finally:
        (raw / "broken.fits").unlink()
    assert result.exit_code == 3
    said = json.loads(result.stdout)
    assert "are free" in result.stderr
    assert said["format"] == "daskcal-plan-1"
    products = {product["name"]: product for product in said["products"]}
    dark = products["masters/dark_60s.fits"]
    assert dark["inputs"] == ["dark_1.fits", "dark_2.fits"]
    assert dark["masters"] == {"bias": ["masters/bias.fits"]}
    (number,) = dark["matches"]
    bias = said["matches"][number]
    assert (bias["kind"], bias["chosen"], bias["pinned"]) == ("bias", "masters/bias.fits", None)
    assert {rule["rule"] for rule in bias["rules"]} >= {"detector", "gain", "amplifiers"}
    missing = {product["name"]: product for product in said["missing"]}
    assert "scaling allowed up to 3×, would need 10×" in missing["science/long.fits"]["reason"]
    assert said["matches"][missing["science/red.fits"]["matches"][-1]]["chosen"] is None
    assert said["skipped"] == [
        {"frame": "dark_0.fits", "reason": "left out by --exclude 'dark_0*'"}
    ]
    (lost,) = said["unreadable"]
    assert lost["code"] == "truncated"
    assert said["choices"][0]["frames"] == ["dark_0.fits"]
    assert said["effort"]["tasks"] > 10
