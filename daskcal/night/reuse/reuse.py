"""What of earlier runs still holds, what is to be made, and why: known before a pixel is read."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import daskcal
from daskcal.errors import MAY_PASS, FrameError
from daskcal.fits.checksum import file_checksum
from daskcal.night.calibrate.mosaic_flats import MosaicFlats
from daskcal.night.output.fit import headers_of
from daskcal.night.output.place import Place
from daskcal.night.reuse.journal import Before, read_before
from daskcal.night.reuse.keys import calibrated_key, planned_keys, store_key
from daskcal.night.reuse.targets import Targets

if TYPE_CHECKING:
    from daskcal.night.ledger import Lost, ProductEntry
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan

_NAMED = 3
_NEW = "was not made yet"


@dataclass(frozen=True, slots=True)
class Remake:
    """One product that is to be made.

    Attributes
    ----------
    name : str
    reason : str
        Why; "" where it is only that masters are made anew.
    masters : tuple of str
        Those masters.
    """

    name: str
    reason: str
    masters: tuple[str, ...] = ()


@dataclass
class Outlook:
    """What a run will do.

    Attributes
    ----------
    kept : set of str
        Products that are as they should be, those included that are not to be made: a gate said so.
    there : set of str
        Those of them that are made.
    remakes : dict of str to Remake
        Products that are to be made, by name, in the order of the run.
    lost : dict of int to Lost
        Frames that are not read again, since they could not be used before and have not changed,
        by position in the plan.
    """

    kept: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    remakes: dict[str, Remake] = field(default_factory=dict)
    lost: dict[int, Lost] = field(default_factory=dict)


def too_few(plan: Plan, job: Job, left: Sequence[int]) -> str:
    """Why a product cannot be made of the frames that are `left`; "" where it can."""
    if not left:
        return "none of its frames can be used"
    if job.kind != "science":
        settings = getattr(plan.config.combine, job.kind)
        if len(left) < settings.min_frames:
            return f"has {len(left)} frames left, and min_frames = {settings.min_frames}"
        return str(settings.leaves_nothing(len(left)))
    return ""


def lacking_master(job: Job, there: Container[str]) -> str:
    """The first master of a job that is not there; "" where all are."""
    return next((name for name in job.master_names if name not in there), "")


class Reuse:
    """Holds the products of earlier runs against a plan.

    Parameters
    ----------
    plan : Plan
        A night's.
    place : Place
        The output.
    before : Before
        What earlier runs left word of.
    stores : mapping of str to sequence of Job
        The jobs of each Zarr store, where science frames go into stores.
    kept : mapping of int to str
        Names of the calibrated frames of masters, where they are written as well.
    """

    def __init__(
        self,
        plan: Plan,
        place: Place,
        before: Before,
        stores: Mapping[str, Sequence[Job]],
        kept: Mapping[int, str],
    ) -> None:
        self.plan, self.place, self.before = plan, place, before
        self.stores, self.kept = stores, kept
        self.lent = plan.library.keys() if plan.library else {}
        self.keys = planned_keys(plan, self.lent)
        self.keys |= {name: store_key(self.keys, jobs) for name, jobs in stores.items()}
        self.flats = MosaicFlats(plan)
        self._at: dict[tuple[str, int | None], int] = {
            (plan.relative(i), f.source.hdu): i for i, f in enumerate(plan.frames)
        }
        frames = before.ledger.frames if before.ledger is not None else ()
        self._skipped = {(f.path, f.hdu): f.reason for f in frames if f.status == "skipped"}
        self._sizes = place.sizes(before.products)
        self._there = self._fingerprints()

    def _fingerprints(self) -> dict[str, tuple[int, str]]:
        """Size and fingerprint of the products there are, from headers and samples of pixels."""
        found = {}
        for name in self._sizes:
            if name.endswith(".zarr"):
                with contextlib.suppress(FrameError, OSError):
                    from daskcal.zarr import store_fingerprint

                    mark = store_fingerprint(self.place.at(name))
                    found[name] = self.before.products[name].size, mark
        frames, _ = headers_of(self.place, self._sizes)
        return found | {name: (self._sizes[name], f.fingerprint) for name, f in frames.items()}

    def outlook(self, jobs: Iterable[Job]) -> Outlook:
        """What a run over `jobs`, masters first, will do."""
        jobs, spoiled = tuple(jobs), set[str]()
        while True:
            found = Outlook()
            for job in jobs:
                self._look(job, found, spoiled)
            taken = {m for job in jobs if job.name in found.remakes for m in self._masters(job)}
            bad = {name for name in taken & found.there if not self._intact(name)}
            if not bad:
                return found
            spoiled |= bad

    def _look(self, job: Job, found: Outlook, spoiled: set[str]) -> None:
        entry = self.before.products.get(job.name)
        same = entry is not None and entry.key == self.keys[job.name]
        lost = self._still_lost(entry) if entry is not None and same else {}
        left = self._left(job, lost, found.there | found.remakes.keys() | self.lent.keys())
        if left:
            reason = self._reason(job, entry, lost, left)
            if job.name in spoiled:
                reason = "its file is damaged"
            again = tuple(name for name in self._masters(job) if name in found.remakes)
            if reason or again:
                found.remakes[job.name] = Remake(job.name, reason, again)
                return
            found.kept.add(job.name)
            found.there |= {job.name} if entry is not None and entry.status == "made" else set()
        found.lost |= lost

    def _left(self, job: Job, lost: Mapping[int, Lost], there: Container[str]) -> tuple[int, ...]:
        """The frames that a job has left; none where it cannot be begun."""
        left: list[int] = []
        for part in self.stores.get(job.name, (job,)):
            some = [i for i in part.frames if i not in lost]
            if not too_few(self.plan, part, some) and not lacking_master(part, there):
                left += some
        return tuple(left)

    def _masters(self, job: Job) -> list[str]:
        """All masters that a job's pixels depend on."""
        parts = self.stores.get(job.name, (job,))
        every = [m for p in parts for names in self.flats.masters_of(p).values() for m in names]
        return list(dict.fromkeys(every))

    def _still_lost(self, entry: ProductEntry) -> dict[int, Lost]:
        """Frames that a product does without, and would again: nothing about them has changed."""
        found = {}
        for lost in entry.lost:
            i = self._at.get((lost.frame.path, lost.frame.hdu))
            if i is None or lost.fault in MAY_PASS:
                continue
            if self.plan.frames[i].source.mtime_ns == lost.frame.mtime_ns:
                found[i] = lost
        return found

    def _reason(
        self,
        job: Job,
        entry: ProductEntry | None,
        lost: Mapping[int, Lost],
        left: Sequence[int],
    ) -> str:
        """Why a product must be made, its masters apart; "" where it need not."""
        if entry is None:
            return _NEW
        if entry.status != "made" and not self._refused(job, entry):
            return f"was not made before: {entry.reason}"
        if entry.key != self.keys[job.name]:
            return self._difference(job, entry)
        return (
            self._frames_trouble(entry, lost, left)
            or self._older_masters(entry)
            or (self._file_trouble(job, left) if entry.status == "made" else "")
        )

    def _frames_trouble(
        self, entry: ProductEntry, lost: Mapping[int, Lost], left: Sequence[int]
    ) -> str:
        """Why a product should have other frames than it has, all of the same plan."""
        again = [one.frame.path for one in entry.lost if one not in lost.values()]
        if again:
            return f"{_some(again)} could not be used then, and is tried again"
        frames = [one for one in entry.inputs if one.role == "frame"]
        had = {self._at[one.path, one.hdu]: one for one in frames}
        if others := had.keys() - lost.keys() ^ set(left):
            return f"{_some(self.plan.relative(i) for i in sorted(others))} was not used then"
        touched = [
            had[i].path for i in left if self.plan.frames[i].source.mtime_ns != had[i].mtime_ns
        ]
        return f"{_some(touched)} was written anew" if touched else ""

    def _refused(self, job: Job, entry: ProductEntry) -> bool:
        """Whether nothing was lacking, and the product was not good enough."""
        had = {one.path for one in entry.inputs if one.role != "frame"}
        return entry.status == "missing" and had == set(self._masters(job))

    def _older_masters(self, entry: ProductEntry) -> str:
        known = self.before.products
        older = [
            one.path
            for one in entry.inputs
            if one.role != "frame" and one.path in known
            if known[one.path].checksum != one.fingerprint
        ]
        return f"was made with another {_some(older)}" if older else ""

    def _file_trouble(self, job: Job, left: Sequence[int]) -> str:
        if trouble := self._unsound(job.name):
            return trouble
        if job.kind == "science" or not self.kept:
            return ""
        key = calibrated_key(self.plan, self.keys[job.name])
        for name in (self.kept[i] for i in left):
            entry = self.before.products.get(name)
            if entry is None or entry.key != key or self._unsound(name):
                return f"{name} is not there as it should be"
        return ""

    def _unsound(self, name: str) -> str:
        """What is wrong with the file of a product, as far as its header and size tell."""
        entry = self.before.products[name]
        if name not in self._sizes:
            return "its file is gone"
        if not entry.fingerprint or self._there.get(name) != (entry.size, entry.fingerprint):
            return "its file has changed"
        return ""

    def _intact(self, name: str) -> bool:
        """Whether a master has the very bytes that were written: others will be made with it."""
        with contextlib.suppress(OSError, FrameError):
            return file_checksum(self.place.at(name)) == self.before.products[name].checksum
        return False

    def _difference(self, job: Job, entry: ProductEntry) -> str:
        """Why a product's key is another one, in words; "" where it is only for its masters'."""
        inputs = [one for one in entry.inputs if one.role == "frame"]
        then = {(o.path, o.hdu): o for o in (*inputs, *(lost.frame for lost in entry.lost))}
        now = {(self.plan.relative(i), self.plan.frames[i].source.hdu): i for i in job.frames}
        gone: dict[str, list[str]] = {}
        for one in then:
            if one not in now:
                gone.setdefault(self._why_gone(one), []).append(one[0])
        words = [_of(why, names) for why, names in gone.items()]
        joined: dict[str, list[str]] = {}
        for one in now:
            if one not in then:
                joined.setdefault(self._why_new(one), []).append(one[0])
        words += [_of(why, names) for why, names in joined.items()]
        prints = {one: self.plan.frames[i].fingerprint for one, i in now.items()}
        if other := [o[0] for o in then if o in now and prints[o] != then[o].fingerprint]:
            words.append(_of("has changed", other))
        return "; ".join(words) or self._other_difference(job, entry)

    def _why_gone(self, one: tuple[str, int | None]) -> str:
        i = self._at.get(one)
        if i is None:
            return "is gone"
        reason = self.plan.skipped.get(i)
        return f"is {reason}" if reason else "goes into another product"

    def _why_new(self, one: tuple[str, int | None]) -> str:
        reason = self._skipped.get(one)
        return f"is no longer {reason}" if reason else "is added"

    def _other_difference(self, job: Job, entry: ProductEntry) -> str:
        masters = [m for m in entry.masters if m not in job.master_names]
        masters += [m for m in job.master_names if m not in entry.masters]
        if masters:
            return f"has other masters: {', '.join(job.master_names) or 'none'}"
        if older := self._older_masters(entry):
            return older
        ledger = self.before.ledger
        if ledger is not None and ledger.version != daskcal.__version__:
            return f"daskcal {ledger.version} made it, and this is {daskcal.__version__}"
        followed = any(
            self.before.products[m].key != self.keys[m]
            for m in self._masters(job)
            if m in self.before.products and m in self.keys
        )
        return "" if followed else "the config has changed for it"


