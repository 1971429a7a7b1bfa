"""Faults that pass: of shared file systems, injected where the operating system is asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from astropy.io import fits

import daskcal
from daskcal import retry
from daskcal.errors import FrameError
from daskcal.fits import read_pixels, scan
from daskcal.fits.layout import Plane
from daskcal.fits.write import fits_sink

IMAGE = np.arange(600, dtype="u2").reshape(20, 30)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; nobody waits."""
    slept: list[float] = []
    monkeypatch.setattr("daskcal.retry.time.sleep", slept.append)
    return slept


@pytest.fixture
def lagging(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str, int, int], None]:
    """`lagging(name, error, times)`: files of such a name do not open so often."""
    real = os.open
    left: dict[str, list[int]] = {}

    def opening(path: Any, *args: Any, **options: Any) -> int:
        name = next((name for name in left if name in str(path)), None)
        if name and left[name][1]:
            left[name][1] -= 1
            raise OSError(left[name][0], os.strerror(left[name][0]), str(path))
        return real(path, *args, **options)

    def lag(name: Path | str, error: int, times: int) -> None:
        left[str(name)] = [error, times]

    monkeypatch.setattr(os, "open", opening)
    return lag


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ESTALE])
def test_a_file_that_was_scanned_may_be_late(
    error: int, lagging: Any, waits: list[float], tmp_path: Path
) -> None:
    fits.PrimaryHDU(IMAGE).writeto(tmp_path / "a.fits")
    source = scan(tmp_path).frames[0].source
    lagging("a.fits", error, 3)
    values, _ = read_pixels(source, (0, 20), (0, 30))
    assert (values == IMAGE).all()
    assert len(waits) == 2  # once, the folder was only looked at anew


def test_waiting_has_an_end(lagging: Any, waits: list[float], tmp_path: Path) -> None:
    fits.PrimaryHDU(IMAGE).writeto(tmp_path / "a.fits")
    source = scan(tmp_path).frames[0].source
    lagging("a.fits", errno.ENOENT, 1000)
    with pytest.raises(FrameError) as caught:
        read_pixels(source, (0, 20), (0, 30))
    assert caught.value.reason == "missing"
    assert sum(waits) <= 3


def test_what_nobody_has_seen_is_not_waited_for(waits: list[float], tmp_path: Path) -> None:
    with pytest.raises(FrameError):
        daskcal.open_frames(tmp_path / "never.fits")
    with pytest.raises(FrameError):
        daskcal.open_master(tmp_path / "never.fits")
    assert waits == []


def test_a_stale_handle_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(IMAGE).writeto(path)
    source = scan(path).frames[0].source
    real, stale = os.preadv, [True, True]

    def reading(handle: int, buffers: Any, offset: int) -> int:
        if stale and stale.pop():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(handle, buffers, offset)

    monkeypatch.setattr(os, "preadv", reading)
    stale[:] = [True]
    values, _ = read_pixels(source, (0, 20), (0, 30))
    assert (values == IMAGE).all()
    stale[:] = [True]
    fits.PrimaryHDU(IMAGE.T.copy()).writeto(path, overwrite=True)
    os.utime(path, (1, 1))  # another file has come to its place
    with pytest.raises(FrameError, match="changed after it was scanned"):
        read_pixels(source, (0, 20), (0, 30))


def test_a_temporary_that_another_host_made_may_be_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bands that find no temporary would be left out, and the product refused in the end."""
    real, late = os.open, 2

    def opening(path: Any, flags: int, *args: Any, **options: Any) -> int:
        nonlocal late
        if late and str(path).endswith(".tmp") and flags == os.O_WRONLY:
            late -= 1
            raise FileNotFoundError(errno.ENOENT, "late", str(path))
        return real(path, flags, *args, **options)

    data = da.from_array(IMAGE.astype("f4"), chunks=(5, 30))
    sink = fits_sink(tmp_path / "a.fits", [Plane("", "", data)])
    monkeypatch.setattr(os, "open", opening)
    sink.compute(scheduler="synchronous")
    assert late == 0
    assert (fits.getdata(tmp_path / "a.fits") == IMAGE).all()


def test_other_errors_are_raised_at_once(waits: list[float]) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        retry.shared(refuse, "/data/a.fits")
    assert waits == []
