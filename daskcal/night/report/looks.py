"""Looks at the products of a night: those of the page before are kept where nothing changed."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count, stat_result
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from daskcal.errors import DaskcalError
from daskcal.fits.checksum import file_checksum
from daskcal.night.ledger import ProductEntry
from daskcal.night.report.pixels import Look, look_at

_FORM = 1  # of what the page remembers; another one is not read
_REMEMBERED = re.compile(
    r'<img src="(data:image/(?:jpeg|png);base64,[A-Za-z0-9+/=]+)" data-look="([^"]*)"'
)
_LOOK = TypeAdapter(Look)
_FIELDS = [field.name for field in dataclasses.fields(Look)]  # the picture first


@dataclass(frozen=True, slots=True)
class Seen:
    """A product as it is on disk: a look at it, or why there is none."""

    look: Look | None
    trouble: str = ""
    memory: str = ""  # for the next page


def see(folder: Path, products: Sequence[ProductEntry], longest: int) -> list[Seen]:
    """Look at products, several at a time.

    A product of which the page in ``report/`` has a picture is not read again, unless it changed.

    Parameters
    ----------
    folder : Path
        The output folder.
    products : sequence of ProductEntry
        Those that were made.
    longest : int
        Side of their pictures.
    """
    eyes = _Eyes(folder, longest, _earlier(folder), _changed(folder / "night.json"))
    with ThreadPoolExecutor(min(8, cpu_count() or 1), "daskcal-report") as pool:
        return list(pool.map(eyes.see, products))


@dataclass(frozen=True)
class _Eyes:
    """How products are looked at: where, how large, and what is known already."""

    folder: Path
    longest: int
    earlier: tuple[int, Mapping[str, Look]]
    ledger: int  # when it was written, nanoseconds

    def see(self, product: ProductEntry) -> Seen:
        """One product; one that cannot be shown costs its picture, never the page."""
        path, key = self.folder / product.name, self._key(product)
        page, known = self.earlier
        try:
            status = (path / "zarr.json" if path.suffix == ".zarr" else path).stat()
            if trouble := self._trouble(path, product, status):
                return Seen(None, trouble)
            kept = known.get(key) if status.st_mtime_ns < page else None
            look = kept or look_at(path, self.longest)
        except FileNotFoundError:
            return Seen(None, "it is not there any more: removed or renamed since it was made")
        except (DaskcalError, OSError, ValueError) as error:
            return Seen(None, str(error))
        return Seen(look, memory=_remembered(key, look) if key else "")

    def _trouble(self, path: Path, product: ProductEntry, status: stat_result) -> str:
        """How a file differs from what the ledger says; "" where it does not."""
        if path.suffix == ".zarr" or not product.size:
            return ""
        if status.st_size != product.size:
            return (
                f"it is {status.st_size} bytes, and was {product.size} when it was made: damaged "
                "or replaced since"
            )
        touched = self.ledger and status.st_mtime_ns > self.ledger
        if touched and product.checksum and file_checksum(str(path)) != product.checksum:
            return "its content is not what was made: damaged or replaced since"
        return ""

    def _key(self, product: ProductEntry) -> str:
        """Of a picture: which content it shows, and how large."""
        if not product.checksum:
            return ""
        told = f"{_FORM} {product.name} {product.checksum} {self.longest}"
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()[:24]


def _changed(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _earlier(folder: Path) -> tuple[int, dict[str, Look]]:
    """When the page before was written, and the looks that it remembers, by key."""
    page = folder / "report" / "index.html"
    try:
        text, written = page.read_text("utf-8"), _changed(page)
    except (OSError, ValueError):
        return 0, {}
    looks = {}
    for picture, memory in _REMEMBERED.findall(text):
        try:
            key, *values = json.loads(html.unescape(memory))
            told = dict(zip(_FIELDS, [picture, *values], strict=True))
            looks[str(key)] = _LOOK.validate_python(told)
        except (ValueError, TypeError, ValidationError):
            continue  # somebody's edit: the product is looked at again
    return written, looks


def _remembered(key: str, look: Look) -> str:
    """A look as text, without its picture, which stands beside it in the page."""
    known = _LOOK.dump_python(look, mode="json")
    values = [known[name] for name in _FIELDS[1:]]
    return json.dumps([key, *values], separators=(",", ":"), ensure_ascii=False)
