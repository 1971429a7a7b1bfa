"""Gates: what they measure, what they leave out, and that good nights pass them all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import small_night
from astropy.io import fits

from daskcal.night.config.gates import Gates
from daskcal.night.config.read import NightConfig
from daskcal.night.gates.frames import Group
from daskcal.night.gates.number import Number
from daskcal.night.gates.sample import BANDS, Sample, compare, sampled_rows
from daskcal.night.ledger import Gate, Ledger
from daskcal.night.run.progress import Watch
from daskcal.night.run.run import reduce_night
from daskcal.simulate import simulate_night

RNG = np.random.default_rng(3)
NOISE = 5.0


def stack(n: int, level: float = 100.0, shape: tuple[int, int] = (32, 400)) -> np.ndarray:
    return RNG.normal(level, NOISE, (n, *shape))


def sample(image: np.ndarray, variance: np.ndarray | None = None) -> Sample:
    return Sample(image, np.isfinite(image), variance, 0.0)


def group(image: np.ndarray, kind: str = "bias", **given: Any) -> Group:
    known = {"temperatures": np.full(len(image), np.nan), "unit": "adu", "has_bias": False}
    return Group(Gates(), kind, sample(image), **{**known, **given})


def rejected(found: dict[int, list[Number]]) -> dict[int, list[str]]:
    names = {at: [n.name for n in each if n.verdict == "reject"] for at, each in found.items()}
    return {at: each for at, each in names.items() if each}


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4, 9])
def test_the_noise_of_a_pixel_is_measured(n: int) -> None:
    seen = compare(sample(stack(n)), scaled=False, sigmas=6)
    against = 2.0 if n == 2 else 1 + 1 / (n - 1)  # the others have noise too
    assert seen.noise == pytest.approx(NOISE * np.sqrt(against), rel=0.15)
    assert seen.outliers.max() < 1e-4
    np.testing.assert_allclose(seen.level, 100, atol=0.3)


def test_outliers_are_counted_against_the_others_and_not_by_their_own_scatter() -> None:
    image = stack(5)
    image[1] += np.linspace(0, 20 * NOISE, 400)  # a leak of light: a large scatter of its own
    seen = compare(sample(image), scaled=False, sigmas=6)
    # of offsets within ±10σ those beyond 6σ, where the median of four others adds to σ
    assert seen.outliers[1] == pytest.approx(1 - 0.6 * 1.14, abs=0.02)
    assert np.delete(seen.outliers, 1).max() < 1e-3


def test_scaled_frames_may_differ_in_level_and_in_noise() -> None:
    light = np.linspace(500, 40000, 400) * np.array([1.0, 0.6, 0.3, 0.15])[:, None, None]
    image = RNG.poisson(np.broadcast_to(light, (4, 32, 400))).astype(float)
    for variance in (None, image.copy()):
        seen = compare(sample(image, variance), scaled=True, sigmas=6)
        assert seen.outliers.max() < 2e-3
    image[3, :, 100:140] *= 1.5
    assert compare(sample(image), scaled=True, sigmas=6).outliers[3] > 0.05


def test_rows_are_taken_from_everywhere_and_few() -> None:
    rows = sampled_rows(20, (4096, 4096))
    assert len(rows) == BANDS
    assert sum(r.stop - r.start for r in rows) * 4096 <= 1 << 15
    assert rows[0].start < 512
    assert rows[-1].stop > 4096 - 512
    assert sampled_rows(3, (24, 32)) == [slice(0, 24)]
    assert sum(r.stop - r.start for r in sampled_rows(50000, (4096, 4096))) == BANDS


# --- frames against one another -------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 4, 5, 9])
def test_one_bad_frame_does_not_spoil_the_looks_of_others(n: int) -> None:
    image = stack(n)
    image[1] += 3 * NOISE
    assert rejected(group(image).judge(range(n))) == {1: ["frame_level"]}


def test_two_bad_frames_are_taken_out_one_after_the_other() -> None:
    image = stack(5)
    image[[0, 3]] += np.array([2, 8])[:, None, None] * NOISE
    assert rejected(group(image).judge(range(5))) == {0: ["frame_level"], 3: ["frame_level"]}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_without_a_majority_none_is_rejected(n: int) -> None:
    image = stack(n)
    image[1 : 1 + n // 2] += 10 * NOISE
    if n == 3:
        image[2] -= 20 * NOISE
    found = group(image).judge([2 * at for at in range(n)])
    assert set(found) == {2 * at for at in range(n)}
    levels = [next(n for n in each if n.name == "frame_level") for each in found.values()]
    assert "reject" not in {number.verdict for number in levels}
    assert levels[1].verdict == "warn"
    assert "no majority" in levels[1].text


def test_a_level_that_wanders_is_no_fault() -> None:
    image = stack(9) + NOISE * np.linspace(-1, 1, 9)[:, None, None]
    assert not rejected(group(image).judge(range(9)))


def test_a_warm_ccd_is_seen_in_the_header() -> None:
    temperatures = np.array([-20.0, -20.1, -8.0, -19.9])
    found = group(stack(4), "dark", temperatures=temperatures).judge(range(4))
    assert rejected(found) == {2: ["temperature"]}


def test_a_dark_may_differ_by_a_share_of_its_own_level() -> None:
    image = stack(4, level=40.0)
    image[2] += 15  # of 40: less than half of it, and 3σ of a pixel
    assert not rejected(group(image, "dark").judge(range(4)))
    assert set(rejected(group(image, "dark", has_bias=True).judge(range(4)))) == {2}


# --- whole nights ---------------------------------------------------------------------------------


def config(**tables: Any) -> NightConfig:
    return NightConfig.model_validate(tables)


def of(ledger: Ledger, name: str, verdict: str = "") -> list[Gate]:
    return [g for g in ledger.gates if g.name == name and verdict in ("", g.verdict)]


def status(ledger: Ledger, name: str) -> tuple[str, str]:
    (found,) = [(p.status, p.reason) for p in ledger.products if p.name == name]
    return found


def hashes(out: Path) -> dict[str, list[str]]:
    """SHA-256 of the planes of each product; keys in headers also tell of frames left out."""
    found = {}
    for path in (path for part in ("masters", "science") for path in (out / part).iterdir()):
        with fits.open(path) as hdus:
            planes = [np.ascontiguousarray(hdu.data).tobytes() for hdu in hdus]
        found[path.name] = [hashlib.sha256(plane).hexdigest() for plane in planes]
    return found


def brighten(path: Path, by: float) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus[0].data = (hdus[0].data + by).astype(np.uint16)


@pytest.mark.parametrize("camera", ["generic", "lfc", "aspen-cg16m"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_good_night_is_quiet(tmp_path: Path, camera: str, seed: int) -> None:
    night = simulate_night(tmp_path, camera, size=(128, 128), seed=seed)
    ledger = reduce_night(night.folder, tmp_path / "out", night.config)
    assert {gate.verdict for gate in ledger.gates} == {"pass"}
    names = {gate.name for gate in ledger.gates}
    assert names >= {"undefined", "saturated", "frame_level", "outliers", "read_noise",
                     "rejected_fraction", "dark_current", "hot_pixels", "flat_level",
                     "signal_to_noise"}  # fmt: skip
    (noise,) = of(ledger, "read_noise")
    assert noise.value == pytest.approx((noise.low + noise.high) / 2, rel=0.1)
    assert ledger.exit_status() == 0


def test_the_numbers_of_darks_are_the_simulated_ones(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, size=(128, 128), n_science=0, n_flat=0)
    ledger = reduce_night(night.folder, tmp_path / "out", night.config)
    for gate in of(ledger, "dark_current"):
        assert gate.value == pytest.approx(0.05, abs=0.005)
        assert gate.unit == "electron/s"
    assert max(gate.value for gate in of(ledger, "hot_pixels")) == pytest.approx(5e-4, rel=0.3)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return small_night.make(tmp_path / "raw")


def test_a_rejected_frame_costs_only_itself(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 40)
    ledger = reduce_night(raw, tmp_path / "out")
    (entry,) = [f for f in ledger.frames if f.status != "used"]
    assert (entry.path, entry.status) == ("bias_2.fits", "skipped")
    assert entry.reason.startswith("gate frame_level: its level is 1040.")
    (gate,) = of(ledger, "frame_level", "reject")
    assert (gate.product, gate.frame, gate.unit) == ("masters/bias.fits", "bias_2.fits", "adu")
    assert gate.value == pytest.approx(40, abs=1)
    assert gate.value > gate.high == -gate.low
    assert ledger.exit_status() == 3
    reduce_night(raw, tmp_path / "without", exclude=["bias_2.fits"])
    assert hashes(tmp_path / "out") == hashes(tmp_path / "without")


def test_too_few_frames_are_left(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 40)
    ledger = reduce_night(raw, tmp_path / "out", config(combine={"bias": {"min_frames": 4}}))
    assert status(ledger, "masters/bias.fits")[0] == "missing"
    assert "3 frames left, and min_frames = 4" in status(ledger, "masters/bias.fits")[1]
    assert not (tmp_path / "out" / "masters" / "bias.fits").exists()
    reasons = {f.path: f.reason for f in ledger.frames}
    assert "gate frame_level" in reasons["bias_2.fits"]
    assert "min_frames = 4" in reasons["bias_1.fits"]
    counts = ledger.counts()
    assert counts.found == counts.used + counts.skipped + counts.failed == 17


def test_what_the_combine_rejects_is_held_against_a_frame(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 60)
    off = {"frame_level": {"action": "off"}}
    warned = reduce_night(raw, tmp_path / "warned", config(gates=off))
    (gate,) = of(warned, "rejected_fraction", "warn")
    assert gate.frame == "bias_2.fits"
    assert gate.value > 0.5
    assert any("bias_2.fits" in m and "were rejected" in m for m in warned.messages)
    assert warned.exit_status() == 0
    strict = config(gates={**off, "rejected_fraction": {"action": "reject"}})
    ledger = reduce_night(raw, tmp_path / "out", strict)
    assert [f.path for f in ledger.frames if f.status == "skipped"] == ["bias_2.fits"]
    reduce_night(raw, tmp_path / "without", exclude=["bias_2.fits"])
    assert hashes(tmp_path / "out") == hashes(tmp_path / "without")
    assert len(of(ledger, "undefined")) == 17  # each number once, however often masters are made


def test_a_master_beyond_its_limits_is_not_made(raw: Path, tmp_path: Path) -> None:
    wrong = {"gates": {"read_noise": {"action": "reject"}}, "instrument": {"rdnoise": 20.0}}
    ledger = reduce_night(raw, tmp_path / "out", config(**wrong))
    assert status(ledger, "masters/bias.fits")[0] == "missing"
    assert "gate read_noise: the read noise measured" in status(ledger, "masters/bias.fits")[1]
    assert not small_night.files(tmp_path / "out" / "masters")
    assert not small_night.files(tmp_path / "out" / "science")
    assert of(ledger, "read_noise", "reject")
    assert ledger.exit_status() == 1


def test_a_master_that_is_refused_does_not_cost_the_older_one(raw: Path, tmp_path: Path) -> None:
    reduce_night(raw, tmp_path / "out")
    master = tmp_path / "out" / "masters" / "bias.fits"
    before = master.read_bytes()
    wrong = {"gates": {"read_noise": {"action": "reject"}}, "instrument": {"rdnoise": 20.0}}
    ledger = reduce_night(raw, tmp_path / "out", config(**wrong))
    assert status(ledger, "masters/bias.fits")[0] == "missing"
    assert master.read_bytes() == before
    assert not small_night.temporaries(tmp_path / "out")


def test_gates_can_be_off(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 40)
    names = set(Gates.model_fields) - {"datasum"}
    ledger = reduce_night(
        raw, tmp_path / "out", config(gates={name: {"action": "off"} for name in names})
    )
    assert not ledger.gates
    assert ledger.counts().used == 17


def test_the_level_of_the_bias_against_the_config(raw: Path, tmp_path: Path) -> None:
    ledger = reduce_night(raw, tmp_path / "out", config(instrument={"bias_level": 900.0}))
    (gate,) = of(ledger, "bias_level")
    assert (gate.verdict, gate.low, gate.high) == ("warn", 880, 920)
    assert gate.value == pytest.approx(1000, abs=1)


def test_numbers_do_not_depend_on_the_scheduler(raw: Path, tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        alone = reduce_night(raw, tmp_path / "alone")
    many = reduce_night(raw, tmp_path / "many", memory="200MB")
    assert repr(alone.gates) == repr(many.gates)  # NaN is not NaN


# --- quarantine -----------------------------------------------------------------------------------


def test_a_saturated_science_frame_is_left_out_of_a_store(raw: Path, tmp_path: Path) -> None:
    with fits.open(raw / "m67_V_1.fits", mode="update") as hdus:
        hdus[0].data[:] = 65535
    for format in ("fits", "zarr"):
        ledger = reduce_night(raw, tmp_path / format, format=format)
        (entry,) = [f for f in ledger.frames if f.status == "skipped"]
        assert entry.path == "m67_V_1.fits"
        assert entry.reason == "gate saturated: 100.0% of its pixels are saturated; 50.0% is most"
        assert len(of(ledger, "saturated")) == 17
    assert not (tmp_path / "fits" / "science" / "m67_V_1.fits").exists()


class Meddling(Watch):
    """Writes a frame anew as a product is begun."""

    def __init__(self, product: str, path: Path) -> None:
        self.product, self.path = product, path

    def begin(self, name: str) -> None:
        if name == self.product:
            brighten(self.path, 1)


def test_a_frame_that_changes_after_the_scan_costs_itself(raw: Path, tmp_path: Path) -> None:
    watch = Meddling("masters/dark_60s.fits", raw / "dark_1.fits")
    ledger = reduce_night(raw, tmp_path / "out", watch=watch)
    lost = {f.path: f.reason for f in ledger.frames if f.status == "failed"}
    assert list(lost) == ["dark_1.fits"]
    assert "changed" in lost["dark_1.fits"]
    assert status(ledger, "masters/dark_60s.fits")[0] == "made"


# --- again ----------------------------------------------------------------------------------------


def test_a_second_run_keeps_the_verdicts(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 40)
    first = reduce_night(raw, tmp_path / "out")
    again = reduce_night(raw, tmp_path / "out")
    assert all(p.reused for p in again.products)
    assert repr(again.gates) == repr(first.gates)
    assert again.frames == first.frames


def test_other_limits_judge_anew(raw: Path, tmp_path: Path) -> None:
    brighten(raw / "bias_2.fits", 40)
    reduce_night(raw, tmp_path / "out")
    loose = config(gates={"frame_level": {"sigmas": 100.0}})
    again = reduce_night(raw, tmp_path / "out", loose)
    assert again.counts().used == 17
    assert not any(p.reused for p in again.products)
    judged_otherwise = config(gates={"frame_level": {"sigmas": 100.0}, "hot_pixels": {"high": 0.1}})
    again = reduce_night(raw, tmp_path / "out", judged_otherwise)
    assert [p.name for p in again.products if p.reused] == ["masters/bias.fits"]
    (gate,) = of(again, "hot_pixels")
    assert gate.high == 0.1
