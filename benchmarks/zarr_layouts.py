"""``python -m benchmarks.zarr_layouts``: chunks, shards and codecs of Zarr products, measured.

Prints the table in docs/reference/zarr.md. Frames are a sky with stars and read noise, in float32,
after calibration; beside them a mask of bit planes. Each layout is written and read with zarr's own
functions, in time of processors, the best of three: whole, a band of 64 rows of all frames (what
a combine reads), and a square of 128 × 128 pixels of one frame.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

FRAMES, SIDE = 6, 2048
_REPEATS = 3

Codec = Any
CODECS: dict[str, Codec] = {
    "none": None,
    "zstd 0 (zarr's default)": ZstdCodec(level=0),
    "blosc zstd 1, shuffle": BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
    "blosc zstd 5, shuffle": BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
    "blosc lz4 5, shuffle": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    "blosc zstd 5, bitshuffle": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"),
}
LAYOUTS: dict[str, tuple[int, int, int | None]] = {  # rows and columns of a chunk; rows of a shard
    "512 × 2048": (512, SIDE, None),
    "64 × 2048": (64, SIDE, None),
    "64 × 2048 in shards of 512 rows": (64, SIDE, 512),
    "256 × 256 in shards of 512 rows": (256, 256, 512),
    "64 × 2048 in shards of a frame": (64, SIDE, SIDE),
}


def frames(frame: int) -> np.ndarray:
    """A calibrated frame: a sky of 300 adu, read noise, stars."""
    rng = np.random.default_rng(frame)
    image = rng.poisson(300, (SIDE, SIDE)) + rng.normal(0, 5, (SIDE, SIDE))
    for y, x, flux in zip(*rng.integers(10, SIDE - 10, (2, 500)), rng.exponential(5e4, 500),
                          strict=True):  # fmt: skip
        spot = np.mgrid[-8:9, -8:9]
        image[y - 8 : y + 9, x - 8 : x + 9] += flux * np.exp(-(spot**2).sum(0) / 8) / 25
    flat = 1 + 0.1 * np.sin(np.arange(SIDE) / 300)
    return (image / flat).astype("f4")


def mask(frame: int) -> np.ndarray:
    """Bit planes: bad columns, hot pixels, cosmic rays."""
    rng = np.random.default_rng(frame)
    bits = np.zeros((SIDE, SIDE), "u2")
    bits[:, [100, 101, 1500]] = 1
    bits[rng.random((SIDE, SIDE)) < 0.002] |= 2
    bits[rng.random((SIDE, SIDE)) < 0.001] |= 32
    return bits


def measured(cube: np.ndarray, layout: tuple[int, int, int | None], codec: Codec) -> list[str]:
    """Ratio, files, MB/s written and read, ms for a band and for a square."""
    rows, columns, shard = layout
    folder = Path(tempfile.mkdtemp(prefix="zarr-layouts-"))
    try:

        def write() -> None:
            array = zarr.create_array(
                folder / "x.zarr",
                shape=cube.shape,
                dtype=cube.dtype,
                chunks=(1, rows, columns),
                shards=None if shard is None else (1, shard, SIDE),
                compressors=codec,
                overwrite=True,
            )
            step = shard or rows
            for i in range(len(cube)):
                for first in range(0, SIDE, step):
                    array[i, first : first + step] = cube[i, first : first + step]

        wrote = best(write)
        array = zarr.open_array(folder / "x.zarr", mode="r")
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json"]
        size = sum(p.stat().st_size for p in files)
        whole = best(lambda: array[:])
        assert (array[:] == cube).all()
        band, square = best(lambda: array[:, 640:704]), best(lambda: array[2, 500:628, 900:1028])
    finally:
        shutil.rmtree(folder)
    megabytes = cube.nbytes / 1e6
    return [f"{cube.nbytes / size:.2f}", f"{len(files)}", f"{megabytes / wrote:.0f}",
            f"{megabytes / whole:.0f}", f"{band * 1e3:.1f}", f"{square * 1e3:.1f}"]  # fmt: skip


def best(action: Callable[[], object]) -> float:
    """The shortest of several times, in s of processors: other work disturbs it less."""
    times = []
    for _ in range(_REPEATS):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return min(times)


def rows_of_table() -> Iterator[list[str]]:
    """All codecs in one layout, then all layouts with the codec that products have."""
    from daskcal.zarr import CODEC

    images = np.stack([frames(i) for i in range(FRAMES)])
    masks = np.stack([mask(i) for i in range(FRAMES)])
    shards = "64 × 2048 in shards of 512 rows"
    for name, codec in CODECS.items():
        yield ["float32", shards, name, *measured(images, LAYOUTS[shards], codec)]
    for name, codec in CODECS.items():
        yield ["uint16 mask", shards, name, *measured(masks, LAYOUTS[shards], codec)]
    for name, layout in LAYOUTS.items():
        yield ["float32", name, "daskcal's", *measured(images, layout, CODEC)]


def main() -> None:
    """Print the table."""
    heads = ["values", "chunks (rows × columns)", "codec", "ratio", "files", "write MB/s",
             "read MB/s", "band ms", "square ms"]  # fmt: skip
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * 3 + " ---: |" * 6)
    for row in rows_of_table():
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
