"""What one look at a product's pixels gives the report: a picture, a histogram, masked shares."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from daskcal.calibration.robust import MAD_TO_SIGMA
from daskcal.fits.keywords import normalise
from daskcal.fits.source import read_pixels
from daskcal.frames.masks import FLAGS
from daskcal.frames.master import product_planes
from daskcal.night.ledger import Number
from daskcal.plot import block_means, defined, has_undefined, rendered

BINS = 60
_ROWS_OF_A_BLOCK = 8  # read for each row of a picture: more would not be seen
_BAND = 1 << 19  # pixels read at once
_SAMPLE = 500_000  # pixels behind a histogram
_TAILS = 8.0  # σ either side of the median that a histogram shows at most
_CRISP = 130  # a smaller picture that shows each pixel is stored without loss
_PERCENT = 99.0

Rows = Callable[[int, int], tuple[NDArray, NDArray | None]]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of pixels in equal bins from `low` to `high`, and the share that lies beyond."""

    low: float
    high: float
    counts: tuple[int, ...]
    below: float
    above: float


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a product.

    Attributes
    ----------
    picture : str
        A ``data:`` URI.
    width, height : int
        Of the picture.
    shape : str
        Of the product, for people: columns × rows, and frames where it holds several.
    unit : str
        Of its values; "" where the product does not say.
    median, sigma : float
        Of a sample of the good pixels, σ from the median absolute deviation; NaN without one.
    histogram : Histogram or None
        None where there is no good pixel.
    masked_fraction : float
        Share of the pixels that any reason marks; NaN without a mask.
    masked : mapping of str to float
        Share of the pixels that each reason marks, where it marks any.
    """

    picture: str
    width: int
    height: int
    shape: str
    unit: str
    median: Number
    sigma: Number
    histogram: Histogram | None
    masked_fraction: Number
    masked: Mapping[str, float]


def look_at(path: str | os.PathLike[str], longest: int) -> Look:
    """Look at a product: a FITS file, or a Zarr store, whose frames come on one sheet.

    Parameters
    ----------
    path : path
        Of a store it may be the URL.
    longest : int
        Side of the picture.

    Raises
    ------
    FrameError
        It is missing, damaged, or holds no image.
    """
    name = os.fspath(path)
    return (_look_at_store if name.endswith(".zarr") else _look_at_file)(name, longest)


def _look_at_file(path: str, longest: int) -> Look:
    image, planes = product_planes(path, "MASK")
    source = image.source
    mask = planes["MASK"].source if planes else None
    rows, columns = source.shape

    def band(start: int, stop: int) -> tuple[NDArray, NDArray | None]:
        values, _ = read_pixels(source, (start, stop), (0, columns))
        return values, read_pixels(mask, (start, stop), (0, columns))[0] if mask else None

    seen = _Sample()
    small = _shrunk(band, source.shape, longest, seen)
    return seen.look(
        rendered(small, _PERCENT, "linear"), f"{columns} × {rows}", normalise(image.header).unit,
        crisp=max(rows, columns) <= min(longest, _CRISP),
    )  # fmt: skip


def _look_at_store(path: str, longest: int) -> Look:
    from daskcal.zarr import open_zarr

    frames = open_zarr(path)
    count, rows, columns = (frames.sizes[dim] for dim in ("frame", "y", "x"))
    across = math.ceil(math.sqrt(count))
    side = max(1, longest // across - 1)
    seen = _Sample(count)

    def panels() -> Iterator[Image.Image]:
        for i in range(count):
            one = frames.isel(frame=i)
            image = one["image"].values
            bits = one["mask"].values if "mask" in one else None
            small = _shrunk(_in_memory(image, bits), (rows, columns), side, seen)
            yield rendered(small, _PERCENT, "linear")

    sheet = _sheet(panels(), count, across)
    shape = f"{count} frame{'' if count == 1 else 's'} of {columns} × {rows}"
    return seen.look(sheet, shape, str(frames["image"].attrs.get("units", "")), crisp=False)


def _in_memory(image: NDArray, bits: NDArray | None) -> Rows:
    return lambda start, stop: (image[start:stop], None if bits is None else bits[start:stop])


def _sheet(panels: Iterable[Image.Image], count: int, across: int) -> Image.Image:
    """Pictures of one size on a sheet, the first at the top left."""
    sheet = Image.new("RGBA", (1, 1))
    for i, panel in enumerate(panels):
        width, height = panel.width + 1, panel.height + 1
        if i == 0:
            sheet = Image.new("RGBA", (across * width, math.ceil(count / across) * height))
        sheet.paste(panel.convert("RGBA"), (i % across * width, i // across * height))
    return sheet


def _shrunk(band: Rows, shape: tuple[int, int], longest: int, seen: _Sample) -> NDArray[np.float64]:
    """Block means of an image, read band by band; `seen` sees what is read.

    Of tall blocks only the rows in the middle are read.
    """
    rows, columns = shape
    block = math.ceil(max(shape) / longest)
    tall = min(block, _ROWS_OF_A_BLOCK)
    step = seen.step(rows * columns * tall // block)
    # blocks that are read whole lie beside each other: many of them in one read
    height = max(1, _BAND // (block * columns)) * block if tall == block else block
    means = []
    for i, first in enumerate(range(0, rows, height)):
        start = first if tall == block else first + max(0, min(block, rows - first) - tall) // 2
        stop = min(start + (height if tall == block else tall), rows)
        values, bits = band(start, stop)
        seen.add(values, bits, step, i % step)
        means.append(block_means(values, bits, block, tall))
    return np.concatenate(means)


class _Sample:
    """Some of the pixels of a product's frames, gathered as they are read."""

    def __init__(self, frames: int = 1) -> None:
        self.frames = frames
        self.values: list[NDArray[np.float64]] = []
        self.pixels = self.bad = 0
        self.marked = dict.fromkeys(FLAGS, 0)

    def step(self, pixels: int) -> int:
        """Which share of the pixels of a frame are taken: one of so many."""
        return max(1, math.ceil(pixels * self.frames / _SAMPLE))

    def add(self, values: NDArray, bits: NDArray | None, step: int, first: int) -> None:
        """See a band: take one of `step` columns, and count what its mask marks."""
        columns = (slice(None), slice(first, None, step))
        good = defined(values[columns])
        if bits is not None:
            good &= bits[columns] == 0
            self.pixels += bits.size
            self.bad += int(np.count_nonzero(bits))
            for name, bit in FLAGS.items() if bits.any() else ():
                self.marked[name] += int(np.count_nonzero(bits & bit))
        self.values.append(values[columns][good].astype(np.float64))

    def look(self, picture: Image.Image, shape: str, unit: str, *, crisp: bool) -> Look:
        """All that the report shows of the pixels."""
        values = np.concatenate(self.values) if self.values else np.empty(0)
        median = float(np.median(values)) if values.size else math.nan
        deviations = np.abs(values - median)
        sigma = MAD_TO_SIGMA * float(np.median(deviations)) if values.size else math.nan
        return Look(
            _uri(picture, crisp), picture.width, picture.height, shape, unit,
            _short(median), _short(sigma),
            _histogram(values, median, sigma) if values.size else None,
            _short(self.bad / self.pixels) if self.pixels else math.nan,
            {name: _short(count / self.pixels) for name, count in self.marked.items() if count},
        )  # fmt: skip


