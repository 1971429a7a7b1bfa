"""What lies near a product: the ledger of its night, its masters, its frames by content."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath

from daskcal.errors import ArgumentError, ConfigError, FrameError
from daskcal.fits import Frame, scan
from daskcal.fits.checksum import file_checksum
from daskcal.fits.product_header import read_history
from daskcal.fits.urls import absolute, folder_of, is_url
from daskcal.fits.whole import is_file
from daskcal.frames.assembled import assembled
from daskcal.frames.instrument import Instrument
from daskcal.frames.master import image_frame
from daskcal.masters.library_master import PREFIX
from daskcal.night.ledger import Ledger, ProductEntry, read_ledger
from daskcal.provenance import KEY, Origin, UsedFrame, UsedMaster


@dataclass(frozen=True, slots=True)
class Located:
    """A raw frame that went into a product: what it is now, or why it cannot be used."""

    used: UsedFrame
    frame: Frame | None = None
    trouble: str = ""


@dataclass(frozen=True)
class Near:
    """Where what a product needs may lie.

    Attributes
    ----------
    product, root : str
        The product, and the output folder of its night, or the folder that it was moved to.
    ledger : Ledger or None
        Of its night, where it lies there.
    raw, library : str or None
        Folders of raw frames, and of a library: as given, else as the ledger has them.
    """

    product: str
    root: str
    ledger: Ledger | None
    raw: str | None
    library: str | None

    @classmethod
    def of(
        cls,
        product: str | PathLike[str],
        origin: Origin,
        raw: str | PathLike[str] | None,
        library: str | PathLike[str] | None,
    ) -> Near:
        """What lies near `product`.

        Raises
        ------
        FrameError
            A folder that was given is none.
        """
        for folder in (raw, library):
            if folder is not None and not is_url(folder) and not Path(folder).is_dir():
                raise FrameError(os.fspath(folder), "missing", "is not a folder")
        path = absolute(product)
        moved = not path.endswith(f"/{origin.name}")
        root = folder_of(path) if moved else path.removesuffix(f"/{origin.name}")
        ledger = None
        with contextlib.suppress(ConfigError):
            ledger = read_ledger(f"{root}/night.json")
        return cls(
            path,
            root,
            ledger,
            _folder(raw, ledger.raw if ledger else ""),
            _folder(library, ledger.library if ledger else ""),
        )

    def entry(self, name: str, checksum: str) -> ProductEntry | None:
        """What the ledger says of a product, where it is the same file."""
        products = self.ledger.products if self.ledger else ()
        return next((p for p in products if p.name == name and p.checksum == checksum), None)

    def master(self, used: UsedMaster) -> tuple[str | None, str]:
        """The file of a master with the right checksum; else what was found instead."""
        others = []
        for path in (*self._places(used.name), *self._in_library(used.checksum)):
            if is_file(path):
                if file_checksum(path) == used.checksum:
                    return path, ""
                others.append(path)
        if others:
            return None, f"{', '.join(others)} is another one: its SHA-256 is not {used.checksum}"
        return None, "not found"

    def _places(self, name: str) -> Iterable[str]:
        if ".." in (parts := PurePosixPath(name).parts) or name.startswith("/"):
            return  # a header is not to be trusted
        if name.startswith(PREFIX) and self.library is not None:
            yield "/".join((self.library, *parts[1:]))
        yield f"{self.root}/{name}"
        yield f"{folder_of(self.root)}/{name}"
        yield f"{folder_of(self.product)}/{parts[-1]}"

    def _in_library(self, checksum: str) -> Iterable[str]:
        """The same master under another name: those of a library tell their content."""
        if self.library is not None and re.fullmatch("[0-9a-f]{64}", checksum):
            found = Path(self.library).glob(f"*/*-{checksum[:12]}.fits")
            yield from sorted(map(str, found))

    def recipe(self, used: UsedMaster) -> Origin | None:
        """What a master was made of that is not there: the ledger knows."""
        entry = self.entry(used.name, used.checksum)
        return Origin.of_lines([json.dumps(entry.origin)]) if entry and entry.origin else None

    def file(self, dotted: str, name: str, checksum: str) -> str:
        """A file that the config named, by its content.

        Raises
        ------
        ArgumentError
            It is not there.
        """
        beside, above, here = folder_of(self.product), folder_of(self.root), os.getcwd()
        folders = (beside, self.root, above, here, self.raw)
        places = [f"{folder}/{name}" for folder in folders if folder is not None]
        if self.ledger:
            places += _named_in(self.ledger.config, dotted)
        for place in places:
            if is_file(place) and file_checksum(place) == checksum:
                return absolute(place)
        raise ArgumentError(
            f"{self.product} was made with the file {name} ({dotted}), SHA-256 {checksum}, which "
            f"is not here: put it beside the product, or into {here}"
        )


def is_store(path: str | PathLike[str]) -> bool:
    """Whether a product is a Zarr store, and no file."""
    return os.fspath(path).endswith(".zarr") if is_url(path) else os.path.isdir(path)


def read_origins(path: str | PathLike[str]) -> list[Origin]:
    """What a product, or each frame of a store, was made of.

    Raises
    ------
    FrameError
        There is no such file, or it does not say.
    """
    if is_store(path):
        from daskcal.zarr import open_zarr

        stored = open_zarr(path)
        texts = stored["provenance"].values.tolist() if "provenance" in stored.coords else []
        found = [origin for text in texts if (origin := Origin.of_lines([text]))]
    else:
        image = image_frame(str(path))
        key = str(image.header.get(KEY, ""))
        origin = Origin.of_lines(read_history(image.cards), key)
        found = [origin] if origin else []
    if not found:
        raise FrameError(
            str(path),
            "unsupported",
            "does not say what it was made of: it is not a product of daskcal reduce, or one of an "
            "earlier version",
        )
    return found


def find_frames(frames: Sequence[UsedFrame], raw: str | None, camera: Instrument) -> list[Located]:
    """Frames as they were used: by name where they are the same, else by content under any name."""
    if raw is None:
        return [Located(used, trouble="not looked for: no folder of raw frames") for used in frames]
    paths = [os.path.join(raw, used.path) for used in frames]
    there = sorted({path for path in paths if is_file(path)})
    named = _scanned(there, camera)
    by_place = {(f.source.path, f.source.hdu): f for f in named}
    pairs = [(u, by_place.get((p, u.hdu))) for u, p in zip(frames, paths, strict=True)]
    if all(frame and frame.fingerprint == used.fingerprint for used, frame in pairs):
        return [Located(used, frame) for used, frame in pairs]
    by_content = {frame.fingerprint: frame for frame in _scanned([raw], camera)}
    return [_located(used, frame, by_content, raw) for used, frame in pairs]


def _located(
    used: UsedFrame, named: Frame | None, by_content: dict[str, Frame], raw: str
) -> Located:
    if named is not None and named.fingerprint == used.fingerprint:
        return Located(used, named)
    if (found := by_content.get(used.fingerprint)) is not None:
        return Located(used, found)
    if named is not None or is_file(os.path.join(raw, used.path)):
        return Located(used, trouble="changed: it is not what the product was made of")
    return Located(used, trouble=f"missing: no frame below {raw} has its content")


def _scanned(paths: list[str], camera: Instrument) -> tuple[Frame, ...]:
    found = scan(paths, hdu=camera.hdu, detectors=True) if paths else None
    return assembled(found, camera).frames if found else ()


def _folder(given: str | PathLike[str] | None, noted: str) -> str | None:
    if given is not None:
        return absolute(given)
    return noted if noted and (is_url(noted) or os.path.isdir(noted)) else None


def _named_in(config: str, dotted: str) -> list[str]:
    """Where the config in a ledger has a file."""
    from daskcal.night.reuse.origins import named_files

    with contextlib.suppress(ValueError):
        files = {where: table[key] for table, key, where in named_files(json.loads(config or "{}"))}
        return [str(files[dotted])] if dotted in files else []
    return []
