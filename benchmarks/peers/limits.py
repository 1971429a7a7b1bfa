"""What no program can beat on this machine: reading, copying, writing, the kernel alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_PIECE = 4 << 20  # bytes of one read: it stays in the processor's cache
_CARDS = 2880  # bytes of a header
_ROWS = 64  # of a band that the kernel gets
_kept: dict[str, Any] = {}  # what a first call prepared for the timed ones


def read(folder: str, threads: int = 2) -> None:
    """Read all bytes of a folder's files."""
    _each(_read_file, _files(folder), threads)


def read_cold(folder: str) -> dict[str, float]:
    """The same, of files that the page cache was told to forget."""
    forget(folder)
    start = time.perf_counter()
    read(folder)
    return {"cold": time.perf_counter() - start}


def forget(folder: str) -> None:
    """Have the page cache forget a folder's files."""
    for path in _files(folder):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)  # pages still to be written cannot be dropped
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def copy(folder: str, threads: int = 2) -> None:
    """Copy as many bytes in memory, from one array to another."""
    size = sum(path.stat().st_size for path in _files(folder))
    if "copy" not in _kept:
        _kept["copy"] = np.ones(size, np.uint8), np.ones(size, np.uint8)
    source, target = _kept["copy"]
    step = -(-size // threads)
    _each(lambda at: np.copyto(target[at : at + step], source[at : at + step]),
          range(0, size, step), threads)  # fmt: skip


def kernel(
    folder: str, threads: int = 2, method: str = "average", kind: str = "sigma"
) -> dict[str, float]:
    """Combine the same pixels from memory to memory: nothing but the compiled loops."""
    from daskcal.combination.kernels import Reject, combine_block

    if "bands" not in _kept:
        _kept["bands"] = _bands(folder)
    reject = Reject(kind=kind) if kind == "none" else Reject(kind=kind, low=5.0, high=5.0)
    floor = None if kind == "none" else 0.5

    start = time.perf_counter()
    _each(lambda band: combine_block(band, method=method, reject=reject, floor=floor),
          _kept["bands"], threads)  # fmt: skip
    return {"kernel": time.perf_counter() - start}


def write(folder: str, size: int, count: int, sync: bool, threads: int = 2) -> None:
    """Write `count` files of float32 frames (size, size), headers and all."""
    if "pixels" not in _kept:
        _kept["pixels"] = np.full((size, size), 1000.0, ">f4")
        Path(folder).mkdir(exist_ok=True)

    def one(i: int) -> None:
        handle = os.open(f"{folder}/w{i}.fits", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        os.write(handle, b" " * _CARDS)
        pixels = memoryview(_kept["pixels"]).cast("B")
        at = 0
        while at < len(pixels):
            at += os.write(handle, pixels[at : at + _PIECE])
        if sync:
            os.fsync(handle)
        os.close(handle)

    _each(one, range(count), threads)


def _files(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir())


def _each(work: Callable[[Any], object], items: Sequence[Any], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, items))


def _read_file(path: Path) -> None:
    buffer = bytearray(_PIECE)
    handle = os.open(path, os.O_RDONLY)
    while os.readv(handle, [buffer]):
        pass
    os.close(handle)


def _bands(folder: str) -> list[np.ndarray]:
    """The pixels of a folder's frames, native, as bands (frames, rows, columns)."""
    from astropy.io import fits

    files = _files(folder)
    first = fits.getdata(files[0])
    rows, columns = first.shape
    dtype = first.dtype.newbyteorder("=")
    bands = [
        np.empty((len(files), min(_ROWS, rows - at), columns), dtype)
        for at in range(0, rows, _ROWS)
    ]
    for i, path in enumerate(files):
        pixels = fits.getdata(path)
        for at, band in zip(range(0, rows, _ROWS), bands, strict=True):
            band[i] = pixels[at : at + _ROWS]
    return bands
