"""What a picture needs of lazy pixels, block by block: no frame is ever whole in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from daskcal.errors import ArgumentError
from daskcal.plot.png import defined

SAMPLE = 500_000  # pixels behind a statistic or a histogram
_ROWS = 8  # of each row of a picture: more would not be seen
_DIMS = ("y", "x")


@dataclass(frozen=True, slots=True)
class Part:
    """What one block of rows gives to a picture, from its picture row `first` on."""

    first: int
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


def one_frame(data: xr.Dataset | xr.DataArray | np.ndarray, plane: str = "image") -> xr.Dataset:
    """`data` as a Dataset of one image: ``image`` and, where there are any, the other planes.

    Raises
    ------
    ArgumentError
        It holds several frames, no such plane, or is no image.
    """
    if isinstance(data, xr.DataArray):
        data = data.to_dataset(name="image", promote_attrs=False)
        plane = "image"
    if not isinstance(data, xr.Dataset):
        array = np.asarray(data)
        if array.ndim != 2:
            raise ArgumentError(f"an array of shape {array.shape} is no image (rows, columns)")
        data = xr.Dataset({"image": (_DIMS, array)})
    if plane not in data:
        raise ArgumentError(f"there is no {plane!r} here, but {', '.join(map(str, data))}")
    if data.sizes.get("frame", 1) != 1:
        count = data.sizes["frame"]
        raise ArgumentError(f"one image is drawn, and there are {count} frames: .isel(frame=0)")
    data = data.isel(frame=0) if "frame" in data.dims else data
    if data[plane].dims != _DIMS:
        raise ArgumentError(f"{plane!r} has the dims {data[plane].dims}, expected {_DIMS}")
    return data


def small(data: xr.Dataset, plane: str, longest: int) -> NDArray[np.float64]:
    """Block means of the good pixels of one plane; NaN where there are none.

    Of tall blocks only the rows in the middle are averaged.
    """
    rows, columns = data[plane].shape
    block = math.ceil(max(rows, columns) / longest)
    result = np.full((2, math.ceil(rows / block), math.ceil(columns / block)), 0.0)
    parts = [
        dask.delayed(_part, pure=True)(values, bits, start, block)
        for values, bits, start in _bands(data, plane)
    ]
    for part in dask.compute(*parts):
        place = slice(part.first, part.first + len(part.sums))
        result[0, place] += part.sums
        result[1, place] += part.counts
    sums, counts = result
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def sample(data: xr.Dataset, plane: str = "image", *, size: int = SAMPLE) -> NDArray[np.float64]:
    """Good pixels of one plane, taken evenly, about `size` at most."""
    step = max(1, math.ceil(data[plane].size / size))
    some = [
        dask.delayed(_some, pure=True)(values, bits, step)
        for values, bits, _ in _bands(data, plane)
    ]
    return np.concatenate([*dask.compute(*some), np.empty(0)])


def _bands(data: xr.Dataset, plane: str) -> list[tuple[Any, Any, int]]:
    """Blocks of rows of a plane and of the mask beside it, lazily, each with its first row."""
    values = data[plane].data
    bits = data["mask"].data if "mask" in data and plane != "mask" else None
    if not dask.is_dask_collection(values):
        return [(values, None if bits is None else np.asarray(bits), 0)]
    values = values.rechunk({1: -1})
    if bits is not None:
        bits = dask.array.asarray(bits).rechunk(values.chunks).to_delayed()[:, 0]
    starts = np.cumsum([0, *values.chunks[0][:-1]]).tolist()
    delayed = values.to_delayed()[:, 0]
    return list(zip(delayed, [None] * len(starts) if bits is None else bits, starts, strict=True))


def _good(values: NDArray, bits: NDArray | None) -> NDArray[np.bool_]:
    good = defined(values)
    return good if bits is None else good & (bits == 0)


def _some(values: NDArray, bits: NDArray | None, step: int) -> NDArray[np.float64]:
    """One of `step` pixels, at other columns in each row."""
    places = np.arange(0, values.size, step)
    places += np.arange(places.size) * 7 % step if step > 1 else 0
    places = places[places < values.size]
    taken = np.asarray(values).ravel()[places]
    chosen = None if bits is None else np.asarray(bits).ravel()[places]
    kept: NDArray[np.float64] = taken[_good(taken, chosen)].astype(np.float64)
    return kept


def _part(values: NDArray, bits: NDArray | None, start: int, block: int) -> Part:
    """Sums and counts of the good pixels of the blocks that some rows lie in."""
    rows = np.arange(start, start + values.shape[0])
    within = rows % block
    left = max(0, block - _ROWS) // 2
    kept = (within >= left) & (within < left + _ROWS)
    if not kept.any():  # a few rows at the end of the image
        kept[:] = True
    values = values[kept]
    good = _good(values, None if bits is None else bits[kept])
    of = rows[kept] // block
    down = np.flatnonzero(np.diff(of, prepend=-1))
    right = np.arange(0, values.shape[1], block)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(each, down, axis=0, dtype=kind), right, axis=1)
        for each, kind in ((np.where(good, values, 0), np.float64), (good, np.int64))
    )
    whole = np.zeros((2, int(of[-1] - of[0]) + 1, right.size))
    whole[:, of[down] - of[0]] = sums, counts
    return Part(int(of[0]), whole[0], whole[1].astype(np.int64))
