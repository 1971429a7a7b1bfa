"""Pictures of frames for people: percentile-stretched PNGs."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from daskcal.atomic import write_atomically
from daskcal.errors import ArgumentError, FrameError, choose
from daskcal.fits.whole import at_hand
from daskcal.strict import strict_keywords

STRETCHES = ("linear", "asinh")
UNDEFINED_COLOUR = (74, 106, 142)  # where no good pixel lies; a muted blue, never a grey
_UNDEFINED = 255  # its palette index; greys take 0 to 254
_OUTLIER = 10.0  # median absolute deviations from the median: not part of the stretch
_HISTOGRAM_SAMPLE = 1_000_000
_BAND = 1 << 19  # pixels that are averaged at once

Source = str | os.PathLike[str] | np.ndarray


@strict_keywords
def show(
    source: Source,
    out_png: str | Path,
    *,
    mask: np.ndarray | None = None,
    hdu: int | str | None = None,
    percent: float = 99.0,
    stretch: str = "linear",
    max_size: int = 1024,
) -> Path:
    """Write a picture of a FITS file or an array; see `picture`.

    Parameters
    ----------
    source : path or array (rows, columns)
        Of a file: its first image and the ``MASK`` extension that goes with it.
    hdu : int or str, optional
        Another HDU of the file, by number or EXTNAME.

    Raises
    ------
    FrameError
        Where the file has no such image.
    OutputError
        Where `out_png` cannot be written.
    """
    image, own_mask = _load(source, hdu)
    mask = own_mask if mask is None else mask
    png = picture(image, mask, percent=percent, stretch=stretch, max_size=max_size)
    return write_atomically(out_png, png)


@strict_keywords
def picture(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    percent: float = 99.0,
    stretch: str = "linear",
    max_size: int = 1024,
) -> bytes:
    """A picture of `image` as PNG, row 0 at the bottom, as DS9 shows it.

    Parameters
    ----------
    image : array (rows, columns)
        Pixel values.
    mask : array (rows, columns), optional
        Other than 0: not a good pixel. Such pixels, and undefined ones, count for nothing;
        where no good pixel lies the picture is a muted blue.
    percent : float
        Share of the picture, in the middle of its distribution, between black and white; what
        lies far outside that distribution (a bad row, bright stars) is left out of it.
    stretch : {"linear", "asinh"}
        From value to grey; asinh shows faint parts beside bright ones.
    max_size : int
        Longest side; larger images are averaged down in square blocks.

    Raises
    ------
    ArgumentError
        Where the arrays or options do not fit.
    """
    image, mask = _checked(image, mask)
    if max_size < 1:
        raise ArgumentError(f"max_size={max_size} is not at least 1 pixel")
    values = _averaged(image, mask, math.ceil(max(image.shape) / max_size))
    return _png(rendered(values, percent, stretch))


@strict_keywords
def side_by_side(
    images: Sequence[tuple[Source, str]],
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
    images : sequence of (path or array, title)
    max_size : int
        Longest side of the largest of them.
    """
    if not images:
        raise ArgumentError("side_by_side needs at least one image")
    loaded = [(*_checked(*_load(source, None)), title) for source, title in images]
    block = math.ceil(max(max(image.shape) for image, _, _ in loaded) / max_size)
    panels = [
        (rendered(_averaged(image, mask, block), percent, stretch).convert("RGB"), title)
        for image, mask, title in loaded
    ]
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


