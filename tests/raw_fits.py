"""Small raw frames on disk, a count of the bytes read of them, and a guard against computing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from astropy.io import fits

from daskcal.fits import source as pixel_reader

CARDS = {"IMAGETYP": "object", "EXPTIME": 60.0, "FILTER": "V", "GAIN": 1.5, "RDNOISE": 5.0,
         "BUNIT": "adu"}  # fmt: skip


def write_frames(folder: Path, images: Sequence[np.ndarray], **cards: Any) -> list[Path]:
    """A file for each image; a card given as a list has one value for each, None leaves it out."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i, image in enumerate(images):
        hdu = fits.PrimaryHDU(image)
        for key, value in {**CARDS, **cards}.items():
            value = value[i] if isinstance(value, list) else value
            if value is not None:
                hdu.header[key] = value
        paths.append(folder / f"f{i}.fits")
        hdu.writeto(paths[-1])
    return paths


class Reads:
    """What was read of plain pixels: bytes, and how often each file was turned to."""

    def __init__(self) -> None:
        self.bytes, self.files = 0, []


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Count what the one function that reads plain pixels reads."""
    reads, fill = Reads(), pixel_reader.fill

    def counting(source: Any, handle: int, target: np.ndarray, offset: int) -> None:
        reads.bytes += target.nbytes
        reads.files.append(Path(source.path).name)
        fill(source, handle, target, offset)

    with monkeypatch.context() as patch:
        patch.setattr(pixel_reader, "fill", counting)
        yield reads


@contextmanager
def no_computing() -> Iterator[None]:
    """Nothing may be computed in here, by whatever way."""

    def refuse(graph: Any, keys: Any, **options: Any) -> Any:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield


def written_over(path: Path, key: str, card: str) -> Path:
    """Put `card`, which may be anything, in place of the card of `key` in a file."""
    content = bytearray(path.read_bytes())
    at = content.find(f"{key:<8}=".encode())
    assert at > 0
    assert at % 80 == 0
    content[at : at + 80] = card.ljust(80).encode("latin-1")
    path.write_bytes(content)
    return path
