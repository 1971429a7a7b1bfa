"""Runs over what an earlier one has made: what is made anew, and nothing else; the same bytes."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_night
from astropy.io import fits
from small_night import bits, made, timeless

import daskcal
from daskcal.errors import OutputError
from daskcal.night.config.read import NightConfig
from daskcal.night.ledger import ProductEntry, read_ledger, says_the_same
from daskcal.night.output.place import Folder, place_of
from daskcal.night.plan.jobs import Job
from daskcal.night.plan.plan import plan_night
from daskcal.night.reuse.journal import NAME as JOURNAL
from daskcal.night.reuse.journal import read_before
from daskcal.night.reuse.keys import planned_keys
from daskcal.night.run.progress import Watch
from daskcal.night.run.run import Run, reduce_night

MASTERS = [f"masters/{name}.fits" for name in ("bias", "dark_60s", "flat_B", "flat_V")]
SCIENCE = [f"science/m67_{name}_{i}.fits" for name in "BV" for i in (0, 1)]


class Notes(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[str] = []

    def begin(self, name: str) -> None:
        self.begun.append(name)

    def note(self, message: str) -> None:
        self.notes.append(message)


class Reads:
    """Counts reads of pixels, of raw frames and of products."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        import daskcal.fits.source as source
        import daskcal.night.report.pixels as report
        import daskcal.plot as plot

        self.count = 0
        for module, name in ((source, "fill"), (plot, "read_image"), (report, "read_pixels")):
            patch.setattr(module, name, self._counting(getattr(module, name)))

    def _counting(self, read: Any) -> Any:
        def counting(*args: Any) -> Any:
            self.count += 1
            return read(*args)

        return counting


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_night.make(tmp_path_factory.mktemp("reuse") / "raw")


