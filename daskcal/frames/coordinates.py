"""What frames say of themselves in their coordinates: numbers, and names for messages."""

from __future__ import annotations

import numpy as np
import xarray as xr


def known_values(frames: xr.Dataset, name: str) -> np.ndarray:
    """A numeric coordinate of the frames, (frame,); NaN where it is missing."""
    n = frames.sizes["frame"]
    if name not in frames.coords:
        return np.full(n, np.nan)
    return np.broadcast_to(np.asarray(frames[name].values, dtype=np.float64), n).copy()


def frame_names(frames: xr.Dataset) -> list[str]:
    """What to call the frames in messages: their paths, or numbers where there are none."""
    n = frames.sizes["frame"]
    paths = map(str, frames["path"].values) if "path" in frames.coords else [""] * n
    return [path or f"frame {i}" for i, path in enumerate(paths)]


def frame_name(frames: xr.Dataset, i: int) -> str:
    """What to call frame `i` in a message."""
    return frame_names(frames)[i]