def _histogram(values: NDArray[np.float64], median: float, sigma: float) -> Histogram:
    """The distribution without its far tails, which would hide its shape."""
    low, high = (float(np.percentile(values, share)) for share in (0.1, 99.9))
    if sigma > 0:
        low, high = max(low, median - _TAILS * sigma), min(high, median + _TAILS * sigma)
    if not high > low:
        low, high = float(values.min()), float(values.max())
    # a constant image is one bar in the middle
    within = values[(values >= low) & (values <= high)]
    places = (within - low) / (high - low) if high > low else np.full(within.shape, 0.5)
    counts, _ = np.histogram(places, bins=BINS, range=(0.0, 1.0))
    below, above = (_short(float(np.mean(beyond))) for beyond in (values < low, values > high))
    return Histogram(_short(low), _short(high), tuple(counts.tolist()), below, above)


def _short(value: float) -> float:
    """`value` to the digits that a reader could want: the page remembers it."""
    return float(f"{value:.7g}")


def _uri(picture: Image.Image, crisp: bool) -> str:
    """The picture as text within a page."""
    data = io.BytesIO()
    if crisp or picture.mode == "RGBA":  # a sheet has holes
        picture.save(data, format="PNG", compress_level=6)
        kind = "png"
    else:
        mode = "RGB" if has_undefined(picture) else "L"
        picture.convert(mode).save(data, format="JPEG", quality=80, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
