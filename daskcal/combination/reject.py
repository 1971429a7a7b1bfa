"""From the arguments of `combine` to a rejection: by name, with its options checked."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from daskcal.combination.rejections import (
    ESD,
    AveragedSigmaClip,
    CCDClip,
    CRReject,
    LinearFit,
    MinMax,
    NoRejection,
    PercentileClip,
    Rejection,
    SigmaClip,
    VarianceClip,
    Winsorised,
)
from daskcal.errors import ArgumentError, UnknownKeywordError, choose
from daskcal.strict import refuse_unknown

KEYWORDS = ("method", "reject", "scale", "zero", "weights", "section", "grow", "rejected", "dtype")
REJECTIONS: dict[str, type[Rejection]] = {
    kind.name: kind
    for kind in (
        SigmaClip, MinMax, PercentileClip, Winsorised, LinearFit, ESD, AveragedSigmaClip,
        VarianceClip, CCDClip, CRReject, NoRejection,
    )
}  # fmt: skip
OPTIONS = {
    name: [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name, kind in REJECTIONS.items()
}
ELSEWHERE = {  # words of ccdproc, astropy and IRAF, and what says it here
    "sigma_clip": "reject", "minmax_clip": "reject", "clip_extrema": "reject",
    "sigma_clip_low_thresh": "low", "sigma_lower": "low", "lsigma": "low", "clip_low": "low",
    "sigma_clip_high_thresh": "high", "sigma_upper": "high", "hsigma": "high", "clip_high": "high",
    "sigma_clip_func": "center", "cenfunc": "center",
    "sigma_clip_dev_func": "spread", "stdfunc": "spread",
    "nlow": "n_low", "nhigh": "n_high", "nkeep": "n_keep",
    "scaling": "scale", "statsec": "section",
}  # fmt: skip


def rejection(reject: str | Rejection | None, options: dict[str, Any], n: int) -> Rejection:
    """The rejection that combine's arguments describe, checked for `n` frames.

    Raises
    ------
    ArgumentError
        An unknown name, or an option whose value cannot be used.
    UnknownKeywordError
        An option that this rejection does not have.
    """
    if isinstance(reject, Rejection):
        _refuse_strangers(options)
        if options:
            raise ArgumentError(
                f"{next(iter(options))} belongs into the {type(reject).__name__} given as reject"
            )
        found = reject
    else:
        name = choose("reject", "none" if reject is None else reject, REJECTIONS)
        _refuse_strangers(options)
        _refuse_others(options, name)
        found = REJECTIONS[name](**options)
    found.check(n)
    return found


def _refuse_strangers(options: dict[str, Any]) -> None:
    """Refuse what is no keyword of combine at all, naming the word that was meant."""
    valid = {*KEYWORDS, *(word for words in OPTIONS.values() for word in words)}
    for word in options:
        near = difflib.get_close_matches(word, [*valid, *ELSEWHERE], n=1, cutoff=0.6)
        if word not in valid and near and near[0] in ELSEWHERE:
            meant = ELSEWHERE[near[0]]
            raise UnknownKeywordError(
                f"combine() has no keyword {word!r}; did you mean {meant!r}, as {near[0]!r} is "
                "called here?"
            )
    refuse_unknown("combine()", options, valid)


def _refuse_others(options: dict[str, Any], name: str) -> None:
    """Refuse options of other rejections."""
    for word in options:
        if word not in OPTIONS[name]:
            owners = [repr(other) for other, words in OPTIONS.items() if word in words]
            raise ArgumentError(
                f"{word} is an option of reject={' or '.join(owners)}, and reject={name!r} has "
                f"{', '.join(OPTIONS[name]) or 'none'}"
            )
