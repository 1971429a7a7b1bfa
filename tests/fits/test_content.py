"""Packed files: known by their bytes, verified, unpacked once, refused where they are bombs."""

import bz2
import collections
import gzip
import multiprocessing
import os
import shutil
import time
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits

from daskcal.errors import FrameError, OutputError
from daskcal.fits import content, read_pixels, scan

IMAGE = np.arange(6000, dtype="u2").reshape(60, 100)
PACK = {"gzip": gzip.compress, "bzip2": bz2.compress}


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("DASKCAL_SCRATCH", str(tmp_path / "scratch"))


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    return path


def scanned(path):
    return scan(path, index=False)


def spooled(tmp_path):
    return [p.name for p in (tmp_path / "scratch").rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["packed.fits", "packed.FITS.GZ", "packed.dat", "packed.fz"])
@pytest.mark.parametrize("wrapper", PACK)
def test_packed_files_are_known_by_their_bytes(wrapper, name, plain, tmp_path):
    path = tmp_path / name
    path.write_bytes(PACK[wrapper](plain.read_bytes()))
    frame = scanned(path).frames[0]
    assert frame.source.wrapper == wrapper
    assert frame.source.unpacked_size == plain.stat().st_size
    assert frame.fingerprint == scanned(plain).frames[0].fingerprint
    for rows in ((0, 60), (7, 9)):
        values, _ = read_pixels(frame.source, rows, (0, 100))
        np.testing.assert_array_equal(values, IMAGE[slice(*rows)])
    assert len(spooled(tmp_path)) == 1
    folder = next((tmp_path / "scratch").iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("wrapper", PACK)
def test_several_members_are_one_content(wrapper, plain, tmp_path):
    raw = plain.read_bytes()
    path = tmp_path / "x.fits.gz"
    path.write_bytes(PACK[wrapper](raw[:4000]) + PACK[wrapper](raw[4000:]) + b"\0" * 512)
    source = scanned(path).frames[0].source
    np.testing.assert_array_equal(read_pixels(source, (0, 60), (0, 100))[0], IMAGE)


@pytest.mark.parametrize("wrapper", PACK)
def test_every_cut_and_a_flipped_bit_of_a_packed_file_are_found(wrapper, plain, tmp_path):
    good = PACK[wrapper](plain.read_bytes())
    path = tmp_path / "x.fits.gz"
    for length in range(0, len(good), max(len(good) // 40, 1)):
        path.write_bytes(good[:length])
        result = scanned(path)
        assert not result.frames
        assert result.unreadable[0].reason in ("truncated", "not-fits", "damaged")
    wrong = bytearray(good)
    wrong[len(good) // 2] ^= 4
    path.write_bytes(wrong)
    assert scanned(path).unreadable[0].reason in ("damaged", "truncated")
    if wrapper == "gzip":
        wrong = bytearray(good)
        wrong[-6] ^= 1  # of the CRC
        path.write_bytes(wrong)
        assert scanned(path).unreadable[0].reason == "damaged"


def test_a_packed_text_is_ignored_unless_it_claims_to_be_fits(tmp_path):
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"some notes"))
    (tmp_path / "claims.fits.gz").write_bytes(gzip.compress(b"some notes"))
    result = scanned(tmp_path)
    assert result.ignored == 1
    assert [(u.reason, os.path.basename(u.path)) for u in result.unreadable] == [
        ("not-fits", "claims.fits.gz")
    ]


def test_a_bomb_is_refused_with_bounded_memory_and_time(plain, tmp_path):
    path = tmp_path / "bomb.fits.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(plain.read_bytes())
        for _ in range(128):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    began = time.perf_counter()
    fault = scanned(path).unreadable[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fault.reason == "damaged"
    assert f"declare {2880 + IMAGE.nbytes}" in fault.message
    assert peak < 16 << 20
    assert time.perf_counter() - began < 5


def test_a_gzip_that_cannot_hold_what_its_header_declares_is_refused_at_once(tmp_path):
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2)])
    header["NAXIS1"] = header["NAXIS2"] = 1_000_000
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(header.tostring().encode() + bytes(1 << 20)))
    assert scanned(path).unreadable[0].reason == "truncated"


def test_a_packed_file_that_changed_is_refused(plain, tmp_path):
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    source = scanned(path).frames[0].source
    read_pixels(source, (0, 1), (0, 1))
    os.utime(path, ns=(1, 1))
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 1), (0, 1))
    assert caught.value.reason == "changed"


def _read(source, barrier, results):
    calls = []
    real = content._unpack_to
    content._unpack_to = lambda *args: (calls.append(1), real(*args))
    barrier.wait()
    values, _ = read_pixels(source, (0, 60), (0, 100))
    results.put((len(calls), int(values.sum())))


def test_several_processes_unpack_once(plain, tmp_path):
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    source = scanned(path).frames[0].source
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_read, args=(source, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    got = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(calls for calls, _ in got) == 1
    assert {total for _, total in got} == {int(IMAGE.sum())}
    assert len(spooled(tmp_path)) == 1


def test_a_copy_that_is_not_whole_or_was_removed_is_made_again(plain, tmp_path):
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    source = scanned(path).frames[0].source
    for spoil in (lambda p: p.write_bytes(b"half"), lambda p: p.unlink()):
        copy = content.spool(path, source.stamp, source.unpacked_size)
        spoil(type(plain)(copy))
        np.testing.assert_array_equal(read_pixels(source, (0, 60), (0, 100))[0], IMAGE)


def test_copies_that_nobody_uses_are_removed(plain, tmp_path):
    folder = content.spool_folder()
    old, new = folder / "old.fits", folder / "new.fits"
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (1, 1))
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    read_pixels(scanned(path).frames[0].source, (0, 1), (0, 1))
    assert not old.exists()
    assert new.exists()


Usage = collections.namedtuple("Usage", "total used free")


def test_too_little_scratch_is_an_error_that_says_how_much(plain, tmp_path, monkeypatch):
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    source = scanned(path).frames[0].source
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(
        OutputError, match=rf"needs {source.unpacked_size} bytes.* 1 free"
    ) as caught:
        read_pixels(source, (0, 1), (0, 1))
    assert "DASKCAL_SCRATCH" in str(caught.value)
    assert spooled(tmp_path) == []


def test_scratch_that_fills_while_it_is_written_leaves_nothing(plain, tmp_path, monkeypatch):
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    source = scanned(path).frames[0].source

    def full(file, path, wrapper):
        yield b"some"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(content, "unpack", full)
    with pytest.raises(OutputError, match="DASKCAL_SCRATCH"):
        read_pixels(source, (0, 1), (0, 1))
    assert spooled(tmp_path) == []


def test_scratch_that_is_not_ones_own_is_refused(tmp_path):
    base = tmp_path / "scratch"
    base.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (base / f"daskcal-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="not a folder of yours"):
        content.spool_folder()
