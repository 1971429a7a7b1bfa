"""The night as one page: what was found, what was made, from what, and why."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from daskcal.atomic import write_atomically
from daskcal.errors import DaskcalError
from daskcal.frames.masks import FLAGS
from daskcal.night.ledger import FrameEntry, Ledger, ProductEntry
from daskcal.plot import contact_sheet, good_sample, histogram, picture, read_image

ImageOf = Callable[[ProductEntry], tuple[np.ndarray, np.ndarray | None] | None]

PICTURE_SIZE = 480
FULL_SIZE_PICTURES = 40  # more than this, and each is smaller: the page stays below about 15 MB
SMALLEST_PICTURE = 64
USED_FRAMES_SHOWN = 2000  # browsers grow slow beyond; the ledger has them all
INPUTS_SHOWN = 200

_MEDIAN, _SPREAD = "median", "σ (MAD)"
_NOTHING = Markup("")
_STATUS_ORDER = {"failed": 0, "skipped": 1, "used": 2}
_VERDICTS = {
    0: ("good", "All made."),
    1: ("bad", "Not all right: a product failed, or nothing was made."),
    3: ("fair", "Made, with frames or products left out."),
}


@dataclass(frozen=True, slots=True)
class Card:
    """What the page shows of one product."""

    product: ProductEntry
    anchor: str
    frames: int
    figures: tuple[tuple[str, str], ...]
    picture: str = ""  # a data: URI
    width: int = 0
    height: int = 0
    histogram: Markup = _NOTHING
    masked: tuple[tuple[str, str], ...] = ()
    trouble: str = ""  # why there is no picture


def write_report(folder: str | Path, ledger: Ledger, *, image_of: ImageOf | None = None) -> Path:
    """Write ``report/index.html`` below the output folder, whole or not at all.

    The page needs nothing but itself: no network, no scripts, pictures inside.

    Parameters
    ----------
    folder : path
        The output folder, with the products that `ledger` names.
    ledger : Ledger
    image_of : callable, optional
        From a product to its image and mask (rows, columns), or None where it has no picture.
        By default the product is read below `folder`: a FITS file, or a sheet of a store's frames.

    Raises
    ------
    OutputError
        Where the page cannot be written.
    """
    folder = Path(folder)
    read = image_of or (lambda product: _read(folder / product.name))
    page = _template().render(_content(folder.resolve().name, ledger, read))
    return write_atomically(folder / "report" / "index.html", page.encode("utf-8", "replace"))


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The image and mask of a product; of a Zarr store, all its frames on one sheet."""
    if path.suffix != ".zarr":
        return read_image(path)
    from daskcal.zarr import open_zarr

    frames = open_zarr(path)
    singles = (frames.isel(frame=i) for i in range(frames.sizes["frame"]))
    images = ((f["image"].values, f["mask"].values if "mask" in f else None) for f in singles)
    return contact_sheet(images, frames.sizes["frame"]), None


def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["size"] = _size
    environment.filters["json"] = _json
    text = resources.files("daskcal.night").joinpath("report.html").read_text("utf-8")
    return environment.from_string(text)


def _content(name: str, ledger: Ledger, read: ImageOf) -> dict[str, object]:
    """All that the template shows."""
    shown = [p for p in ledger.products if p.status == "made" and p.kind != "calibrated"]
    largest = _picture_size(len(shown))
    anchors = {product.name: f"product-{i}" for i, product in enumerate(ledger.products)}
    cards = [_card(product, anchors[product.name], read, largest) for product in shown]
    used = [frame for frame in ledger.frames if frame.status == "used"]
    verdict, sentence = _VERDICTS[ledger.exit_status()]
    return {
        "name": name,
        "ledger": ledger,
        "counts": ledger.counts(),
        "verdict": verdict,
        "sentence": sentence,
        "observed": _observed(ledger.frames),
        "anchors": {card.product.name: card.anchor for card in cards},
        "not_made": [p for p in ledger.products if p.status != "made"],
        "masters": [card for card in cards if card.product.kind != "science"],
        "science": [card for card in cards if card.product.kind == "science"],
        "calibrated": [p for p in ledger.products if p.status == "made" and p.kind == "calibrated"],
        "frames": _worst_first(ledger.frames),
        "frames_left_out": max(0, len(used) - USED_FRAMES_SHOWN),
        "inputs_shown": INPUTS_SHOWN,
    }


