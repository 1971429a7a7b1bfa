"""Pictures of frames for people as PNG: one pixel of grey a block of pixels, nothing beside it."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw, ImageFont

from daskcal.atomic import write_atomically
from daskcal.errors import ArgumentError
from daskcal.plot.lazily import block_of, small
from daskcal.plot.shrink import averaged, defined
from daskcal.plot.source import one_image, opened
from daskcal.plot.stretch import UNDEFINED_COLOUR, check_stretch, curve, grey_limits
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.plot.source import Picture

_UNDEFINED = 255  # its palette index; greys take 0 to 254
_HISTOGRAM_SAMPLE = 1_000_000


@strict_keywords
def write_png(
    data: Picture,
    out: str | Path,
    *,
    plane: str = "image",
    hdu: int | str | None = None,
    stretch: str = "linear",
    percent: float = 99.0,
    max_size: int = 1000,
) -> Path:
    """Write the picture that `show` draws as a PNG, without axes; ``daskcal show`` does this.

    Parameters
    ----------
    data : Dataset, DataArray, CCDData, array (y, x) or path of a FITS file
        The detectors of a mosaic file stand beside each other, each with its own stretch.
    out : path
        The PNG.
    plane, hdu, stretch, percent, max_size
        As for `show`.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    ArgumentError
        It is not one image, or an option cannot be used.
    FrameError
        The file is missing, damaged, or has no such image.
    OutputError
        `out` cannot be written.

    Examples
    --------
    >>> path = plot.write_png("reduced/masters/flat_V.fits", "flat_V.png", stretch="asinh")
    """
    check_stretch(stretch, percent, max_size)
    if isinstance(data, str | os.PathLike):
        data, hdu = opened(data, hdu), None
        if isinstance(data, xr.DataTree):
            detectors = [(node.to_dataset(), name) for name, node in data.children.items()]
            size = max(1, max_size // 2)
            return side_by_side(detectors, out, percent=percent, stretch=stretch, max_size=size)
    found = one_image(data, plane, hdu)
    (values,) = small(found, [plane], block_of(found[plane].shape, max_size))
    return write_atomically(out, _png(rendered(values, percent, stretch)))


@strict_keywords
def picture(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    percent: float = 99.0,
    stretch: str = "linear",
    max_size: int = 1000,
) -> bytes:
    """A picture of `image` as PNG, row 0 at the bottom, as DS9 shows it.

    Parameters
    ----------
    image : array (rows, columns)
        Pixel values.
    mask : array (rows, columns), optional
        Other than 0: not a good pixel. Such pixels, and undefined ones, count for nothing;
        where no good pixel lies the picture is a muted blue.
    stretch, percent, max_size
        As for `show`.

    Raises
    ------
    ArgumentError
        Where the arrays or options do not fit.
    """
    image, mask = _checked(image, mask)
    check_stretch(stretch, percent, max_size)
    values = averaged(image, mask, block_of(image.shape, max_size))
    return _png(rendered(values, percent, stretch))


@strict_keywords
def side_by_side(
    images: Sequence[tuple[Picture, str]],
    out: str | Path,
    *,
    percent: float = 99.0,
    stretch: str = "linear",
    max_size: int = 480,
) -> Path:
    """Write one PNG of several images in a row, each with its title above and its own stretch.

    All are averaged down in blocks of one size, so they keep their scale to each other.

    Parameters
    ----------
    images : sequence of (what `show` draws, title)
    max_size : int
        Longest side of the largest of them.
    """
    if not images:
        raise ArgumentError("side_by_side needs at least one image")
    check_stretch(stretch, percent, max_size)
    loaded = [(one_image(data), title) for data, title in images]
    block = block_of([side for each, _ in loaded for side in each["image"].shape], max_size)
    panels = []
    for each, title in loaded:
        (values,) = small(each, ["image"], block)
        panels.append((rendered(values, percent, stretch).convert("RGB"), title))
    return write_atomically(out, _png(_row_of(panels)))


def good_sample(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Good pixel values as float64, at most about a million of them, taken evenly."""
    image, mask = _checked(image, mask)
    step = max(1, math.isqrt(image.size // _HISTOGRAM_SAMPLE))
    values = image[::step, ::step].astype(np.float64)
    good = defined(values)
    if mask is not None:
        good &= ~mask[::step, ::step]
    return values[good]


def _checked(image: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Both as arrays that fit each other, the mask as bool."""
    image = np.asarray(image)
    if image.ndim != 2 or not image.size or image.dtype.kind not in "buif":
        message = f"an image is 2-D real numbers; this is {image.dtype} of shape {image.shape}"
        raise ArgumentError(message)
    if mask is None:
        return image, None
    mask = np.asarray(mask) != 0
    if mask.shape != image.shape:
        raise ArgumentError(f"the mask is {mask.shape}, the image {image.shape}")
    return image, mask


def rendered(values: np.ndarray, percent: float, stretch: str) -> Image.Image:
    """A palette picture of `values`, NaN in a muted blue, the first row at the bottom."""
    rows, columns = values.shape
    grey = np.full((rows, columns), _UNDEFINED, dtype=np.uint8)
    good = np.isfinite(values)
    if good.any():
        grey[good] = np.rint(254 * _stretched(values[good], percent, stretch))
    result = Image.frombytes("P", (columns, rows), grey[::-1].tobytes())
    greys = [round(255 * level / 254) for level in range(255) for _ in range(3)]
    result.putpalette([*greys, *UNDEFINED_COLOUR])
    return result


def has_undefined(picture: Image.Image) -> bool:
    """Whether a picture that `rendered` made has places without a good pixel."""
    return bool(picture.histogram()[_UNDEFINED])


def _stretched(values: np.ndarray, percent: float, stretch: str) -> np.ndarray:
    """`values` between 0 (black) and 1 (white); a constant image is a middle grey."""
    low, high = grey_limits(values, percent)
    if not high > low:
        return np.full(values.shape, 0.5)
    share = (np.clip(values, low, high) - low) / (high - low)
    return np.asarray(curve(stretch)(share))


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, format="PNG", optimize=True)
    return data.getvalue()


def _row_of(panels: Sequence[tuple[Image.Image, str]]) -> Image.Image:
    """Pictures in a row, bottoms level, each under its title, on white."""
    margin, size = 16, 18
    font = ImageFont.load_default(size)
    widths = [max(panel.width, math.ceil(font.getlength(title))) for panel, title in panels]
    heights = [panel.height for panel, _ in panels]
    top = margin + size + 10
    shape = (sum(widths) + margin * (len(panels) + 1), top + max(heights) + margin)
    canvas = Image.new("RGB", shape, "white")
    draw = ImageDraw.Draw(canvas)
    left = margin
    for (panel, title), width in zip(panels, widths, strict=True):
        draw.text((left, margin), title, fill=(32, 34, 37), font=font)
        canvas.paste(panel, (left, top + max(heights) - panel.height))
        left += width + margin
    return canvas
