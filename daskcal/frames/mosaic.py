"""Mosaics: files of several detectors become a tree with one Dataset of frames for each."""

from __future__ import annotations

from os import PathLike

import numpy as np
import xarray as xr

from daskcal.errors import FrameError
from daskcal.fits import scan
from daskcal.frames.assembled import assembled
from daskcal.frames.card_problems import warn_of_cards
from daskcal.frames.detector_names import distinct_names
from daskcal.frames.instrument import Instrument
from daskcal.frames.open import (
    Paths,
    as_instrument,
    frames_dataset,
    report_unreadable,
    said_paths,
)
from daskcal.frames.raw_only import without_products
from daskcal.frames.table import frame_table
from daskcal.strict import strict_keywords


@strict_keywords
def open_mosaic(
    paths: Paths,
    *,
    unit: str | None = None,
    instrument: Instrument | str | None = None,
) -> xr.DataTree:
    """Open FITS files of several detectors, lazily: a node for each detector.

    Parameters
    ----------
    paths : path, glob, folder or iterable of them
        As in `open_frames`. Each file gives its images of one shape, or, where their headers say
        that they are amplifiers of detectors, those assembled.
    unit : {"adu", "electron"}, optional
        Unit of the pixels where BUNIT does not say.
    instrument : Instrument or str, optional
        What is known of the camera beside its headers.

    Returns
    -------
    xarray.DataTree
        A child for each detector, in the order of the files' HDUs, each with the Dataset that
        `open_frames` gives: the exposures of the detector along ``frame``. Names are those of the
        coordinate ``detector`` (EXTNAME, DETECTOR, CCDNAME, ... whichever tells the detectors of
        every file apart, else ``hdu<number>``), safe as file names and distinct.

    Raises
    ------
    FrameError
        A file is missing, or one that was named gives no frame. A damaged extension costs that
        detector of that exposure: it is left out with a `DaskcalWarning`.
    GeometryError
        Frames of one detector have different shapes or windows: open them apart.
    UnitError
        `unit` is unknown, or frames of one detector have different units.

    Examples
    --------
    >>> mosaic = daskcal.open_mosaic("mosaic")
    >>> list(mosaic.children)
    ['CCD1', 'CCD2', 'CCD3', 'CCD4']
    >>> frames = mosaic["CCD2"].to_dataset()
    """
    camera = as_instrument(instrument)
    paths = paths if isinstance(paths, str | PathLike) else list(paths)
    found = assembled(scan(paths, detectors=True), camera)
    found = without_products(found, paths)
    report_unreadable(found, paths)
    if not found.frames:
        raise FrameError(
            said_paths(paths), "no-image", "holds no FITS image; `daskcal ls` lists a folder"
        )
    table = frame_table(found.frames, camera.keywords)
    warn_of_cards(found.frames, table, camera)
    words = table["detector"].to_numpy()
    order = np.argsort(table["hdu"].to_numpy(), kind="stable")
    children = {}
    for word, name in distinct_names(words[order]).items():
        chosen = np.flatnonzero(words == word)
        frames = [found.frames[i] for i in chosen]
        children[name] = frames_dataset(frames, table.iloc[chosen], camera, unit=unit)
    return xr.DataTree.from_dict(children)
