"""What a product was made of, as its own header or store says it: enough to make it again."""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import daskcal

KEY = "DASKKEY"  # card with the product's key
# Whose versions decide bits: the compiled loops, and what adds up and sorts beside them.
_ALWAYS = ("numpy", "numba", "llvmlite", "scipy")


@dataclass(frozen=True, slots=True)
class UsedFrame:
    """One raw frame: its path below the night's folder, its HDU, and the mark of its content."""

    path: str
    hdu: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class UsedMaster:
    """One master: its kind, its name, the SHA-256 of its file, and its key, "" if unknown."""

    kind: str
    name: str
    checksum: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What one product was made of, by what.

    Nothing of it depends on where or when the product was made, nor on products that it does not
    need: the same inputs give the same bytes.

    Attributes
    ----------
    name : str
        Below the output folder: ``masters/bias.fits``.
    kind : str
        ``bias``, ``dark``, ``flat``, ``science``, or ``calibrated`` for a frame of a master.
    treated_as : str
        The kind of product whose steps its frames went through; that of a ``calibrated`` frame is
        its master's.
    key : str
        Of all that it depends on; "" where it was not worked out.
    frames, masters : tuple
        In the order in which they were used.
    config : mapping
        What of the night's config matters for it, without the defaults.
    files : mapping of str to str
        SHA-256 of the files that the config names, by the dotted key.
    scale_dark : bool
        Whether darks were scaled to the frames' dark times.
    waives_exposure : bool
        Whether the user chose a dark that the limits on exposure would not let through.
    norm : float or None
        What the flat was divided by, where detectors of a mosaic share one norm.
    detector : str
        Name of the detector, which a single file of a mosaic need not tell.
    facts : mapping
        What rules look at when they choose a master, of this frame or of this master: a row of the
        frame table.
    software : mapping of str to str
        Versions of what decides the bits, and the machine's architecture.
    """

    name: str
    kind: str
    treated_as: str
    key: str = ""
    frames: tuple[UsedFrame, ...] = ()
    masters: tuple[UsedMaster, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    scale_dark: bool = False
    waives_exposure: bool = False
    norm: float | None = None
    detector: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """JSON, a line for each part; the key has a card of its own."""
        return [json.dumps(part, allow_nan=False) for part in self._parts()]

    def text(self) -> str:
        """All of it as one line of JSON, which `of_lines` reads too."""
        whole: dict[str, Any] = {"key": self.key}
        for part in self._parts():
            whole |= part
        return json.dumps(whole, allow_nan=False)

    def _parts(self) -> list[dict[str, Any]]:
        about: dict[str, Any] = {"name": self.name, "kind": self.kind}
        about |= {"treated_as": self.treated_as} if self.treated_as != self.kind else {}
        for name in ("scale_dark", "waives_exposure", "norm", "detector", "facts", "files"):
            if (value := getattr(self, name)) not in (False, None, "", {}):
                about[name] = dict(value) if isinstance(value, Mapping) else value
        about["software"] = dict(self.software)
        parts: list[dict[str, Any]] = [{"product": about}, {"frames": self._columns()}]
        if self.masters:
            known = [{k: v for k, v in asdict(m).items() if v} for m in self.masters]
            parts.append({"masters": known})
        return [*parts, {"config": dict(self.config)}]

    def _columns(self) -> dict[str, Any]:
        """The frames in columns, which is short; one HDU for all where it is the same."""
        hdus = [frame.hdu for frame in self.frames]
        return {
            "path": [frame.path for frame in self.frames],
            "hdu": hdus[0] if len(set(hdus)) == 1 else hdus,
            "fingerprint": [frame.fingerprint for frame in self.frames],
        }

    @classmethod
    def of_lines(cls, lines: Iterable[str], key: str = "") -> Origin | None:
        """What `lines` wrote, among others; None where it is not there or not whole."""
        found: dict[str, Any] = {}
        for line in lines:
            part = json.loads(line)
            found |= part if isinstance(part, dict) and "step" not in part else {}
        try:
            about, columns = found["product"], found["frames"]
            hdus = columns["hdu"]
            hdus = hdus if isinstance(hdus, list) else [hdus] * len(columns["path"])
            rows = zip(columns["path"], hdus, columns["fingerprint"], strict=True)
            return cls(
                key=found.get("key", key),
                frames=tuple(UsedFrame(*row) for row in rows),
                masters=tuple(UsedMaster(**master) for master in found.get("masters", ())),
                config=found["config"],
                **({"treated_as": about["kind"]} | about),
            )
        except (KeyError, TypeError, ValueError):
            return None


def software(config: Mapping[str, Any]) -> dict[str, str]:
    """Versions of what decides the bits of a product made with `config`, and the architecture."""
    names = [*_ALWAYS]
    if config.get("output", {}).get("compress", "none") != "none":
        names.append("astropy")
    if config.get("cosmic_rays", {}).get("method") == "lacosmic":
        names.append("astroscrappy")
    here = {"daskcal": daskcal.__version__} | {name: _version(name) for name in names}
    return here | {"machine": platform.machine()}


@functools.cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def origins_of(origin: Origin | Sequence[Origin] | None, n: int) -> list[Origin | None]:
    """One origin for each of `n` products."""
    if origin is None:
        return [None] * n
    each = [origin] if isinstance(origin, Origin) else list(origin)
    if len(each) != n:
        raise daskcal.ArgumentError(f"origin should be {n} of them, one for each product")
    return list(each)
