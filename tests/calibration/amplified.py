"""Frames of a detector with four amplifiers, one in each corner, each with its overscan."""

from __future__ import annotations

import numpy as np
import xarray as xr

from daskcal.frames.amplifiers import Amplifier, amplifier_coords
from daskcal.frames.sections import Section

NY, NX, DARK = 24, 40, 3  # rows and columns that see light; columns of overscan of an amplifier
HY, HX = NY // 2, NX // 2


def _quarter(i: int, name: str) -> Amplifier:
    top, right = divmod(i, 2)
    rows = (top * HY, (top + 1) * HY)
    over = NX + i * DARK if not top else NX + (i - 2) * DARK
    return Amplifier(
        name,
        Section(*rows, right * HX, (right + 1) * HX),
        Section(*rows, over, over + DARK),
        f"{('bottom', 'top')[top]} {('left', 'right')[right]}",
    )


AMPS = tuple(_quarter(i, name) for i, name in enumerate(("A", "B", "C", "D")))
WIDTH = NX + 2 * DARK


def with_amplifiers(frames: xr.Dataset, amps=AMPS, **values) -> xr.Dataset:
    """Frames that know their amplifiers; values (frame, amplifier) of gain, rdnoise, saturation."""
    unknown = np.full((frames.sizes["frame"], len(amps)), np.nan)
    numbers = {name: np.broadcast_to(values.get(name, unknown), unknown.shape)
               for name in ("gain", "rdnoise", "saturation")}  # fmt: skip
    return frames.assign_coords(amplifier_coords(amps, numbers))


def read_together(image: np.ndarray, amp: Amplifier) -> np.ndarray:
    """The pixels of an amplifier as they are read: (rows, columns), the overscan at the end."""
    vertical, horizontal = amp.readout.split()
    parts = []
    for section in (amp.section, amp.overscan):
        part = image[section.y0 : section.y1, section.x0 : section.x1]
        part = part[::-1] if vertical == "top" else part
        turned = horizontal == "right" and section is amp.section
        parts.append(part[:, ::-1] if turned else part)
    return np.concatenate(parts, axis=1)


def put_back(image: np.ndarray, amp: Amplifier, pixels: np.ndarray) -> None:
    """The other way round."""
    vertical, horizontal = amp.readout.split()
    width = amp.section.shape[1]
    for section, part in ((amp.section, pixels[:, :width]), (amp.overscan, pixels[:, width:])):
        part = part[::-1] if vertical == "top" else part
        turned = horizontal == "right" and section is amp.section
        part = part[:, ::-1] if turned else part
        image[section.y0 : section.y1, section.x0 : section.x1] = part
