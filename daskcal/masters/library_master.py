"""One master of a library, as its own header and its name tell of it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from daskcal.errors import FrameError
from daskcal.fits import Frame, normalise
from daskcal.fits.checksum import file_checksum
from daskcal.fits.product_header import read_history
from daskcal.frames.master import open_master
from daskcal.frames.table import frame_table, header_name
from daskcal.masters.facts import Candidate, Facts
from daskcal.masters.raw_signs import raw_signs
from daskcal.masters.recorded import facts_of
from daskcal.masters.rules import KINDS, Kind
from daskcal.provenance import KEY, Origin

PREFIX = "library/"  # of the names that masters of a library have in a night
UNDATED = "undated"
NAME = re.compile(r"[^.][^/]*-([0-9a-f]{12})\.fits")  # with the first digits of the SHA-256

_TREATMENT = ("crosstalk", "overscan", "linearity", "trim", "gain_ratios", "output")
_NOON = datetime.timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class LibraryMaster:
    """One master of a library.

    Attributes
    ----------
    name : str
        ``library/NIGHT/FILE``, as plans and ledgers call it.
    path : str
        Its file.
    kind : str
        ``bias``, ``dark`` or ``flat``.
    night : str
        The date on which its night began: UTC, from noon to noon; ``undated`` where not known.
    key : str
        Of all that it was made of (``DASKKEY``); "" where its header has none.
    facts : mapping
        What rules look at: a row of the frame table, with its header cards as ``hdr_<name>``.
    config : mapping
        What of a config it was made with; empty for another program's.
    steps : tuple of str
        What was done to its frames; empty where that is not known.
    unit : str
        Of its pixels.
    frames : tuple of str
        Fingerprints of what it was made of.
    rejected : str
        Why it is not used; "" for a good one.
    superseded_by : str
        The name of the master that took its place.
    """

    name: str
    path: str
    kind: Kind
    night: str
    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    unit: str = ""
    frames: tuple[str, ...] = ()
    rejected: str = ""
    superseded_by: str = ""

    def candidate(self, keywords: Iterable[str] = ()) -> Candidate:
        """For `match`, with what its header says of the `keywords` of rules."""
        return Candidate(self.name, self.kind, Facts.of_row(self.facts, keywords))

    @property
    def identity(self) -> str:
        """Its key; of another program's master, what its name says of its content."""
        return self.key or self.digits

    @property
    def digits(self) -> str:
        """What its name says of its content: the first digits of the SHA-256."""
        found = NAME.fullmatch(self.name.rsplit("/", 1)[-1])
        return found[1] if found else ""

    def fits(self, checksum: str) -> bool:
        """Whether its name says so of a SHA-256."""
        return bool(checksum) and checksum.startswith(self.digits)

    def check(self) -> str:
        """The SHA-256 of its file.

        Raises
        ------
        FrameError
            It is not the one in its name: the file was changed or is damaged.
        """
        try:
            checksum = file_checksum(self.path)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
            raise FrameError(self.path, "unreadable", reason) from error
        return self._sound(checksum)

    def open(self) -> xr.Dataset:
        """The master, as `open_master` opens it, under its name, its content verified."""
        master = open_master(self.path).assign_attrs(file=self.name)
        self._sound(master.attrs["checksum"])
        return master

    def _sound(self, checksum: str) -> str:
        if not self.fits(checksum):
            raise FrameError(
                self.path,
                "changed",
                f"its SHA-256 begins with {checksum[:12]}, not with {self.digits} as its "
                "name says: it was changed or is damaged; put it back, or remove it",
            )
        return checksum


def treatment(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config frames and their masters must have in common."""
    return {name: config[name] for name in _TREATMENT if name in config}


def night_of(begin: str) -> str:
    """The date on which the night of a time (ISO, UTC) began: from noon to noon."""
    try:
        return (datetime.datetime.fromisoformat(begin) - _NOON).date().isoformat()
    except ValueError:
        return UNDATED


def described(image: Frame, name: str) -> LibraryMaster:
    """The master that the header of a file's image tells of.

    Raises
    ------
    FrameError
        It is no master bias, dark or flat, or plainly a raw frame.
    """
    values = normalise(image.header)
    lines = read_history(image.cards) if "DASKCAL" in image.header else []
    origin = Origin.of_lines(lines)
    kind = origin.kind if origin else values.imagetyp
    if kind not in KINDS:
        raise FrameError(
            image.source.path,
            "unsupported",
            f"is no master bias, dark or flat: its type is {kind or 'unknown'!r}",
            image.source.hdu,
        )
    if signs := raw_signs(image):
        raise FrameError(
            image.source.path,
            "unsupported",
            f"is a raw frame, not a master {kind}: {signs}, and its header does not say that it is "
            "combined; a master of another program needs NCOMBINE, the number of its frames, or "
            "floating-point pixels without an overscan",
            image.source.hdu,
        )
    row = frame_table([image])
    facts = dict(origin.facts) if origin else facts_of(row)
    begin = str(image.header.get("DATE-BEG", "")) or str(facts.get("date_obs", ""))
    means = (json.loads(line).get("master", {}).get("card_means", ()) for line in lines)
    said = {**image.header, **{key: mean for some in means for key, mean in some}}
    cards = {header_name(key): value for key, value in said.items()}
    return LibraryMaster(
        name=name,
        path=image.source.path,
        kind=kind,
        night=night_of(begin),
        key=str(image.header.get(KEY, "")),
        facts=cards | facts,
        config=dict(origin.config) if origin else {},
        steps=tuple(step for line in lines if (step := json.loads(line).get("step"))),
        unit=values.unit,
        frames=tuple(used.fingerprint for used in origin.frames) if origin else (),
    )


def stored(master: LibraryMaster | None) -> str:
    """A master, or None, as the index keeps it."""
    return "" if master is None else json.dumps(asdict(master))


def restored(folder: Path, name: str, record: str) -> LibraryMaster | None:
    """A master from the index; the folder may have moved since."""
    if not record:
        return None
    values = json.loads(record)
    for key in ("steps", "frames"):
        values[key] = tuple(values[key])
    values["path"] = str(folder / name.removeprefix(PREFIX))
    return LibraryMaster(**values)
