"""The one family of exceptions that daskcal raises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from daskcal.printable import one_line


class DaskcalError(Exception):
    """Base of every error that daskcal raises on purpose.

    Messages are written for the person at the keyboard: which file, HDU, keyword or option,
    what was found, what was expected, what to do.
    """


class DaskcalWarning(UserWarning):
    """Something was left out or looks wrong, and the work goes on."""


class ProductWarning(DaskcalWarning):
    """Products are among raw frames: left out of a folder, or taken because they were named."""


MAY_PASS = ("unreadable", "missing", "changed")  # of reasons: another time all may be well


class FrameError(DaskcalError):
    """One file or frame cannot be used.

    Attributes
    ----------
    path : str
        The file.
    hdu : int or None
        The HDU, where the fault lies in one.
    reason : str
        A short code for programs: ``missing``, ``not-fits``, ``truncated``, ``damaged``,
        ``no-image``, ``several-detectors``, ``unsupported``, ``changed``, ``unreadable``,
        ``shape``, ``geometry``, ``no-signal``, ``unusable``, ``rejected``.
    """

    def __init__(self, path: str, reason: str, message: str, hdu: int | None = None) -> None:
        super().__init__(path, reason, message, hdu)
        self.path, self.reason, self.message, self.hdu = str(path), reason, message, hdu

    def __str__(self) -> str:
        path = one_line(self.path)
        place = path if self.hdu is None else f"{path} [HDU {self.hdu}]"
        return f"{place}: {self.message}"


class ArgumentError(DaskcalError, ValueError):
    """An argument has a value that cannot be used."""


class UnknownKeywordError(DaskcalError, TypeError):
    """A keyword argument that the function does not have."""


class GeometryError(DaskcalError, ValueError):
    """Shapes, sections or detector coordinates that do not fit together."""


class UnitError(DaskcalError, ValueError):
    """A missing, unknown or unsuitable unit."""


class CalibrationError(DaskcalError, ValueError):
    """A calibration that would be wrong: a missing master, a dark that may not be scaled."""


class UnusableFrameError(FrameError, CalibrationError):
    """The pixels of one frame cannot be used for what was asked."""


class ConfigError(DaskcalError, ValueError):
    """A night's configuration that cannot be used."""


class OutputError(DaskcalError, OSError):
    """A product that cannot be written."""


class UnfitOutputError(OutputError, ArgumentError):
    """An output that was given and can be none: a file is in the way, or its folder is missing."""


class ClusterError(DaskcalError, OSError):
    """A scheduler or workers that cannot be reached, do not fit, or are lost."""


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint naming the valid word nearest to `word`, or all valid words where none is near."""
    valid = sorted(set(words))
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return "valid words: " + ", ".join(valid) if valid else "none is accepted here"


def choose(name: str, value: object, valid: Iterable[str]) -> str:
    """Return `value` if it is one of the `valid` words of the argument `name`, else raise."""
    words = list(valid)
    if isinstance(value, str) and value in words:
        return value
    hint = nearest(str(value), words)
    raise ArgumentError(f"{name}={value!r} is not one of {', '.join(words)}; {hint}")