@pytest.fixture(scope="module")
def done(night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That night reduced: no test changes it."""
    out = tmp_path_factory.mktemp("reuse") / "out"
    reduce_night(night, out)
    return out


@pytest.fixture
def out(done: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy that a test may change; at the end nothing but products is in it."""
    copy = Path(shutil.copytree(done, tmp_path / "out"))
    yield copy
    assert not small_night.temporaries(copy)


@pytest.fixture
def raw(night: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(night, tmp_path / "raw"))


# --- nothing to do -------------------------------------------------------------------------------


def test_a_finished_night_reads_no_pixel(night: Path, out: Path, reads: Reads) -> None:
    before, page = read_ledger(out / "night.json"), (out / "report" / "index.html").stat()
    watch = Notes()
    ledger = reduce_night(night, out, watch=watch)
    assert reads.count == 0
    assert not watch.begun
    assert not made(ledger)
    assert all(product.reused for product in ledger.products)
    assert says_the_same(ledger, before)
    assert timeless(read_ledger(out / "night.json")) == timeless(before)
    assert [p.seconds for p in ledger.products] == [p.seconds for p in before.products]
    assert (out / "report" / "index.html").stat() == page
    (out / "report" / "index.html").unlink()
    reduce_night(night, out)
    assert (out / "report" / "index.html").is_file()


def test_another_format_is_another_product(night: Path, out: Path, reads: Reads) -> None:
    ledger = reduce_night(night, out, format="zarr")
    assert made(ledger) == ["science/frames.zarr"]
    reads.count = 0
    again = reduce_night(night, out, format="zarr")
    assert reads.count == 0
    assert says_the_same(again, ledger)
    chunk = out / "science" / "frames.zarr" / "image" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    watch = Notes()
    assert made(reduce_night(night, out, format="zarr", watch=watch)) == ["science/frames.zarr"]
    assert "science/frames.zarr: its file has changed" in watch.notes
    for lost in ("zarr.json", "image/zarr.json", "exptime/zarr.json"):
        (out / "science" / "frames.zarr" / lost).unlink()
        assert made(reduce_night(night, out, format="zarr")) == ["science/frames.zarr"]
    for cut in ("zarr.json", "image/zarr.json"):
        (out / "science" / "frames.zarr" / cut).write_text("{")
        assert made(reduce_night(night, out, format="zarr")) == ["science/frames.zarr"]
    daskcal.open_zarr(out / "science" / "frames.zarr")


@pytest.mark.parametrize(
    ("root", "more"),
    [(None, "thesis.txt"), (b"{", "image/thesis.txt"), (b'{"attributes": {}}', "other/c")],
    ids=["folder", "damaged", "another-programs"],
)
def test_a_strangers_folder_in_place_of_a_store_is_left_alone(
    night: Path, out: Path, root: bytes | None, more: str
) -> None:
    reduce_night(night, out, format="zarr")
    store = out / "science" / "frames.zarr"
    (store / "zarr.json").unlink()
    (store / more).parent.mkdir(exist_ok=True)
    (store / more).write_text("years of work")
    if root is not None:
        (store / "zarr.json").write_bytes(root)
    before = small_night.files(store)
    with pytest.raises(OutputError, match=r"frames\.zarr was not made by daskcal"):
        reduce_night(night, out, format="zarr")
    assert small_night.files(store) == before
    assert (store / more).read_text() == "years of work"


def test_what_was_left_out_stays_left_out(raw: Path, tmp_path: Path, reads: Reads) -> None:
    """Frames that are damaged or missing, and products that lack them: the same fates, unread."""
    bad_tile(raw / "flat_V_1.fits")
    for i in range(3):
        bad_tile(raw / f"flat_B_{i}.fits")
    bad_tile(raw / "m67_V_1.fits")
    (raw / "bias_3.fits").write_bytes((raw / "bias_3.fits").read_bytes()[:3000])
    first = reduce_night(raw, tmp_path / "out")
    assert first.exit_status() == 3
    assert {f.path for f in first.frames if f.status == "failed"} == {
        *(f"flat_B_{i}.fits" for i in range(3)), "flat_V_1.fits", "m67_V_1.fits", "bias_3.fits",
    }  # fmt: skip
    reads.count = 0
    again = reduce_night(raw, tmp_path / "out")
    assert reads.count == 0
    assert says_the_same(again, first)
    assert again.exit_status() == 3


def bad_tile(path: Path) -> None:
    """Compress a frame, and make nonsense of its first tile."""
    values, header = fits.getdata(path), fits.getheader(path)
    packed = fits.CompImageHDU(values, header, compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(path, overwrite=True)
    data = bytearray(path.read_bytes())
    at = data.find(b"\x1f\x8b\x08")
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)


def test_a_master_that_was_not_good_enough(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: Reads
) -> None:
    """It is not made, for what is in its frames: no run will find otherwise."""
    write = Run._write

    def refusing(self: Run, job: Job, kept: dict[int, str]) -> list[ProductEntry]:
        if job.name == "masters/flat_V.fits":
            self.record.reject(job.frames[0], "too faint")
            return [self.record.not_made(job, "missing", "is too faint")]
        return write(self, job, kept)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_write", refusing)
        first = reduce_night(night, out)
    assert {p.name for p in first.products if p.status == "missing"} == {
        "masters/flat_V.fits", "science/m67_V_0.fits", "science/m67_V_1.fits",
    }  # fmt: skip
    reads.count = 0
    again = reduce_night(night, out)
    assert reads.count == 0
    assert says_the_same(again, first)
    fates = {f.path: (f.status, f.reason) for f in again.frames if f.path.startswith("flat_V")}
    assert fates["flat_V_0.fits"] == ("skipped", "too faint")
    assert fates["flat_V_1.fits"] == ("skipped", "masters/flat_V.fits: is too faint")


# --- some of it is to be made --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "remade"),
    [
        ({"cosmic_rays": {"method": "median"}}, SCIENCE),
        ({"combine": {"flat": {"reject": "none"}}}, [*MASTERS[2:], *SCIENCE]),
        ({"combine": {"dark": {"method": "median"}}}, [*MASTERS[1:], *SCIENCE]),
        ({"trim": {"section": "[2:, :]"}}, [*MASTERS, *SCIENCE]),
        ({"match": {"days": 100.0}}, []),
        ({"instrument": {"name": "another"}}, []),
        ({"combine": {"bias": {"min_frames": 2}}}, []),
        ({"output": {"compress": "rice"}}, SCIENCE),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)
def test_a_config_that_changes(
    night: Path, out: Path, config: dict[str, Any], remade: list[str], tmp_path: Path
) -> None:
    settings = NightConfig.model_validate(config)
    old, new = (planned_keys(plan_night(night, c)) for c in (None, settings))
    assert [name for name in new if new[name] != old[name]] == remade
    if "cosmic_rays" in config:  # one of them with all pixels, which takes its time
        watch = Notes()
        assert made(reduce_night(night, out, settings, watch=watch)) == remade
        said = "science/m67_B_0.fits, science/m67_B_1.fits, science/m67_V_0.fits and 1 more"
        assert f"{said}: the config has changed for it" in watch.notes
        assert "4 products are as they should be" in watch.notes
        reduce_night(night, tmp_path / "fresh", settings)
        assert bits(out) == bits(tmp_path / "fresh")


def test_keys_without_effect_remake_nothing(night: Path, out: Path, tmp_path: Path) -> None:
    idle = NightConfig.model_validate(
        {"overscan": {"order": 3}, "cosmic_rays": {"sigclip": 9.0}, "fringe": {"scale": 2.0}}
    )
    before = bits(out)
    assert made(reduce_night(night, out, idle)) == []
    reduce_night(night, tmp_path / "anew", idle)
    assert bits(tmp_path / "anew") == before
    used = {"cosmic_rays": {"method": "median", "thresh": 9.0}}
    plan = plan_night(night, NightConfig.model_validate(used))
    used["cosmic_rays"]["sigclip"] = 9.0  # of the other method
    assert planned_keys(plan_night(night, NightConfig.model_validate(used))) == planned_keys(plan)
    used["cosmic_rays"]["thresh"] = 8.0
    assert planned_keys(plan_night(night, NightConfig.model_validate(used))) != planned_keys(plan)


def test_files_of_the_config_count_by_content(raw: Path, tmp_path: Path) -> None:
    mask = tmp_path / "bad.fits"
    config = NightConfig.model_validate({"mask": {"bad_pixels": str(mask)}})
    keys = []
    for value in (0, 1, 1):
        fits.writeto(mask, np.full(small_night.SHAPE, value, np.uint8), overwrite=True)
        keys.append(planned_keys(plan_night(raw, config)))
    assert keys[1] == keys[2]
    assert [name for name in keys[0] if keys[0][name] != keys[1][name]] == [*MASTERS[2:], *SCIENCE]


@pytest.mark.parametrize(
    ("spoil", "remade", "says"),
    [
        (lambda out: (out / SCIENCE[0]).unlink(), SCIENCE[:1], "its file is gone"),
        (lambda out: truncate(out / SCIENCE[3]), SCIENCE[3:], "its file has changed"),
        (lambda out: flip(out / MASTERS[3]), [MASTERS[3], *SCIENCE[2:]], "its file has changed"),
    ],
    ids=["gone", "truncated", "flipped"],
)
def test_products_that_are_not_as_they_should_be(
    night: Path, done: Path, out: Path, spoil: Any, remade: list[str], says: str
) -> None:
    spoil(out)
    watch = Notes()
    assert made(reduce_night(night, out, watch=watch)) == remade
    assert any(note.startswith(f"{remade[0]}: {says}") for note in watch.notes)
    assert bits(out) == bits(done)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2880])


