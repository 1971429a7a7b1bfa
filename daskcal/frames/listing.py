"""The table of frames that `daskcal ls` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskcal.fits.urls import common_folder, inside
from daskcal.frames.card_problems import card_messages
from daskcal.frames.raw_only import kind_of
from daskcal.frames.table import frame_table
from daskcal.printable import one_line

if TYPE_CHECKING:
    from daskcal.fits import Scan

_COLUMNS = ("imagetyp", "exptime", "filter", "object", "date_obs", "shape", "gain", "rdnoise",
            "binning")  # fmt: skip


def listing(found: Scan) -> str:
    """Text with a line for each frame, and one for each file or HDU that cannot be read.

    Where products are among them, which are no frames, a column says what each of them is. Of cards
    that cannot be read it has one for each keyword.
    """
    lines, cards = [], []
    if found.frames:
        table = frame_table(found.frames)
        table["kind"] = [kind_of(frame) for frame in found.frames]
        products = int((table["kind"] != "raw").sum())
        columns = (
            *(("kind",) if products else ()),
            *(("detector",) if (table["detectors"] > 1).any() else ()),
            *_COLUMNS,
        )
        base = common_folder(table["path"])
        names = [one_line(inside(path, base) or path) for path in table["path"]]
        cards = card_messages(found.frames, table, names)
        rows = [("file", *columns)]
        for name, (_, row) in zip(names, table.iterrows(), strict=True):
            rows.append((name, *(_cell(row[c]) for c in columns)))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        lines.append(f"{_counts(len(found.frames) - products, products)} in {base}")
    lines += [f"note: {message}" for message in cards]
    for bad in found.unreadable:
        lines.append(f"unreadable: {bad}")
    if found.ignored:
        lines.append(f"{found.ignored} other files are not FITS")
    return "\n".join(line.rstrip() for line in lines)


def _counts(frames: int, products: int) -> str:
    said = [f"{frames} frames"] if frames or not products else []
    if products:
        said.append("1 product" if products == 1 else f"{products} products")
    return " and ".join(said)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "×".join(map(str, value))
    if value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat(timespec="seconds"))
    return " ".join(str(value).split()) or "-"
