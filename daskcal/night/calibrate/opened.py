"""The masters that a run may take: opened when a product asks for the first time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fspath

import xarray as xr

from daskcal.errors import OutputError
from daskcal.fits.urls import absolute
from daskcal.frames.master import open_master


class OpenedMasters(Mapping[str, xr.Dataset]):
    """Masters by name; science always uses what was written, re-opened and found intact."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, str]] = {}
        self._open: dict[str, xr.Dataset] = {}

    def add(self, name: str, path: str | PathLike[str], checksum: str) -> None:
        """A master is there to be taken: its file, and the SHA-256 that the file must have."""
        self._files[name] = fspath(path), checksum

    def files(self, names: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
        """Name, file and SHA-256 of some: what `add` takes elsewhere."""
        found = ((name, *self._files[name]) for name in names)
        return tuple((name, absolute(path), checksum) for name, path, checksum in found)

    def __getitem__(self, name: str) -> xr.Dataset:
        if name not in self._open:
            path, checksum = self._files[name]
            master = open_master(path).assign_attrs(file=name)
            if master.attrs["checksum"] != checksum:
                raise OutputError(
                    f"{path} is not what was written: its SHA-256 is {master.attrs['checksum']}, "
                    f"and {checksum} was expected; run again, which makes it anew"
                )
            self._open[name] = master
        return self._open[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