def flip(path: Path) -> None:
    with fits.open(path) as hdus:
        at = hdus[0]._data_offset
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_master_is_found_before_it_is_used(night: Path, done: Path, out: Path) -> None:
    """Where neither its header nor the sampled pixels tell: another plane of it has rotted."""
    path = out / MASTERS[0]
    with fits.open(path) as hdus:
        at = hdus["NUSED"]._data_offset
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert not made(reduce_night(night, out))  # nothing is made with it
    (out / SCIENCE[1]).unlink()
    watch = Notes()
    assert made(reduce_night(night, out, watch=watch)) == [*MASTERS, *SCIENCE]
    assert "masters/bias.fits: its file is damaged; 6 products follow" in watch.notes
    assert bits(out) == bits(done)


def test_frames_that_come_go_and_change(raw: Path, done: Path, out: Path, tmp_path: Path) -> None:
    shutil.move(raw / "dark_2.fits", tmp_path / "dark_2.fits")
    small_night.write(raw / "m67_V_9.fits", "object", 60.0, 300.0, minute=99, filter="V")
    with fits.open(raw / "flat_B_0.fits", mode="update") as hdus:
        hdus[0].data[3, 3] += 7
    watch = Notes()
    ledger = reduce_night(raw, out, watch=watch)
    assert made(ledger) == [*MASTERS[1:], *SCIENCE, "science/m67_V_9.fits"]
    assert watch.notes[:2] == [
        "1 products are as they should be",
        "masters/dark_60s.fits: dark_2.fits is gone; 5 products follow",
    ]
    assert "masters/flat_B.fits: flat_B_0.fits has changed" in " ".join(watch.notes)
    reduce_night(raw, tmp_path / "fresh")
    assert bits(out) == bits(tmp_path / "fresh")


