"""Frames behind URLs of any file system of fsspec: here one in memory, and one that fails."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import small_night
import xarray as xr
from astropy.io import fits
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

import daskcal
from daskcal.cli import main
from daskcal.errors import ArgumentError, DaskcalWarning, FrameError, OutputError
from daskcal.fits import read_pixels, scan
from daskcal.fits.files import find_files
from daskcal.fits.urls import absolute, common_folder, is_url

IMAGE = np.arange(4800, dtype="u2").reshape(60, 80)


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def content(image: np.ndarray = IMAGE, kind: str = "plain", **cards: Any) -> bytes:
    """A FITS file of one image."""
    from io import BytesIO

    header = fits.Header({"IMAGETYP": "bias", "EXPTIME": 0.0, "BUNIT": "adu"} | cards)
    hdu = fits.PrimaryHDU(image, header)
    if kind in ("RICE_1", "HCOMPRESS_1"):
        hdu = fits.CompImageHDU(image, header, compression_type=kind, tile_shape=(20, 40))
    file = BytesIO()
    hdu.writeto(file)
    return gzip.compress(file.getvalue()) if kind == "gzip" else file.getvalue()


@pytest.mark.parametrize("kind", ["plain", "gzip", "RICE_1", "HCOMPRESS_1"])
def test_pixels_of_every_kind_of_file(kind: str, store: MemoryFileSystem, tmp_path: Path) -> None:
    raw = content(kind=kind)
    store.pipe_file("/night/a.fits", raw)
    (tmp_path / "a.fits").write_bytes(raw)
    there, here = (scan(p, index=False).frames[0] for p in ("memory://night/a.fits", tmp_path))
    assert there.fingerprint == here.fingerprint
    for rows, columns in (
        ((0, 60), (0, 80)),
        ((7, 9), (0, 80)),
        ((3, 50), (30, 70)),
        ((5, 5), (0, 9)),
    ):
        values, _ = read_pixels(there.source, rows, columns)
        np.testing.assert_array_equal(values, IMAGE[slice(*rows), slice(*columns)])


def test_folders_globs_and_files_are_found(store: MemoryFileSystem) -> None:
    for name in ("b10.fits", "b2.fits", "deep/c.fits", ".hidden/d.fits", "deep/.e.fits"):
        store.pipe_file(f"/night/{name}", content())
    store.pipe_file("/night/n.txt", b"no FITS")

    def names(*urls: str) -> list[str]:
        return [entry.path.removeprefix("memory://night/") for entry in find_files(urls)]

    assert names("memory://night/") == ["b2.fits", "b10.fits", "deep/c.fits", "n.txt"]
    assert names("memory://night/b*.fits") == ["b2.fits", "b10.fits"]
    assert names("memory://night/**/c.fits") == ["deep/c.fits"]
    assert names("memory://night/deep", "memory://night/b2.fits") == ["b2.fits", "deep/c.fits"]
    assert scan("memory://night").ignored == 1
    for url in ("memory://night/z*.fits", "memory://nigth"):
        with pytest.raises(FrameError, match=url.replace("*", r"\*")) as caught:
            find_files(url)
        assert caught.value.reason == "missing"


def test_files_of_this_machine_may_be_urls_too(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(content())
    frames = daskcal.open_frames(f"file://{tmp_path}/a.fits")
    assert frames["path"].item() == str(tmp_path / "a.fits")


def test_a_night_mixes_places(store: MemoryFileSystem, tmp_path: Path) -> None:
    store.pipe_file("/night/a.fits", content())
    (tmp_path / "b.fits").write_bytes(content(IMAGE + 1))
    frames = daskcal.open_frames(["memory://night/a.fits", tmp_path / "b.fits"])
    assert sorted(frames["image"].mean(("y", "x")).values) == [2399.5, 2400.5]


def test_damaged_files_are_refused_by_name(store: MemoryFileSystem) -> None:
    store.pipe_file("/night/good.fits", content())
    store.pipe_file("/night/short.fits", content()[:8000])
    store.pipe_file("/night/packed.fits.gz", content(kind="gzip")[:-20])
    with pytest.raises(FrameError, match=r"memory://night/short\.fits.*cut short"):
        daskcal.open_frames("memory://night/short.fits")
    with pytest.warns(DaskcalWarning, match=r"memory://night/(short|packed)"):
        assert daskcal.open_frames("memory://night").sizes["frame"] == 1


def test_what_has_changed_since_the_scan_is_refused(store: MemoryFileSystem) -> None:
    store.pipe_file("/night/a.fits", content())
    source = scan("memory://night/a.fits").frames[0].source
    store.pipe_file("/night/a.fits", content(IMAGE[::-1]))
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 5), (0, 80))
    assert caught.value.reason == "changed"
    store.rm_file("/night/a.fits")
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 5), (0, 80))
    assert caught.value.reason == "missing"


def test_one_more_file_of_a_mosaic(store: MemoryFileSystem, tmp_path: Path) -> None:
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(IMAGE + i, name=f"CCD{i}") for i in (1, 2, 3))]
    fits.HDUList(hdus).writeto(tmp_path / "m.fits")
    store.put_file(tmp_path / "m.fits", "/night/m.fits")
    tree = daskcal.open_mosaic("memory://night")
    assert list(tree.children) == ["CCD1", "CCD2", "CCD3"]
    assert (tree["CCD3"]["image"].values[0] == IMAGE + 3).all()


def test_the_engine_of_xarray_takes_urls(store: MemoryFileSystem) -> None:
    store.pipe_file("/night/a.fits", content())
    opened = xr.open_dataset("memory://night/a.fits", engine="daskcal")
    assert (opened["image"].values[0] == IMAGE).all()


def test_the_command_line_takes_urls(store: MemoryFileSystem, tmp_path: Path) -> None:
    for i in range(3):
        store.pipe_file(f"/night/sub/b{i}.fits", content(IMAGE + i))
    run = CliRunner().invoke
    listed = run(main, ["ls", "memory://night"])
    assert listed.exit_code == 0
    assert "3 frames in memory://night/sub" in listed.output
    planned = run(main, ["plan", "memory://night"])
    assert planned.exit_code == 0
    assert "masters/bias.fits from 3 frames" in planned.output
    out = tmp_path / "out.fits"
    combined = run(main, ["combine", "memory://night/sub/b*.fits", "-o", str(out)])
    assert combined.exit_code == 0, combined.output
    assert (fits.getdata(out) == IMAGE + 1).all()


def test_marks_masks_and_products_behind_urls(store: MemoryFileSystem, tmp_path: Path) -> None:
    """Products are those of a night whose marks and mask of bad pixels lie on this machine; they
    tell what they were made of, and are made again."""
    raw = small_night.make(tmp_path / "raw", bias=3, dark=2, flat=2, science=1)
    store.put(str(raw), "/raw", recursive=True)
    mask = "# bad\n3 5 2 9\n"
    (tmp_path / "bad.txt").write_text(mask)
    store.pipe_file("/bad.txt", mask.encode())
    config, found = tmp_path / "night.toml", []
    for base in (f"{tmp_path}/", "memory://"):
        config.write_text(f'[mask]\nbad_pixels = "{base}bad.txt"\n')
        (marks,) = daskcal.mark_bad(f"{base}raw/bias_1.fits", "light leak")
        assert str(marks) == f"{base}raw/daskcal-marks.json"
        daskcal.mark_bad(f"{base}raw/flat_V_0.fits", "clouds", output=f"{base}out")
        daskcal.unmark_bad(f"{base}raw/flat_V_0.fits", output=f"{base}out")
        found.append(daskcal.reduce_night(f"{base}raw", f"{base}out", config))
    here, there = found
    assert [p.checksum for p in there.products] == [p.checksum for p in here.products]
    assert [f.reason for f in there.frames] == [f.reason for f in here.frames]
    assert "marked bad: light leak" in {f.reason for f in there.frames}

    product = "memory://out/science/m67_V_0.fits"
    words = ("bias_0.fits", "flat_V_1.fits", "frame m67_V_0.fits", "masters/bias.fits sha256")
    assert all(word in str(daskcal.why(product)) for word in words)
    store.rm_file("/out/masters/bias.fits")
    again = daskcal.rerun(product)
    assert (again.equal, again.remade) == (True, ("masters/bias.fits",))

    daskcal.unmark_bad("memory://raw/bias_1.fits")
    assert not store.exists("/raw/daskcal-marks.json")


def test_a_library_is_not_behind_a_url(store: MemoryFileSystem) -> None:
    store.pipe_file("/night/b.fits", content())
    words = ["reduce", "memory://night", "-o", "memory://out", "--library", "memory://library"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "memory://library is a URL" in done.output) == (2, True)
    assert not store.exists("/out")


def test_a_web_server_is_not_written_to(tmp_path: Path) -> None:
    class Server(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Not into the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/out"
        with pytest.raises(OutputError, match=f"{url} cannot be written"):
            daskcal.reduce_night(tmp_path, url)
        server.shutdown()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s4://bucket/night", "did you mean 's3'"),
        ("gs://bucket/night", "gcsfs"),
    ],
)
def test_a_url_that_nothing_opens(url: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        daskcal.open_frames(url)
    assert CliRunner().invoke(main, ["ls", url]).exit_code == 2


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacking)
    with pytest.raises(ArgumentError, match=r"pip install 'daskcal\[s3\]'"):
        daskcal.open_frames("s3://bucket/night")


# --- stores that fail ----------------------------------------------------------------------------


class Flaky(MemoryFileSystem):
    """A store in memory that fails so many times before it answers."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failures: ClassVar[list[Exception]] = []
    asked = answered = 0  # requests in all; those that are answered before failures begin
    lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def _fail(self) -> None:
        with self.lock:
            type(self).asked += 1
            if self.failures and self.asked > self.answered:
                raise self.failures.pop()

    def cat_file(self, *args: Any, **options: Any) -> Any:
        self._fail()
        return super().cat_file(*args, **options)

    def find(self, *args: Any, **options: Any) -> Any:
        self._fail()
        return super().find(*args, **options)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr("daskcal.fits.remote._PAUSES", (0.0, 0.0, 0.0))
    store = Flaky()
    store.store.clear()
    store.failures.clear()
    store.pipe_file("/night/a.fits", content())
    return store