def _picture_size(pictures: int) -> int:
    """The longest side of each picture, such that all together stay bounded."""
    if pictures <= FULL_SIZE_PICTURES:
        return PICTURE_SIZE
    return max(SMALLEST_PICTURE, int(PICTURE_SIZE * math.sqrt(FULL_SIZE_PICTURES / pictures)))


def _worst_first(frames: Iterable[FrameEntry]) -> list[FrameEntry]:
    """Failed, skipped, then the first of the used, each in the order of the ledger."""
    ordered = sorted(frames, key=lambda frame: _STATUS_ORDER[frame.status])
    others = sum(frame.status != "used" for frame in ordered)
    return ordered[: others + USED_FRAMES_SHOWN]


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


def _card(product: ProductEntry, anchor: str, read: ImageOf, largest: int) -> Card:
    """A product as shown; one that cannot be shown costs its picture, never the page."""
    frames = sum(one.role == "frame" for one in product.inputs)
    bare = Card(product, anchor, frames, _figures(product.figures, {}))
    try:
        found = read(product)
        if found is None:
            return bare
        png = picture(*found, max_size=largest)
    except (DaskcalError, OSError) as error:
        return replace(bare, trouble=str(error))
    width, height = struct.unpack(">II", png[16:24])  # where PNG keeps them
    return replace(
        bare,
        picture="data:image/png;base64," + base64.b64encode(png).decode("ascii"),
        width=width,
        height=height,
        histogram=Markup(histogram(*found, label=f"Histogram of {product.name}")),
        figures=_figures(product.figures, _measured(*found)),
        masked=_masked(found[1]),
    )


def _measured(image: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
    """Figures that the page takes from the pixels where the ledger has none."""
    values = good_sample(image, mask)
    if not values.size:
        return {_MEDIAN: math.nan}
    middle = np.median(values)
    # 1.4826 turns the median absolute deviation of a normal distribution into its σ
    return {_MEDIAN: float(middle), _SPREAD: float(1.4826 * np.median(np.abs(values - middle)))}


def _figures(
    known: Mapping[str, float], measured: Mapping[str, float]
) -> tuple[tuple[str, str], ...]:
    """Names and numbers as text: those of the ledger, and what it lacks; the usual ones first."""
    every = {**measured, **known}
    names = [name for name in (_MEDIAN, _SPREAD) if name in every]
    names += sorted(name for name in every if name not in names)
    return tuple((name.replace("_", " "), _figure(name, every[name])) for name in names)


def _figure(name: str, value: float) -> str:
    return _percent(value) if "fraction" in name else number(value)


def _masked(mask: np.ndarray | None) -> tuple[tuple[str, str], ...]:
    """Share of the pixels that each reason marks, and of those that any does."""
    if mask is None or not np.any(mask):
        return ()
    bits = np.asarray(mask).astype(np.uint16, copy=False)
    shares = {"any reason": np.count_nonzero(bits) / bits.size}
    shares |= {name: np.count_nonzero(bits & bit) / bits.size for name, bit in FLAGS.items()}
    return tuple(
        (reason.replace("_", " "), _percent(share)) for reason, share in shares.items() if share
    )


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return "unknown"
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{100 * share:.2f} %"


def number(value: float) -> str:
    """A number for reading: five digits, seven from 10,000 on."""
    if not math.isfinite(value):
        return "unknown"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value)}".replace("-", "−")
    digits = 5 if abs(value) < 1e4 else 7
    return f"{value:.{digits}g}".replace("-", "−")


def _size(count: int) -> str:
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB')[power]}"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str, sort_keys=True)
