"""The streaming FITS sink: right bytes, whole or not at all, the same for every layout."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from astropy.io import fits
from dask.utils import key_split
from hypothesis import given, settings
from hypothesis import strategies as st

from daskcal.errors import ArgumentError, OutputError
from daskcal.fits import flushing, write
from daskcal.fits.cards import make_card
from daskcal.fits.checksum import folded, word_sum
from daskcal.fits.layout import Plane, Written
from daskcal.fits.write import fits_sink, hashed
from daskcal.temporaries import discard_temporaries

DTYPES = ("f4", "f8", "u1", "u2", "i2", "i4")
SHAPE = (23, 37)


def array(dtype: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(7)
    if dtype.startswith("f"):
        values = rng.normal(1000, 400, shape).astype(dtype)
        values[1, 2:5] = np.nan, np.inf, -np.inf
        return values
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def lazy(values: np.ndarray, rows: int, stacked: bool = False) -> da.Array:
    whole = values[None] if stacked else values
    chunks = (*[1] * (whole.ndim - 2), rows, values.shape[1])
    return da.from_array(whole, chunks=chunks)


def planes(rows: int = 5) -> list[Plane]:
    cards = make_card("OBJECT", "M 31") + make_card("BUNIT", "adu")
    return [
        Plane(f"P{i}" if i else "", cards, lazy(array(dtype), rows, stacked=bool(i % 2)))
        for i, dtype in enumerate(DTYPES)
    ]


def one(data: da.Array) -> Sequence[Plane]:
    return [Plane("", make_card("BUNIT", "adu"), data)]


def failing(after: int = 2) -> da.Array:
    def block(block_info: dict) -> np.ndarray:
        if block_info[None]["chunk-location"][0] >= after:
            raise RuntimeError("the camera is on fire")
        return np.ones((5, 8), np.float32)

    return da.map_blocks(
        block, chunks=((5,) * 4, (8,)), dtype=np.float32, meta=np.empty((0, 0), "f4")
    )


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize("rows", [1, 5, 23])
def test_astropy_reads_what_was_written(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.fits"
    written = fits_sink(path, planes(rows)).compute()
    with fits.open(path, checksum=True) as hdus:  # a wrong sum would warn, and warnings are errors
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "P1", "P2", "P3", "P4", "P5"]
        for hdu, dtype in zip(hdus, DTYPES, strict=True):
            assert (hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1)
            assert hdu.data.dtype.newbyteorder("=") == np.dtype(dtype)
            np.testing.assert_array_equal(hdu.data, array(dtype))
            assert hdu.header["OBJECT"] == "M 31"
        assert [int(hdu.header["DATASUM"]) for hdu in hdus] == list(written.datasums)
    assert hidden(tmp_path) == []


def test_what_computing_gives(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    written = fits_sink(path, planes()).compute()
    content = path.read_bytes()
    assert written == Written(str(path), len(content), written.datasums)
    sha256 = hashlib.sha256(content).hexdigest()
    assert written.checksum == sha256
    known = hashed(fits_sink(tmp_path / "b.fits", planes())).compute()
    (tmp_path / "b.fits").unlink()
    assert (known.sha256, known.checksum) == (sha256, sha256)


def test_fitsverify_is_content(tmp_path: Path) -> None:
    if shutil.which("fitsverify") is None:
        pytest.skip("fitsverify is not installed")
    path = tmp_path / "a.fits"
    fits_sink(path, planes()).compute()
    said = subprocess.run(["fitsverify", path], capture_output=True, text=True, check=False).stdout
    assert "0 warning(s) and 0 error(s)" in said


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_sums_of_bands_make_the_sum_of_the_data(dtype: str, bands: list[int], width: int) -> None:
    values = array(dtype, (sum(bands), width)) if sum(bands) > 1 and width > 4 else None
    if values is None:
        values = np.resize(array(dtype), (sum(bands), width))
    total, row = 0, 0
    for rows in bands:
        stored = np.array(values[row : row + rows], values.dtype.newbyteorder(">"))
        total += word_sum(stored, row * width * values.itemsize)
        row += rows
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    data += bytes(-len(data) % 4)
    words = [int.from_bytes(data[i : i + 4], "big") for i in range(0, len(data), 4)]
    assert folded(total) == folded(sum(words))


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_bytes_do_not_depend_on_the_layout(tmp_path: Path, scheduler: str) -> None:
    sums = set()
    for rows in (1, 4, 7, 23):
        sink = fits_sink(tmp_path / f"{rows}.fits", planes(rows))
        sums.add(sink.compute(scheduler=scheduler).checksum)
    mixed = planes(4)[:3] + planes(6)[3:]
    wide = [Plane(p.name, p.cards, p.data.rechunk({p.data.ndim - 1: 10})) for p in planes(5)]
    for i, cut in enumerate((mixed, wide)):
        sums.add(fits_sink(tmp_path / f"m{i}.fits", cut).compute(scheduler=scheduler).checksum)
    assert len(sums) == 1


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_bytes_do_not_depend_on_the_pieces_of_a_band(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    expected = fits_sink(tmp_path / "a.fits", planes(23)).compute()
    monkeypatch.setattr(write, "_PIECE", piece)
    found = fits_sink(tmp_path / "b.fits", planes(23)).compute()
    assert (found.checksum, found.datasums) == (expected.checksum, expected.datasums)


def test_bands_that_are_windows_of_larger_arrays(tmp_path: Path) -> None:
    whole = array("f4", (40, 60))
    window = da.from_array(whole, chunks=(7, 60)).map_blocks(
        lambda block: block[:, 3:40], chunks=((7,) * 5 + (5,), (37,)), dtype="f4"
    )
    fits_sink(tmp_path / "a.fits", one(window)).compute()
    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits"), whole[:, 3:40])


def test_where_the_system_cannot_flush_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fits_sink(tmp_path / "a.fits", planes()).compute().checksum
    monkeypatch.setattr(flushing, "_sync_file_range", None)
    assert fits_sink(tmp_path / "b.fits", planes()).compute().checksum == expected


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_file_after_another_waits_for_it(tmp_path: Path, scheduler: str) -> None:
    """What both need is computed once; what only the second needs, after the first is there."""
    seen = []

    def look(block: np.ndarray) -> np.ndarray:
        seen.append(sorted(os.listdir(tmp_path)))
        return block

    shared = lazy(array("f4"), 5).map_blocks(look, meta=np.empty((0, 0), "f4"))
    first = fits_sink(tmp_path / "a.fits", one(shared))
    late = lazy(array("f4"), 5).map_blocks(look, dtype="f4", meta=np.empty((0, 0), "f4"))
    second = fits_sink(tmp_path / "b.fits", one(shared + late), after=first)
    written = dask.compute(first, second, scheduler=scheduler)
    assert [Path(w.path).name for w in written] == ["a.fits", "b.fits"]
    assert len(seen) == 10
    assert sum("a.fits" in names for names in seen) == 5


def test_bytes_are_the_same_on_a_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    local = fits_sink(tmp_path / "a.fits", planes()).compute(scheduler="sync")
    with distributed.Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ):
        remote = fits_sink(tmp_path / "b.fits", planes()).compute()
    assert remote.checksum == local.checksum


def test_one_task_for_each_band(tmp_path: Path) -> None:
    image = da.ones((10, 640, 32), chunks=(10, 64, 32), dtype="f4")
    packed = da.blockwise(
        lambda b: (b.mean(0, keepdims=True), b.std(0, keepdims=True)),
        "fyx",
        image,
        "fyx",
        adjust_chunks={"f": 1},
        dtype=object,
        meta=np.empty((0, 0, 0), object),
    )
    mean, std = (
        da.blockwise(
            itemgetter(i), "fyx", packed, "fyx", dtype="f4", meta=np.empty((0, 0, 0), "f4")
        )
        for i in range(2)
    )
    sink = fits_sink(tmp_path / "a.fits", [Plane("", "", mean), Plane("STD", "", std)])
    (optimized,) = dask.optimize(sink)
    assert Counter(key_split(key) for key in dict(optimized.dask)) == {
        "fits-band": 10,
        "fits-file": 1,
        "prepare": 1,
    }


def test_building_writes_nothing(tmp_path: Path) -> None:
    fits_sink(tmp_path / "a.fits", planes())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_failing_block_leaves_the_older_product(tmp_path: Path, scheduler: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"older")
    sink = fits_sink(path, one(failing()), overwrite=True)
    with pytest.raises(RuntimeError, match="on fire"):
        sink.compute(scheduler=scheduler)
    assert path.read_bytes() == b"older"
    discard_temporaries(path)
    assert os.listdir(tmp_path) == ["a.fits"]


def test_the_next_run_clears_what_a_failed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with pytest.raises(RuntimeError):
        fits_sink(path, one(failing())).compute()
    assert len(hidden(tmp_path)) == 1
    dead = tmp_path / hidden(tmp_path)[0].replace(f"-{os.getpid()}-", "-4194303-")
    dead.write_bytes(b"of a process that is gone")
    other = tmp_path / ".a.fits.elsewhere-1-0123abcd.tmp"
    other.write_bytes(b"of another host")
    fits_sink(path, one(failing(9))).compute()
    assert sorted(os.listdir(tmp_path)) == [other.name, "a.fits"]


def test_a_full_disk_is_found_before_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(write.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"needs \d+ bytes, and .* has 1000 bytes free"):
        fits_sink(tmp_path / "a.fits", planes())


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync", "replace", "ftruncate"])
def test_each_failing_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"older")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    sink = fits_sink(path, planes(), overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(write.os, call, full)
        with pytest.raises(OutputError, match=r"a\.fits"):
            sink.compute()
    assert path.read_bytes() == b"older"
    discard_temporaries(path)
    assert os.listdir(tmp_path) == ["a.fits"]
    assert sink.compute().path == str(path)


def test_data_that_changed_on_disk_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def flip_a_bit(handle: int) -> None:
        os.pwrite(handle, b"\x55", 2880 + 100)
        real(handle)

    monkeypatch.setattr(write.os, "fsync", flip_a_bit)
    with pytest.raises(OutputError, match="read back differs"):
        fits_sink(tmp_path / "a.fits", one(lazy(array("f4"), 5))).compute()
    assert os.listdir(tmp_path) == []


def test_compressed_data_that_changed_on_disk_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def flip_a_bit(handle: int) -> None:
        real(handle)
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.endswith(".sum"):
            with open(path, "r+b") as file:
                file.seek(-2000, os.SEEK_END)
                file.write(b"\x55")

    monkeypatch.setattr(write.os, "fsync", flip_a_bit)
    sink = fits_sink(tmp_path / "a.fits", one(lazy(array("f4"), 5)), compress="rice")
    with pytest.raises(OutputError, match="read back differs"):
        sink.compute()
    assert os.listdir(tmp_path) == []


def test_tasks_may_run_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    sink = fits_sink(path, planes())
    first = sink.compute()
    assert sink.compute() == first  # every task again, after the rename
    assert os.listdir(tmp_path) == ["a.fits"]


def test_a_late_twin_finds_the_file_finished(tmp_path: Path) -> None:
    """Bands and the last task again, without the first: a worker died after the rename."""
    path = tmp_path / "a.fits"
    sink = fits_sink(path, one(lazy(array("f4"), 5)))
    written = sink.compute(scheduler="sync")
    graph = dict(sink.dask)
    prepare = next(key for key in graph if key_split(key) == "prepare")
    job = next(v for task in graph.values() for v in _jobs(task))
    graph[prepare] = job
    assert dask.get(graph, sink.__dask_keys__()[0]) == written
    assert os.listdir(tmp_path) == ["a.fits"]
    path.write_bytes(b"someone else's")
    with pytest.raises(OutputError, match="was removed before"):
        dask.get(graph, sink.__dask_keys__()[0])
    assert path.read_bytes() == b"someone else's"


def _jobs(task: object) -> list[object]:
    """The job among a task's arguments."""
    values = [*getattr(task, "args", ()), *getattr(task, "kwargs", {}).values()]
    found = [getattr(value, "value", value) for value in values]
    return [value for value in found if type(value).__name__ == "FileJob"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    sink = fits_sink(path, planes())
    path.write_bytes(b"of another run")
    with pytest.raises(OutputError, match="someone else"):
        sink.compute()
    assert path.read_bytes() == b"of another run"
    assert hidden(tmp_path) == []


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    with pytest.raises(OutputError, match="there is no folder"):
        fits_sink(tmp_path / "none" / "a.fits", planes())
    with pytest.raises(OutputError, match="is a folder"):
        fits_sink(tmp_path, planes(), overwrite=True)
    path.touch()
    with pytest.raises(OutputError, match="overwrite=True"):
        fits_sink(path, planes())
    with pytest.raises(ArgumentError, match="int64"):
        fits_sink(tmp_path / "b.fits", one(da.ones((3, 3), dtype="i8")))
    with pytest.raises(ArgumentError, match="shape"):
        fits_sink(tmp_path / "b.fits", [*planes(), *one(da.ones((3, 3), dtype="f4"))])
    with pytest.raises(ArgumentError, match="shape"):
        fits_sink(tmp_path / "b.fits", one(da.ones((2, 3, 3), dtype="f4")))
    with pytest.raises(ArgumentError, match="empty"):
        fits_sink(tmp_path / "b.fits", [])
    with pytest.raises(ArgumentError, match="did you mean 'rice'"):
        fits_sink(tmp_path / "b.fits", planes(), compress="ricy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        fits_sink(tmp_path / "a.fits", planes())


def test_a_block_of_another_shape_than_promised(tmp_path: Path) -> None:
    wrong = da.map_blocks(
        lambda: np.ones((4, 8), "f4"),
        chunks=((5, 5), (8,)),
        dtype="f4",
        meta=np.empty((0, 0), "f4"),
    )
    with pytest.raises(ArgumentError, match="was promised"):
        fits_sink(tmp_path / "a.fits", one(wrong)).compute()


def test_rice(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    image = rng.normal(1000, 30, (64, 80)).astype("f4")
    image[3, 4] = np.nan
    mask = rng.integers(0, 200, (64, 80)).astype("u2")
    cut = [
        Plane("", make_card("BUNIT", "adu"), lazy(image, 10)),
        Plane("MASK", "", lazy(mask, 10)),
    ]
    sums = {
        fits_sink(tmp_path / f"{i}.fits", cut, compress="rice").compute().checksum for i in range(2)
    }
    assert len(sums) == 1
    with fits.open(tmp_path / "0.fits", checksum=True, disable_image_compression=True) as hdus:
        assert [hdu.verify_checksum() * hdu.verify_datasum() for hdu in hdus] == [1, 1, 1]
        assert hdus[1].header["ZDITHER0"] == 1
    with fits.open(tmp_path / "0.fits") as hdus:
        np.testing.assert_allclose(hdus[1].data, image, rtol=0, atol=30 / 16)
        assert np.isnan(hdus[1].data[3, 4])
        np.testing.assert_array_equal(hdus["MASK"].data, mask)
        assert hdus[1].header["BUNIT"] == "adu"
    if shutil.which("fitsverify"):
        run = subprocess.run(
            ["fitsverify", tmp_path / "0.fits"], capture_output=True, text=True, check=False
        )
        assert "0 warning(s) and 0 error(s)" in run.stdout
    assert hidden(tmp_path) == []
