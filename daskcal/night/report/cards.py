"""What the report shows of each product."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from markupsafe import Markup

from daskcal.frames.masks import FLAGS
from daskcal.night.ledger import FrameEntry, Gate, Input, ProductEntry
from daskcal.night.report.book import Book, worst
from daskcal.night.report.charts import histogram
from daskcal.night.report.gates import words
from daskcal.night.report.looks import Seen
from daskcal.night.report.pixels import Look
from daskcal.night.report.words import as_json, counted, number, percent

INPUTS_SHOWN = 200
TEXTS_SHOWN = 2_000_000  # characters of rules and parameters in all
_MEDIAN, _SPREAD, _MASKED = "median", "σ (MAD)", "masked_fraction"


@dataclass(frozen=True, slots=True)
class InputLine:
    """One frame that went into a product, and how it was judged."""

    place: str
    role: str
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Rules or parameters: within the card, elsewhere on the page as `anchor`, or left out."""

    title: str
    lines: tuple[str, ...] = ()
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """What the page shows of one product.

    Attributes
    ----------
    lost : tuple of (str, str)
        Frames that it was to be made of and lacks, each with the reason.
    gates : tuple of Gate
        On the product itself.
    verdict : str
        The worst on it and its frames; "" where nothing was judged.
    """

    product: ProductEntry
    anchor: str
    stem: str
    detector: str
    subject: str
    seen: Seen
    href: str
    frames: int
    figures: tuple[tuple[str, str], ...]
    masked: tuple[tuple[str, str], ...]
    histogram: Markup
    inputs: tuple[InputLine, ...]
    inputs_left_out: int
    lost: tuple[tuple[str, str], ...]
    gates: tuple[Gate, ...]
    texts: tuple[Text, ...]
    verdict: str


class Shared:
    """Texts of products, each written once, however many have it, and bounded in all."""

    def __init__(self, products: Iterable[ProductEntry]) -> None:
        self.anchors: dict[tuple[str, tuple[str, ...]], str] = {}
        self.left = TEXTS_SHOWN
        self.uses = Counter(text for product in products for text in _texts(product))

    def of(self, product: ProductEntry) -> tuple[Text, ...]:
        """The texts of a product."""
        return tuple(self._placed(title, lines) for title, lines in _texts(product))

    def all(self) -> list[Text]:
        """Those that several products have."""
        return [Text(title, lines, at) for (title, lines), at in self.anchors.items()]

    def _placed(self, title: str, lines: tuple[str, ...]) -> Text:
        if (title, lines) in self.anchors:
            return Text(title, anchor=self.anchors[title, lines])
        self.left -= sum(map(len, lines))
        if self.left < 0:
            return Text(title)
        if self.uses[title, lines] == 1:
            return Text(title, lines)
        self.anchors[title, lines] = f"text-{len(self.anchors) + 1}"
        return Text(title, anchor=self.anchors[title, lines])


def _texts(product: ProductEntry) -> list[tuple[str, tuple[str, ...]]]:
    """Titles and lines of the long texts that a product has."""
    rules = tuple(line for rule in product.rules for line in rule.splitlines())
    parameters = tuple(as_json(product.parameters).splitlines()) if product.parameters else ()
    texts = (("Why these masters", rules), ("Parameters", parameters))
    return [(title, lines) for title, lines in texts if lines]


def cards(
    book: Book, products: Sequence[ProductEntry], seen: Sequence[Seen], shared: Shared
) -> list[Card]:
    """A card for each product, in their order."""
    return [
        _card(book, product, f"product-{i + 1}", one, shared)
        for i, (product, one) in enumerate(zip(products, seen, strict=True))
    ]


def link(name: str) -> str:
    """From the page to a product; "" where the name leads out of the output folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return ""
    return "../" + quote(name.encode("utf-8", "surrogateescape"))


def _card(book: Book, product: ProductEntry, anchor: str, seen: Seen, shared: Shared) -> Card:
    frames = [one for one in product.inputs if one.role in ("frame", "bad_pixel_mask")]
    return Card(
        product, anchor, book.stem(product), book.detector(product),
        _subject(product, book.frames_of(product)), seen,
        link(product.name) if seen.look else "",
        sum(one.role == "frame" for one in frames), _figures(product, seen.look),
        _masked(seen.look),
        histogram(seen.look, product.name) if seen.look else Markup(),
        tuple(_input(book, product, one) for one in frames[:INPUTS_SHOWN]),
        max(0, len(frames) - INPUTS_SHOWN), _lost(book, product),
        tuple(book.judged.get((product.name, ""), ())), shared.of(product),
        book.verdicts.get(product.name, ""),
    )  # fmt: skip


def _lost(book: Book, product: ProductEntry) -> tuple[tuple[str, str], ...]:
    """Frames that a product was to be made of and lacks, each with the reason."""
    return tuple((book.place(lost.frame), lost.reason) for lost in product.lost[:INPUTS_SHOWN])


def _subject(product: ProductEntry, frames: Sequence[FrameEntry]) -> str:
    """What the frames of a product have in common: object, filter, exposure."""
    told = {
        "object": product.kind == "science",
        "filter": product.kind in ("science", "flat"),
        "exptime": product.kind != "bias",
    }
    values = [{getattr(f, name) for f in frames} for name, matters in told.items() if matters]
    alike = [each.pop() for each in values if len(each) == 1]
    said = [one if isinstance(one, str) else f"{number(one)} s" for one in alike if one == one]
    return ", ".join(word for word in said if word)


def _input(book: Book, product: ProductEntry, one: Input) -> InputLine:
    """An input, with what was found wrong with it."""
    place = book.place(one)
    gates = book.judged.get((product.name, place), [])
    wrong = "; ".join(gate.message for gate in gates if gate.verdict != "pass")
    note = wrong or (f"{counted(len(gates), 'gate')} passed" if gates else "")
    return InputLine(place, one.role, worst(gates), note)


def _figures(product: ProductEntry, look: Look | None) -> tuple[tuple[str, str], ...]:
    """Names and numbers as text: those of the ledger, and what it lacks; the usual ones first."""
    seen = {_MEDIAN: look.median, _SPREAD: look.sigma} if look else {}
    if look and math.isfinite(look.masked_fraction):
        seen[_MASKED] = look.masked_fraction
    every = {**seen, **product.figures}
    names = [name for name in (_MEDIAN, _SPREAD) if name in every]
    names += sorted(name for name in every if name not in names)
    unit = look.unit if look else ""
    return tuple((words(name), _figure(name, every[name], unit)) for name in names)


def _figure(name: str, value: float, unit: str) -> str:
    if "fraction" in name:
        return percent(value)
    in_unit = name in (_MEDIAN, _SPREAD) and math.isfinite(value)
    return f"{number(value)} {unit}".rstrip() if in_unit else number(value)


def _masked(look: Look | None) -> tuple[tuple[str, str], ...]:
    """Share of the pixels that each reason marks."""
    masked = look.masked if look else {}
    return tuple((words(name), percent(masked[name])) for name in FLAGS if name in masked)
