"""Frames and masters as Zarr v3 stores, and back: every pixel, coordinate, card and attribute."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Hashable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask.delayed import Delayed, delayed
from zarr.codecs import BloscCodec, Crc32cCodec

from daskcal.atomic import exchange, flush_folder
from daskcal.errors import FrameError, OutputError
from daskcal.fits.at_once import each_range
from daskcal.fits.layout import Written
from daskcal.fits.remote import is_there
from daskcal.fits.urls import absolute, is_url
from daskcal.frames.blocks import blocks
from daskcal.frames.masks import Flag
from daskcal.strict import strict_keywords
from daskcal.temporaries import ASIDE, discard_temporaries, forget, new_temporary, remove
from daskcal.zarr_files import (
    HIDDEN,
    ROOT,
    HiddenStore,
    StoreFiles,
    clear_store,
    consolidate,
    is_rest,
    mark,
    opened_store,
)

_SHARD, _CHUNK = 1 << 20, 1 << 17  # pixels of what is written at once, and of what is read
CODEC = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")  # benchmarks/zarr_layouts.py
_MARK = "daskcal"  # the attribute of the group that says what a complete store holds
_TIMES = {"units": "microseconds since 1970-01-01", "calendar": "proleptic_gregorian"}


@strict_keywords
def to_zarr(
    ds: xr.Dataset, path: str | PathLike[str], *, overwrite: bool = False, compute: bool = True
) -> Written | Delayed:
    """Write frames or a master to a Zarr v3 store.

    A shard, which is written at once, is one frame × a band of rows; a chunk of it, which can be
    read by itself, some of those rows. The store appears under its name when it is complete.

    Parameters
    ----------
    ds : xarray.Dataset
        Frames (frame, y, x) or a master (y, x).
    path : str or path
        The store, a folder; its parent must exist. Or a URL.
    overwrite : bool
        Replace an existing store, once the new one is complete.
    compute : bool
        False gives a `dask.delayed.Delayed` instead, which writes the pixels when computed.

    Returns
    -------
    Written
        Path, bytes and a checksum (SHA-256 over the names and contents of all files).

    Raises
    ------
    OutputError
        The parent folder is missing or cannot be written, or the store exists.

    Examples
    --------
    >>> written = daskcal.to_zarr(science, "science.zarr")
    """
    root = absolute(path)
    part = _begin(root, overwrite)
    prepared = _prepared(ds)
    try:
        if part is None:
            clear_store(root)
        job = prepared.to_zarr(
            HiddenStore.at(root) if part is None else part,
            mode="w",
            zarr_format=3,
            consolidated=False,
            compute=False,
            encoding={str(name): _encoding(v) for name, v in prepared.variables.items()},
            write_empty_chunks=True,  # a chunk that is not there reads as fill values, silently
        )
        lazy = delayed(_finish, pure=False)(job, root, part, overwrite)
        return lazy.compute() if compute else lazy
    except BaseException as error:
        if part is not None:
            remove(part)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(f"{root} cannot be written: {error.strerror or error}") from error
        raise


@strict_keywords
def open_zarr(path: str | PathLike[str]) -> xr.Dataset:
    """Open a store that `to_zarr` wrote, as the Dataset that it was.

    Parameters
    ----------
    path : str or path
        The store, or its URL.

    Returns
    -------
    xarray.Dataset
        Pixels as lazy Dask arrays, a chunk for each shard; coordinates in memory.

    Raises
    ------
    FrameError
        There is no such store (``missing``), daskcal did not write it (``unsupported``), or chunks
        are missing or cut short (``damaged``, naming the first).

    Examples
    --------
    >>> written = daskcal.to_zarr(science, "frames.zarr")
    >>> frames = daskcal.open_zarr("frames.zarr")
    """
    root = absolute(path)
    files = StoreFiles(root)
    marker = _marker(files)
    sizes = files.sizes()
    for name, expected in marker["chunks"].items():
        _check_chunks(files, sizes, name, expected)
    stored = xr.open_dataset(
        opened_store(root),
        engine="zarr",
        consolidated=True,
        zarr_format=3,
        chunks=None,
        decode_times=xr.coders.CFDatetimeCoder(time_unit="us"),
    )
    typed = marker["typed"]
    planes = {
        name: _chunked(variable).assign_attrs(_restored(variable.attrs, typed.get(str(name))))
        for name, variable in stored.data_vars.items()
    }
    coords = {name: _in_memory(coordinate) for name, coordinate in stored.coords.items()}
    attrs = {key: value for key, value in stored.attrs.items() if key != _MARK}
    opened = xr.Dataset(planes, coords, _restored(attrs, typed.get("")))
    return opened.drop_encoding()


def store_fingerprint(path: str | PathLike[str]) -> str:
    """A mark of a store's metadata, of a store whose chunks all have the bytes that were written.

    Raises
    ------
    FrameError
        As for `open_zarr`.
    """
    files = StoreFiles(absolute(path))
    sizes = files.sizes()
    chunks = _marker(files)["chunks"]
    for name, expected in chunks.items():
        _check_chunks(files, sizes, name, expected)
    names = list(chunks)
    each = each_range(partial(_metadata, files), names) if is_url(files.root) else None
    for name, meta in zip(names, each or map(partial(_metadata, files), names), strict=True):
        if not {"shape", "data_type", "chunk_grid", "codecs"} <= meta.keys():
            raise FrameError(files.root, "damaged", f"{name}/{ROOT} is not that of an array")
    return hashlib.blake2b(files.read(ROOT), digest_size=20).hexdigest()


def store_checksum(path: str | PathLike[str]) -> str:
    """SHA-256 over the names and contents of all files of a store, as `to_zarr` gives it."""
    return str(StoreFiles(absolute(path)).checksum()[1])


# --- writing ------------------------------------------------------------------------------------


def _begin(root: str, overwrite: bool) -> str | None:
    """Refuse what cannot be written; the temporary of a store on this machine."""
    if not is_url(root):
        _refuse_early(Path(root), overwrite)
        return new_temporary(Path(root))
    if is_there(root):
        if not overwrite:
            raise OutputError(f"{root} exists; pass overwrite=True to replace it")
        known = is_there(f"{root}/{ROOT}") or is_there(f"{root}/{HIDDEN}")
        if not known and not is_rest(root):
            raise OutputError(f"{root} is not a Zarr store, and is not replaced by one")
    return None


def _refuse_early(path: Path, overwrite: bool) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: no permission to write in {folder}")
    if path.exists():
        if not overwrite:
            raise OutputError(f"{path} exists; pass overwrite=True to replace it")
        if not (path / ROOT).is_file() and not (path.is_dir() and is_rest(str(path))):
            raise OutputError(f"{path} is not a Zarr store, and is not replaced by one")
    discard_temporaries(path)


def _prepared(ds: xr.Dataset) -> xr.Dataset:
    """The Dataset in even chunks, its attributes as JSON can hold them, without stale encoding."""
    rows = _rows(ds.sizes["x"], _CHUNK) * (_SHARD // _CHUNK)
    if "frame" in ds["image"].dims:
        out = blocks(ds, frame=1, rows=rows)
    else:
        out = ds.chunk({"y": rows, "x": -1})
    typed: dict[str, dict[str, Any]] = {}
    out = out.drop_encoding()
    for name in out.variables:
        out[name].attrs, special = _plain(out[name].attrs)
        if special:
            typed[str(name)] = special
    out.attrs, typed[""] = _plain(out.attrs)
    out.attrs[_MARK] = {"typed": typed}
    return out


def _plain(attrs: dict[Hashable, Any]) -> tuple[dict[Hashable, Any], dict[str, Any]]:
    """Attributes as JSON, and what JSON cannot hold as (kind, value)."""
    plain: dict[Hashable, Any] = {}
    special: dict[str, Any] = {}
    for key, value in attrs.items():
        if isinstance(value, np.datetime64):
            special[str(key)] = [value.dtype.str, str(value)]
        elif isinstance(value, np.ndarray):
            plain[key] = value.tolist()
            special[str(key)] = [value.dtype.str, value.tolist()]
        elif isinstance(value, float) and not math.isfinite(value):
            special[str(key)] = ["float", repr(float(value))]
        else:
            plain[key] = value.item() if isinstance(value, np.generic) else value
    return plain, special


def _restored(attrs: dict[Any, Any], special: dict[str, Any] | None) -> dict[Any, Any]:
    out = dict(attrs)
    for key, (kind, value) in (special or {}).items():
        if kind == "float":
            out[key] = float(value)
        else:
            array = np.array(value, dtype=np.dtype(kind))
            out[key] = array if isinstance(value, list) else array[()]
    return out


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    if variable.dtype.kind == "M":
        return {**_TIMES, "dtype": "int64"}
    encoding: dict[str, Any] = {}
    if variable.dtype.kind == "f":
        encoding = {"_FillValue": None, "fill_value": float("nan")}
    elif variable.dtype == np.uint16 and "flag_masks" in variable.attrs:
        encoding = {"fill_value": int(Flag.NO_DATA)}  # what other readers see of a lost chunk
    if variable.chunks:
        shard = tuple(sizes[0] for sizes in variable.chunks)
        encoding["compressors"] = [CODEC, Crc32cCodec()]  # every reader verifies the checksum
        rows = _rows(variable.shape[-1], _CHUNK)
        if variable.ndim > 1 and shard[-2] > rows:
            whole = -(-shard[-2] // rows) * rows  # where the image ends before the shard does
            encoding["shards"] = (*shard[:-2], whole, shard[-1])
            encoding["chunks"] = (*shard[:-2], rows, shard[-1])
        else:
            encoding["chunks"] = shard
    return encoding


def _rows(columns: int, pixels: int) -> int:
    """Rows of so many pixels."""
    return max(1, pixels // max(1, columns))


def _finish(_: object, root: str, part: str | None, overwrite: bool) -> Written:
    """Mark the store complete and show it; on this machine the one before survives any failure."""
    files = StoreFiles(root if part is None else part)
    if part is None and not is_there(f"{root}/{HIDDEN}"):
        _marker(files)  # this task ran before, and its result was lost
        size, checksum = files.checksum()
        return Written(root, size, sha256=checksum)
    consolidate(HiddenStore.at(root) if part is None else part)
    sizes = files.sizes()
    arrays = sorted({name.partition("/")[0] for name in sizes if "/" in name})
    chunks = {name: _measured(sizes, name) for name in arrays}
    mark(files, part is None, _MARK, chunks=chunks)
    if part is not None:
        _flush(part)
        _require_sound(part, root)
    size, checksum = files.checksum()
    if part is not None:
        _rename(root, part, overwrite)
    return Written(root, size, sha256=checksum)


def _rename(path: str, part: str, overwrite: bool) -> None:
    if os.path.exists(path):
        if not overwrite:
            raise OutputError(f"{path} was made by someone else meanwhile; it is left as it is")
        _replace(part, path)
    else:
        os.rename(part, path)
    flush_folder(os.path.dirname(path))
    remove(part)  # where the two were swapped
    forget(path, part)


def _replace(part: str, path: str) -> None:
    """Put a new store in the place of an older one, which survives any failure."""
    if exchange(part, path):
        return
    aside = part + ASIDE  # from where the next run takes it back, if this one ends here
    os.rename(path, aside)
    try:
        os.rename(part, path)
    except OSError:
        os.rename(aside, path)
        raise
    remove(aside)


def _flush(root: str) -> None:
    """All files of a store to disk, and the folders that name them."""
    for where, _, names in os.walk(root):
        for name in names:
            handle = os.open(os.path.join(where, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        flush_folder(where)


def _require_sound(part: str, path: str) -> None:
    """Read back every chunk of the pixels, whose checksums are verified then."""
    for name, array in zarr.open_group(part, mode="r").arrays():
        steps = array.shards or array.chunks
        try:
            for index in np.ndindex(*(-(-n // s) for n, s in zip(array.shape, steps, strict=True))):
                array[tuple(slice(i * s, (i + 1) * s) for i, s in zip(index, steps, strict=True))]
        except Exception as error:  # whatever a decoder raises
            raise OutputError(
                f"{path}: {name} that was read back differs from what was written ({error}); "
                "check the disk and its file system"
            ) from error


# --- completeness -------------------------------------------------------------------------------


def _measured(sizes: dict[str, int], name: str) -> list[int]:
    """Number of chunks of an array and their bytes."""
    start = f"{name}/"
    own = [n for file, n in sizes.items() if file.startswith(start) and file != start + ROOT]
    return [len(own), sum(own)]


def _marker(files: StoreFiles) -> dict[str, Any]:
    root = files.root
    try:
        group = json.loads(files.read(ROOT))
    except FileNotFoundError:
        raise FrameError(root, "missing", "there is no Zarr v3 store") from None
    except FrameError as error:
        if error.reason != "missing":
            raise
        raise FrameError(root, "missing", "there is no Zarr v3 store") from None
    except (json.JSONDecodeError, NotADirectoryError, UnicodeDecodeError) as error:
        raise FrameError(root, "damaged", f"is not a readable Zarr v3 store ({error})") from None
    marker = group.get("attributes", {}).get(_MARK)
    if marker is None:
        raise FrameError(root, "unsupported", "was not written by daskcal; use xarray.open_zarr")
    if "chunks" not in marker:
        raise FrameError(root, "damaged", "the store was never finished; write it again")
    return dict(marker)


def _check_chunks(files: StoreFiles, sizes: dict[str, int], name: str, expected: list[int]) -> None:
    if not sizes.get(f"{name}/{ROOT}"):
        raise FrameError(files.root, "damaged", f"{name}/{ROOT} is missing; write the store again")
    measured = _measured(sizes, name)
    if measured == expected:
        return
    for chunk in _grid(files, name):
        if f"{name}/{chunk}" not in sizes:
            raise FrameError(
                files.root, "damaged", f"chunk {name}/{chunk} is missing; write it again"
            )
    raise FrameError(
        files.root,
        "damaged",
        f"the chunks of {name} have {measured[1]} bytes where {expected[1]} were written; "
        "write the store again",
    )


def _metadata(files: StoreFiles, name: str) -> dict[str, Any]:
    """What an array says of itself; other readers go by that alone."""
    try:
        return dict(json.loads(files.read(f"{name}/{ROOT}")))
    except (OSError, ValueError, TypeError, FrameError) as error:
        raise FrameError(files.root, "damaged", f"{name}/{ROOT} cannot be read ({error})") from None


def _grid(files: StoreFiles, name: str) -> Iterator[str]:
    """Names of all chunks that an array should have."""
    meta = _metadata(files, name)
    shape = meta["shape"]
    steps = meta["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
    for index in np.ndindex(*counts):
        yield "/".join(["c", *map(str, index)])


# --- reading ------------------------------------------------------------------------------------


def _chunked(variable: xr.DataArray) -> xr.DataArray:
    shards = variable.encoding.get("shards")
    chunks = variable.encoding.get("preferred_chunks") or {}
    if shards:  # of which a slice reads only the chunks that it needs
        chunks = dict(zip(variable.dims, shards, strict=True))
    bare = variable.reset_coords(drop=True)
    return bare.chunk(chunks or None) if variable.ndim else bare


def _in_memory(coordinate: xr.DataArray) -> xr.DataArray:
    bare = coordinate.reset_coords(drop=True)
    values = bare.values
    if values.dtype.kind in "TU":  # texts are objects elsewhere in daskcal
        values = values.astype(object)
    return bare.copy(data=values)