def test_a_pixel_that_no_sample_sees(tmp_path: Path) -> None:
    """A large frame that is written anew with the same header counts as another."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    for i in range(3):
        path = small_night.write(raw / f"bias_{i}.fits", "bias", shape=(200, 300), minute=i)
    first = reduce_night(raw, out)
    plan = plan_night(raw)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[101, 17] += 8
    assert plan_night(raw).frames[2].fingerprint == plan.frames[2].fingerprint
    watch = Notes()
    again = reduce_night(raw, out, watch=watch)
    assert watch.notes == ["masters/bias.fits: bias_2.fits was written anew"]
    assert again.products[0].checksum != first.products[0].checksum


def test_frames_of_masters_are_read_again_where_they_tell_more(night: Path, tmp_path: Path) -> None:
    """Unstable pixels come from the darks' frames, which no master holds."""
    raw = Path(shutil.copytree(night, tmp_path / "raw"))
    for i in range(3, 7):
        small_night.write(raw / f"dark_{i}.fits", "dark", 60.0, minute=20 + i)
    for i in range(7):
        with fits.open(raw / f"dark_{i}.fits", mode="update") as hdus:
            hdus[0].data[5, 6] += 300 * (i % 2)
    config = NightConfig.model_validate({"mask": {"from_darks": True}})
    first = reduce_night(raw, tmp_path / "out", config)
    expected = bits(tmp_path / "out")
    assert fits.getdata(tmp_path / "out" / SCIENCE[0], "MASK")[5, 6] & 1
    (tmp_path / "out" / SCIENCE[0]).unlink()
    again = reduce_night(raw, tmp_path / "out", config)
    assert made(again) == SCIENCE[:1]
    assert bits(tmp_path / "out") == expected
    assert says_the_same(again, first)


def test_kept_frames(night: Path, out: Path, done: Path) -> None:
    ledger = reduce_night(night, out, keep_calibrated=True)
    assert made(ledger)[:5] == [
        "masters/bias.fits",
        *(f"calibrated/bias_{i}.fits" for i in range(4)),
    ]
    assert {n: b for n, b in bits(out).items() if not n.startswith("calibrated")} == bits(done)
    expected = bits(out)
    assert not made(reduce_night(night, out, keep_calibrated=True))
    (out / "calibrated" / "dark_1.fits").unlink()
    again = reduce_night(night, out, keep_calibrated=True)
    assert made(again)[0] == "masters/dark_60s.fits"
    assert bits(out) == expected
    assert says_the_same(again, ledger)


# --- what an interrupted run leaves --------------------------------------------------------------


