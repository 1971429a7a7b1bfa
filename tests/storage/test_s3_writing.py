"""Products in an S3 store, and the night that is reduced from one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from conftest import Server
from test_writing import pixels

import daskcal
from daskcal.cli import main
from daskcal.errors import OutputError


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.fits"))
    }


def test_the_same_night_from_a_store_gives_the_same_bytes(
    bucket: tuple[str, Any], tmp_path: Path
) -> None:
    url, store = bucket
    daskcal.simulate_night(tmp_path / "sim", size=(96, 128))
    raw = tmp_path / "sim" / "raw"
    config = next((tmp_path / "sim").glob("*.toml"))
    store.put(str(raw), f"{url}/", recursive=True)
    here = daskcal.reduce_night(raw, tmp_path / "here", config)
    done = CliRunner().invoke(
        main, ["reduce", f"{url}/raw", "-o", str(tmp_path / "there"), "-c", str(config)]
    )
    assert done.exit_code == here.exit_status(), done.output
    products = checksums(tmp_path / "here")
    assert len(products) > 5
    assert checksums(tmp_path / "there") == products


def test_masters_and_stores_there_and_back(bucket: tuple[str, Any], tmp_path: Path) -> None:
    url, store = bucket
    (there,) = daskcal.to_fits(pixels(), f"{url}/masters/bias.fits")
    (here,) = daskcal.to_fits(pixels(), tmp_path / "bias.fits")
    assert there.checksum == here.checksum
    assert hashlib.sha256(store.cat_file(f"{url}/masters/bias.fits")).hexdigest() == here.checksum
    opened = [daskcal.open_master(w.path) for w in (there, here)]
    assert opened[0].identical(opened[1])
    stores = [daskcal.to_zarr(pixels(3), p) for p in (f"{url}/night.zarr", tmp_path / "night.zarr")]
    assert stores[0].checksum == stores[1].checksum
    assert daskcal.open_zarr(f"{url}/night.zarr").identical(
        daskcal.open_zarr(tmp_path / "night.zarr")
    )


def test_a_large_product_goes_in_several_parts(
    bucket: tuple[str, Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 5 MiB, the least that S3 takes, where s3fs would take larger ones."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 << 20)
    url, store = bucket
    frame = pixels().interp(y=range(1200), x=range(1600), kwargs={"fill_value": 1.0})
    (there,) = daskcal.to_fits(frame.drop_vars("mask"), f"{url}/large.fits")
    parts = [r for r in server.requests() if r.method == "PUT" and "partNumber" in r.target]
    assert len(parts) > 2
    assert hashlib.sha256(store.cat_file(f"{url}/large.fits")).hexdigest() == there.checksum


@pytest.fixture
def stranger(bucket: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket that belongs to somebody else."""
    daskcal.to_fits(pixels(), f"{bucket[0]}/raw/bias.fits")
    other = {"key": "strangerkey", "secret": "strangersecret"}
    monkeypatch.setitem(fsspec.config.conf, "s3", other)
    return bucket[0]


def test_a_bucket_without_permission_is_one_message(stranger: str, tmp_path: Path) -> None:
    for command in (["ls"], ["plan"], ["reduce", "-o", str(tmp_path / "out")]):
        done = CliRunner().invoke(main, [*command, f"{stranger}/raw"])
        assert done.exit_code == 1
        assert done.output.count("\n") == 1
        assert done.output.startswith(f"Error: {stranger}/raw: the store does not let you do that")
        assert "credentials" in done.output
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_may_not_be_written_is_named(stranger: str) -> None:
    with pytest.raises(OutputError, match=r"bias\.fits cannot be written.*does not let you"):
        daskcal.to_fits(pixels(), f"{stranger}/bias.fits", overwrite=True)
    with pytest.raises(OutputError, match=r"night\.zarr cannot be written.*does not let you"):
        daskcal.to_zarr(pixels(), f"{stranger}/night.zarr", overwrite=True)
    with pytest.raises(OutputError, match=r"make the bucket or folder first"):
        daskcal.to_fits(pixels(), "s3://no-such-bucket/bias.fits", overwrite=True)


def test_a_store_that_is_not_there_ends_with_one_message() -> None:
    pytest.importorskip("s3fs")
    nobody = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    program = [sys.executable, "-c", "from daskcal.cli import main; main()"]
    done = subprocess.run(
        [*program, "ls", "s3://bucket/night"],
        env=os.environ | nobody, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "s3://bucket/night: the store cannot be asked: Could not connect" in done.stderr
