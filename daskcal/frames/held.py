"""Masters in memory: what frames that are worked on one after another share is computed once."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr

_reading = threading.Lock()  # what is read is read once
_lock = threading.Lock()  # of what is below, and never held for long
# By the name of the Dask array, which tells its content; there as long as somebody uses it.
_held: weakref.WeakValueDictionary[str, np.ndarray] = weakref.WeakValueDictionary()
_recent: OrderedDict[str, np.ndarray | None] = OrderedDict()  # what is kept, the latest last
_kept = 0  # bytes of them at most


def in_memory(arrays: Sequence[da.Array]) -> list[np.ndarray]:
    """Arrays as a whole, not to be written to, each computed once while anyone holds it."""
    with _reading:
        with _lock:
            there = {array.name: _held.get(array.name) for array in arrays}
        new = {array.name: array for array in arrays if there[array.name] is None}
        room = {name: np.empty(array.shape, array.dtype) for name, array in new.items()}
        if new:
            targets = [_Room(room[name]) for name in new]
            # block by block into its place: never two copies of a master
            da.store(list(new.values()), targets, lock=False)
        for array in room.values():
            array.flags.writeable = False
        found = there | room
        with _lock:
            _held.update(room)
            for array in arrays:
                _recent[array.name] = found[array.name]
                _recent.move_to_end(array.name)
            _forget_beyond(_kept)
        return [whole for array in arrays if (whole := found[array.name]) is not None]


class _Room:
    """An array that blocks go into, whose bytes Dask need not read to tell it from others."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape

    def __setitem__(self, where: tuple[slice, ...], block: np.ndarray) -> None:
        self.array[where] = block

    def __dask_tokenize__(self) -> str:
        return uuid4().hex


def keep(size: int) -> None:
    """Keep what was used last, up to `size` bytes, though nobody uses it now; 0 lets all go."""
    global _kept
    with _lock:
        _kept = size
        _forget_beyond(size)


def _forget_beyond(size: int) -> None:
    while _recent and sum(0 if a is None else a.nbytes for a in _recent.values()) > size:
        _recent.popitem(last=False)


def held_dataset(ds: xr.Dataset) -> xr.Dataset:
    """A Dataset with its lazy variables in memory, under the names that they have."""
    lazy = {name: var.data for name, var in ds.data_vars.items() if isinstance(var.data, da.Array)}
    whole = in_memory(list(lazy.values()))
    return ds.assign(
        {
            name: ds[name].copy(data=da.from_array(array, chunks=old.chunks, name=old.name))
            for (name, old), array in zip(lazy.items(), whole, strict=True)
        }
    )


def held_bytes(arrays: Sequence[da.Array]) -> int:
    """What they take in memory, each counted once."""
    return sum({array.name: array.nbytes for array in arrays}.values())
