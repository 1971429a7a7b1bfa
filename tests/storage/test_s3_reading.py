"""Frames in an S3 store: found, scanned and read, by no more bytes than are needed."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from conftest import Server, credentials
from processes import running, scheduler, worker_command

import daskcal
from daskcal.errors import ClusterError, FrameError
from daskcal.fits import read_pixels, scan

ROWS, COLUMNS = 400, 400
AHEAD, SAMPLE = 1 << 16, 2048


def image(seed: int, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).normal(1000, 12, (rows, COLUMNS)).astype("u2")


def write(folder: Path, kind: str, count: int, rows: int = ROWS) -> list[Path]:
    """`count` biases, each a file of a kind: plain, fz or gz."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(count):
        cards = fits.Header({"IMAGETYP": "bias", "EXPTIME": 0.0, "BUNIT": "adu", "NUMBER": i})
        path = folder / f"{kind}{i}.fits"
        if kind == "fz":
            fits.CompImageHDU(image(i, rows), cards, compression_type="RICE_1").writeto(path)
        else:
            fits.PrimaryHDU(image(i, rows), cards).writeto(path)
        if kind == "gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
        paths.append(path)
    return paths


def put(bucket: tuple[str, Any], paths: list[Path], folder: str = "raw") -> str:
    url, store = bucket
    store.put([str(path) for path in paths], [f"{url}/{folder}/{path.name}" for path in paths])
    return f"{url}/{folder}"


def local_bytes(monkeypatch: pytest.MonkeyPatch, read: Any) -> int:
    """Bytes of files that `read` reads."""
    real, count = os.preadv, 0

    def counting(handle: int, buffers: Any, offset: int) -> int:
        nonlocal count
        done = real(handle, buffers, offset)
        count += done
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", counting)
        read()
    return count


@pytest.mark.parametrize("kind", ["plain", "fz", "gz"])
def test_frames_of_a_store_are_those_of_the_files(
    kind: str, bucket: tuple[str, Any], tmp_path: Path
) -> None:
    paths = write(tmp_path / "raw", kind, 3)
    here, there = (daskcal.open_frames(p) for p in (tmp_path / "raw", put(bucket, paths)))
    assert [os.path.basename(path) for path in there["path"].values] == [p.name for p in paths]
    assert there.drop_vars("path").identical(here.drop_vars("path"))
    both = [scan(p, index=False).frames for p in (tmp_path / "raw", there["path"].values.tolist())]
    assert [f.fingerprint for f in both[0]] == [f.fingerprint for f in both[1]]
    window = pickle.loads(pickle.dumps(there))["image"][1:, 20:30, 40:50]
    assert (window.values == here["image"][1:, 20:30, 40:50].values).all()


@pytest.mark.parametrize("kind", ["plain", "fz"])
def test_a_band_of_a_hundred_frames_transfers_its_bytes_and_no_others(
    kind: str,
    bucket: tuple[str, Any],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted by the server's log."""
    paths = write(tmp_path / "raw", kind, 100)
    here, there = (daskcal.open_frames(p) for p in (tmp_path / "raw", put(bucket, paths)))
    bands = [daskcal.blocks(f, frame=-1, rows=32)["image"][:, 64:96] for f in (here, there)]
    wanted = local_bytes(monkeypatch, lambda: bands[0].compute())
    server.requests()
    got = bands[1].compute()
    asked = server.requests()
    assert (got.values == bands[0].values).all()
    assert {r.method for r in asked} == {"GET"}
    assert sum(r.sent for r in asked) == wanted
    if kind == "plain":
        assert wanted == 100 * 32 * COLUMNS * 2
        assert len(asked) == 100
    else:
        whole = sum(path.stat().st_size for path in paths)
        assert wanted < whole * 32 / ROWS * 1.2
        assert len(asked) == 200  # the rows of the table, and the tiles


def test_a_scan_reads_headers_and_samples(
    bucket: tuple[str, Any], server: Server, tmp_path: Path
) -> None:
    url = put(bucket, write(tmp_path / "raw", "plain", 20, rows=2000))
    server.requests()
    assert len(scan(url).frames) == 20
    gets = server.gets()
    assert len(gets) <= 4 * 20
    assert sum(r.sent for r in gets) <= 20 * (AHEAD + 3 * SAMPLE)
    assert len(scan(url).frames) == 20
    assert server.gets() == []  # the index knows them by their ETags


def test_a_narrow_window_is_read_in_few_requests(
    bucket: tuple[str, Any], server: Server, tmp_path: Path
) -> None:
    url = put(bucket, write(tmp_path / "raw", "plain", 1))
    source = scan(url).frames[0].source
    server.requests()
    values, _ = read_pixels(source, (10, 390), (3, 8))
    assert (values == image(0)[10:390, 3:8]).all()
    assert len(server.gets()) == 1


def test_an_object_that_has_changed_is_refused(bucket: tuple[str, Any], tmp_path: Path) -> None:
    paths = write(tmp_path / "raw", "plain", 1)
    url = put(bucket, paths)
    frames = daskcal.open_frames(url)
    fits.PrimaryHDU(image(5), fits.getheader(paths[0])).writeto(paths[0], overwrite=True)
    put(bucket, paths)
    with pytest.raises(FrameError, match=r"s3://.*plain0\.fits.*changed after it was scanned"):
        frames["image"][:, :5].compute()
    assert (daskcal.open_frames(url)["image"].values[0] == image(5)).all()  # not the index's


def test_a_worker_without_credentials_ends_the_night_at_once(
    bucket: tuple[str, Any], server: Server, tmp_path: Path
) -> None:
    """In one message, and not with one frame after another."""
    place, store = bucket
    night = daskcal.simulate_night(tmp_path / "night", size=(64, 80))
    store.put(f"{night.folder}/", f"{place}/raw/", recursive=True)
    stranger = credentials(server, "stranger")
    with (
        scheduler() as (address, _),
        running(*worker_command(address), env=stranger),
        daskcal.cluster(scheduler=address),
        pytest.raises(ClusterError, match=r"worker tcp://\S+ cannot work on this night: s3://"),
    ):
        daskcal.reduce_night(f"{place}/raw", tmp_path / "out", night.config)
