"""The record of every frame found and every product made."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from daskcal.errors import ArgumentError, ConfigError, choose
from daskcal.fits.whole import read_whole, write_whole
from daskcal.printable import one_line

AnyPath = TypeVar("AnyPath", str, Path)

FORMAT = "daskcal-ledger-2"

FRAME_STATUS = ("used", "skipped", "failed")
PRODUCT_STATUS = ("made", "failed", "missing")
PRODUCT_KINDS = ("bias", "dark", "flat", "science", "calibrated")
ROLES = ("frame", "bias", "dark", "flat", "bad_pixel_mask")
CHOICE_KINDS = ("select", "exclude", "config", "bad", "pin")
VERDICTS = ("pass", "warn", "reject")

# JSON has no NaN: an unknown number is null in the file
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """One image HDU that was found, or one file in which none could be.

    Attributes
    ----------
    path : str
        Relative to the night's folder where it lies inside, else absolute.
    hdu : int or None
        None for a file whose HDUs could not be told apart.
    fingerprint : str
        Of its content; "" where it could not be read.
    exptime : float
        Seconds; NaN where unknown.
    date_obs : str
        ISO time, UTC; "" where unknown.
    detector : str
        "" where unknown.
    reason : str
        Why it was skipped or failed (required then); what it was used for.
    """

    path: str
    hdu: int | None
    status: Literal["used", "skipped", "failed"]
    reason: str = ""
    fingerprint: str = ""
    imagetyp: str = ""
    exptime: Number = math.nan
    filter: str = ""
    object: str = ""
    date_obs: str = ""
    detector: str = ""

    @property
    def place(self) -> str:
        """Path, and detector or HDU where it lies in an extension, for people."""
        within = self.detector or f"HDU {self.hdu}"
        path = one_line(self.path)
        return f"{path} [{within}]" if self.hdu else path

    def __post_init__(self) -> None:
        choose("status", self.status, FRAME_STATUS)
        if self.status != "used" and not self.reason:
            raise ArgumentError(f"{self.path} is {self.status} and no reason is given")


@dataclass(frozen=True, slots=True)
class Input:
    """One frame or master that went into a product.

    Attributes
    ----------
    fingerprint : str
        Of a frame's content; of a master, the checksum of its file.
    mtime_ns : int
        When a frame's file was changed last, in ns since 1970; 0 for a master.
    """

    path: str
    hdu: int | None
    fingerprint: str
    role: Literal["frame", "bias", "dark", "flat", "bad_pixel_mask"] = "frame"
    mtime_ns: int = 0

    def __post_init__(self) -> None:
        choose("role", self.role, ROLES)


@dataclass(frozen=True, slots=True)
class Lost:
    """One frame that a product was to be made of, and that could not be used.

    Attributes
    ----------
    frame : Input
    reason : str
        For people.
    fault : str
        A code of `FrameError`, or "" for another reason.
    """

    frame: Input
    reason: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ProductEntry:
    """One product that was made, that failed, or that was wanted and could not be made.

    Attributes
    ----------
    name : str
        Path below the output folder, with forward slashes: ``masters/bias.fits``.
    used : bool
        False for a master that no other product took.
    masters : tuple of str
        Names of the masters that calibrated it.
    rules : tuple of str
        One line each: the rules that chose the masters, and how they came out.
    figures : mapping of str to float
        Key figures by name, such as ``median``; NaN where unknown.
    reason : str
        Why it failed or is missing (required then), with the nearest miss.
    size : int
        Bytes on disk.
    seconds : float
        Wall-clock time it took; NaN where it was not timed.
    key : str
        Of all that it depends on: inputs by content, parameters, masters' keys, version; "" where
        it was not worked out.
    reused : bool
        Whether an earlier run made it and this one found it as it should be.
    origin : mapping
        Of a master: what its header says of its making (`daskcal.provenance.Origin`), so that it
        can be made again where it is lost.
    fingerprint : str
        Of its header and of samples of its pixels: what another run knows it by, without reading
        it all; "" where it was not taken.
    lost : tuple of Lost
        Frames that it was to be made of, and lacks.
    messages : tuple of str
        What was to be said as it was made.
    """

    name: str
    kind: Literal["bias", "dark", "flat", "science", "calibrated"]
    status: Literal["made", "failed", "missing"]
    used: bool = True
    inputs: tuple[Input, ...] = ()
    masters: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = ""
    size: int = 0
    seconds: Number = math.nan
    reason: str = ""
    rules: tuple[str, ...] = ()
    figures: Mapping[str, Number] = field(default_factory=dict)
    key: str = ""
    reused: bool = False
    origin: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    lost: tuple[Lost, ...] = ()
    messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choose("kind", self.kind, PRODUCT_KINDS)
        choose("status", self.status, PRODUCT_STATUS)
        if self.status != "made" and not self.reason:
            raise ArgumentError(f"{self.name} is {self.status} and no reason is given")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user chose: a selection, and the frames that it left out or changed."""

    kind: Literal["select", "exclude", "config", "bad", "pin"]
    expression: str
    frames: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        choose("kind", self.kind, CHOICE_KINDS)


