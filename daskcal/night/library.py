"""What a night takes from a library of masters, and what it gives to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from daskcal.errors import DaskcalError
from daskcal.fits import scan
from daskcal.fits.whole import at_hand
from daskcal.frames.assembled import assembled
from daskcal.frames.open import report_unreadable
from daskcal.frames.units import unit_word
from daskcal.masters.facts import Candidate, Facts
from daskcal.masters.library import Library
from daskcal.masters.library_master import LibraryMaster, treatment
from daskcal.masters.match import Match
from daskcal.masters.matcher import Matcher, table_facts
from daskcal.masters.rules import KINDS, Kind
from daskcal.night.plan.choices import bad_master
from daskcal.strict import strict_keywords

if TYPE_CHECKING:
    from daskcal.masters.rules import Rules
    from daskcal.night.config.read import NightConfig
    from daskcal.night.run.run import Run

_DAY = np.timedelta64(1, "D")
_OF_A_MOSAIC = ("instrument", "filter", "flat_kind", "binning", "readout_mode")


@dataclass(frozen=True, eq=False)
class LentMatch(Match):
    """A match with a master of the library, and where that is from."""

    lent: str = ""

    @cached_property
    def reason(self) -> str:
        """Why this master, its night, and how far that is away."""
        return f"{super().reason}; {self.lent}"


@dataclass
class Lender:
    """The masters of a library that one night may take.

    Attributes
    ----------
    folder : Path
        Of the library.
    masters : mapping of str to LibraryMaster
        By name.
    unfit : mapping of str to (str, str)
        Masters that it does not take whatever the rules say, their kind, and why: rejected,
        damaged, treated otherwise than this night's frames.
    checksums : mapping of str to str
        SHA-256 of those that were found sound.
    keywords : tuple of str
        Header keywords that the night's rules ask for.
    """

    folder: Path
    masters: dict[str, LibraryMaster]
    unfit: dict[str, tuple[str, str]]
    checksums: Mapping[str, str] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    _matchers: dict[tuple[Any, ...], Matcher] = field(default_factory=dict, repr=False)
    _lent: dict[tuple[Any, ...], LentMatch] = field(default_factory=dict, repr=False)

    def candidates(self, kind: str) -> list[Candidate]:
        """Those of one kind."""
        found = (master for master in self.masters.values() if master.kind == kind)
        return [master.candidate(self.keywords) for master in found]

    def kinds(self, detectors: Collection[str]) -> set[str]:
        """The kinds that it has for one of some detectors."""
        return {m.kind for m in self.masters.values() if m.facts.get("detector", "") in detectors}

    def match(self, frame: Facts, own: Sequence[Candidate], kind: Kind, rules: Rules) -> Match:
        """`match` for a frame that none of the night's `own` masters serves."""
        key = (kind, rules)
        if key not in self._matchers:
            every = [*own, *self.candidates(kind)]
            self._matchers[key] = Matcher(every, kind, rules)
        found = self._matchers[key].match(frame if rules.not_after else _to_the_hour(frame))
        if found.chosen is None:
            return found
        apart = _days(frame, found.chosen.facts)
        if (found, apart) not in self._lent:
            parts = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.init}
            night = self.masters[found.chosen.name].night
            self._lent[found, apart] = LentMatch(**parts, lent=_from(night, apart))
        return self._lent[found, apart]

    def of_mosaic(self, name: str) -> list[str]:
        """Flats of all detectors of the mosaic, taken in the same night as one and in its way."""
        one = self.masters[name]
        way = [one.facts.get(key) for key in _OF_A_MOSAIC]
        return [
            other.name
            for other in self.masters.values()
            if other.kind == "flat" and other.night == one.night
            and [other.facts.get(key) for key in _OF_A_MOSAIC] == way
        ]  # fmt: skip

    def taken(self, names: Collection[str], mosaics: bool) -> list[LibraryMaster]:
        """The library's among some masters, and with `mosaics` the flats of their mosaics."""
        mine = sorted(set(names) & set(self.masters))
        flats = [name for name in mine if mosaics and self.masters[name].kind == "flat"]
        every = dict.fromkeys([*mine, *(one for name in flats for one in self.of_mosaic(name))])
        return [self.masters[name] for name in every]

    def keys(self) -> dict[str, str]:
        """What stands for each master in the keys of products."""
        return {name: master.identity for name, master in self.masters.items()}


def lender(
    library: Library | str | PathLike[str],
    config: NightConfig,
    *,
    present: Collection[str] = KINDS,
    bad: Collection[str] = (),
) -> Lender:
    """What of a library a night with `config` can take.

    Parameters
    ----------
    present : collection of str
        The kinds of frames that the night has itself: a dark is taken with the bias subtracted
        from it where the night's frames have one subtracted, too.
    bad : collection of str
        Fingerprints of frames that are marked bad: masters of them are not taken.
    """
    library = library if isinstance(library, Library) else Library(library)
    every = library.masters()
    has_bias = "bias" in present or any(m.kind == "bias" and not m.rejected for m in every)
    switch = config.bias.subtract
    subtracts_bias = has_bias if switch == "auto" else switch
    masters: dict[str, LibraryMaster] = {}
    unfit: dict[str, tuple[str, str]] = {}
    for master in every:
        reason = master.rejected or library.damaged.get(master.name, "")
        reason = reason or bad_master(config, master.name)
        if reason := reason or _unfit(master, config, subtracts_bias, bad):
            unfit[master.name] = (master.kind, reason)
        else:
            masters[master.name] = master
    keywords = tuple(rule.keyword for rule in config.match.keywords)
    return Lender(library.folder, masters, unfit, library.checksums, keywords)


