"""Looks at the products of a night: those of the page before are kept where nothing changed."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count

from pydantic import TypeAdapter, ValidationError

from daskcal.errors import DaskcalError, FrameError
from daskcal.fits.checksum import file_checksum
from daskcal.fits.whole import at_hand, read_whole
from daskcal.night.ledger import ProductEntry
from daskcal.night.output.place import Place
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


def see(
    place: Place, products: Sequence[ProductEntry], longest: int, looks: Mapping[str, Look]
) -> list[Seen]:
    """Look at products, several at a time.

    A product of which the page in ``report/`` has a picture is not read again, unless it changed.

    Parameters
    ----------
    place : Place
        The output.
    products : sequence of ProductEntry
        Those that were made.
    longest : int
        Side of their pictures.
    looks : mapping of str to Look
        By name, those of products that were looked at as they were made.
    """
    eyes = _Eyes(place, longest, _earlier(place), _changed(place, "night.json"), looks)
    with ThreadPoolExecutor(min(8, cpu_count() or 1), "daskcal-report") as pool:
        return list(pool.map(eyes.see, products))


@dataclass(frozen=True)
class _Eyes:
    """How products are looked at: where, how large, and what is known already."""

    place: Place
    longest: int
    earlier: tuple[int, Mapping[str, Look]]
    ledger: int  # when it was written, nanoseconds
    looks: Mapping[str, Look]

    def see(self, product: ProductEntry) -> Seen:
        """One product; one that cannot be shown costs its picture, never the page."""
        path, key = self.place.at(product.name), self._key(product)
        page, known = self.earlier
        try:
            store = product.name.endswith(".zarr")
            size, written = self.place.changed(product.name + ("/zarr.json" if store else ""))
            if not store and (trouble := self._trouble(path, product, size, written)):
                return Seen(None, trouble)
            kept = known.get(key) if written < page else None
            look = kept or self.looks.get(product.name) or self._look(path)
        except FileNotFoundError:
            return Seen(None, "it is not there any more: removed or renamed since it was made")
        except (DaskcalError, OSError, ValueError) as error:
            return Seen(None, str(error))
        return Seen(look, memory=_remembered(key, look) if key else "")

    def _look(self, path: str) -> Look:
        if path.endswith(".zarr"):
            return look_at(path, self.longest)
        with at_hand(path) as here:
            return look_at(here, self.longest)

    def _trouble(self, path: str, product: ProductEntry, size: int, written: int) -> str:
        """How a file differs from what the ledger says; "" where it does not."""
        if not product.size:
            return ""
        if size != product.size:
            return (
                f"it is {size} bytes, and was {product.size} when it was made: damaged "
                "or replaced since"
            )
        touched = self.ledger and written > self.ledger
        if touched and product.checksum and file_checksum(path) != product.checksum:
            return "its content is not what was made: damaged or replaced since"
        return ""

    def _key(self, product: ProductEntry) -> str:
        """Of a picture: which content it shows, and how large."""
        if not product.checksum:
            return ""
        told = f"{_FORM} {product.name} {product.checksum} {self.longest}"
        return hashlib.sha256(told.encode("utf-8", "backslashreplace")).hexdigest()[:24]


def _changed(place: Place, name: str) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    with contextlib.suppress(OSError, FrameError):
        return place.changed(name)[1]
    return 0


def _earlier(place: Place) -> tuple[int, dict[str, Look]]:
    """When the page before was written, and the looks that it remembers, by key."""
    page = "report/index.html"
    try:
        text, written = read_whole(place.at(page)).decode("utf-8"), _changed(place, page)
    except (OSError, ValueError, FrameError):
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
