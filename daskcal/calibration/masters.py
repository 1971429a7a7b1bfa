"""A master as a step sees it: planes laid over the frames by detector coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from daskcal.errors import ArgumentError, CalibrationError, GeometryError, UnitError
from daskcal.frames.block import PLANES
from daskcal.frames.blocks import Stack, describe_input
from daskcal.frames.detector import RawWindow, laid_over, place, require_cover
from daskcal.frames.masks import Flag
from daskcal.frames.recipe import Input
from daskcal.frames.sections import Section
from daskcal.frames.steps import MasterId, StepRecord, last_step, steps_of


@dataclass(frozen=True, eq=False)
class Master:
    """Planes of a master as Dask arrays (y, x), and what is known of it."""

    what: str
    section: Section
    planes: dict[str, da.Array]
    identity: MasterId
    unit: str
    steps: list[StepRecord] | None
    coords: dict[str, xr.DataArray] = field(default_factory=dict)
    raw: RawWindow | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The planes that it has, in the usual order."""
        return tuple(plane for plane in PLANES if plane in self.planes)

    def did(self, step: str) -> StepRecord | None:
        """The record of a step that was done to it."""
        return next((r for r in reversed(self.steps or []) if r.step == step), None)

    def inputs(self, names: tuple[str, ...]) -> tuple[list[Input], list[da.Array]]:
        """References to some of its planes for a step, and the arrays."""
        arrays = [self.planes[name] for name in names]
        return [describe_input(a, "yx", self.section.y0, self.section.x0) for a in arrays], arrays

    def number(self, name: str) -> float:
        """One of its facts as a number, NaN where it is not known."""
        value = self.facts.get(name)
        return float(value) if value is not None else float("nan")


def as_master(master: Any, what: str) -> Master:
    """Make a `Master` of a Dataset (y, x), a CCDData or the path of a FITS file.

    Parameters
    ----------
    master : xarray.Dataset, CCDData, str or path
        The master.
    what : str
        What it is, for messages: ``master bias``.

    Raises
    ------
    ArgumentError
        It is none of those.
    GeometryError
        Its coordinates are not consecutive detector pixels, or only one axis has them.
    """
    dataset = _dataset(master, what)
    dims = dataset["image"].dims
    if set(dims) != {"y", "x"}:
        hint = "; combine the frames first" if "frame" in dims else ""
        raise ArgumentError(f"the {what} should be an image (y, x), found dimensions {dims}{hint}")
    dataset = dataset.transpose("y", "x", ...)
    planes = {name: _dask(dataset[name].data) for name in PLANES if name in dataset}
    if "mask" in planes:
        planes["mask"] = planes["mask"].astype(np.uint16)  # also true and false
    attrs = dataset.attrs
    identity = MasterId(
        str(attrs.get("file") or attrs.get("imagetyp") or what),
        str(attrs.get("checksum") or planes["image"].name),
    )
    return Master(
        what,
        _section(dataset, what),
        planes,
        identity,
        str(dataset["image"].attrs.get("units", "")),
        steps_of(dataset),
        {axis: dataset[axis] for axis in ("y", "x") if axis in dataset.coords},
        place(dataset),
        dict(attrs),
    )


def require_alike(frames: xr.Dataset, master: Master, step: str, what: str, action: str) -> None:
    """Raise `CalibrationError` where a step was done to the frames and not to the master, or not.

    Of a master that was made elsewhere nothing is known.
    """
    if master.steps is None:
        return
    done = last_step(frames, step) is not None
    if done != (master.did(step) is not None):
        pair = ("the frames", f"the {master.what.removeprefix('master ')}")
        has, lacks = pair if done else pair[::-1]
        raise CalibrationError(
            f"{action}: {has} had the {what} subtracted and {lacks} had not; treat both alike"
        )


def fitted(master: Master, stack: Stack, frames: xr.Dataset, unit: str = "") -> Master:
    """A master laid over the frames; raises where it does not cover them, or has another `unit`.

    One whose coordinates nobody said, of the shape of the frames, lies on them.
    """
    if not stack.aligned:
        raise GeometryError(
            f"the {master.what} cannot be laid over frames whose rows or columns are not "
            "consecutive detector pixels; select without a step"
        )
    what = f"the {master.what} ({master.identity.file})"
    here = stack.section
    section = laid_over(master.section, master.raw, place(frames), here, what)
    master = replace(master, section=section)
    require_cover(master.section, here, what)
    if master.unit and unit and master.unit != unit:
        raise UnitError(
            f"the {master.what} is in {master.unit} and the frames are in {unit}; "
            "apply gain_correct to both or to neither"
        )
    return master


def defined(planes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """A band of a master with NaN where it has no value, and its mask with bits for those.

    Without a mask, and none for an image that has values everywhere.
    """
    image = planes["image"]
    mask = planes.get("mask")
    finite = np.isfinite(image)
    lacking = np.flatnonzero(~finite)
    if not lacking.size:
        return image, mask
    if mask is not None and mask.ravel()[lacking].all() and np.isnan(image.ravel()[lacking]).all():
        return image, mask  # as masters of daskcal's own are: spares copies
    if mask is None:
        mask = np.zeros(image.shape, np.uint16)
    bits = np.where(finite | (mask != 0), mask, Flag.NO_DATA)
    return np.where(finite, image, np.nan), bits


def _dataset(master: Any, what: str) -> xr.Dataset:
    if isinstance(master, xr.Dataset) and "image" in master:
        return master
    if isinstance(master, str | PathLike):
        from daskcal.frames.master import open_master

        return open_master(fspath(master))
    if any(kind.__name__ == "CCDData" for kind in type(master).__mro__):
        from daskcal.frames.ccddata import master_of_ccddata

        return master_of_ccddata(master)
    raise ArgumentError(
        f"the {what} should be a Dataset with image (y, x), a CCDData or a path; "
        f"found {type(master).__name__}"
    )


def _dask(data: Any) -> da.Array:
    return data if isinstance(data, da.Array) else da.from_array(np.asarray(data), chunks=(256, -1))


def _section(dataset: xr.Dataset, what: str) -> Section:
    lacking = [axis for axis in ("y", "x") if axis not in dataset.indexes]
    if len(lacking) == 1:
        raise GeometryError(f"the {what} has no {lacking[0]} coordinates; give it both, or none")
    bounds = []
    for axis in ("y", "x"):
        size = dataset.sizes[axis]
        labels = dataset.indexes.get(axis)
        first = 0 if labels is None else int(labels[0])
        if labels is not None and not np.array_equal(labels, np.arange(first, first + size)):
            raise GeometryError(f"the {what} has {axis} coordinates that are not consecutive")
        bounds.append((first, first + size))
    return Section(*bounds[0], *bounds[1])
