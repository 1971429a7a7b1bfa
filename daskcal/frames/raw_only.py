"""Products among the files of a folder: an earlier result is no frame of the stack it came from."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from os import PathLike

from daskcal.errors import ProductWarning
from daskcal.fits import Frame, Scan, is_combined, is_product
from daskcal.fits.files import Paths
from daskcal.fits.urls import absolute, common_folder, inside
from daskcal.printable import few, one_line

_KINDS = ("raw", "calibrated", "combined")  # what was made of what: those before it


def kind_of(frame: Frame) -> str:
    """``"raw"``, ``"calibrated"`` (a product of one frame) or ``"combined"``."""
    if is_combined(frame.header):
        return "combined"
    return "calibrated" if is_product(frame.header) else "raw"


def given_files(paths: Paths) -> set[str]:
    """The absolute paths of what was named; folders and globs among them are no files."""
    return {absolute(p) for p in ([paths] if isinstance(paths, str | PathLike) else paths)}


def without_products(found: Scan, paths: Paths) -> Scan:
    """What was found for `paths`, without what was made of frames that are there too.

    Of folders and globs raw frames stay where there are any, else calibrated ones, else combined
    ones. Files that were named stay. A `ProductWarning` tells what is left out, and what stays
    beside frames of another kind.
    """
    kinds = [kind_of(frame) for frame in found.frames]
    mosaics = any(bad.reason == "several-detectors" for bad in found.unreadable)
    there = {*kinds, *(("raw",) if mosaics else ())}
    if len(there) < 2:
        return found
    first = next(kind for kind in _KINDS if kind in there)
    named = given_files(paths)
    base = common_folder(frame.source.path for frame in found.frames)
    others = [f for f, kind in zip(found.frames, kinds, strict=True) if kind != first]
    left = [frame for frame in others if frame.source.path not in named]
    taken = [frame for frame in others if frame.source.path in named]
    if left:
        warnings.warn(
            f"left out, as no {first} frames: {said_products(left, base)}; open_master opens one, "
            "and files that are named one by one are taken",
            ProductWarning,
            stacklevel=4,
        )
    if taken and kinds.count(first):
        warnings.warn(
            f"taken together with {first} frames, as named one by one: "
            f"{said_products(taken, base)}",
            ProductWarning,
            stacklevel=4,
        )
    out = {id(frame) for frame in left}
    return dataclasses.replace(found, frames=tuple(f for f in found.frames if id(f) not in out))


def said_products(products: Sequence[Frame], folder: str) -> str:
    """Such as "2 products of daskcal (m.fits, n.fits)": who made them, how many, which."""
    ours: dict[str, None] = {}
    others: dict[str, None] = {}
    for frame in products:
        path = frame.source.path
        name = one_line(inside(path, folder) or path)
        (ours if "DASKCAL" in frame.header else others)[name] = None
    said = []
    if ours:
        what = "product" if len(ours) == 1 else "products"
        said.append(f"{len(ours)} {what} of daskcal ({few(list(ours))})")
    if others:
        what = "file is" if len(others) == 1 else "files are"
        said.append(f"{len(others)} {what} COMBINED by other software ({few(list(others))})")
    return " and ".join(said)
