"""Nights that are reduced from S3 into S3, against a real server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_night
from astropy.io import fits
from click.testing import CliRunner
from conftest import Server, credentials
from processes import running, scheduler

import daskcal
from daskcal.cli import main
from daskcal.errors import OutputError
from daskcal.night.ledger import Ledger, read_ledger
from daskcal.night.output import lock
from daskcal.night.output.bucket_lock import Claim, LostOutputError
from daskcal.night.output.place import place_of

PROGRAM = "import sys; from daskcal.cli import main; main(sys.argv[1:], prog_name='daskcal')"
SHAPE = (60, 80)
SCIENCE = "science/m67_V_0.fits"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night: 4 masters, 2 science frames."""
    folder = tmp_path_factory.mktemp("s3-night") / "raw"
    return small_night.make(folder, bias=3, dark=2, flat=2, science=1, shape=SHAPE)


def put(raw: Path, bucket: tuple[str, Any]) -> str:
    url, store = bucket
    store.put(str(raw), f"{url}/", recursive=True)
    return f"{url}/raw"


def fetched(bucket: tuple[str, Any], folder: Path, name: str = "/reduced") -> Path:
    """A folder of the bucket, brought here, hidden objects too."""
    url, store = bucket
    store.invalidate_cache()
    for path in store.find(url + name):
        target = folder / path.removeprefix(f"{url[5:]}{name}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(path, str(target))
    return folder


def run(*command: str) -> Any:
    done = CliRunner().invoke(main, command)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def placeless(ledger: Ledger) -> dict[str, Any]:
    """What a ledger says, but when, and where its frames lie."""
    record = small_night.timeless(ledger) | {"raw": ""}
    for product in record["products"]:
        for one in product["inputs"]:
            one["mtime_ns"] = 0  # which stores do not have
    return record


def test_a_night_in_a_bucket_is_that_of_a_folder(
    raw: Path, bucket: tuple[str, Any], server: Server, tmp_path: Path
) -> None:
    """The same bytes; a second run reads no frame and no product; one product is made again."""
    url, store = bucket
    here = tmp_path / "here"
    assert run("reduce", str(raw), "-o", str(here)).exit_code == 0
    command = ("reduce", put(raw, bucket), "-o", f"{url}/reduced")
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert f"report: {url}/reduced/report/index.html" in done.output
    there = require_same(bucket, tmp_path / "there", here)
    assert len((there / "report/index.html").read_text().split("<img")) > 5

    run(*command)  # the index knows the products from now on
    server.requests()
    again = run(*command)
    assert (again.exit_code, "nothing to do" in again.output) == (0, True)
    got = {r.target.partition("/reduced/")[2] or r.target for r in server.gets()}
    got = {name for name in got if not name.endswith(("probe", "daskcal-marks.json"))}
    assert got == {"night.json", ".night.lock"}

    assert "nothing to do: 6 products" in run("plan", *command[1:]).output
    store.rm_file(f"{url}/reduced/{SCIENCE}")
    assert f"{SCIENCE}: its file is gone" in run("plan", *command[1:]).output
    assert "5 of them before" in run(*command).output
    require_same(bucket, tmp_path / "again", here)


def test_a_night_of_zarr_after_a_run_that_died(
    raw: Path, bucket: tuple[str, Any], tmp_path: Path
) -> None:
    """It left a draft of a master, an upload that came to no end, and a store without its root."""
    url, store = bucket
    here, out = tmp_path / "here", f"{url}/reduced"
    options = ("--format", "zarr", "--keep-calibrated")
    store.pipe_file(f"{out}/masters/.bias.fits.0123.draft", b"x")
    store.pipe_file(f"{out}/science/frames.zarr/.zarr.json.part", b"{}")
    store.pipe_file(f"{out}/science/frames.zarr/image/c/0/0/0", b"x")
    for key in ("reduced/science/a.fits", "other/b.fits"):
        store.call_s3("create_multipart_upload", Bucket=url[5:], Key=key)
    assert run("reduce", str(raw), "-o", str(here), *options).exit_code == 0
    assert run("reduce", str(raw), "-o", out, *options).exit_code == 0
    require_same(bucket, tmp_path / "there", here)
    left = store.call_s3("list_multipart_uploads", Bucket=url[5:])["Uploads"]
    assert [one["Key"] for one in left] == ["other/b.fits"]
    assert "nothing to do" in run("reduce", str(raw), "-o", out, *options).output


def require_same(bucket: tuple[str, Any], folder: Path, here: Path) -> Path:
    """What is in the bucket, brought to a folder: the files of a run on this machine."""
    there = fetched(bucket, folder)
    assert small_night.files(there) == small_night.files(here)
    assert small_night.bits(there) == small_night.bits(here)
    ledgers = [read_ledger(out / "night.json") for out in (here, there)]
    assert placeless(ledgers[1]) == placeless(ledgers[0])
    return there


def test_killed_in_the_middle_and_finished(
    raw: Path, bucket: tuple[str, Any], server: Server, tmp_path: Path
) -> None:
    """SIGKILL: what was finished stays, and the same command makes the rest. The output is the
    bucket itself."""
    there, store = bucket
    here = tmp_path / "here"
    assert run("reduce", str(raw), "-o", str(here)).exit_code == 0
    command = ["reduce", str(raw), "-o", there]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], env=os.environ | credentials(server),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        until = time.monotonic() + 120
        while len(journal(store, there)) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    left = fetched(bucket, tmp_path / "left", "")
    whole = small_night.bits(here)
    assert small_night.bits(left).items() <= whole.items()
    assert (left / ".night.lock").exists()
    assert not (left / "night.json").exists()

    noted = len(journal(store, there))
    assert noted >= 2
    ledger = daskcal.reduce_night(raw, there)  # the dead run's output is taken over at once
    assert len(small_night.made(ledger)) == len(whole) - noted
    done = fetched(bucket, tmp_path / "done", "")
    assert small_night.bits(done) == whole
    assert not small_night.temporaries(done)