def _unfit(
    master: LibraryMaster, config: NightConfig, subtracts_bias: bool, bad: Collection[str]
) -> str:
    """Why a master cannot be used with a config, whatever the frame; "" where it can."""
    from daskcal.night.reuse.origins import config_of_product

    lost = sum(frame in bad for frame in master.frames)
    if lost:
        return f"{lost} of its frames are marked bad"
    here = config.of_detector(str(master.facts.get("detector", "")))
    if here.output.gain_correct != (master.unit == "electron") and master.unit:
        given = here.instrument.unit and unit_word(here.instrument.unit, "instrument.unit")
        if here.output.gain_correct or (given or "adu") != master.unit:
            return f"it is in {master.unit}, and output.gain_correct = {here.output.gain_correct}"
    if not master.steps:
        return ""  # another program's: nothing is known of it
    mine, its = treatment(config_of_product(here, master.kind)[0]), treatment(master.config)
    other = [name for name in sorted({*mine, *its}) if mine.get(name) != its.get(name)]
    if other:
        return f"it was made with other values of [{'], ['.join(other)}]"
    if master.kind == "dark" and ("subtract_bias" in master.steps) != subtracts_bias:
        done = "is" if "subtract_bias" in master.steps else "is not"
        return f"the bias {done} subtracted from it, and that of the night's frames otherwise"
    return ""


def _to_the_hour(frame: Facts) -> Facts:
    """A frame at the full hour before: among nights that is near enough, and few hours differ."""
    if np.isnat(frame.date_obs):
        return frame
    return frame.at(frame.date_obs.astype("datetime64[h]").astype("datetime64[us]"))


def _days(frame: Facts, master: Facts) -> float | None:
    """Days from master to frame; None where a time is not known."""
    apart = frame.date_obs - master.date_obs
    return None if np.isnat(apart) else round(float(apart / _DAY), 1)


def _from(night: str, apart: float | None) -> str:
    if apart is None:
        return f"from the library, night {night}"
    return (
        f"from the library, night {night}, {abs(apart):g} days {'after' if apart < 0 else 'before'}"
    )


# --- after a run ---------------------------------------------------------------------------------


def shelve(run: Run, folder: Path) -> Iterator[str]:
    """Add a run's masters to the library; what there is to say of it.

    They are good: one that a gate rejects is not made.
    """
    library = Library(folder)
    held = {master.digits: master for master in library.masters()}
    count = 0
    for entry in run.record.products:
        if entry.status != "made" or entry.kind not in ("bias", "dark", "flat"):
            continue
        known = held.get(entry.checksum[:12])
        try:
            if known is not None and not known.superseded_by:
                master, new = known, False  # without reading it
            else:
                with at_hand(run.place.at(entry.name)) as here:
                    master, new = library.add(here, name=entry.name)
        except DaskcalError as error:
            yield f"{entry.name} could not be added to the library: {error}"
            continue
        count += new
        if master.rejected:
            yield f"{entry.name} is rejected in the library: {master.rejected}"
    if count:
        yield f"{count} masters were added to the library {folder}"


# --- why -----------------------------------------------------------------------------------------


@strict_keywords
def library_why(
    library: str | PathLike[str],
    frame: str | PathLike[str],
    config: NightConfig | str | PathLike[str] | None = None,
) -> str:
    """Which masters of a library would serve a frame, and by which rule each other fails.

    Parameters
    ----------
    library : path
        The library's folder.
    frame : path
        A raw frame.
    config : NightConfig or path, optional
        As for `plan_night`.

    Returns
    -------
    str
        Lines for people.

    Raises
    ------
    FrameError
        The file gives no frame.

    Examples
    --------
    >>> ledger = daskcal.reduce_night("raw", "first", library="library")
    >>> print(daskcal.library_why("library", "raw/n0441.fits"))
    n0441.fits: science
      bias: library/2024-03-13/bias-....fits: passes every rule; from the library, ...
    """
    from daskcal.night.config.read import NightConfig, load_config
    from daskcal.night.plan.frames import night_table
    from daskcal.night.plan.plan import instrument_of, labels

    settings = config if isinstance(config, NightConfig) else load_config(config)
    camera = instrument_of(settings)
    found = assembled(scan([frame], hdu=camera.hdu, detectors=True), camera)
    report_unreadable(found, frame)
    folder = Path(frame).absolute().parent
    table = night_table(found.frames, settings, folder)
    lent = lender(library, settings)
    lines = []
    names = labels(found.frames, table, folder)
    every = table_facts(table, lent.keywords)
    for name, kind, facts in zip(names, table["imagetyp"], every, strict=True):
        lines.append(f"{name}: {kind}")
        for master in KINDS:
            lines += _serving(lent, facts, master, settings)
    return "\n".join(lines)


def _serving(lent: Lender, frame: Facts, kind: Kind, config: NightConfig) -> Iterator[str]:
    rules = config.rules(has_bias=bool(lent.candidates("bias")))
    found = lent.match(frame, [], kind, rules)
    yield f"  {kind}: {found.reason}"
    for candidate in found.candidates:
        failed = [v for v in found.verdicts if v.candidate == candidate.name and not v.passed]
        if candidate is not found.chosen:
            said = "; ".join(f"{v.rule} is {v.found}, wanted {v.wanted}" for v in failed)
            yield f"    {candidate.name}: {said or 'would serve too'}"
    for name, (of, reason) in lent.unfit.items():
        if of == kind:
            yield f"    {name}: {reason}"
