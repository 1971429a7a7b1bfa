"""Which rules hold between frames and their masters, and their tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from daskcal.frames.table import header_name

Kind = Literal["bias", "dark", "flat"]
KINDS: tuple[Kind, ...] = ("bias", "dark", "flat")
State = tuple[tuple[str, float | str], ...]  # of the instrument: names, and numbers or texts


def keyword_column(name: str) -> str:
    """The column of the frame table for a name in a rule: upper case is a header's own keyword."""
    return header_name(name) if name == name.upper() else name


@dataclass(frozen=True, slots=True)
class KeywordRule:
    """A header keyword that masters must share with frames.

    Attributes
    ----------
    keyword : str
        A header keyword in upper case, or a normalised name in lower case.
    tolerance : float
        Largest difference of its numbers; 0: the same number, or the same text.
    masters : tuple of str
        Kinds of master that it holds for.
    """

    keyword: str
    tolerance: float = 0.0
    masters: tuple[Kind, ...] = KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which rules hold between a frame and its masters, and their tolerances.

    Attributes
    ----------
    detector, binning, shape, gain, readout_mode, amplifiers, filter : bool
        Whether the property must be the same.
    flat_kind : tuple of str
        Kinds of flat allowed, the preferred first.
    temperature : float or None
        Largest difference in K; None for no limit.
    days : float or None
        Largest difference in time; None for no limit.
    not_after : bool
        Whether a master must not be later than the frame.
    keywords : tuple of KeywordRule
        Header keywords that must agree.
    exposure_tolerance : float
        Largest difference in s of dark time between a frame and an unscaled dark.
    scale_darks : bool or "auto"
        Always, never, or where the exposure lies outside the tolerance.
    max_scale : float
        Largest ratio by which a dark may be scaled up.
    has_bias : bool
        Whether darks are bias-subtracted, and the frame can be; a scaled dark needs it.
    """

    detector: bool = True
    binning: bool = True
    shape: bool = True
    gain: bool = True
    readout_mode: bool = True
    amplifiers: bool = True
    filter: bool = True
    flat_kind: tuple[str, ...] = ("dome", "sky", "twilight", "")
    temperature: float | None = None
    days: float | None = None
    not_after: bool = False
    keywords: tuple[KeywordRule, ...] = ()
    exposure_tolerance: float = 0.5
    scale_darks: bool | Literal["auto"] = "auto"
    max_scale: float = 3.0
    has_bias: bool = False

    @property
    def by_time(self) -> bool:
        """Whether a rule asks when a frame was taken."""
        return self.days is not None or self.not_after

    def keywords_of(self, kind: str) -> tuple[KeywordRule, ...]:
        """The keywords that masters of one kind must share."""
        return tuple(rule for rule in self.keywords if kind in rule.masters)
