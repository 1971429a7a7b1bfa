"""Write a FITS file behind a URL: made here by one task, checked, then sent whole.

Stores of objects know neither writing at a place nor renaming. An object appears when all of it is
there, and the one that stood under its name before stays until then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from daskcal.errors import OutputError
from daskcal.fits.checksum import file_checksum
from daskcal.fits.content import spool_folder
from daskcal.fits.layout import Plane, Written
from daskcal.fits.remote import filesystem, is_there, sent
from daskcal.fits.write import fits_sink
from daskcal.temporaries import give_up


@dataclass(frozen=True, slots=True)
class _Job:
    """One object to be: what its task needs beside the pixels."""

    url: str
    heads: tuple[tuple[str, str], ...]  # name and cards of each plane
    overwrite: bool
    compress: str


def uploaded_sink(
    url: str,
    planes: Sequence[Plane],
    *,
    overwrite: bool,
    compress: str,
    after: Sequence[Delayed],
) -> da.Array:
    """A lazy FITS file behind a URL; see `daskcal.fits.write.fits_sink`.

    Planes are in the same bands of rows. All of them come to one task, which holds the whole file.
    """
    refuse_existing(url, overwrite)
    job = _Job(url, tuple((plane.name, plane.cards) for plane in planes), overwrite, compress)
    axes = [("fyx" if plane.data.ndim == 3 else "yx") for plane in planes]
    return da.blockwise(
        _upload,
        "",
        delayed(_ready, pure=False)(job, *after),
        None,
        *(item for plane, word in zip(planes, axes, strict=True) for item in (plane.data, word)),
        concatenate=False,
        dtype=object,
        meta=np.empty((), object),
        token="fits-upload",
    )


def refuse_existing(url: str, overwrite: bool) -> None:
    """Refuse to write where something stands that is not to be replaced.

    Raises
    ------
    OutputError
        Something stands there, or the store cannot be asked.
    """
    if not overwrite and is_there(url):
        raise OutputError(f"{url} exists; pass overwrite=True to replace it")


def _ready(job: _Job, *_: Written) -> _Job:
    """The job, once the files before it are finished."""
    return job


def _upload(job: _Job, *planes: object) -> Written:
    """Write the file to scratch space, which checks it, and send it."""

    def write(copy: Path) -> Written:
        sink = fits_sink(copy, list(_planes(job, planes)), compress=job.compress)
        made: Written = sink.compute(scheduler="synchronous")
        return made

    return uploaded(job.url, write, overwrite=job.overwrite)


def uploaded(url: str, write: Callable[[Path], Written], *, overwrite: bool) -> Written:
    """What `write` puts into a file of scratch space, sent to a URL when it is whole.

    Raises
    ------
    OutputError
        It cannot be written or sent, or something stands there that is not to be replaced.
    """
    copy = spool_folder() / f"product-{secrets.token_hex(8)}.fits"
    try:
        made = write(copy).hashed()  # the store's copy would have to be fetched for it
        if not overwrite and is_there(url):
            if file_checksum(url) != made.checksum:  # else this task ran before
                raise OutputError(f"{url} was made by someone else meanwhile; it is left")
        else:
            send(copy, url)
        return replace(made, path=url)
    except BaseException:
        give_up(copy)
        raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(copy)


def _planes(job: _Job, planes: Sequence[object]) -> Iterator[Plane]:
    for (name, cards), nested in zip(job.heads, planes, strict=True):
        bands = [da.from_array(np.atleast_2d(band), chunks=-1) for band in _leaves(nested)]
        yield Plane(name, cards, da.concatenate(bands, axis=-2))


def _leaves(nested: object) -> Iterator[np.ndarray]:
    if isinstance(nested, list):
        for item in nested:
            yield from _leaves(item)
    else:
        yield np.asarray(nested)


def send(path: Path, url: str) -> None:
    """Put a file behind a URL: all of it, or nothing.

    Raises
    ------
    OutputError
        The store refuses it, or has less of it afterwards.
    """
    store, key = filesystem(url)
    sent(url, lambda: store.put_file(str(path), key))
    size = sent(url, lambda: store.info(key))["size"]
    if size != path.stat().st_size:
        raise OutputError(f"{url}: {size} of {path.stat().st_size} bytes arrived; write it again")
