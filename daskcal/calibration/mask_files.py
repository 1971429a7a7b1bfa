"""Masks of a detector from and to files: FITS images, and lists of regions.

Regions are rectangles in detector pixels counted from 1, both ends included: the numbers of an
untrimmed image, and DS9's ``physical`` ones of a trimmed one.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.atomic import write_atomically
from daskcal.calibration.masters import Master, as_master
from daskcal.errors import ArgumentError, DaskcalWarning, FrameError, OutputError, nearest
from daskcal.fits.checksum import file_checksum
from daskcal.fits.layout import Plane, Written
from daskcal.fits.open_file import open_file
from daskcal.fits.product_header import product_cards
from daskcal.fits.urls import is_url
from daskcal.fits.write import fits_sink
from daskcal.frames.detector import RawWindow, detector_coords, raw_window, window_record
from daskcal.frames.masks import FLAGS, MASK_ATTRS, Flag, has_reasons, mask_dataset
from daskcal.frames.master import open_master
from daskcal.frames.sections import Section, hull
from daskcal.strict import strict_keywords

_TEXT = (".txt", ".reg")
_HEAD = "# bad pixels: x1 x2 y1 y2, from 1, inclusive; a line like '# hot' says why they are bad\n"
_DS9_HEAD = "# Region file format: DS9 version 4.1\nphysical\n"
_BOX = re.compile(r"box\s*\(([^)]*)\)\s*(?:#(.*))?$", re.IGNORECASE)
_TAG = re.compile(r"tag\s*=\s*\{(\w+)\}")
_LARGEST = 1 << 20  # bytes: a list of regions is not as long as an image


@strict_keywords
def open_mask(path: str | PathLike[str], *, like: xr.Dataset | None = None) -> xr.Dataset:
    """Open a mask of a detector.

    Parameters
    ----------
    path : str or path
        A FITS image, or a list of regions: lines ``x1 x2 y1 y2`` or ``x y`` as IRAF's fixpix reads
        them, or DS9's ``box(x,y,width,height,0)`` in ``physical`` coordinates, or in ``image``
        ones where `like` begins at the first pixel of the detector.
    like : xarray.Dataset, optional
        Frames or a master: the pixels that the mask of a list of regions is to cover. What lies
        outside of them is left out, with a `DaskcalWarning` where that is outside of the raw
        frames, too.

    Returns
    -------
    xarray.Dataset
        ``image (y, x)``. Of `write_mask`'s files bit planes, of which each says why a pixel is
        bad; of a list of regions too (``bad`` where it does not say). Any other image is as it is
        in the file, not 0 where a pixel is bad.

    Raises
    ------
    FrameError
        The file is missing, a line of it is no region, or every region lies outside of frames
        that begin at the first pixel of the detector.
    ArgumentError
        A list of regions without `like`.

    Examples
    --------
    >>> mask = daskcal.open_mask("bad.reg", like=frames)
    """
    path = fspath(path)
    if like is not None:
        _report_outside(path, like)
    return unreported_mask(path, like)


def unreported_mask(path: str, like: xr.Dataset | None) -> xr.Dataset:
    """`open_mask`, without a word of regions that lie outside: of a night its plan says that."""
    text = _region_text(path)
    if text is None:
        opened = open_master(path)
        if "FLAG1   =" in opened.attrs["cards"]:
            opened["image"].attrs = {**MASK_ATTRS, **opened["image"].attrs}
        return opened
    if like is None:
        raise ArgumentError(
            f"{path} is a list of regions, which does not say how large the detector is; give "
            "like=, frames or a master"
        )
    window, coords = _window(like)
    bits = np.zeros(window.shape, np.uint16)
    for bit, region in _regions(path, text, window):
        bits[region.common(window).within(window)] |= bit
    return mask_dataset(bits, coords, os.path.basename(path), file_checksum(path))


def regions_outside(path: str, windows: Sequence[Section]) -> tuple[int, int]:
    """How many regions of a list lie outside of all windows, and how many there are.

    0 and 0 where the file is no list of regions.

    Raises
    ------
    FrameError
        As of `open_mask`.
    """
    text = _region_text(path)
    if text is None:
        return 0, 0
    regions = [region for _, region in _regions(path, text, hull(windows))]
    return sum(not any(all(r.common(w).shape) for w in windows) for r in regions), len(regions)


def _report_outside(path: str, like: xr.Dataset) -> None:
    raw = raw_window(like)
    window = _window(like)[0] if raw is None else raw.section
    outside, total = regions_outside(path, [window])
    if not outside:
        return
    where = f"outside of the frames, which are {window} of the detector (rows, columns, from 0)"
    if outside == total and (window.y0, window.x0) == (0, 0):
        raise FrameError(path, "unusable", f"every one of its {total} regions lies {where}")
    says = f"{path}: {outside} of {total} regions lie {where}, and are left out"
    warnings.warn(says, DaskcalWarning, stacklevel=4)


@strict_keywords
def write_mask(mask: Any, path: str | PathLike[str], *, overwrite: bool = False) -> Written:
    """Write a mask of a detector to a file.

    Parameters
    ----------
    mask : xarray.Dataset
        A mask (y, x), from `ccdmask`, `merge_masks`, `hot_pixels` and the like.
    path : str or path
        ``.fits``: an image of bit planes (uint16), which its header explains. ``.txt``: rectangles
        ``x1 x2 y1 y2``, as IRAF's fixpix reads them, under comments that say why. ``.reg``: boxes
        for DS9, with the reason as their tag.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Written
        Path, size and checksum of the file.

    Raises
    ------
    OutputError
        The file exists, or cannot be written.
    ArgumentError
        Another ending.

    Examples
    --------
    >>> written = daskcal.write_mask(mask, "bad_pixels.txt")
    """
    path = Path(path)
    master, bits = as_mask(mask, "mask")
    if path.suffix == ".fits":
        cards = _cards(master)
        sink = fits_sink(path, [Plane("", cards, bits)], overwrite=overwrite)
        written: Written = sink.compute()
        return written
    if path.suffix not in _TEXT:
        endings = (".fits", *_TEXT)
        raise ArgumentError(f"{path}: {nearest(path.suffix, endings)} is how a mask is written")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; pass overwrite=True to replace it")
    lines = (
        _ds9(bits.compute(), master) if path.suffix == ".reg" else _fixpix(bits.compute(), master)
    )
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}")
    write_atomically(path, "".join(lines).encode("ascii"))
    return Written(str(path.absolute()), path.stat().st_size)


def as_mask(mask: Any, what: str, like: xr.Dataset | None = None) -> tuple[Master, da.Array]:
    """A mask in any form that a step takes, and its bit planes.

    Bit planes keep their bits, what `hot_pixels` found is ``hot``, and what is not 0 in any other
    image is ``bad``.
    """
    if isinstance(mask, str | PathLike):
        mask = open_mask(mask, like=like)
    master = as_master(mask, what)
    plane = master.planes["image"]
    if isinstance(mask, xr.Dataset) and has_reasons(mask):
        return master, plane.astype(np.uint16)
    bit = FLAGS[str(master.facts.get("reason", "bad"))]
    return master, plane.map_blocks(_not_zero, bit=bit, dtype=np.uint16)


def _not_zero(image: np.ndarray, *, bit: np.uint16) -> np.ndarray:
    return np.where(image != 0, bit, np.uint16(0))


def _window(like: xr.Dataset) -> tuple[Section, dict[str, Any]]:
    """The detector pixels of frames or a master, and the coordinates that say so."""
    bounds = []
    for axis in ("y", "x"):
        first = int(like[axis].values[0]) if axis in like.coords else 0
        bounds += [first, first + like.sizes[axis]]
    window = Section(*bounds)
    if raw_window(like) is None:
        return window, dict(detector_coords(RawWindow(window, known=False)))
    return window, {axis: like[axis] for axis in ("y", "x")}


# --- FITS -----------------------------------------------------------------------------------------


def _cards(master: Master) -> str:
    from daskcal import __version__

    origin = (master.section.y0, master.section.x0)
    flags = [
        (f"FLAG{bit}", name, f"what bit {int(bit).bit_length() - 1} means")
        for name, bit in FLAGS.items()
    ]
    steps = [record.to_json() for record in master.steps or ()]
    return product_cards(
        "",
        bunit="",
        origin=origin,
        facts=[
            ("IMAGETYP", "MASK", "bad pixels of a detector, 0 = good"),
            *flags,
            ("DASKCAL", __version__, "version that made this file"),
        ],
        history=[*steps, json.dumps({"master": {"origin": origin, **window_record(master.raw)}})],
    )


# --- regions --------------------------------------------------------------------------------------


def _region_text(path: str) -> str | None:
    """The text of a list of regions; None where the file is none."""
    try:
        with open_file(path).stream() if is_url(path) else open(path, "rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise FrameError(path, "missing", f"cannot be read: {error.strerror}") from error
    if content.startswith(b"SIMPLE  =") or b"\0" in content[:4096]:
        return None
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        return None


def _regions(path: str, text: str, window: Section) -> Iterator[tuple[np.uint16, Section]]:
    """Each region of a list and its bit, in detector pixels."""
    bit, system = Flag.BAD, "image"
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if word.startswith("#"):
            bit = FLAGS.get(word.lstrip("# ").lower(), bit)
            continue
        if not word or word.lower().startswith("global"):
            continue
        if word.lower() in ("image", "physical"):
            system = word.lower()
            continue
        found = _BOX.match(word)
        region = _box(found[1]) if found else _corners(word)
        if region is None:
            raise FrameError(
                path,
                "damaged",
                f"line {number} is {word!r:.60}, and should be 'x1 x2 y1 y2', 'x y' or "
                "'box(x,y,width,height,0)' in image or physical coordinates",
            )
        if found and system == "image" and (window.y0, window.x0) != (0, 0):
            raise FrameError(
                path,
                "unusable",
                f"line {number} is in image coordinates, and the image begins at row {window.y0}, "
                f"column {window.x0} of the detector; save the regions as 'physical'",
            )
        tag = _TAG.search(found[2] or "") if found else None
        yield (FLAGS.get(tag[1], Flag.BAD) if tag else bit), region


def _corners(line: str) -> Section | None:
    """``x1 x2 y1 y2`` or ``x y``."""
    try:
        numbers = [int(word) for word in line.split("#", maxsplit=1)[0].replace(",", " ").split()]
    except ValueError:
        return None
    if len(numbers) == 2:
        numbers = [numbers[0], numbers[0], numbers[1], numbers[1]]
    if len(numbers) != 4 or min(numbers) < 1:
        return None
    (x0, x1), (y0, y1) = sorted(numbers[:2]), sorted(numbers[2:])
    return Section(y0 - 1, y1, x0 - 1, x1)


def _box(inside: str) -> Section | None:
    """The pixels whose centres lie in ``x,y,width,height[,0]``."""
    try:
        x, y, width, height, angle = [float(part) for part in (*inside.split(","), "0")[:5]]
    except ValueError:
        return None
    if angle % 360 or not (width > 0 and height > 0):
        return None
    spans = []
    for centre, size in ((y, height), (x, width)):
        spans += [math.ceil(centre - size / 2) - 1, math.floor(centre + size / 2)]
    return Section(*spans)


def _fixpix(bits: np.ndarray, master: Master) -> Iterator[str]:
    yield _HEAD
    for name, regions in _by_reason(bits, master):
        yield f"# {name}\n"
        for s in regions:
            yield f"{s.x0 + 1} {s.x1} {s.y0 + 1} {s.y1}\n"


def _ds9(bits: np.ndarray, master: Master) -> Iterator[str]:
    yield _DS9_HEAD
    for name, regions in _by_reason(bits, master):
        for s in regions:
            x, y = (s.x0 + 1 + s.x1) / 2, (s.y0 + 1 + s.y1) / 2
            yield f"box({x:g},{y:g},{s.x1 - s.x0},{s.y1 - s.y0},0) # tag={{{name}}}\n"


def _by_reason(bits: np.ndarray, master: Master) -> Iterator[tuple[str, list[Section]]]:
    here = master.section
    for name, bit in FLAGS.items():
        found = [s.shifted(here.y0, here.x0) for s in rectangles((bits & bit) != 0)]
        if found:
            yield name, found


def rectangles(plane: np.ndarray) -> list[Section]:
    """Rectangles that do not overlap and cover what is true: runs of rows, joined along columns."""
    done: list[Section] = []
    growing: dict[tuple[int, int], int] = {}  # runs of the row before, and where they began
    for y, row in enumerate(plane):
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False))
        runs = {(int(a), int(b)) for a, b in edges.reshape(-1, 2)}
        done += [Section(first, y, *run) for run, first in growing.items() if run not in runs]
        growing = {run: growing.get(run, y) for run in sorted(runs)}
    done += [Section(first, len(plane), *run) for run, first in growing.items()]
    return sorted(done, key=lambda s: (s.y0, s.x0))
