"""The index of earlier scans: unchanged files are not opened, and no state of it fails a scan."""

import logging
import os
import pickle
import sqlite3

import numpy as np
import pytest
from astropy.io import fits

from daskcal.fits import frame as frame_module
from daskcal.fits import index as index_module
from daskcal.fits import scan


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DASKCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scan.sqlite"


@pytest.fixture
def night(tmp_path):
    folder = tmp_path / "night"
    folder.mkdir()
    for i in range(4):
        hdu = fits.PrimaryHDU(np.full((5, 6), i, "u2"))
        hdu.header["EXPTIME"], hdu.header["HUGE"] = float(i), 1e300
        hdu.writeto(folder / f"{i}.fits")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((5, 6))), fits.ImageHDU(np.ones((5, 6)))]
    fits.HDUList(hdus).writeto(folder / "mosaic.fits")
    (folder / "bad.fits").write_bytes(b"SIMPLE  = what")
    (folder / "notes.txt").write_text("ignored")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture
def opened(monkeypatch):
    paths = []
    real = frame_module.open_file

    def open_file(path, known):
        paths.append(os.path.basename(path))
        return real(path, known)

    monkeypatch.setattr(frame_module, "open_file", open_file)
    return paths


def test_a_second_scan_opens_no_file_and_finds_the_same(cache, night, opened):
    first = scan(night)
    assert sorted(set(opened)) == sorted(path.name for path in night.iterdir())
    opened.clear()
    second = scan(night)
    assert opened == []
    assert second == first
    assert [dict(f.header) for f in second.frames] == [dict(f.header) for f in first.frames]
    assert pickle.loads(pickle.dumps(second.frames)) == first.frames
    assert (len(first.frames), len(first.unreadable), first.ignored) == (4, 2, 1)


@pytest.mark.parametrize("order", [(False, True), (True, False)])
def test_frames_that_were_opened_are_known_to_a_plan_and_the_other_way_round(
    cache, night, opened, order
):
    scan(night, detectors=order[0])
    opened.clear()
    scan(night, detectors=order[1])
    assert set(opened) <= {"bad.fits", "mosaic.fits"}  # more than one image, or none
    opened.clear()
    for detectors in order:
        assert scan(night, detectors=detectors) == scan(night, detectors=detectors, index=False)
    assert len(opened) == 14


def test_one_image_of_real_files_is_the_same_by_either_way(realdata, cache):
    folder = realdata(".")
    plain = scan(folder, index=False)
    for _ in range(2):
        assert scan(folder) == plain


def test_what_changed_and_another_hdu_are_read_again(cache, night, opened):
    scan(night)
    opened.clear()
    fits.PrimaryHDU(np.zeros((7, 7))).writeto(night / "2.fits", overwrite=True)
    os.utime(night / "3.fits", (2e9, 2e9))
    result = scan(night)
    assert opened == ["2.fits", "3.fits"]
    assert result.frames[2].source.shape == (7, 7)
    opened.clear()
    assert len(scan(night / "mosaic.fits", hdu=2).frames) == 1
    assert opened == ["mosaic.fits"]


def test_a_file_written_a_moment_ago_is_not_trusted(cache, night, opened):
    os.utime(night / "1.fits")
    scan(night)
    opened.clear()
    scan(night)
    assert opened == ["1.fits"]


def test_index_false_neither_uses_nor_makes_one(cache, night, opened):
    scan(night, index=False)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["garbage", "middle", "row", "version", "folder", "schema"])
def test_a_damaged_index_never_fails_a_scan(damage, cache, night, opened, caplog):
    first = scan(night)
    if damage == "garbage":
        cache.write_bytes(b"no database" * 1000)
    elif damage == "middle":
        raw = bytearray(cache.read_bytes())
        raw[100:-1] = os.urandom(len(raw) - 101)
        cache.write_bytes(raw)
    elif damage == "folder":
        cache.unlink()
        cache.mkdir()
    else:
        base = sqlite3.connect(cache)
        with base:
            if damage == "row":
                base.execute("UPDATE scanned SET place = '[1', problems = '{'")
            elif damage == "schema":
                base.execute("ALTER TABLE scanned RENAME COLUMN cards TO other")
            else:
                base.execute("PRAGMA user_version = 99")
        base.close()
    opened.clear()
    with caplog.at_level(logging.WARNING, logger="daskcal"):
        assert scan(night) == first
    assert sorted(set(opened)) == sorted(path.name for path in night.iterdir())
    assert caplog.records or damage == "version"
    if damage not in ("folder", "schema"):
        opened.clear()
        assert scan(night) == first
        assert opened == []  # it was made again


def test_a_locked_index_is_gone_without(cache, night, caplog, monkeypatch):
    monkeypatch.setattr(index_module, "_BUSY_SECONDS", 0.05)
    first = scan(night)
    os.utime(night / "1.fits", (1e9, 1e9 + 5))
    other = sqlite3.connect(cache)
    other.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING, logger="daskcal"):
        assert len(scan(night).frames) == len(first.frames)
    assert "locked" in caplog.text
    other.close()


def test_an_unwritable_cache_is_gone_without(tmp_path, night, caplog, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DASKCAL_CACHE", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, logger="daskcal"):
        assert len(scan(night).frames) == 4
    assert "without the index" in caplog.text


def test_results_that_nobody_asked_for_in_a_long_time_are_forgotten(cache, night):
    scan(night)
    base = sqlite3.connect(cache)
    with base:
        base.execute("UPDATE scanned SET seen = 0")
    scan(night / "0.fits")
    rows = base.execute("SELECT path, seen FROM scanned").fetchall()
    base.close()
    assert [os.path.basename(os.fsdecode(path)) for path, _ in rows] == ["0.fits"]
    assert rows[0][1] > 0


@pytest.mark.parametrize("level", [0, 16])
def test_where_the_tiles_of_a_compressed_image_lie_is_kept(cache, level, tmp_path, opened):
    path = tmp_path / "x.fits"
    image = np.random.default_rng(1).normal(100, 3, (20, 30)).astype("f4")
    fits.CompImageHDU(image, compression_type="GZIP_2", quantize_level=level).writeto(path)
    os.utime(path, (1e9, 1e9))
    first = scan(path).frames[0].source
    assert first.tiles is not None
    opened.clear()
    again = scan(path).frames[0].source
    assert opened == []
    assert again == first
    assert hash(again) == hash(first)
