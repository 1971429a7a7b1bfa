"""The report's page: all that it says, put together and written."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from daskcal.fits.whole import write_whole
from daskcal.night.ledger import VERDICTS, AnyPath, Choice, FrameEntry, Ledger, ProductEntry
from daskcal.night.output.place import Place, place_of
from daskcal.night.report import gates, words
from daskcal.night.report.book import Book
from daskcal.night.report.cards import Card, Shared, cards, link
from daskcal.night.report.looks import see
from daskcal.night.report.pixels import Look
from daskcal.night.report.strip import night_strip
from daskcal.printable import printable

PICTURE_SIZE = 480  # longest side
SMALLEST_PICTURE = 48
PIXELS_SHOWN = 14_000_000  # of all pictures: more of them are smaller, and the page stays small
CARDS_SHOWN = 3000  # each is about 5 kB
FRAMES_SHOWN = 5000  # that were used; browsers grow slow beyond, and the ledger has them all
REASONS_SHOWN = 300
FRAMES_OF_A_REASON = 100
NAMES_SHOWN = 2000  # of products that were not made, and of calibrated frames
SLOWEST_SHOWN = 15
MANY = 24  # products of a section: more are shown small, a line of them to a row

_SECTIONS = {"masters": "Masters", "science": "Science frames"}
_VERDICTS = {
    0: ("good", "All made."),
    1: ("bad", "Not all right: a product failed, or nothing was made."),
    3: ("fair", "Made, with frames or products left out."),
}
_CHOICES = {
    "select": "selected by",
    "exclude": "excluded by",
    "config": "config",
    "bad": "marked bad",
    "pin": "pinned",
}
_CHOICE_ORDER = ("bad", "pin", "exclude", "select", "config")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Frames that were left out for one reason."""

    reason: str
    status: str
    frames: tuple[FrameEntry, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Group:
    """Products of one name: one, or one for each detector of a mosaic."""

    name: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Products of a kind."""

    anchor: str
    title: str
    groups: tuple[Group, ...]
    small: bool

    @property
    def count(self) -> int:
        """How many products."""
        return sum(len(group.cards) for group in self.groups)


def write_report(
    folder: AnyPath, ledger: Ledger, looks: Mapping[str, Look] = MappingProxyType({})
) -> AnyPath:
    """Write ``report/index.html`` below the output folder, whole or not at all.

    The page needs nothing but itself: no network, no scripts, pictures inside. It remembers what
    it showed of each product: written again, only products that changed are read.

    Parameters
    ----------
    folder : path
        The output folder, or its URL, with the products that `ledger` names; one that is missing
        or damaged is said in the page.
    ledger : Ledger
    looks : mapping of str to Look, optional
        At products, by name, that were looked at as they were made: they are not read.

    Raises
    ------
    OutputError
        Where the page cannot be written.
    """
    place = place_of(folder)
    page = _template().render(_content(place, ledger, looks))
    path = place.at("report/index.html")
    write_whole(path, page.encode("utf-8", "replace"))
    return path if isinstance(folder, str) else Path(path)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("daskcal.night", "report"), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown,
    )  # fmt: skip
    environment.filters |= {
        "number": words.number,
        "size": words.size,
        "duration": words.duration,
        "counted": words.counted,
        "words": gates.words,
        "value": gates.value,
        "limits": gates.limits,
        "link": link,
    }
    return environment.get_template("page.html")


def _shown(value: Any) -> Any:
    """Text from headers without what a browser would obey or could not show."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _content(place: Place, ledger: Ledger, looks: Mapping[str, Look]) -> dict[str, object]:
    """All that the template shows."""
    book = Book(ledger)
    made = [p for p in ledger.products if p.status == "made" and p.kind != "calibrated"]
    shown = _chosen(book, made)
    shared = Shared(shown)
    seen = see(place, shown, picture_size(len(shown)), looks)
    every = cards(book, shown, seen, shared)
    verdict, sentence = _VERDICTS[ledger.exit_status()]
    charts = gates.charts(book)
    left_out = [frame for frame in ledger.frames if frame.status != "used"]
    used = [frame for frame in ledger.frames if frame.status == "used"]
    return {
        "name": Path(str(place)).resolve().name,
        "ledger": ledger,
        "counts": ledger.counts(),
        "verdict": verdict,
        "sentence": sentence,
        "observed": _observed(ledger.frames),
        "strip": night_strip(ledger.frames),
        "anchors": {card.product.name: card.anchor for card in every},
        "tally": _tally(ledger, made),
        "trouble": [card for card in every if card.seen.trouble],
        "not_made": [p for p in ledger.products if p.status != "made"],
        "charts": charts[: gates.CHARTS_SHOWN],
        "charts_left_out": max(0, len(charts) - gates.CHARTS_SHOWN),
        "few": gates.FEW,
        "gates": gates.table(ledger.gates),
        "gates_shown": gates.ROWS_SHOWN,
        "sections": list(_sections(every)),
        "cards_left_out": _but(made, shown),
        "calibrated": [p for p in ledger.products if p.status == "made" and p.kind == "calibrated"],
        "left_out": _by_reason(left_out),
        "reasons_shown": REASONS_SHOWN,
        "used": used[:FRAMES_SHOWN],
        "used_left_out": max(0, len(used) - FRAMES_SHOWN),
        "names_shown": NAMES_SHOWN,
        "choices": _ordered(ledger.choices),
        "choice_words": _CHOICES,
        "slowest": _slowest(ledger.products),
        "shared": shared.all(),
    }


def _chosen(book: Book, made: Sequence[ProductEntry]) -> list[ProductEntry]:
    """The products with a card, in their order: masters and what a gate found before others."""
    order = sorted(
        made, key=lambda p: (p.kind == "science") * (book.verdicts.get(p.name, "pass") == "pass")
    )
    names = {product.name for product in order[:CARDS_SHOWN]}
    return [product for product in made if product.name in names]


def _but(every: Sequence[ProductEntry], some: Sequence[ProductEntry]) -> list[ProductEntry]:
    names = {product.name for product in some}
    return [product for product in every if product.name not in names]


def picture_size(pictures: int) -> int:
    """The longest side of each picture, such that all together stay bounded."""
    each = math.isqrt(PIXELS_SHOWN // max(1, min(pictures, CARDS_SHOWN)))
    return min(PICTURE_SIZE, max(SMALLEST_PICTURE, each))


def _tally(ledger: Ledger, made: Sequence[ProductEntry]) -> dict[str, int]:
    """What the page counts beside frames."""
    return {
        "masters": sum(product.kind != "science" for product in made),
        "science": sum(product.kind == "science" for product in made),
        "missing": sum(product.status == "missing" for product in ledger.products),
        "failed": sum(product.status == "failed" for product in ledger.products),
        "reused": sum(product.reused for product in made),
        "anew": sum(not product.reused for product in made),
        **{verdict: sum(g.verdict == verdict for g in ledger.gates) for verdict in VERDICTS},
    }


def _sections(every: Sequence[Card]) -> Iterable[Section]:
    for anchor, title in _SECTIONS.items():
        named: dict[str, list[Card]] = defaultdict(list)
        for card in every:
            if (card.product.kind == "science") == (anchor == "science"):
                named[card.stem].append(card)
        groups = tuple(Group(name, tuple(together)) for name, together in named.items())
        several = any(len(group.cards) > 1 for group in groups)
        if groups:
            yield Section(anchor, title, groups, several or len(groups) > MANY)


def _by_reason(frames: Iterable[FrameEntry]) -> list[LeftOut]:
    """Frames that were left out by their reason: what failed first, then what cost most."""
    reasons: dict[tuple[str, str], list[FrameEntry]] = defaultdict(list)
    for frame in frames:
        reasons[frame.status, frame.reason].append(frame)
    order = sorted(reasons.items(), key=lambda item: (item[0][0] != "failed", -len(item[1])))
    return [
        LeftOut(reason, status, tuple(some[:FRAMES_OF_A_REASON]), len(some) - FRAMES_OF_A_REASON)
        for (status, reason), some in order
    ]


def _ordered(choices: Sequence[Choice]) -> list[Choice]:
    return sorted(choices, key=lambda choice: _CHOICE_ORDER.index(choice.kind))


def _slowest(products: Iterable[ProductEntry]) -> list[tuple[ProductEntry, float]]:
    """The products that took longest, each with its share of the longest."""
    timed = [p for p in products if math.isfinite(p.seconds) and not p.reused]
    timed.sort(key=lambda product: -product.seconds)
    longest = max((product.seconds for product in timed), default=0.0)
    return [(p, 100 * p.seconds / longest if longest else 0.0) for p in timed[:SLOWEST_SHOWN]]


def _observed(frames: Iterable[FrameEntry]) -> str:
    """The span of time of the frames that say when they were taken."""
    dates = sorted(frame.date_obs for frame in frames if frame.date_obs)
    if not dates:
        return ""
    first, last = (date[:16].replace("T", " ") for date in (dates[0], dates[-1]))
    if first == last:
        return f"{first} UTC"
    same_day = first[:10] == last[:10]
    return f"{first} to {last[11:] if same_day else last} UTC"