@dataclass(frozen=True, slots=True)
class Gate:
    """One number by which a frame or a product was judged.

    Attributes
    ----------
    name : str
        What was measured: ``bias_level``.
    product : str
        The product that it is about, or whose frame.
    frame : str
        The frame, as `FrameEntry.place` says it; "" where it is about the product.
    value, low, high : float
        What was measured, and the limits that it should lie within; NaN for no limit.
    unit : str
        Of all three; "" for a fraction or a number.
    verdict : str
        ``pass``, ``warn``, or ``reject``: the frame was left out.
    message : str
        For people; required for all but ``pass``.
    """

    name: str
    product: str
    value: Number
    verdict: Literal["pass", "warn", "reject"]
    frame: str = ""
    low: Number = math.nan
    high: Number = math.nan
    unit: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        choose("verdict", self.verdict, VERDICTS)
        if self.verdict != "pass" and not self.message:
            raise ArgumentError(f"{self.name} of {self.product} is {self.verdict}: why is not said")


@dataclass(frozen=True, slots=True)
class Counts:
    """Frames by status; ``found == used + skipped + failed``."""

    found: int
    used: int
    skipped: int
    failed: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The record of one run.

    Attributes
    ----------
    version : str
        Of daskcal.
    command, config : str
        What was run, and the text of the configuration that it ran with.
    raw, library : str
        The folders of the raw frames and of the library of masters; "" for none.
    started, finished : str
        ISO times, UTC. The ledger alone knows the time of day; products do not.
    choices, frames, products : tuple
        Each frame (path and HDU) and each product (name) once.
    messages : tuple of str
        Warnings to the reader, such as a header's read noise that the frames contradict.
    gates : tuple of Gate
        Every number by which frames and products were judged.
    """

    version: str
    command: str = ""
    config: str = ""
    started: str = ""
    finished: str = ""
    choices: tuple[Choice, ...] = ()
    frames: tuple[FrameEntry, ...] = ()
    products: tuple[ProductEntry, ...] = ()
    messages: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    raw: str = ""
    library: str = ""

    def __post_init__(self) -> None:
        _once("frame", ((frame.path, frame.hdu) for frame in self.frames))
        _once("product", (product.name for product in self.products))
        counts = self.counts()
        if counts.found != counts.used + counts.skipped + counts.failed:
            raise ArgumentError(f"frames do not add up: {counts}")

    def counts(self) -> Counts:
        """How many frames were found, used, skipped and failed."""
        by = Counter(frame.status for frame in self.frames)
        return Counts(len(self.frames), by["used"], by["skipped"], by["failed"])

    def exit_status(self) -> int:
        """The exit status of the run.

        0: all made. 3: made, with frames or products skipped. 1: nothing made, or a product failed.
        """
        made = Counter(product.status for product in self.products)
        if made["failed"] or not made["made"]:
            return 1
        counts = self.counts()
        return 3 if made["missing"] or counts.used < counts.found else 0


def says_the_same(one: Ledger, other: Ledger | None) -> bool:
    """Whether two ledgers differ in nothing but times, the command, and which run made what."""
    return other is not None and _said(one) == _said(other)


def _said(ledger: Ledger) -> str:
    """As text, in which unknown numbers equal each other; a checksum stands for its product."""
    products = [(p.name, p.status, p.reason, p.used, p.checksum) for p in ledger.products]
    rest = (ledger.choices, ledger.frames, ledger.messages, ledger.gates)
    return repr((ledger.version, ledger.config, products, rest))


def write_ledger(ledger: Ledger, path: AnyPath) -> AnyPath:
    """Write `ledger` as JSON, here or behind a URL, whole or not at all.

    Numbers that are not finite become null. Each frame, product and so on has a line of its own.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    record = {"format": FORMAT, **as_json(ledger, "ledger")}
    lines = [f"{json.dumps(name)}: {_lines(value)}" for name, value in record.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    # a lone surrogate (a file name that is not UTF-8) must not cost the ledger
    write_whole(path, text.encode("utf-8", "backslashreplace"))
    return path


def _lines(value: Any) -> str:
    text = functools.partial(json.dumps, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, list) or not value:
        return text(value)
    return "[\n" + ",\n".join(f" {text(one)}" for one in value) + "\n]"


def read_ledger(path: str | Path) -> Ledger:
    """Read a ledger that `write_ledger` wrote, here or behind a URL.

    Raises
    ------
    ConfigError
        Where there is none, or it is damaged or of another version; names the file.
    """
    try:
        record = json.loads(read_whole(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"there is no {path}; give the folder that daskcal reduce wrote its products to"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is damaged, not JSON: {error}; run the night again") from error
    form = record.pop("format", None) if isinstance(record, dict) else None
    if form != FORMAT:
        raise ConfigError(
            f"{path} has the format {form!r}, expected {FORMAT!r}: it is not a ledger, or one of "
            "another version of daskcal; run the night again"
        )
    try:
        return TypeAdapter(Ledger).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigError(f"{path} is damaged at {place}: {first['msg']}") from error


def _once(what: str, keys: Iterable[object]) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            raise ArgumentError(f"the {what} {key} is in the ledger {times} times")


def as_json(value: Any, place: str) -> Any:
    """`value` as JSON knows it; `place` is what messages call it.

    Records come in the order of their fields, mappings in sorted order.
    """
    if value is None or isinstance(value, str | int):  # nearly all of a long ledger
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = value.__dataclass_fields__
        return {name: as_json(getattr(value, name), f"{place}.{name}") for name in names}
    if isinstance(value, Mapping):
        pairs = sorted((str(key), item) for key, item in value.items())
        return {key: as_json(item, f"{place}.{key}") for key, item in pairs}
    if isinstance(value, np.datetime64 | datetime.date):
        return "" if str(value) == "NaT" else str(value)
    if isinstance(value, np.generic | np.ndarray):
        return as_json(value.tolist(), place)
    if isinstance(value, list | tuple):
        return [as_json(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    raise ArgumentError(f"{place} is a {type(value).__name__}, which a ledger cannot hold")
