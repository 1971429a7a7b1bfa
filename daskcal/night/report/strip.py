"""The night as one strip: every frame by its kind and time, those left out marked."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from daskcal.night.ledger import FrameEntry
from daskcal.night.report.charts import Axis, opening, text, ticks_of
from daskcal.night.report.times import places
from daskcal.night.report.words import counted
from daskcal.printable import printable

_ROWS = ("bias", "dark", "flat", "science", "other")
_WIDTH, _LEFT, _ROW = 660.0, 54.0, 17.0
_FEWEST = 3  # frames for which a strip says something
_TITLED = 200


def night_strip(frames: Sequence[FrameEntry]) -> Markup:
    """The strip as SVG; nothing where there are too few frames."""
    known = [frame for frame in frames if frame.imagetyp in _ROWS]
    if len(known) < _FEWEST:
        return Markup()
    at, by_time = places(known)
    rows = [row for row in _ROWS if any(frame.imagetyp == row for frame in known)]
    bottom = _ROW * len(rows) + 4
    x = Axis.padded(min(at), max(at), _LEFT, _WIDTH)
    left_out = sum(frame.status != "used" for frame in known)
    label = (
        f"{counted(len(known), 'frame')} by kind, over {'time' if by_time else 'their order'}; "
        f"{left_out} left out"
    )
    parts = [opening("strip", _WIDTH, bottom + 32, label)]
    for i, row in enumerate(rows):
        middle = _ROW * (i + 0.5) + 2
        parts.append(text(_LEFT - 8, middle + 4, row, "end"))
        line = Markup('<path class="grid" d="M{} {:.1f}H{}"/>')
        parts.append(line.format(_LEFT, middle, _WIDTH))
        some = [(f, x(p)) for f, p in zip(known, at, strict=True) if f.imagetyp == row]
        parts += _marks(some, middle)
    parts += ticks_of(x, bottom, by_time=by_time)
    parts.append(Markup("</svg>"))
    return Markup().join(parts)


def _marks(frames: Sequence[tuple[FrameEntry, float]], middle: float) -> list[Markup]:
    """One row: used frames as one path, each of the first that were left out with its reason."""
    used = "".join(f"M{at:.1f} {middle - 5:.1f}v10" for f, at in frames if f.status == "used")
    out = [(f, at) for f, at in frames if f.status != "used"]
    bare = "".join(f"M{at:.1f} {middle - 5:.1f}v10" for _, at in out[_TITLED:])
    parts = [Markup('<path class="ticks" d="{}"/>').format(used)] if used else []
    parts += [Markup('<path class="ticks skipped" d="{}"/>').format(bare)] if bare else []
    for frame, at in out[:_TITLED]:
        mark = '<path class="ticks {}" d="M{:.1f} {:.1f}v12"><title>{}</title></path>'
        parts.append(
            Markup(mark).format(
                frame.status, at, middle - 6, printable(f"{frame.place}: {frame.reason}")
            )
        )
    return parts
