"""What headers say of frames, as columns: one table to open, select, group and plan by."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

import numpy as np
import pandas as pd

from daskcal.fits import DEFAULT_KEYWORDS, CardComments, Frame, Keywords, normalise
from daskcal.frames.amplifiers import common_value
from daskcal.frames.assembled import DetectorFrame
from daskcal.frames.detector_names import name_detectors

NUMBERS = ("exptime", "darktime", "gain", "rdnoise", "ccd_temp")
COORDINATES = (
    "imagetyp",
    "exptime",
    "darktime",
    "filter",
    "object",
    "date_obs",
    "gain",
    "rdnoise",
    "ccd_temp",
    "binning",
    "detector",
    "instrument",
    "readout_mode",
    "flat_kind",
)


def header_name(keyword: str) -> str:
    """The coordinate that holds a header keyword: ``DATE-OBS`` is ``hdr_date_obs``."""
    return "hdr_" + re.sub(r"\W", "_", keyword.strip().lower())


def frame_table(frames: Sequence[Frame], keywords: Keywords = DEFAULT_KEYWORDS) -> pd.DataFrame:
    """One row for each frame, in order: what the words of the data model are for it.

    Columns are `COORDINATES`, ``path``, ``hdu``, ``unit``, ``shape`` (rows, columns), ``origin_y``,
    ``origin_x``, ``origin_known``, ``detectors`` (how many its file holds) and ``fingerprint``.
    Missing text is ``""``, a missing number NaN, a missing time NaT. Detectors of mosaics are named
    as `name_detectors` says.
    """
    values = [normalise(frame.header, keywords, CardComments(frame.cards)) for frame in frames]
    more = ("unit", "origin_y", "origin_x", "origin_known")
    columns: dict[str, np.ndarray] = {
        name: _column([getattr(v, name) for v in values], name) for name in (*COORDINATES, *more)
    }
    for i, frame in enumerate(frames):
        if isinstance(frame, DetectorFrame):
            _fill_in(columns, i, frame)
    columns["detector"] = _objects(
        name_detectors(
            frames, [v.detector for v in values], [v.instrument for v in values], keywords
        )
    )
    columns["path"] = _objects([frame.source.path for frame in frames])
    columns["detectors"] = np.array([frame.of for frame in frames], dtype=np.int64)
    columns["hdu"] = np.array([frame.source.hdu for frame in frames], dtype=np.int64)
    columns["shape"] = _objects([frame.pixels.shape for frame in frames])
    columns["fingerprint"] = _objects([frame.fingerprint for frame in frames])
    return pd.DataFrame(columns)


def _fill_in(columns: dict[str, np.ndarray], i: int, frame: DetectorFrame) -> None:
    """What a frame's own header does not say, but its amplifiers."""
    for name in ("gain", "rdnoise"):
        columns[name][i] = common_value(np.array([frame.values[name]]))[0]
    columns["origin_y"][i], columns["origin_x"][i] = frame.origin
    columns["origin_known"][i] = frame.origin_known


def header_columns(
    frames: Sequence[Frame], names: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """Every keyword of the frames' headers as a column, named by `header_name`; or those `names`.

    Numbers stay numbers where all frames give one (NaN where a frame lacks the card); otherwise
    the column is text, ``""`` where a frame lacks the card.
    """
    headers = [frame.header for frame in frames]
    known: dict[str, None] = {}
    for header in headers:
        known.update(dict.fromkeys(header))
    keywords: dict[str, list[str]] = {}  # DATE-OBS and DATE_OBS are one column
    for keyword in known:
        name = header_name(keyword)
        if names is None or name in names:
            keywords.setdefault(name, []).append(keyword)
    return {name: header_column(_values(headers, same)) for name, same in keywords.items()}


def _values(headers: Sequence[Mapping[str, object]], keywords: Sequence[str]) -> list[object]:
    """Of each header the value of the first of `keywords` that it has, None where it has none."""
    values = [header.get(keywords[0]) for header in headers]
    for keyword in keywords[1:]:
        pairs = zip(values, headers, strict=True)
        values = [header.get(keyword) if value is None else value for value, header in pairs]
    return values


def header_column(values: Sequence[object]) -> np.ndarray:
    """One header keyword of several frames as an array of one type; None is a missing card."""
    if set(map(type, values)) == {str}:
        return _objects(values)
    present = [v for v in values if v is not None]
    if present and all(isinstance(v, bool) for v in present) and len(present) == len(values):
        return np.array(values, dtype=bool)
    if present and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present):
        if len(present) == len(values) and all(isinstance(v, int) for v in present):
            try:
                return np.array(values, dtype=np.int64)
            except OverflowError:
                pass
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return _objects(["" if v is None else _text(v) for v in values])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return str(value)


def _column(values: Sequence[object], name: str) -> np.ndarray:
    if name == "date_obs":
        return np.array(values, dtype="datetime64[us]")
    if name in NUMBERS:
        return np.array(values, dtype=np.float64)
    if name in ("origin_y", "origin_x"):
        return np.array(values, dtype=np.int64)
    if name == "origin_known":
        return np.array(values, dtype=bool)
    return _objects(values)


def _objects(values: Sequence[object]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
