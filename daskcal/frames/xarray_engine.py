"""The xarray engine ``daskcal``: FITS files through xarray's own functions, by the same reader."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from daskcal.errors import ArgumentError, FrameError
from daskcal.fits.content import claims_fits, kind
from daskcal.fits.open_file import open_regular
from daskcal.fits.urls import is_url
from daskcal.frames.instrument import Instrument
from daskcal.frames.mosaic import open_mosaic
from daskcal.frames.open import open_frames


class DaskcalEntrypoint(BackendEntrypoint):
    """``xr.open_dataset`` is `daskcal.open_frames` of one file, ``xr.open_datatree`` `open_mosaic`.

    What they give is lazy whatever ``chunks`` says, and daskcal's functions choose their own
    layout. With ``chunks`` xarray makes Dask arrays of the coordinates along ``frame`` too.
    """

    description = "FITS frames of CCD detectors, read by daskcal"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "unit", "hdu", "instrument")
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it is the path of a file that says that it is FITS, by content or by name."""
        if not isinstance(filename_or_obj, str | PathLike):
            return False
        path = os.fspath(filename_or_obj)
        if is_url(path):  # which is not asked: it may be meant for another engine
            return claims_fits(path)
        try:
            handle, _ = open_regular(path)
        except (FrameError, OSError):
            return claims_fits(path)
        start = os.pread(handle, 16, 0)
        os.close(handle)
        return kind(start) == "fits" or claims_fits(path)

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        unit: str | None = None,
        hdu: int | str | None = None,
        instrument: Instrument | str | None = None,
    ) -> xr.Dataset:
        """The one frame of a file, as `daskcal.open_frames` gives it."""
        path = _one_file(filename_or_obj)
        return _ready(open_frames(path, unit=unit, hdu=hdu, instrument=instrument), drop_variables)

    def open_datatree(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        unit: str | None = None,
        instrument: Instrument | str | None = None,
    ) -> xr.DataTree:
        """A node for each detector of a file, as `daskcal.open_mosaic` gives it."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, unit=unit, instrument=instrument
        )
        return xr.DataTree.from_dict(groups)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        unit: str | None = None,
        instrument: Instrument | str | None = None,
    ) -> dict[str, xr.Dataset]:
        """The detectors of a file by the paths of their nodes."""
        tree = open_mosaic(_one_file(filename_or_obj), unit=unit, instrument=instrument)
        nodes = tree.children.items()
        return {f"/{name}": _ready(node.to_dataset(), drop_variables) for name, node in nodes}


def _one_file(given: Any) -> str:
    if not isinstance(given, str | PathLike):
        raise ArgumentError(
            f"engine='daskcal' opens a FITS file by its path, found {type(given).__name__}"
        )
    path = os.fspath(given)
    if os.path.isdir(path):
        raise ArgumentError(
            f"{path} is a folder, and engine='daskcal' opens one file; daskcal.open_frames opens "
            "folders"
        )
    return path


def _ready(frames: xr.Dataset, drop_variables: str | Iterable[str] | None) -> xr.Dataset:
    """Without what the user does not want, and with text that Dask can cut by its size."""
    dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
    kept = frames.drop_vars(dropped, errors="ignore")
    text = {name: c.astype(str) for name, c in kept.coords.items() if c.dtype == object}
    return kept.assign_coords(text)