def test_what_may_pass_is_tried_again(
    night: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import daskcal.fits.source as source

    real = source.fill

    def failing(one: Any, *args: Any) -> None:
        if one.path.endswith("flat_V_1.fits"):
            raise daskcal.FrameError(one.path, "unreadable", "reading failed: Input/output error")
        real(one, *args)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(source, "fill", failing)
        first = reduce_night(night, out)
    assert [lost.fault for p in first.products for lost in p.lost] == ["unreadable"]
    assert first.exit_status() == 3
    watch = Notes()
    again = reduce_night(night, out, watch=watch)
    assert watch.notes[-1] == (
        "masters/flat_V.fits: flat_V_1.fits could not be used then, and is tried again; "
        "2 products follow"
    )
    assert again.exit_status() == 0
    assert bits(out) == bits(done)
    assert says_the_same(again, read_ledger(done / "night.json"))


class Stop(Exception):
    """Ends a run between two products."""


class StopsBefore(Watch):
    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, name: str) -> None:
        if name == self.name:
            raise Stop


@pytest.mark.parametrize("tail", [b"", b'{"format": "daskcal-journal-1", "prod', b"rubbish\n"])
def test_the_journal_of_a_run_that_came_to_no_end(
    night: Path, done: Path, tmp_path: Path, tail: bytes
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stop):
        reduce_night(night, out, watch=StopsBefore("science/m67_B_0.fits"))
    assert not (out / "night.json").exists()
    lines = (out / JOURNAL).read_bytes().splitlines()
    assert [json.loads(line)["products"][0]["name"] for line in lines] == MASTERS
    with open(out / JOURNAL, "ab") as file:
        file.write(tail)
    with pytest.raises(Stop):  # once more
        reduce_night(night, out, watch=StopsBefore("science/m67_V_0.fits"))
    watch = Notes()
    ledger = reduce_night(night, out, watch=watch)
    assert made(ledger) == SCIENCE[2:]
    assert watch.notes == [
        "6 products are as they should be", "2 products are to be made that were not yet",
    ]  # fmt: skip
    assert bits(out) == bits(done)
    assert says_the_same(ledger, read_ledger(done / "night.json"))
    assert not (out / JOURNAL).exists()


def test_the_journal_outweighs_an_older_ledger(night: Path, out: Path) -> None:
    settings = NightConfig.model_validate({"trim": {"section": "[2:, :]"}})
    with pytest.raises(Stop):
        reduce_night(night, out, settings, watch=StopsBefore("masters/flat_B.fits"))
    watch = Notes()
    ledger = reduce_night(night, out, settings, watch=watch)
    assert made(ledger) == [*MASTERS[2:], *SCIENCE]
    with pytest.raises(Stop):  # and back to what the ledger of the copy says, for two of them
        reduce_night(night, out, watch=StopsBefore("masters/flat_B.fits"))
    assert made(reduce_night(night, out)) == [*MASTERS[2:], *SCIENCE]


def test_a_product_without_a_line_is_made_again(
    night: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the rename and the line; a disk that takes no line is the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "append", full)
        ledger = reduce_night(night, out)
    assert "No space left on device" in ledger.messages[-1]
    (out / "night.json").unlink()
    assert made(reduce_night(night, out)) == [*MASTERS, *SCIENCE]
    assert bits(out) == bits(done)


def test_a_ledger_that_is_damaged_costs_time_only(night: Path, done: Path, out: Path) -> None:
    (out / "night.json").write_text("{")
    watch = Notes()
    ledger = reduce_night(night, out, watch=watch)
    assert "night.json is damaged, not JSON" in watch.notes[0]
    assert made(ledger) == [*MASTERS, *SCIENCE]
    assert bits(out) == bits(done)
    assert says_the_same(ledger, read_ledger(done / "night.json"))


def test_nothing_was_there_before(tmp_path: Path) -> None:
    before = read_before(place_of(tmp_path))
    assert (before.products, before.ledger, before.interrupted) == ({}, None, False)


def test_a_plan_says_what_would_be_made(night: Path, out: Path) -> None:
    from daskcal.night.reuse.reuse import look_ahead

    assert look_ahead(plan_night(night), place_of(out)) == [
        "nothing to do: 8 products are as they should be"
    ]
    assert look_ahead(plan_night(night), place_of(out / "elsewhere")) == []
    os.unlink(out / SCIENCE[2])
    assert look_ahead(plan_night(night), place_of(out)) == [
        "7 products are as they should be", f"{SCIENCE[2]}: its file is gone",
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["reuse.keys", "run.progress"])
def test_examples(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"daskcal.night.{module}")).failed == 0
