"""What has happened in a run so far, and the ledger that it becomes."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import daskcal
from daskcal.errors import FrameError
from daskcal.fits import AssembledImage, Frame
from daskcal.night.ledger import FrameEntry, Gate, Input, Ledger, Lost, ProductEntry
from daskcal.night.plan.jobs import Job, Missing
from daskcal.night.plan.plan import Plan, relative

_OF_FRAME = ["imagetyp", "exptime", "filter", "object", "date_obs", "detector"]


@dataclass
class Record:
    """Products and frames of one run, as they are done.

    Attributes
    ----------
    plan : Plan
        What was to be made.
    products : list of ProductEntry
        In the order in which they were begun.
    failed, made_of, unmade : dict of int to str
        By position in the plan's table: frames that could not be used, with the reason; the product
        that a frame went into; why the product that a frame was for was not made.
    faults : dict of int to str
        The codes of `FrameError` of those that failed.
    messages : list of str
        What the reader should know, each once.
    gates : list of Gate
        The numbers by which frames and products were judged.
    lent : dict of str to str
        Checksums of the masters of the library that are taken.
    rejected : set of int
        Those of `failed` that a gate left out.
    """

    plan: Plan
    started: str = field(default_factory=lambda: _now())
    products: list[ProductEntry] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    made_of: dict[int, str] = field(default_factory=dict)
    unmade: dict[int, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    lent: dict[str, str] = field(default_factory=dict)
    rejected: set[int] = field(default_factory=set)
    _by_name: dict[str, ProductEntry] = field(default_factory=dict, repr=False)

    def add(self, product: ProductEntry, frames: Iterable[int]) -> None:
        """A product is done, well or not; `frames` are those that it was to be made of."""
        self.products.append(product)
        self._by_name[product.name] = product
        for i in frames:
            if product.status == "made":
                self.made_of.setdefault(i, product.name)
            else:
                self.unmade.setdefault(i, f"{product.name}: {product.reason}")

    def add_beside(self, products: Iterable[ProductEntry]) -> None:
        """Products that were made on the way to the last one."""
        self.products += products

    def add_missing(self, missing: Missing) -> None:
        """A product that the plan knew could not be made."""
        entry = ProductEntry(
            missing.name, missing.kind, "missing", inputs=self.inputs(missing.frames),
            reason=missing.reason, rules=missing.rules,
        )  # fmt: skip
        self.add(entry, missing.frames)

    def status_of(self, name: str) -> str:
        """The status of a product; "" where it is not done."""
        return self._by_name[name].status if name in self._by_name else ""

    def left(self, frames: Iterable[int]) -> tuple[int, ...]:
        """Those of `frames` that can be used, as far as is known."""
        return tuple(i for i in frames if i not in self.failed)

    def lost(self, frames: Iterable[int]) -> tuple[Lost, ...]:
        """Those that cannot, with the reason."""
        return tuple(
            Lost(one, self.failed[i], "" if i in self.rejected else self.faults.get(i, ""))
            for i in frames
            if i in self.failed
            for one in self.inputs([i])
        )

    def reject(self, i: int, reason: str) -> None:
        """A gate leaves a frame out."""
        self.rejected.add(i)
        self.failed[i] = reason

    def lose(self, i: int, lost: Lost) -> None:
        """A frame cannot be used, as another run has found."""
        if lost.fault:
            self.failed[i], self.faults[i] = lost.reason, lost.fault
        else:
            self.reject(i, lost.reason)

    def blame(self, error: FrameError, frames: Sequence[int]) -> int | None:
        """The frame that an error is about, noted as failed; None where it is none of `frames`."""
        for i in frames:
            frame = self.plan.frames[i]
            elsewhere = frame.of > 1 and error.hdu not in (None, *_hdus(frame))
            if frame.source.path == error.path and not elsewhere:
                self.failed[i], self.faults[i] = error.message, error.reason
                return i
        return None

    def forget_gates(self, product: str) -> None:
        """Drop the last numbers of a product that is judged again; those of rejected frames stay.

        Those of a product follow one another, and the last one's are the last.
        """
        first = len(self.gates)
        while first and self.gates[first - 1].product == product:
            first -= 1
        last = self.gates[first:]
        rejected = {gate.frame for gate in last if gate.verdict == "reject"}
        self.gates[first:] = [gate for gate in last if gate.frame in rejected]

    def place(self, i: int) -> str:
        """What the ledger calls a frame."""
        detector = str(self.plan.table["detector"].iloc[i])
        hdu = self.plan.frames[i].source.hdu
        return FrameEntry(self.plan.relative(i), hdu, "used", detector=detector).place

    def note(self, message: str) -> bool:
        """Keep a message for the ledger; whether it is new."""
        new = message not in self.messages
        if new:
            self.messages.append(message)
        return new

    def inputs(
        self, frames: Iterable[int], masters: Mapping[str, tuple[str, ...]] | None = None
    ) -> tuple[Input, ...]:
        """Ledger entries of frames, and of masters (by kind) that have been made."""
        found = [
            Input(
                self.plan.relative(i),
                frame.source.hdu,
                frame.fingerprint,
                mtime_ns=frame.source.mtime_ns,
            )
            for i in frames
            for frame in [self.plan.frames[i]]
        ]
        for kind, names in (masters or {}).items():
            known = {n: self._by_name[n].checksum for n in names if self.status_of(n) == "made"}
            known |= {n: self.lent[n] for n in names if n in self.lent}
            found += [Input(n, 0, known[n], role=kind) for n in names if n in known]  # type: ignore[arg-type]
        return tuple(found)

    def not_made(self, job: Job, status: Literal["failed", "missing"], reason: str) -> ProductEntry:
        """The entry of a product that could not be made."""
        return ProductEntry(
            job.name, job.kind, status, inputs=self.inputs(job.frames, job.masters),
            masters=job.master_names, reason=reason, rules=job.rules,
        )  # fmt: skip

    def ledger(self, command: str) -> Ledger:
        """The record as it stands."""
        taken = {m for p in self.products if p.status == "made" for m in p.masters}
        products = tuple(
            replace(p, used=p.kind in ("science", "calibrated") or p.name in taken)
            if p.status == "made"
            else p
            for p in self.products
        )
        return Ledger(
            version=daskcal.__version__,
            command=command,
            config=self.plan.config.model_dump_json(indent=1, exclude_defaults=True),
            started=self.started,
            finished=_now(),
            choices=self.plan.choices,
            frames=tuple(self._frames()),
            products=products,
            messages=tuple(self.messages),
            gates=tuple(self.gates),
            raw=str(self.plan.folder),
            library=str(self.plan.library.folder) if self.plan.library else "",
        )

    def _frames(self) -> list[FrameEntry]:
        unreadable = [
            FrameEntry(relative(b.path, self.plan.folder), b.hdu, "failed", reason=b.message)
            for b in self.plan.unreadable
        ]
        rows = self.plan.table[_OF_FRAME].to_dict("records")  # a row by itself takes its time
        return unreadable + [self._frame(i, row) for i, row in enumerate(rows)]

    def _frame(self, i: int, row: Mapping[str, Any]) -> FrameEntry:
        frame = self.plan.frames[i]
        status, reason = self._fate(i)
        return FrameEntry(
            self.plan.relative(i), frame.source.hdu, status, reason, frame.fingerprint,
            imagetyp=str(row["imagetyp"]), exptime=float(row["exptime"]),
            filter=str(row["filter"]), object=str(row["object"]),
            date_obs="" if row["date_obs"] != row["date_obs"] else row["date_obs"].isoformat(),
            detector=str(row["detector"]),
        )  # fmt: skip

    def _fate(self, i: int) -> tuple[Literal["used", "skipped", "failed"], str]:
        if i in self.failed:
            return "skipped" if i in self.rejected else "failed", self.failed[i]
        if i in self.made_of:
            return "used", f"in {self.made_of[i]}"
        reasons = (self.plan.skipped.get(i), self.unmade.get(i), "nothing was made of it")
        return "skipped", next(reason for reason in reasons if reason)


def _hdus(frame: Frame) -> set[int]:
    """The HDUs that hold the pixels of a frame: several where its amplifiers have their own."""
    if isinstance(frame.pixels, AssembledImage):
        return {piece.source.hdu for piece in frame.pixels.pieces}
    return {frame.source.hdu}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