def read_image(
    path: str | os.PathLike[str], hdu: int | str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The first image of a FITS file, or that of `hdu`, and the mask that goes with it.

    Returns
    -------
    image : array (rows, columns)
    mask : array (rows, columns) or None
        The ``MASK`` extension where the file has one of this shape and no `hdu` was asked for.

    Raises
    ------
    FrameError
        Where there is no such file, it is damaged, or has no such image.
    """
    with at_hand(path) as here:
        return _read_image(here, os.fspath(path), hdu)


def _read_image(
    here: str, name: str, hdu: int | str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The same of a file of this machine that messages call `name`."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture does not depend on an odd card
            with fits.open(here, memmap=False) as hdus:
                image = _plane(_chosen(hdus, hdu, name).data, name)
                mask = hdus["MASK"].data if hdu is None and "MASK" in hdus else None
    except FileNotFoundError as error:
        raise FrameError(name, "missing", "there is no such file") from error
    except (OSError, TypeError, ValueError, IndexError) as error:
        raise FrameError(name, "damaged", f"cannot be read as FITS: {error}") from error
    if mask is None or np.shape(mask) != image.shape:
        return image, None
    return image, np.asarray(mask)


def _chosen(hdus: Any, hdu: int | str | None, name: str) -> Any:
    """The HDU that was asked for, or the first that holds an image."""
    if hdu is None:
        for one in hdus:
            if one.is_image and one.header.get("NAXIS", 0) >= 2:
                return one
        raise FrameError(name, "no-image", "has no HDU with an image")
    try:
        chosen = hdus[hdu]
    except (KeyError, IndexError) as error:
        message = f"has no HDU {hdu!r}; it has {len(hdus)}, numbered from 0"
        raise FrameError(name, "no-image", message) from error
    if not chosen.is_image or chosen.data is None:
        raise FrameError(name, "no-image", f"HDU {hdu!r} holds no image")
    return chosen


def _plane(data: np.ndarray, name: str) -> np.ndarray:
    """`data` without axes of length 1 in front."""
    image = np.asarray(data)
    while image.ndim > 2 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2:
        message = f"the image has shape {image.shape}, not (rows, columns)"
        raise FrameError(name, "shape", message)
    return image


def _load(source: Source, hdu: int | str | None) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(source, str | os.PathLike):
        return read_image(source, hdu)
    if hdu is not None:
        raise ArgumentError(f"hdu={hdu!r} is for a file; an array was given")
    return np.asarray(source), None


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


def defined(values: np.ndarray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where `values` are numbers, and small enough for sums and differences of them to be."""
    if values.dtype.itemsize < 8:
        return np.isfinite(values)
    return np.abs(values) < 1e300


def _averaged(image: np.ndarray, mask: np.ndarray | None, block: int) -> np.ndarray:
    """Means of the good pixels of each block of `block` × `block`; NaN where there are none.

    Blocks at the far edges may be smaller. Memory is that of a band of rows.
    """
    height = max(1, _BAND // (block * image.shape[1])) * block
    bands = [slice(at, at + height) for at in range(0, image.shape[0], height)]
    means = [
        block_means(image[band], None if mask is None else mask[band], block) for band in bands
    ]
    return np.concatenate(means)


def block_means(
    values: np.ndarray, mask: np.ndarray | None, block: int, tall: int | None = None
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Means of the good pixels of each block of an image or of a band of it; NaN without any.

    Parameters
    ----------
    values, mask : arrays (rows, columns)
        As for `picture`; the blocks at their far edges may be smaller.
    block : int
        Columns of a block.
    tall : int, optional
        Rows of a block, where it has others.
    """
    down, right = (
        np.arange(0, length, step)
        for length, step in zip(values.shape, (tall or block, block), strict=True)
    )
    good = defined(values)
    if mask is not None:
        good &= mask == 0
    kept = np.where(good, values, 0).astype(np.float64, copy=False)
    counts, sums = (
        np.add.reduceat(np.add.reduceat(each, down, axis=0), right, axis=1)
        for each in (good.astype(np.int64), kept)
    )
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def rendered(values: np.ndarray, percent: float, stretch: str) -> Image.Image:
    """A palette picture of `values`, NaN in a muted blue, the first row at the bottom."""
    choose("stretch", stretch, STRETCHES)
    if not 0 < percent <= 100:
        raise ArgumentError(f"percent={percent} is not above 0 and at most 100")
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
    from astropy.visualization import AsinhStretch, LinearStretch

    low, high = grey_limits(values, percent)
    if not high > low:
        return np.full(values.shape, 0.5)
    share = (np.clip(values, low, high) - low) / (high - low)
    curve = AsinhStretch(0.1) if stretch == "asinh" else LinearStretch()
    return np.asarray(curve(share))


def grey_limits(values: np.ndarray, percent: float) -> tuple[float, float]:
    """The values shown black and white."""
    from astropy.visualization import PercentileInterval

    # a bad row or a field of bright stars is often more than 1 % of a picture
    distance = np.abs(values - np.median(values))
    near = values[distance <= _OUTLIER * np.median(distance)]
    for chosen, share in ((near, percent), (values, percent), (values, 100.0)):
        low, high = PercentileInterval(share).get_limits(chosen)
        if high > low:
            break
    return float(low), float(high)


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
