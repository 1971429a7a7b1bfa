"""Which of the first frame's cards hold for all frames that are combined, and mean values."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from daskcal.fits.cards import COMMENTARY, Card, make_card, read_cards
from daskcal.fits.keywords import DEFAULT_KEYWORDS, as_number, normalise
from daskcal.frames.table import header_name


def _keywords(*names: str) -> frozenset[str]:
    aliases = (alias for name in names for alias in DEFAULT_KEYWORDS.aliases[name])
    return frozenset(key for alias in aliases for key in alias.split("+"))


# what readers need, though frames may say it in several words: the first frame's word stands
_FIRST = _keywords(
    "imagetyp", "filter", "object", "binning", "detector", "instrument", "readout_mode", "unit"
) | {"DATE-OBS", "TIMESYS"}
_WINDOW = re.compile(
    r"FILTER0?\d|(?:CCD|DET|AMP|DATA|BIAS|TRIM|[ABCDT])SEC\d*|LTV\d|LTM\d_\d|[XY]ORGSUBF|NAXIS\d*"
)
_MEANS = ("exptime", "darktime", "ccd_temp", "gain", "rdnoise")
_OF_MEANS = {key: name for name in _MEANS for key in _keywords(name)}
# a description of the sky is right as a whole or not at all; the last letter says which it is
_SKY = re.compile(
    r"(?:(?:CRPIX|CRVAL|CDELT|CROTA|CTYPE|CUNIT|CNAME|CRDER|CSYER)\d+|P[VS]\d+_\d+|(?:PC|CD)\d+_\d+"
    r"|WCSAXES|WCSNAME|LONPOLE|LATPOLE)([A-Z]?)|(?:[AB]P?_(?:ORDER|DMAX|\d+_\d+)|WAT\d_\d+)()"
)
_SYSTEM = re.compile(r"(?:EQUINOX|RADESYS)([A-Z]?)|(?:RADECSYS|EPOCH)()")


@dataclass(frozen=True, slots=True)
class CommonCards:
    """What headers say of the image that frames are combined into.

    Attributes
    ----------
    text : str
        Card images, 80 characters each, joined.
    means : list of (str, float)
        Keywords of numbers that differ and are not in `text`, each with its mean: rules that choose
        masters may compare them within a tolerance.
    """

    text: str
    means: list[tuple[str, float]]


def common_cards(frames: xr.Dataset) -> CommonCards:
    """The cards of the first of `frames` that hold for what they are combined into.

    Those that all frames have, with the same value; of those that name the type, the camera and
    the window, and DATE-OBS, the first frame's. Exposures, temperatures, gains and read noises that
    differ become their mean, in the card's own unit; the rest describes one frame, and goes.

    Parameters
    ----------
    frames : xarray.Dataset
        With ``cards`` on ``frame``; ``hdr_<name>`` are compared where they are there.
    """
    texts = [str(text) for text in np.atleast_1d(frames["cards"].values)]
    others = list(dict.fromkeys(texts))[1:]
    if not others:
        return CommonCards(texts[0], [])
    cards = list(read_cards(texts[0]))
    told = Counter(map(_column, cards))
    kept: list[Card] = []
    means: list[tuple[str, float]] = []
    lost: set[str | None] = set()  # descriptions of the sky
    at = 0
    for card in cards:
        column, values = _column(card), None
        if column and told[column] == 1 and column in frames.coords:
            values = np.atleast_1d(frames.variables[column].values)
        same = values is not None and bool((values == values[0]).all())
        if same or card.key in _FIRST or _WINDOW.fullmatch(card.key) or _in_all(card, at, others):
            kept.append(card)
        else:
            lost.add(_sky(card))
            mean = math.nan if values is None else _mean(card, values)
            if (averaged := _averaged(card, mean)) is not None:
                kept.append(averaged)
            elif math.isfinite(mean):
                means.append((card.key, mean))
        at += len(card.image)
    fallen = lost - {None}
    left = (c.image for c in kept if not _SKY.fullmatch(c.key) or _sky(c) not in fallen)
    return CommonCards("".join(left), means)


def _column(card: Card) -> str:
    return "" if card.key in COMMENTARY else header_name(card.key.removeprefix("HIERARCH "))


def _in_all(card: Card, at: int, texts: Sequence[str]) -> bool:
    """Whether all have the card: most frames of a camera at the same place."""
    return all(text.startswith(card.image, at) or card.image in text for text in texts)


def _sky(card: Card) -> str | None:
    """The description of the sky that falls with a card; None for none."""
    found = _SKY.fullmatch(card.key) or _SYSTEM.fullmatch(card.key)
    return (found[1] or "") if found else None


def _mean(card: Card, values: np.ndarray) -> float:
    """Of numbers, or texts that spell them; of those that are known where it is a known quantity.

    NaN where there is none.
    """
    if values.dtype == bool or not math.isfinite(as_number(card.value)):
        return math.nan
    if values.dtype.kind in "if":
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([as_number(value) for value in values.tolist()])
    if card.key in _OF_MEANS:
        numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean())


def _averaged(card: Card, mean: float) -> Card | None:
    """The card with the mean, where daskcal knows what it means."""
    name = _OF_MEANS.get(card.key)
    if name is None or card.key[-1].isdigit():  # GAIN1: of one amplifier, and others have others
        return None
    alone = normalise({card.key: card.value}, comments={card.key: card.comment})
    if not math.isfinite(mean) or not math.isfinite(getattr(alone, name)):
        return None
    said = f"{card.comment}, mean" if card.comment else "mean"
    (averaged,) = read_cards(make_card(card.key, mean, said))
    return averaged
