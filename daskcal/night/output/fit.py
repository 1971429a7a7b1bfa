"""The output: found fit to be written, with no raw frame in the way, before work begins."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from daskcal.errors import ArgumentError, FrameError, OutputError, UnfitOutputError
from daskcal.fits import Frame, is_product, scan
from daskcal.fits.urls import absolute, is_url, real
from daskcal.fits.whole import read_whole

if TYPE_CHECKING:
    from daskcal.night.output.place import Place


def check_output(folder: Path, raw: Path | str) -> None:
    """Refuse a folder that holds the raw frames or cannot be written; nothing is made yet.

    Raises
    ------
    ArgumentError
        It is the folder of the raw frames.
    OutputError
        A file is in the way, or it must not be written.
    """
    if isinstance(raw, Path) and folder.exists() and os.path.samefile(folder, raw):
        raise ArgumentError(f"{folder} holds the raw frames; give another folder for the products")
    for path in (folder, *(folder / part for part in ("masters", "science", "report"))):
        _require_writable(path)


def _require_writable(path: Path) -> None:
    here = path.absolute()
    while not os.path.lexists(here):
        here = here.parent
    if not here.is_dir():
        raise UnfitOutputError(
            f"{path} cannot be made: {here} is not a folder; give another folder"
        )
    if not os.access(here, os.W_OK | os.X_OK):
        raise OutputError(f"{here} is not writable; give another folder, or make it writable")


def check_targets(
    place: Place, products: Iterable[str], raw: Iterable[str], known: Container[str] = ()
) -> None:
    """Refuse to replace what daskcal has not made, above all a raw frame.

    Parameters
    ----------
    place : Place
        The output.
    products : iterable of str
        Names of the products below it.
    raw : iterable of str
        Paths of the raw frames.
    known : container of str
        Names of products that a ledger knows: where such a file is damaged, it is daskcal's.
    """
    sizes = place.sizes(products)
    if not sizes:
        return
    frames = {real(path) for path in raw}
    for name in sizes:
        if real(place.at(name)) in frames:
            raise ArgumentError(
                f"{place.at(name)} is one of the frames to read, and a product would have its name;"
                " give another place for the products"
            )
    found, damaged = headers_of(place, sizes)
    ours = {name for name, frame in found.items() if is_product(frame.header)}
    ours |= {name for name in damaged if name in known}
    for name in sizes:
        if name not in ours and not _is_store(place.at(name), name in known):
            raise OutputError(
                f"{place.at(name)} was not made by daskcal and is not replaced; move it away, or "
                "give another folder for the products"
            )


def headers_of(place: Place, sizes: Mapping[str, int]) -> tuple[dict[str, Frame], set[str]]:
    """The frames of those files of a place whose sizes are known, and names that give none."""
    names = {absolute(place.at(name)): name for name, size in sizes.items() if size >= 0}
    if not names:
        return {}, set()
    found = scan(place.holders(list(names.values())))
    frames = {names[f.source.path]: f for f in found.frames if f.source.path in names}
    return frames, {names[f.path] for f in found.unreadable if f.path in names}


def _is_store(path: str, known: bool) -> bool:
    """Whether it is a store of daskcal's, or one behind a URL that was not finished.

    Of one that a ledger knows the rest will do, where its first file is lost.
    """
    from daskcal.zarr_files import is_hidden, is_rest

    with contextlib.suppress(OSError, ValueError, FrameError):
        group = json.loads(read_whole(f"{path}/zarr.json"))
        return "daskcal" in group.get("attributes", {})
    if is_url(path) and is_hidden(path):
        return True
    return known and path.endswith(".zarr") and is_rest(path)


def make_folders(folder: Path, parts: Iterable[str]) -> None:
    """Make the folders for products.

    Raises
    ------
    OutputError
        One of them cannot be made.
    """
    for part in ("", *parts):
        try:
            (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder / part} cannot be made: {error.strerror}; give another folder"
            ) from error
