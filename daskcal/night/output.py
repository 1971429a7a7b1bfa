"""The output folder: found fit to be written, with no raw frame in the way, before work begins."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterable
from pathlib import Path

from daskcal.errors import ArgumentError, OutputError
from daskcal.fits import is_product, scan
from daskcal.fits.urls import is_url, local


def require_here(path: str | os.PathLike[str]) -> Path:
    """A path for output, which lies on this machine.

    Raises
    ------
    ArgumentError
        It is a URL.
    """
    if is_url(path):
        raise ArgumentError(
            f"{path} is a URL, and what is made goes to a folder of this machine; copy it, "
            "or write single products with daskcal.to_fits and daskcal.to_zarr, which take URLs"
        )
    return Path(local(os.fspath(path)))


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
        raise OutputError(f"{path} cannot be made: {here} is not a folder; give another folder")
    if not os.access(here, os.W_OK | os.X_OK):
        raise OutputError(f"{here} is not writable; give another folder, or make it writable")


def check_targets(
    folder: Path, products: Iterable[str], raw: Iterable[str], known: Container[str] = ()
) -> None:
    """Refuse to replace what daskcal has not made, above all a raw frame.

    Parameters
    ----------
    folder : Path
        The output folder.
    products : iterable of str
        Names of the products below it.
    raw : iterable of str
        Paths of the raw frames.
    known : container of str
        Names of products that a ledger knows: where such a file is damaged, it is daskcal's.
    """
    targets = [folder / name for name in products if os.path.lexists(folder / name)]
    if not targets:
        return
    frames = {os.path.realpath(path) for path in raw}
    for target in targets:
        if os.path.realpath(target) in frames:
            raise ArgumentError(
                f"{target} is a raw frame, and a product would have its name; give another folder "
                "for the products"
            )
    found = scan(_files(targets))
    ours = {f.source.path for f in found.frames if is_product(f.header)}
    damaged = {f.path for f in found.unreadable}
    ours |= {p for p in damaged if os.path.relpath(p, folder) in known}
    for target in targets:
        if os.path.abspath(target) not in ours and not _is_store(target):
            raise OutputError(
                f"{target} was not made by daskcal and is not replaced; move it away, or give "
                "another folder for the products"
            )


def _files(paths: list[Path]) -> list[Path]:
    return [path for path in paths if path.is_file()]


def _is_store(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        group = json.loads((path / "zarr.json").read_text("utf-8"))
        return "daskcal" in group.get("attributes", {})
    return False


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
