"""What a picture needs of lazy pixels, block by block: no frame is ever whole in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import dask
import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from daskcal.plot.shrink import band_height, block_starts, block_sums, defined, means

SAMPLE = 500_000  # pixels behind a statistic or a histogram

Band = dict[str, NDArray[Any]]  # rows of some planes, and of the mask
Result = TypeVar("Result")


def small(data: xr.Dataset, names: Sequence[str], block: int) -> list[NDArray[np.float64]]:
    """Block means of the good pixels of some planes; NaN where there are none.

    All planes come of one pass over the pixels.
    """
    rows, columns = data[names[0]].shape
    shape = (len(names), 2, math.ceil(rows / block), math.ceil(columns / block))
    result = np.zeros(shape)
    part = partial(_sums, names=tuple(names), block=block)
    for first, sums in _over_bands(data, names, part, band_height(columns, block)):
        result[:, :, first : first + sums.shape[2]] += sums
    return [means(sums, counts) for sums, counts in result]


def small_bits(data: xr.Dataset, block: int) -> NDArray[np.uint16]:
    """The bits of each block of a mask: those that any of its pixels has."""
    rows, columns = data["mask"].shape
    result = np.zeros((math.ceil(rows / block), math.ceil(columns / block)), np.uint16)
    part = partial(_bits, block=block)
    for first, bits in _over_bands(data, ["mask"], part, band_height(columns, block)):
        result[first : first + len(bits)] |= bits
    return result


def block_of(shape: Sequence[int], longest: int) -> int:
    """Pixels along the side of a block, so that a picture is no longer than `longest`."""
    return math.ceil(max(shape) / longest)


def sample(
    data: xr.Dataset, names: Sequence[str] = ("image",), size: int = SAMPLE
) -> list[NDArray[np.float64]]:
    """Good pixels of some planes, taken evenly, about `size` at most; in one pass."""
    rows, columns = data[names[0]].shape
    part = partial(_some, names=tuple(names), step=max(1, math.ceil(rows * columns / size)))
    found = _over_bands(data, names, part, band_height(columns, 1))
    return [np.concatenate([each[i] for each in found]) for i in range(len(names))]


def _over_bands(
    data: xr.Dataset, names: Sequence[str], part: Callable[[Band, int], Result], height: int
) -> list[Result]:
    """What `part` makes of each band of rows of the planes, and of its first row."""
    wanted = dict.fromkeys([*names, *(["mask"] if "mask" in data else [])])
    planes = {name: data[name].data for name in wanted}
    lazy = next((plane for plane in planes.values() if dask.is_dask_collection(plane)), None)
    if lazy is None:
        starts = range(0, data[names[0]].shape[0], height)
        bands = [{n: p[start : start + height] for n, p in planes.items()} for start in starts]
        return [part(band, start) for band, start in zip(bands, starts, strict=True)]
    rows = lazy.chunks[0]
    cut = [dask.array.asarray(plane).rechunk((rows, -1)) for plane in planes.values()]
    # all planes in one layer: what several come of (a read, a combine) is then computed once
    results = dask.array.map_blocks(
        _of_block, *cut, part=part, names=list(planes), starts=np.cumsum([0, *rows[:-1]]),
        chunks=((1,) * len(rows), (1,)), dtype=object, meta=np.empty((0, 0), object),
    )  # fmt: skip
    return list(results.compute()[:, 0])


def _of_block(
    *band: NDArray, part: Callable[[Band, int], Any], names: list[str], starts: NDArray,
    block_id: tuple[int, ...] = (0, 0),
) -> NDArray[Any]:  # fmt: skip
    """What `part` makes of a band, as the only element of an array."""
    result = np.empty((1, 1), object)
    result[0, 0] = part(dict(zip(names, band, strict=True)), int(starts[block_id[0]]))
    return result


def _counting(name: str, band: Band) -> NDArray[Any] | None:
    """The mask that goes with a plane; counts are true where no good value is, too."""
    return None if name.startswith("n_") else band.get("mask")


def _sums(
    band: Band, start: int, *, names: tuple[str, ...], block: int
) -> tuple[int, NDArray[np.float64]]:
    """The first row of the picture that a band counts in, and each plane's sums and counts."""
    sums = [block_sums(band[name], _counting(name, band), block, start=start) for name in names]
    return start // block, np.array(sums)


def _bits(band: Band, start: int, *, block: int) -> tuple[int, NDArray[np.uint16]]:
    bits = band["mask"].astype(np.uint16)
    down = block_starts(bits.shape[0], block, start)
    right = np.arange(0, bits.shape[1], block)
    joined = np.bitwise_or.reduceat(np.bitwise_or.reduceat(bits, down, axis=0), right, axis=1)
    return start // block, joined


def _some(
    band: Band, start: int, *, names: tuple[str, ...], step: int
) -> list[NDArray[np.float64]]:
    """One of `step` pixels, at other columns in each row."""
    values = band[names[0]]
    places = np.arange(0, values.size, step)
    places += np.arange(places.size) * 7 % step if step > 1 else 0
    places = places[places < values.size]
    return [_good(band[name], _counting(name, band), places) for name in names]


def _good(values: NDArray, bits: NDArray | None, places: NDArray) -> NDArray[np.float64]:
    taken = np.asarray(values).ravel()[places]
    good = defined(taken)
    if bits is not None:
        good &= np.asarray(bits).ravel()[places] == 0
    kept: NDArray[np.float64] = taken[good].astype(np.float64)
    return kept