def test_faults_that_pass_are_waited_for(flaky: Flaky) -> None:
    flaky.failures[:] = [TimeoutError("slow"), ConnectionResetError("reset"), OSError(16, "busy")]
    frame = scan("flaky://night", index=False).frames[0]
    assert flaky.failures == []
    flaky.failures[:] = [ConnectionResetError("reset")]
    values, _ = read_pixels(frame.source, (0, 60), (0, 80))
    np.testing.assert_array_equal(values, IMAGE)


def test_faults_that_stay_name_the_url(flaky: Flaky) -> None:
    frame = scan("flaky://night", index=False).frames[0]
    flaky.failures[:] = [TimeoutError("no answer")] * 9
    with pytest.raises(FrameError, match=r"flaky://night/a\.fits.*cannot be asked: no answer"):
        read_pixels(frame.source, (0, 60), (0, 80))
    assert len(flaky.failures) == 5
    flaky.failures[:] = [PermissionError("Forbidden")] * 9
    with pytest.raises(FrameError, match=r"does not let you .*Forbidden.*credentials"):
        scan("flaky://night", index=False)
    assert len(flaky.failures) == 8  # at once
    flaky.failures[:] = [ZeroDivisionError("a fault of a program")]
    with pytest.raises(ZeroDivisionError):
        scan("flaky://night", index=False)


