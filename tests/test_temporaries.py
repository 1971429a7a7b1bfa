"""What dead processes left goes, what is of living ones stays, and older products come back."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daskcal import atomic
from daskcal.atomic import exchange, write_atomically
from daskcal.errors import OutputError
from daskcal.temporaries import ASIDE, discard_stale, forget, new_temporary

DEAD = 4194303  # the largest there can be


def named(final: str, process: int, host: str | None = None) -> str:
    """A temporary's name, of some process."""
    name = os.path.basename(new_temporary(Path("/nowhere") / final))
    forget(f"/nowhere/{final}", name)
    own = f"-{os.getpid()}-"
    if host is not None:
        name = name.replace(f".{socket.gethostname().replace('-', '_')}-", f".{host}-")
    return name.replace(own, f"-{process}-")


def test_what_dead_processes_left(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        stays = [
            named("a.fits", alive.pid),
            named("a.fits", DEAD, "elsewhere"),
            "a.fits",
            ".profile.tmp",
            ".night.jsonl",
        ]
        goes = [
            named("a.fits", DEAD),
            named("a.fits", DEAD) + ".fz",
            named("b.x.zarr", DEAD) + ASIDE,
            named("c.fits", os.getpid()),  # of an older process that had this number
        ]
        for name in (*stays, *goes):
            (tmp_path / name).touch()
        (tmp_path / "b.x.zarr").mkdir()
        (tmp_path / named("d.zarr", DEAD) / "image").mkdir(parents=True)
        discard_stale(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([*stays, "b.x.zarr"])
        alive.communicate(b"\n")
    discard_stale(tmp_path / "none")


def test_what_this_process_is_making_stays(tmp_path: Path) -> None:
    part = Path(new_temporary(tmp_path / "a.fits"))
    part.touch()
    discard_stale(tmp_path)
    assert part.exists()
    forget(tmp_path / "a.fits", str(part))
    discard_stale(tmp_path)
    assert not part.exists()


def test_an_older_product_that_was_put_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / (named("a.zarr", DEAD) + ASIDE)
    aside.mkdir()
    (aside / "zarr.json").write_text("older")
    discard_stale(tmp_path)
    assert (tmp_path / "a.zarr" / "zarr.json").read_text() == "older"


def test_two_paths_change_places(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    if not exchange(tmp_path / "new", tmp_path / "old"):
        pytest.skip("this file system cannot swap two paths")
    assert (tmp_path / "old" / "is").read_text() == "new"
    assert (tmp_path / "new" / "is").read_text() == "old"
    assert not exchange(tmp_path / "none", tmp_path / "old")


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_atomically(tmp_path / "a.json", b"older")
    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.json cannot be written: No space left"):
        write_atomically(path, b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.json"]
