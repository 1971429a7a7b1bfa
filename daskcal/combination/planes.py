"""The variables of a combined image: lazy planes of bands that one task each makes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.combination.bands import Combination, combine_band
from daskcal.combination.kernels import Combined
from daskcal.combination.kernels.record import GOOD, REJECTED, unpack
from daskcal.combination.scale import ROWS
from daskcal.errors import ArgumentError
from daskcal.frames.blocks import Stack, pack
from daskcal.frames.memory import band_rows
from daskcal.frames.sections import Section

Variables = dict[str, tuple[tuple[str, ...], da.Array]]


def combined_planes(stack: Stack, how: Combination, numbers: da.Array | None) -> Variables:
    """The variables of a master: planes (y, x), and with `how.rejected` those of the inputs.

    `numbers` are scale, zero and weight of each frame (3, frame), None where there are none.
    """
    if how.grow:
        bands = da.concatenate([*_grown_bands(stack, how, numbers)], axis=1)
    else:
        bands = _bands(stack, how, numbers, rows=band_rows(stack))
    count = np.dtype(np.uint16)
    out = {"image": ("image", how.dtype), "variance": ("variance", how.dtype)}
    if "variance_shared" in stack.recipe.planes:
        out["variance_shared"] = ("shared", how.dtype)
    out |= {"mask": ("mask", count), "n_used": ("n_used", count)}
    if how.reject.kind != "none":
        out |= {"n_low": ("n_low", count), "n_high": ("n_high", count)}
    planes: Variables = {
        name: (("y", "x"), _plane(bands, field, dtype)) for name, (field, dtype) in out.items()
    }
    if how.tally:
        planes["rejected_fraction"] = (("input",), _fraction(bands, stack.n_frames))
    if how.rejected:
        planes["rejected"] = (("input_byte", "y", "x"), _bits(bands, stack.n_frames))
    if how.tally and numbers is not None:
        planes |= {name: (("input",), numbers[ROWS.index(name)]) for name in how.used}
    return planes


# --- bands ----------------------------------------------------------------------------------------


def _bands(stack: Stack, how: Combination, numbers: da.Array | None, rows: int) -> da.Array:
    """The `Combined` of each band of `rows` rows."""
    packed = pack(stack, frame=-1, rows=rows)
    return _combined(packed, how, numbers, {"f": 1})


def _grown_bands(stack: Stack, how: Combination, numbers: da.Array | None) -> Iterator[da.Array]:
    """The same of rejections that grow: each band is read with all rows that it can grow from."""
    whole, halo = stack.section, math.floor(how.grow)
    rows = whole.shape[0]
    height = max(1, band_rows(stack, whole=True) - 2 * halo)
    for first in range(0, rows, height):
        last = min(first + height, rows)
        top, bottom = max(first - halo, 0), min(last + halo, rows)
        seen = Section(whole.y0 + top, whole.y0 + bottom, whole.x0, whole.x1)
        packed = pack(stack.windowed(seen), frame=-1, rows=-1)
        kept = {"above": first - top, "rows": last - first}
        yield _combined(packed, how, numbers, {"f": 1, "y": last - first}, **kept)


def _combined(
    packed: da.Array,
    how: Combination,
    numbers: da.Array | None,
    chunks: dict[str, int],
    **kept: int,
) -> da.Array:
    of_frames = () if numbers is None else (numbers, "kf")
    return da.blockwise(
        combine_band,
        "fyx",
        packed,
        "fyx",
        *of_frames,
        adjust_chunks=chunks,
        concatenate=True,
        how=how,
        **kept,
        dtype=object,
        meta=np.empty((0, 0, 0), object),
    )


# --- variables ------------------------------------------------------------------------------------


def _plane(bands: da.Array, field: str, dtype: np.dtype) -> da.Array:
    """One of the planes of all bands, without the axis of frames."""
    return da.blockwise(
        _only, "yx", bands, "fyx", field=Combined._fields.index(field), concatenate=None,
        dtype=dtype, meta=np.empty((0, 0), dtype),
    )  # fmt: skip


def _only(blocks: list[tuple[np.ndarray, ...]], *, field: int) -> np.ndarray:
    return blocks[0][field]


def _bits(bands: da.Array, n: int) -> da.Array:
    """Which values of the inputs were rejected, a bit for each."""
    return da.blockwise(
        _only, "byx", bands, "fyx", field=Combined._fields.index("rejected"), concatenate=None,
        new_axes={"b": (n + 7) // 8}, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8),
    )  # fmt: skip


def _fraction(bands: da.Array, n: int) -> da.Array:
    """What share of each input's good values was rejected.

    The counts of a band are taken out of it first, so that no band has to wait for the others.
    """
    tallies = da.blockwise(
        operator.itemgetter(Combined._fields.index("tally")), "kfyx", bands, "fyx",
        new_axes={"k": 2}, dtype=np.int64, meta=np.empty((0, 0, 0, 0), np.int64),
    )  # fmt: skip
    return da.blockwise(
        _share, "i", tallies, "kfyx", concatenate=None, new_axes={"i": n},
        dtype=np.float64, meta=np.empty(0),
    )  # fmt: skip


def _share(tallies: list) -> np.ndarray:
    """Rejected over good values of each frame, of the counts of all bands, nested by axis."""
    tally = sum(row[0] for of_kind in tallies for of_frame in of_kind for row in of_frame)
    good = tally[GOOD]
    return np.divide(tally[REJECTED], good, out=np.full(len(good), np.nan), where=good > 0)


def rejected_frames(master: xr.Dataset) -> xr.DataArray:
    """Which values of its inputs a combined image leaves out, frame by frame.

    Parameters
    ----------
    master : xarray.Dataset
        Made with ``combine(..., rejected=True)``.

    Returns
    -------
    xarray.DataArray
        bool (input, y, x), lazily: true where a value was rejected; masked ones are not.

    Raises
    ------
    ArgumentError
        The image was combined without ``rejected=True``.

    Examples
    --------
    >>> master = daskcal.combine(biases, low=3, high=3, rejected=True)
    >>> daskcal.rejected_frames(master).dims
    ('input', 'y', 'x')
    """
    if not {"rejected", "rejected_fraction"} <= set(master):
        raise ArgumentError(
            "rejected_frames needs what combine(..., rejected=True) says of its inputs"
        )
    n = master.sizes["input"]
    bits = master["rejected"].transpose("input_byte", "y", "x")
    lazy = bits.chunk(input_byte=-1).data
    found = da.blockwise(
        unpack, "iyx", lazy, "byx", n=n, concatenate=True, new_axes={"i": n},
        dtype=bool, meta=np.empty((0, 0, 0), bool),
    )  # fmt: skip
    coords = {name: c for name, c in master.coords.items() if set(c.dims) <= {"input", "y", "x"}}
    return xr.DataArray(found, coords, ("input", "y", "x"), name="rejected_frames")
