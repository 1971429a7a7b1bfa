"""Runs that are killed, and disks that are full: no name is ever invalid, no older product is lost.

After each of them the same command finishes the night, with the bits of an undisturbed run. CI has
a few moments and positions; all of them, 50 and 20, which take about fifteen minutes, run with

    DASKCAL_TORTURE=1 python -m pytest tests/night/test_interrupted.py
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner
from small_night import bits, timeless

import daskcal
from daskcal.cli import main
from daskcal.night.ledger import Ledger, read_ledger

FULL = bool(os.environ.get("DASKCAL_TORTURE"))
KILLS, POSITIONS, LIMITS = (50, 20, 8) if FULL else (3, 4, 1)
OPTIONS = ((), ("--format", "zarr"), ("--keep-calibrated",), ("--compress", "rice"))
SHAPE = (200, 256)
EVENTS = 14  # of a run of this night, about: two for each product, and a few
ROOM = 64 << 20


@dataclass(frozen=True)
class Night:
    """A night, what an older run with another config left, and what an undisturbed one leaves."""

    raw: Path
    config: Path
    older: Path
    older_bits: dict[str, str]
    bits: dict[str, str]
    ledger: Ledger
    options: tuple[str, ...]

    def command(self, out: Path) -> list[str]:
        return ["reduce", str(self.raw), "-o", str(out), "-c", str(self.config), *self.options]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """For options of the command: the night."""
    base = tmp_path_factory.mktemp("interrupted")
    raw = base / "raw"
    for i in range(3):
        small_night.write(raw / f"bias_{i}.fits", "bias", shape=SHAPE, minute=i)
    for i in range(2):
        small_night.write(raw / f"dark_{i}.fits", "dark", 60.0, shape=SHAPE, minute=20 + i)
        small_night.write(raw / f"flat_{i}.fits", "flat", 2.0, 2e4, shape=SHAPE, minute=40 + i)
        small_night.write(raw / f"m67_{i}.fits", "object", 60.0, 300.0, shape=SHAPE, minute=90 + i)
    config = base / "night.toml"
    config.write_text('[trim]\nsection = "[2:, :]"\n')

    @functools.cache
    def night(options: tuple[str, ...]) -> Night:
        older, fresh = (base / f"{word}{len(os.listdir(base))}" for word in ("older", "fresh"))
        run(["reduce", str(raw), "-o", str(older), *options])
        run(["reduce", str(raw), "-o", str(fresh), "-c", str(config), *options])
        ledger = read_ledger(fresh / "night.json")
        return Night(raw, config, older, bits(older), bits(fresh), ledger, options)

    return night


def run(command: list[str]) -> int:
    result = CliRunner().invoke(main, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert ".tmp" not in result.output  # messages name products
    return int(result.exit_code)


def require_sound(out: Path, night: Night, older: dict[str, str]) -> None:
    """Every final name is valid, and no older product is lost."""
    found = bits(out)
    assert older.keys() <= found.keys()
    for name, mark in found.items():
        assert mark in (older.get(name), night.bits[name]), f"{name} is neither old nor new"
        if name.endswith(".zarr"):
            daskcal.open_zarr(out / name).compute()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a checksum that is wrong is a warning
            warnings.filterwarnings("ignore", ".*datfix")
            with fits.open(out / name, checksum=True) as hdus:
                assert all(hdu.data is not None for hdu in hdus[-1:])
    if (out / "night.json").exists():
        read_ledger(out / "night.json")
    page = out / "report" / "index.html"
    assert not page.exists() or page.read_text().rstrip().endswith("</html>")


def require_finished(out: Path, night: Night) -> None:
    """The same command finishes the night, as an undisturbed run would have left it."""
    assert run(night.command(out)) == 0
    assert bits(out) == night.bits
    assert timeless(read_ledger(out / "night.json")) == timeless(night.ledger)
    assert not small_night.temporaries(out)


# --- killed --------------------------------------------------------------------------------------

PROGRAM = "import sys; from daskcal.cli import main; main(sys.argv[1:], prog_name='daskcal')"


@pytest.mark.parametrize("trial", range(KILLS))
def test_killed_at_a_random_moment(
    nights: Any, tmp_path: Path, trial: int, record_property: Any
) -> None:
    """SIGKILL to the real command line, a random time after a random one of its events."""
    chance = random.Random(trial)
    night = nights(OPTIONS[trial % (4 if FULL else 2)])
    out = tmp_path / "out"
    older: dict[str, str] = {}
    if trial % 3:
        shutil.copytree(night.older, out)
        older = night.older_bits
    event = chance.randrange(EVENTS)
    command = [sys.executable, "-c", PROGRAM, *night.command(out), "--log-format", "json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        for _, _line in zip(range(event), process.stderr, strict=False):
            pass
        time.sleep(chance.uniform(0, 0.25 if event else 2.0))
        process.send_signal(signal.SIGKILL)
    record_property("killed", process.returncode == -signal.SIGKILL)
    record_property("hidden", len(small_night.temporaries(out)))
    if out.exists():
        require_sound(out, night, older)
    require_finished(out, night)


# --- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted(place, f"size={ROOM}"):
        pytest.skip("a small tmpfs cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def mounted(place: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def used(place: Path) -> int:
    stat = os.statvfs(place)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


@pytest.mark.parametrize("trial", range(POSITIONS))
def test_a_disk_that_is_full_at_some_byte(
    nights: Any, disk: Path, trial: int, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """Nothing looks ahead for room here: the system itself says no, when space is claimed or, in
    every other trial, when bytes are written."""
    night = nights(OPTIONS[trial // 2 % (4 if FULL else 2)])
    out, older = disk / "out", {}
    whole = sum(path.stat().st_size for path in night.older.rglob("*") if path.is_file())
    if trial % 4:
        shutil.copytree(night.older, out)
        older, whole = night.older_bits, whole // 4  # each product makes room for the next
    chance = random.Random(trial)
    room = used(disk) + int(whole * (trial // 2 + chance.random()) / (POSITIONS / 2))
    assert mounted(disk, f"remount,size={max(room, 1 << 14)}")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(ROOM, 0, ROOM))
        if trial % 2:
            patch.delattr(os, "posix_fallocate")
        status = run(night.command(out))
    record_property("status", status)
    assert status in (0, 1)
    if out.exists():
        require_sound(out, night, older)
        assert set(small_night.temporaries(out)) <= {".night.jsonl"}
    if status == 0:
        assert bits(out) == night.bits
    assert mounted(disk, f"remount,size={ROOM}")
    require_finished(out, night)


@pytest.mark.parametrize("trial", range(LIMITS))
def test_files_that_may_not_grow(nights: Any, tmp_path: Path, trial: int) -> None:
    """The same without a file system of its own: the system refuses bytes beyond a limit."""
    night = nights(OPTIONS[trial % 4])
    out = tmp_path / "out"
    shutil.copytree(night.older, out)
    largest = max(path.stat().st_size for path in (out / "masters").iterdir())
    limit = random.Random(trial).randrange(largest)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        assert run(night.command(out)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    require_sound(out, night, night.older_bits)
    require_finished(out, night)
