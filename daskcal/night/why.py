"""What a product was made of, as a tree: its frames, its masters, and theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from daskcal.errors import FrameError
from daskcal.fits.product_header import read_history
from daskcal.frames.master import image_frame
from daskcal.masters.facts import Candidate, Facts
from daskcal.masters.match import match
from daskcal.night.config.read import NightConfig
from daskcal.night.near import Located, Near, find_frames, is_store, read_origins
from daskcal.night.plan.plan import instrument_of
from daskcal.provenance import Origin, UsedMaster
from daskcal.strict import strict_keywords

_SHOWN = 6  # frames of one master that are shown
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Why:
    """What one product was made of.

    Attributes
    ----------
    origin : Origin
        As its header says.
    path : str
        Its file; "" for a master that was not found.
    trouble : str
        Why a master was not found.
    steps : tuple of str
        What was done, a line each.
    rules : mapping of str to tuple of str
        Of each master by name: the rules by which it was chosen.
    frames : tuple of Located
        Its raw frames, and whether they are still there as they were.
    masters : tuple of (UsedMaster, Why or None)
        With what each was made of; None where nothing here says it.
    """

    origin: Origin
    path: str
    steps: tuple[str, ...]
    rules: dict[str, tuple[str, ...]]
    frames: tuple[Located, ...]
    masters: tuple[tuple[UsedMaster, Why | None, str], ...]

    def __str__(self) -> str:
        told: set[str] = set()
        return "\n".join(self._lines("", told))

    def _lines(self, indent: str, told: set[str]) -> Iterator[str]:
        origin = self.origin
        version = origin.software.get("daskcal", "?")
        key = f", key {origin.key[:12]}" if origin.key else ""
        yield f"{indent}{origin.name}: {origin.kind}, daskcal {version}{key}"
        inner = indent + _INDENT
        for step in self.steps:
            yield f"{inner}step {step}"
        if origin.config:
            yield f"{inner}config {json.dumps(dict(origin.config))}"
        for one in self.frames[:_SHOWN]:
            place = f" [HDU {one.used.hdu}]" if one.used.hdu else ""
            now = f": {said}" if (said := one.trouble or _now(one)) else ""
            yield f"{inner}frame {one.used.path}{place} {one.used.fingerprint[:12]}{now}"
        if len(self.frames) > _SHOWN:
            lost = sum(bool(one.trouble) for one in self.frames[_SHOWN:])
            also = f", {lost} of them missing or changed" if lost else ""
            more = len(self.frames) - _SHOWN
            yield f"{inner}and {more} frame{'s' * (more > 1)} more{also}"
        for used, why, trouble in self.masters:
            yield from self._master_lines(inner, used, why, trouble, told)

    def _master_lines(
        self, inner: str, used: UsedMaster, why: Why | None, trouble: str, told: set[str]
    ) -> Iterator[str]:
        said = f": {trouble}" if trouble else ""
        again = " (as above)" if used.checksum in told else ""
        yield f"{inner}{used.kind} {used.name} sha256 {used.checksum[:12]}{said}{again}"
        for rule in self.rules.get(used.name, ())[: 1 if again else None]:
            yield f"{inner}{_INDENT}rule {rule}"
        if why is not None and not again:
            told.add(used.checksum)
            yield from why._lines(inner + _INDENT, told)


def _now(one: Located) -> str:
    """What became of a frame that is still there."""
    if one.frame is None or one.frame.source.path.endswith(one.used.path):
        return ""
    return f"now {one.frame.source.path}"


@strict_keywords
def why(
    product: str | PathLike[str],
    *,
    raw: str | PathLike[str] | None = None,
    library: str | PathLike[str] | None = None,
) -> Why:
    """What a product was made of: its frames and masters, theirs, the steps and the rules.

    Its header says most of it; the rules come from the ledger of its night where that lies near,
    and are tried anew on what the headers say where it does not.

    Parameters
    ----------
    product : path
        A FITS product of a night, or a Zarr store, or its URL (of a store the first frame is told).
    raw, library : path, optional
        Folder of the raw frames, and of the library; those of the night's ledger if not given.

    Returns
    -------
    Why
        ``print`` shows it as a tree, with what was not found.

    Raises
    ------
    FrameError
        There is no such product, or it does not say what it was made of.

    Examples
    --------
    >>> import tempfile
    >>> import daskcal
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = daskcal.simulate_night(f"{folder}/raw", size=(32, 40))
    ...     ledger = daskcal.reduce_night(night.folder, f"{folder}/out", night.config)
    ...     tree = daskcal.why(f"{folder}/out/masters/bias.fits")
    >>> tree.origin.kind, len(tree.frames)
    ('bias', 9)
    """
    path = os.fspath(product)
    origin = read_origins(path)[0]
    near = Near.of(path, origin, raw, library)
    return _why(near, origin, path, {})


def _why(near: Near, origin: Origin, path: str | None, seen: dict[str, Why]) -> Why:
    config = NightConfig.model_validate({"instrument": origin.config.get("instrument", {})})
    masters = tuple(_master(near, used, seen) for used in origin.masters)
    rules = {
        used.name: _rules(near, origin, used, found.origin if found else None)
        for used, found, _ in masters
    }
    return Why(
        origin,
        path or "",
        tuple(_steps(path)) if path is not None and not is_store(path) else (),
        rules,
        tuple(find_frames(origin.frames, near.raw, instrument_of(config))),
        masters,
    )


def _master(
    near: Near, used: UsedMaster, seen: dict[str, Why]
) -> tuple[UsedMaster, Why | None, str]:
    path, trouble = near.master(used)
    if used.checksum not in seen:
        recipe = near.recipe(used)
        if path is not None:
            try:
                recipe = read_origins(path)[0]
            except FrameError:  # another program's master, from a library
                recipe = None
        if recipe is None:
            return used, None, trouble
        seen[used.checksum] = _why(near, recipe, path, seen)
    return used, seen[used.checksum], trouble


def _steps(path: str) -> Iterator[str]:
    for line in read_history(image_frame(path).cards):
        record = json.loads(line)
        if (step := record.pop("step", None)) is not None:
            masters = [master["file"] for master in record.pop("masters", ())]
            said = [f"{name}={_value(value)}" for name, value in record.items()]
            of = [f"by {', '.join(masters)}"] if masters else []
            yield " ".join([step, *of, *said])


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- rules ---------------------------------------------------------------------------------------


def _rules(near: Near, origin: Origin, used: UsedMaster, of: Origin | None) -> tuple[str, ...]:
    """The rules that chose a master: as the ledger has them, or tried on the headers."""
    for entry in near.ledger.products if near.ledger else ():
        if entry.name == origin.name and used.name in entry.masters:
            return tuple(dict.fromkeys(_of_master(entry.rules, used.name)))
    if of is None or not of.facts or not origin.facts:
        return ()
    values = {key: origin.config[key] for key in ("dark",) if key in origin.config}
    has_bias = any(master.kind == "bias" for master in origin.masters)
    rules = NightConfig.model_validate(values).rules(has_bias=has_bias)
    kind: Any = used.kind
    candidate = Candidate(used.name, kind, Facts.of_row(of.facts))
    found = match(Facts.of_row(origin.facts), [candidate], kind, rules)
    said = (f"{verdict} (usual limits)" for verdict in found.verdicts)
    return tuple(line.removeprefix(f"{used.name}: ") for line in said)


def _of_master(rules: tuple[str, ...], name: str) -> Iterator[str]:
    """The lines of the ledger's rules that are about one master."""
    for text in rules:
        for line in text.splitlines():
            if line.strip().startswith(f"{name}: "):
                yield line.strip().removeprefix(f"{name}: ")