def test_a_store_that_fails_while_a_file_is_scanned_costs_the_whole_file(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(np.ones((99, 999)), name=f"CCD{i}") for i in "12")]
    with flaky.open("/night/m.fits", "wb") as file:
        fits.HDUList(hdus).writeto(file)
    before = flaky.asked
    assert len(scan("flaky://night/m.fits", detectors=True, index=False).frames) == 2
    last = flaky.asked - before - 1
    monkeypatch.setattr(Flaky, "answered", flaky.asked + last)
    flaky.failures[:] = [ConnectionResetError("reset")] * 9
    found = scan("flaky://night/m.fits", detectors=True, index=False)
    assert found.frames == ()  # never half of its detectors
    assert [bad.reason for bad in found.unreadable] == ["unreadable"]


# --- paths ---------------------------------------------------------------------------------------


def test_what_is_a_url() -> None:
    assert all(map(is_url, ("s3://bucket/x", "https://host/x.fits", "memory://x")))
    assert not any(map(is_url, ("/data/x", "file:///data/x", "C:/x", "a b://x")))
    assert absolute("s3://bucket/night//") == "s3://bucket/night"
    assert common_folder(["/a/b/x", "/a/c/y"]) == "/a"
    assert common_folder(["s3://b/n/x", "s3://b/n/deep/y"]) == "s3://b/n"
    assert common_folder(["s3://b/x", "s3://c/y"]) == ""
    assert common_folder(["s3://b/x", "/b/x"]) == ""
