"""Files become frames: one lazy Dataset over the pixels of many FITS files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from dask.base import tokenize

from daskcal.errors import DaskcalWarning, FrameError, GeometryError, UnitError
from daskcal.fits import AssembledImage, Frame, Scan, scan
from daskcal.frames.amplifiers import VALUES, Amplifier, amplifier_coords
from daskcal.frames.assembled import DetectorFrame, assembled
from daskcal.frames.blocks import DIMS, Stack, assign
from daskcal.frames.card_problems import warn_of_cards
from daskcal.frames.detector import RawWindow, detector_coords
from daskcal.frames.instrument import Instrument, shipped_instrument
from daskcal.frames.masks import MASK_ATTRS
from daskcal.frames.raw_only import given_files, without_products
from daskcal.frames.recipe import Files, Recipe
from daskcal.frames.sections import Section
from daskcal.frames.table import COORDINATES, frame_table, header_columns
from daskcal.frames.units import unit_word
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    import pandas as pd

Paths = str | PathLike[str] | Iterable[str | PathLike[str]]
_SEVERAL = "several-detectors"  # the reason of a file that only `open_mosaic` opens


@strict_keywords
def open_frames(
    paths: Paths,
    *,
    unit: str | None = None,
    hdu: int | str | None = None,
    instrument: Instrument | str | None = None,
) -> xr.Dataset:
    """Open FITS frames as one lazy Dataset. Headers are read; pixels are not.

    Parameters
    ----------
    paths : path, glob, folder or iterable of them
        FITS files, plain, gzipped, bzipped or tile-compressed, known by content and not by name;
        folders are searched with all that is below them. They may be URLs that fsspec opens, such
        as ``s3://bucket/night``: of those, only the bytes that are needed are read. Of folders and
        globs, products of daskcal and what is COMBINED are left out with a `DaskcalWarning` where
        raw frames are there too; files that are named are taken.
    unit : {"adu", "electron"}, optional
        Unit of the pixels where BUNIT does not say.
    hdu : int or str, optional
        Number or EXTNAME of the HDU that holds the image; the first image HDU if not given.
    instrument : Instrument or str, optional
        What is known of the camera beside its headers; a name is one of the shipped cameras.

    Returns
    -------
    xarray.Dataset
        ``image (frame, y, x)`` in the stored type, as Dask arrays of one frame × bands of rows;
        ``mask`` (uint16) where stored pixels can be undefined. On ``frame``: ``path``, ``hdu``,
        ``imagetyp``, ``exptime`` (s), ``filter`` and the like, and each card as ``hdr_<name>``, all
        in memory. ``y`` and ``x`` are 0-based detector pixels.

    Raises
    ------
    FrameError
        A file is missing, or one that was named cannot be read, or holds several detectors, which
        `open_mosaic` opens. In a folder or glob such a file is left out with a `DaskcalWarning`;
        another tells of cards that cannot be read, or that are given twice and contradict.
    GeometryError
        Frames of different shapes or windows: open them apart.
    UnitError
        `unit` is unknown, or frames have different units.

    Examples
    --------
    >>> frames = daskcal.open_frames("raw")
    >>> darks = frames.query(frame="imagetyp == 'dark' and exptime == 300")
    """
    camera = as_instrument(instrument)
    paths = paths if isinstance(paths, str | PathLike) else list(paths)
    found = assembled(scan(paths, hdu=camera.hdu if hdu is None else hdu), camera)
    found = without_products(found, paths)
    report_unreadable(found, paths)
    if not found.frames:
        raise FrameError(
            said_paths(paths), "no-image", "holds no FITS image; `daskcal ls` lists a folder"
        )
    table = frame_table(found.frames, camera.keywords)
    warn_of_cards(found.frames, table, camera)
    return frames_dataset(found.frames, table, camera, unit=unit)


def frames_dataset(
    frames: Sequence[Frame],
    table: pd.DataFrame,
    instrument: Instrument | None = None,
    *,
    unit: str | None = None,
) -> xr.Dataset:
    """The lazy Dataset of scanned frames and their rows of a `frame_table`, in the same order."""
    camera = instrument or Instrument()
    section = _common_section(table)
    sources = tuple(frame.pixels for frame in frames)
    files = Files(sources, section, token=tokenize(section, *map(_identity, sources)))
    coords: dict[str, object] = {
        "path": ("frame", table["path"].to_numpy(dtype=object)),
        "hdu": ("frame", table["hdu"].to_numpy()),
    }
    coords |= {name: ("frame", table[name].to_numpy()) for name in COORDINATES}
    coords |= {name: ("frame", column) for name, column in header_columns(frames).items()}
    coords["cards"] = ("frame", np.array([frame.cards for frame in frames], dtype=object))
    coords |= detector_coords(RawWindow(section, known=bool(table["origin_known"].all())))
    several = _amplifier_coords(frames)
    coords |= several
    for name, value in (("gain", camera.gain), ("rdnoise", camera.rdnoise)):
        if value is not None and not several:
            coords[name] = ("frame", np.full(len(frames), float(value)))
    attrs: dict[str, object] = {"steps": []}
    for name in ("saturation", "bias_level"):
        if getattr(camera, name) is not None:
            attrs[name] = float(getattr(camera, name))
    empty = xr.Dataset(coords=coords, attrs=attrs)
    opened = assign(empty, Stack(Recipe.of(files), section, ()))
    opened["image"].attrs = _image_attrs(files, table, camera, unit)
    if "mask" in opened:
        opened["mask"].attrs = dict(MASK_ATTRS)
    return opened


def _amplifier_coords(frames: Sequence[Frame]) -> dict[str, xr.Variable]:
    """What is known of the amplifiers of frames that have several, the same in all of them."""
    layouts = [f.amplifiers if isinstance(f, DetectorFrame) else () for f in frames]
    usual = max(dict.fromkeys(layouts), key=layouts.count)
    for frame, layout in zip(frames, layouts, strict=True):
        if layout != usual:
            raise GeometryError(
                f"{frame.source.path} has {_readout(layout)}, and {layouts.count(usual)} other "
                f"frames have {_readout(usual)}: open them apart"
            )
    if not usual:
        return {}
    each = [frame.values for frame in frames if isinstance(frame, DetectorFrame)]
    return amplifier_coords(
        usual, {name: np.array([values[name] for values in each]) for name in VALUES}
    )


def _readout(layout: Sequence[Amplifier]) -> str:
    if not layout:
        return "one amplifier"
    return "the amplifiers " + ", ".join(f"{amp.name} {amp.section}" for amp in layout)


def _image_attrs(
    files: Files, table: pd.DataFrame, camera: Instrument, unit: str | None
) -> dict[str, object]:
    attrs: dict[str, object] = {"long_name": "pixel values"}
    fallback = ""
    if unit is not None:
        fallback = unit_word(unit, "unit")
    elif camera.unit is not None:
        fallback = unit_word(camera.unit, "instrument unit")
    words = [word or fallback for word in table["unit"]]
    known = [word for word in dict.fromkeys(words) if word]
    if len(known) > 1:
        odd = table["path"].iloc[words.index(known[1])]
        raise UnitError(
            f"frames have different units: {' and '.join(known)} (the first in {known[1]}: {odd}); "
            "open them apart"
        )
    if known:
        attrs["units"] = known[0]
    if all(source.bitpix > 0 for source in files.sources):
        attrs["quantum"] = max(abs(source.bscale) for source in files.sources)
    return attrs


def _common_section(table: pd.DataFrame) -> Section:
    places = list(zip(table["shape"], table["origin_y"], table["origin_x"], strict=True))
    counts = {place: places.count(place) for place in dict.fromkeys(places)}
    if len(counts) > 1:
        usual = max(counts, key=lambda place: counts[place])
        odd = next(i for i, place in enumerate(places) if place != usual)
        raise GeometryError(
            f"{table['path'].iloc[odd]} is {_window(places[odd])}, and {counts[usual]} other "
            f"frame{'s are' if counts[usual] > 1 else ' is'} {_window(usual)}: "
            "frames of one Dataset share shape and window; open them apart"
        )
    (ny, nx), y0, x0 = places[0]
    return Section(int(y0), int(y0) + ny, int(x0), int(x0) + nx)


def _window(place: tuple[tuple[int, int], int, int]) -> str:
    (ny, nx), y0, x0 = place
    return f"{ny} rows × {nx} columns" + (f" from row {y0}, column {x0}" if y0 or x0 else "")


def _identity(source: object) -> tuple[object, ...]:
    if isinstance(source, AssembledImage):
        pieces = ((_identity(p.source), p.rows, p.columns, p.flipped, p.top, p.left)
                  for p in source.pieces)  # fmt: skip
        return source.shape, *pieces
    return tuple(getattr(source, name) for name in source.__slots__)  # type: ignore[attr-defined]


def as_instrument(instrument: Instrument | str | None) -> Instrument:
    """What is known of a camera, from its name too."""
    if isinstance(instrument, str):
        return shipped_instrument(instrument)
    return instrument or Instrument()


def report_unreadable(found: Scan, paths: Paths) -> None:
    """Raise for a named file that gives nothing, and warn of what else is left out.

    Where all that is there are mosaics, one error says so.
    """
    files = given_files(paths) - {frame.source.path for frame in found.frames}
    mosaics = [] if found.frames else [b for b in found.unreadable if b.reason == _SEVERAL]
    for bad in found.unreadable:
        error = FrameError(bad.path, bad.reason, bad.message, bad.hdu)
        if bad.path in files:
            raise error
        if bad not in mosaics:
            warnings.warn(f"left out: {error}", DaskcalWarning, stacklevel=4)
    if mosaics:
        raise FrameError(
            said_paths(paths),
            _SEVERAL,
            f"holds files of several detectors ({len(mosaics)}), which open_mosaic opens; the "
            f"first is {mosaics[0].path}: {mosaics[0].message}",
        )


def said_paths(paths: Paths) -> str:
    """The paths that a user gave, as text."""
    return str(paths) if isinstance(paths, str | PathLike) else ", ".join(map(str, paths))


__all__ = ["DIMS", "frames_dataset", "open_frames"]
