"""Functions that refuse a misspelled keyword and name the word that was meant."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from daskcal.errors import UnknownKeywordError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def refuse_unknown(where: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise `UnknownKeywordError` for the first of `given` that is not among `valid`."""
    words = list(valid)
    for word in given:
        if word not in words:
            raise UnknownKeywordError(f"{where} has no keyword {word!r}; {nearest(word, words)}")


def strict_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Check keyword arguments by name before the call (Python 3.11 would not suggest a word)."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"{function.__name__} takes **keywords and must check them itself")
    names = [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_unknown(f"{function.__name__}()", kwargs, names)
        return function(*args, **kwargs)

    return checked