def journal(store: Any, url: str) -> list[str]:
    store.invalidate_cache()
    return list(store.find(f"{url}/.night.jsonl"))


def test_two_workers_that_share_no_disk(
    raw: Path,
    bucket: tuple[str, Any],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each process has scratch space of its own: what is sent is made where it is sent from."""
    pytest.importorskip("distributed")
    url, _ = bucket
    here = tmp_path / "here"
    assert run("reduce", str(raw), "-o", str(here)).exit_code == 0
    source = put(raw, bucket)
    monkeypatch.setenv("DASKCAL_SCRATCH", str(tmp_path / "own"))
    with scheduler() as (address, _), contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            stack.enter_context(worker(address, server, tmp_path / name))
        done = run("reduce", source, "-o", f"{url}/reduced", "--scheduler", address)
    assert done.exit_code == 0, done.output
    assert small_night.bits(fetched(bucket, tmp_path / "there")) == small_night.bits(here)
    assert any((tmp_path / name / f"daskcal-{os.getuid()}").is_dir() for name in ("one", "two"))


def worker(address: str, server: Server, scratch: Path) -> Any:
    scratch.mkdir()
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
    command += ["--no-dashboard", "--local-directory", str(scratch)]
    return running(*command, env=credentials(server) | {"DASKCAL_SCRATCH": str(scratch)})


def test_what_cannot_be_written_is_said_before_a_frame_is_read(
    raw: Path, bucket: tuple[str, Any], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(raw, bucket)
    server.requests()
    missing = "s3://there-is-no-such-bucket"
    with as_stranger(monkeypatch):
        refused = run("reduce", str(raw), "-o", f"{bucket[0]}/reduced")
    combined = run("combine", str(raw / "bias_0.fits"), str(raw / "bias_1.fits"),
                   "-o", f"{missing}/bias.fits")  # fmt: skip
    for done, said in (
        (refused, f"Error: {bucket[0]}/reduced cannot be written: the store does not let you do"),
        (run("reduce", source, "-o", f"{missing}/out"), "make the bucket or folder first"),
        (combined, f"Error: {missing} cannot be written"),
    ):
        assert (done.exit_code, done.output.count("\n")) == (1, 1), done.output
        assert said in done.output
    assert not [r for r in server.gets() if "/raw/" in r.target]
    done = run("reduce", source, "-o", source)
    assert (done.exit_code, "holds the raw frames" in done.output) == (2, True)


@contextlib.contextmanager
def as_stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import fsspec

    with monkeypatch.context() as patch:
        other = {"key": "strangerkey", "secret": "strangersecret"}
        patch.setitem(fsspec.config.conf, "s3", other)
        yield


def test_a_raw_frame_or_a_stranger_s_file_is_not_replaced(
    raw: Path, bucket: tuple[str, Any]
) -> None:
    url, store = bucket
    store.put_file(str(raw / "m67_V_0.fits"), f"{url}/reduced/{SCIENCE}")
    done = run("reduce", str(raw), "-o", f"{url}/reduced")
    assert (done.exit_code, "was not made by daskcal" in done.output) == (1, True)
    done = run("reduce", f"{url}/reduced", "-o", f"{url}/reduced")
    assert done.exit_code == 2
    assert store.cat_file(f"{url}/reduced/{SCIENCE}") == (raw / "m67_V_0.fits").read_bytes()


def test_one_run_at_a_time(raw: Path, bucket: tuple[str, Any], monkeypatch: Any) -> None:
    """A living run is respected; of several that take over a dead one's output, one succeeds."""
    monkeypatch.setattr(lock, "BEAT", 0.2)
    monkeypatch.setattr(lock, "PATIENCE", 3.0)
    url = f"{bucket[0]}/reduced"
    with place_of(url).held(str), pytest.raises(OutputError, match="in use by another run"):
        daskcal.reduce_night(raw, url)
    dead = Claim(url, str)
    dead.acquire()  # and no beats
    claims = [Claim(url, str) for _ in range(4)]
    winners = [claim for claim, done in zip(claims, at_once(claims), strict=True) if done is None]
    assert len(winners) == 1
    dead.beat()
    with pytest.raises(LostOutputError, match="taken by another run"):
        dead.check()
    winners[0].beat()
    winners[0].check()
    winners[0].release()
    assert bucket[1].find(url) == []


def at_once(claims: list[Claim]) -> list[OutputError | None]:
    """What each was told; who has the output shows signs of life until all have been told."""
    from concurrent.futures import ThreadPoolExecutor

    told = threading.Semaphore(0)
    over = threading.Event()

    def one(claim: Claim) -> OutputError | None:
        try:
            claim.acquire()
        except OutputError as error:
            return error
        finally:
            told.release()
        while not over.wait(lock.BEAT):
            claim.beat()
        return None

    with ThreadPoolExecutor(len(claims)) as pool:
        answers = pool.map(one, claims)
        for _ in claims:
            told.acquire()
        over.set()
        return list(answers)


def test_a_rejected_master_does_not_cost_the_older_one(
    raw: Path, bucket: tuple[str, Any], tmp_path: Path
) -> None:
    url, store = bucket
    config = tmp_path / "night.toml"
    config.write_text("")
    command = ("reduce", str(raw), "-o", f"{url}/reduced", "-c", str(config))
    assert run(*command).exit_code == 0
    older = store.cat_file(f"{url}/reduced/masters/dark_60s.fits")
    config.write_text('[gates.dark_current]\naction = "reject"\nhigh = 0.001\n'
                      '[combine.dark]\nmethod = "median"\n')  # fmt: skip
    done = run(*command)
    assert "the dark current is" in done.output
    store.invalidate_cache()
    assert store.cat_file(f"{url}/reduced/masters/dark_60s.fits") == older
    assert not [p for p in store.find(f"{url}/reduced") if "draft" in p]


def test_other_commands_take_urls(raw: Path, bucket: tuple[str, Any], tmp_path: Path) -> None:
    url, store = bucket
    out = f"{url}/reduced"
    assert run("reduce", str(raw), "-o", out).exit_code == 0
    page = store.cat_file(f"{out}/report/index.html")
    assert run("report", out).output.strip() == f"{out}/report/index.html"
    assert re.sub(rb"\s", b"", store.cat_file(f"{out}/report/index.html")) == re.sub(
        rb"\s", b"", page
    )
    assert run("show", f"{out}/masters/bias.fits", "-o", str(tmp_path / "b.png")).exit_code == 0
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    biases = [str(raw / f"bias_{i}.fits") for i in range(3)]
    for target in (f"{url}/b.fits", str(tmp_path / "b.fits")):
        assert run("combine", *biases, "-o", target).exit_code == 0
    assert store.cat_file(f"{url}/b.fits") == (tmp_path / "b.fits").read_bytes()
    done = run("combine", *biases, "-o", f"{url}/b.fits")  # its own are replaced
    assert done.exit_code == 0
    store.put_file(biases[0], f"{url}/raw.fits")
    done = run("combine", *biases, "-o", f"{url}/raw.fits")
    assert (done.exit_code, "was not made by daskcal" in done.output) == (1, True)
    frames = daskcal.open_frames(f"{out}/science")
    assert frames.sizes["frame"] == 2
    with fits.open(tmp_path / "b.fits") as hdus:
        assert hdus[0].header["COMBINED"]
