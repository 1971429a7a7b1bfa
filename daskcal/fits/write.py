"""Write images to one FITS file, band by band as they are computed, whole or not at all.

The bands of all planes go straight to their places in a hidden temporary beside the final name;
one last task writes the headers, checks what is on disk, and renames. A task may run twice, on two
machines: all that it does is write the same bytes to the same place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from dask.layers import ArraySliceDep

from daskcal.atomic import flush_folder
from daskcal.errors import ArgumentError, OutputError, choose
from daskcal.fits.checksum import file_checksum, folded, header_bytes, word_sum
from daskcal.fits.flushing import begin_flush
from daskcal.fits.layout import FileJob, Plane, Unit, Written, end_of, file_job, laid_out
from daskcal.fits.urls import is_url
from daskcal.retry import shared
from daskcal.temporaries import discard_temporaries, forget, making

_PIECE = 1 << 18  # bytes that stay in a core's cache


def fits_sink(
    path: str | Path,
    planes: Sequence[Plane],
    *,
    overwrite: bool = False,
    compress: str = "none",
    after: da.Array | None = None,
) -> da.Array:
    """A lazy FITS file.

    Parameters
    ----------
    path : str or Path
        The final name, or a URL. Its folder must exist; nothing is written before computing.
    planes : sequence of Plane
        Of equal shape; the first is the primary HDU.
    overwrite : bool
        Replace an existing file, once the new one is complete.
    compress : {"none", "rice"}
        ``rice``: tile-compressed HDUs; integers stay exact, floats are quantised to 1/16 of the
        noise with a fixed dither.
    after : dask.array.Array, optional
        Another lazy file, which is finished before anything is computed for this one: so a long
        row of files, computed together, never has more than a few of them in the making.

    Returns
    -------
    dask.array.Array
        0-dimensional; computing it writes the file and gives a `Written`.

    Raises
    ------
    OutputError
        The folder is missing or cannot be written, the file exists, or the disk is too full.
    """
    choose("compress", compress, ("none", "rice"))
    units = laid_out(planes)
    rows = planes[0].data.chunks[-2]
    banded = [replace(plane, data=_in_bands(plane.data, rows)) for plane in planes]
    if is_url(path):
        from daskcal.fits.upload import uploaded_sink

        options: dict[str, Any] = {"overwrite": overwrite, "compress": compress}
        return uploaded_sink(str(path), banded, **options, after=_finished(after))
    path = Path(path).absolute()
    discard_temporaries(path)
    job = file_job(path, units, overwrite, compress)
    arrays = [plane.data for plane in banded]
    axes = "fyx" if any(array.ndim == 3 for array in arrays) else "yx"
    sums = da.blockwise(
        _write_band,
        axes,
        delayed(_prepare, pure=False)(job, *_finished(after)),
        None,
        ArraySliceDep(arrays[0].chunks[-2:]),
        "yx",
        *(item for a in arrays for item in (a, axes[-a.ndim :])),
        adjust_chunks={"f": 1, "x": 1, "y": 1},
        dtype=object,
        meta=np.empty((0,) * len(axes), object),
        align_arrays=False,
        token="fits-band",
    )
    return da.blockwise(
        _finalise,
        "",
        sums,
        axes,
        job=job,
        concatenate=False,
        dtype=object,
        meta=np.empty((), object),
        token="fits-file",
    )


def hashed(sink: da.Array) -> da.Array:
    """A lazy file whose `Written` knows its SHA-256, which the task that makes it works out."""
    meta = np.empty((), object)
    return da.blockwise(Written.hashed, "", sink, "", dtype=object, meta=meta, token="fits-sha256")


def write_bands(
    path: Path,
    planes: Sequence[Plane],
    bands: Iterable[tuple[slice, Sequence[np.ndarray]]],
    *,
    overwrite: bool,
    compress: str,
) -> Written:
    """Write a file now, of rows and their pixels in each plane, whose own data say types only.

    See `fits_sink`. What is left before it, or where it fails, is for its caller to clear away.
    """
    job = _prepare(file_job(path.absolute(), laid_out(planes), overwrite, compress))
    return _finalise([_write_band(job, (r, slice(None)), *pixels) for r, pixels in bands], job)


# --- before any pixel ---------------------------------------------------------------------------


def _finished(sink: da.Array | None) -> list[Delayed]:
    """What waits for `sink`, in its own graph as it is: optimised apart, it would run twice."""
    return [] if sink is None else [sink.to_delayed(optimize_graph=False).item()]


def _in_bands(data: da.Array, rows: tuple[int, ...]) -> da.Array:
    """Rows cut alike in all planes, columns whole."""
    wanted = (*data.chunks[:-2], rows, (data.shape[-1],))
    return data if data.chunks == wanted else data.rechunk(wanted)


# --- the tasks ----------------------------------------------------------------------------------


def _prepare(job: FileJob, *_: Written) -> FileJob:
    """Make the temporary and claim its bytes on disk; harmless where it has been made already."""
    with making(job.part) as wanted:
        if not wanted:
            raise OutputError(f"{job.path}: writing it has failed before this began")
        try:
            handle = os.open(job.part, os.O_RDWR | os.O_CREAT, 0o666)  # no O_TRUNC: may run twice
        except OSError as error:
            raise OutputError(f"{job.path} cannot be written: {error.strerror}") from error
    try:
        _claim(handle, job)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(job.part)
        free = shutil.disk_usage(Path(job.path).parent).free
        raise OutputError(
            f"{job.path} needs {job.size} bytes, and its disk has {free} bytes free "
            f"({error.strerror})"
        ) from error
    finally:
        os.close(handle)
    return job


def _claim(handle: int, job: FileJob) -> None:
    os.ftruncate(handle, job.size)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, job.size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def _write_band(job: FileJob, where: tuple[slice, slice], *blocks: object) -> tuple[int, ...]:
    """Write one band of every plane; return what the band adds to each DATASUM."""
    rows = where[0]
    bands = [_band(block, unit, rows) for block, unit in zip(blocks, job.units, strict=True)]
    try:
        # no O_CREAT: a late twin must not make it anew
        handle = shared(lambda: os.open(job.part, os.O_WRONLY), job.part)
    except FileNotFoundError:
        handle = None  # finished already, by a twin of this task; _finalise compares
    try:
        return tuple(
            _write_plane(handle, band, unit, rows.start)
            for band, unit in zip(bands, job.units, strict=True)
        )
    except OSError as error:
        raise OutputError(f"{job.path} cannot be written: {error.strerror}") from error
    finally:
        if handle is not None:
            os.close(handle)


def _band(block: object, unit: Unit, rows: slice) -> np.ndarray:
    while isinstance(block, list):  # a contracted axis of length 1
        (block,) = block
    band = np.asarray(block)
    shape = (rows.stop - rows.start, unit.shape[1])
    if band.shape[-2:] != shape or band.size != shape[0] * shape[1]:
        raise ArgumentError(f"a band of shape {band.shape} was computed where {shape} was promised")
    return band.reshape(shape)


def _write_plane(handle: int | None, band: np.ndarray, unit: Unit, first: int) -> int:
    """Write the rows of `band` from row `first` on, if anywhere; return the sum of their words.

    In pieces, so that a piece is turned into bytes, added up and written while it is in cache.
    """
    row_bytes = unit.shape[1] * np.dtype(unit.dtype).itemsize
    height = max(1, _PIECE // row_bytes)
    pieces = np.empty((height, unit.shape[1]), np.dtype(unit.dtype).newbyteorder(">"))
    total = 0
    for row in range(0, len(band), height):
        values = band[row : row + height]
        stored = pieces[: len(values)]
        _store(values, stored)
        at = (first + row) * row_bytes
        total += word_sum(stored, at)
        if handle is not None:
            _write_at(handle, stored.data.cast("B"), unit.data_at + at)
    if handle is not None:
        begin_flush(handle, unit.data_at + first * row_bytes, len(band) * row_bytes)
    return total


def _store(values: np.ndarray, stored: np.ndarray) -> None:
    """Values as FITS keeps them; unsigned 16-bit ones less 32768, which is one bit's turn."""
    if stored.dtype == ">u2":
        np.bitwise_xor(values.astype(np.uint16, copy=False), np.uint16(0x8000), out=stored)
    else:
        np.copyto(stored, values, casting="unsafe")