def _some(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _of(what: str, names: Sequence[str]) -> str:
    """``a.fits is gone``, ``a.fits, b.fits are gone``."""
    verb, rest = what.split(" ", 1)
    plural = {"is": "are", "has": "have", "goes": "go"}
    return f"{_some(names)} {plural[verb] if len(names) > 1 else verb} {rest}"


def look_ahead(plan: Plan, place: Place) -> list[str]:
    """What a run of `plan` into an output would make anew, and why, a line for each cause.

    Nothing where no run has been there.
    """
    targets, before = Targets.of(plan), read_before(place)
    outlook = Reuse(plan, place, before, targets.stores, targets.kept).outlook(targets.jobs)
    if before.products and not outlook.remakes:
        return [f"nothing to do: {len(outlook.kept)} products are as they should be"]
    return [*before.messages, *outlook_text(outlook, before)]


def outlook_text(outlook: Outlook, before: Before) -> list[str]:
    """What a run will make and why, a line for each cause; nothing where there was no earlier run.

    Examples
    --------
    ``masters/bias.fits: bias_003.fits is marked bad: light leak; 4 products follow``
    """
    if not before.products or not outlook.remakes:
        return []
    causes: dict[str, list[str]] = {}
    root: dict[str, str] = {}
    for name, remake in outlook.remakes.items():
        root[name] = remake.reason or root[remake.masters[0]]
        causes.setdefault(root[name], [])
        if remake.reason:
            causes[root[name]].append(name)
    followers = Counter(root[n] for n, remake in outlook.remakes.items() if not remake.reason)
    lines = [f"{len(outlook.kept)} products are as they should be"] if outlook.kept else []
    for reason, names in causes.items():
        n = followers[reason]
        follow = "" if not n else f"; {n} product{'s follow' if n > 1 else ' follows'}"
        if reason == _NEW:
            lines.append(f"{len(names)} products are to be made that were not yet{follow}")
        else:
            lines.append(f"{_some(names)}: {reason}{follow}")
    return lines