def _write_at(handle: int, data: memoryview | bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


# --- the last task ------------------------------------------------------------------------------


def _finalise(sums: object, job: FileJob) -> Written:
    """Headers, checks, rename."""
    bands = list(_leaves(sums))
    datasums = tuple(folded(sum(column)) for column in zip(*bands, strict=True))
    try:
        try:
            shared(lambda: os.stat(job.part), job.part)
        except FileNotFoundError:
            return _finished_before(job, datasums)
        _complete(job, datasums)
        written = Written(job.path, os.path.getsize(job.part), datasums)
        _rename(job)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(job.part)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            message = f"{job.path} cannot be written: {error.strerror or error}"
            raise OutputError(message) from error
        raise
    forget(job.path, job.part)
    return written


def _leaves(sums: object) -> Iterator[tuple[int, ...]]:
    if isinstance(sums, list):
        for item in sums:
            yield from _leaves(item)
    elif isinstance(sums, tuple):
        yield sums


def _complete(job: FileJob, datasums: tuple[int, ...]) -> None:
    """Write headers and padding, flush, check, compress."""
    handle = os.open(job.part, os.O_RDWR)
    try:
        if os.fstat(handle).st_size != job.size:
            raise OutputError(f"{job.path}: its temporary has a wrong size; it was tampered with")
        for unit, datasum in zip(job.units, datasums, strict=True):
            _write_at(handle, header_bytes(unit.head, datasum), unit.header_at)
            data_end = unit.data_at + unit.n_bytes
            _write_at(handle, bytes(end_of(unit) - data_end), data_end)
        _flush(handle, job, datasums)
    finally:
        os.close(handle)
    if job.compress == "rice":
        from daskcal.fits.rice import compress_file

        compress_file(job.part)


def _flush(handle: int, job: FileJob, datasums: tuple[int, ...]) -> None:
    """Flush the file, and compare what is in it then with what was computed."""
    os.fsync(handle)
    for unit, datasum in zip(job.units, datasums, strict=True):
        head = header_bytes(unit.head, datasum)
        same = os.pread(handle, len(head), unit.header_at) == head
        if not same or _sum_on_disk(handle, unit.data_at, end_of(unit)) != datasum:
            raise OutputError(
                f"{job.path}: what was read back differs from what was written; "
                "check the disk and its file system"
            )


def _sum_on_disk(handle: int, start: int, stop: int) -> int:
    piece = np.empty(_PIECE, np.uint8)
    total, at = 0, start
    while at < stop:
        done = os.preadv(handle, [piece[: stop - at].data], at)
        if not done:
            break  # the file became shorter, which the sum tells
        total += word_sum(piece[:done], at - start)
        at += done
    return folded(total)


def _rename(job: FileJob) -> None:
    if not job.overwrite and os.path.exists(job.path):
        if file_checksum(job.path) != file_checksum(job.part):
            raise OutputError(f"{job.path} was made by someone else meanwhile; it is left as it is")
        os.unlink(job.part)
        return
    os.replace(job.part, job.path)
    flush_folder(os.path.dirname(job.path))


def _finished_before(job: FileJob, datasums: tuple[int, ...]) -> Written:
    """This task ran before, and its result was lost: the final file tells."""
    if os.path.exists(job.path) and job.compress == "none":
        handle = os.open(job.path, os.O_RDONLY)
        try:
            same = os.fstat(handle).st_size == job.size and all(
                os.pread(handle, unit.data_at - unit.header_at, unit.header_at)
                == header_bytes(unit.head, datasum)
                for unit, datasum in zip(job.units, datasums, strict=True)
            )
        finally:
            os.close(handle)
        if same:
            return Written(job.path, job.size, datasums)
    raise OutputError(f"{job.path}: its temporary {job.part} was removed before it was finished")
