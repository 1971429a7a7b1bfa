"""A key of all that a product depends on, known before a pixel is read: what decides what is stale.

Equal keys mean equal bytes: of the same version of daskcal, on the same architecture.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daskcal.errors import ArgumentError
from daskcal.fits.checksum import file_checksum
from daskcal.night.calibrate.mosaic_flats import MosaicFlats
from daskcal.night.reuse.origins import DECIDES, named_files
from daskcal.provenance import software

if TYPE_CHECKING:
    from daskcal.night.config.read import NightConfig
    from daskcal.night.plan.jobs import Job
    from daskcal.night.plan.plan import Plan

# The gates that decide which frames and masters of a kind are good; no byte depends on them.
_GATES = ("gates.datasum", "gates.undefined", "gates.saturated")
_JUDGED = (*_GATES, "gates.temperature", "gates.outliers", "gates.rejected_fraction")
_GATES_OF_KIND: dict[str, tuple[str, ...]] = {
    "bias": (*_JUDGED, "gates.frame_level", "gates.bias_level", "gates.read_noise"),
    "dark": (*_JUDGED, "gates.frame_level", "gates.dark_current", "gates.hot_pixels"),
    "flat": (*_JUDGED, "gates.flat_level", "gates.signal_to_noise"),
    "science": _GATES,
}
_OF_FRAMES = ("output.products", "output.compress")
_NOT = {"instrument": ("name",), "combine": ("min_frames",)}  # what no product depends on


def planned_keys(plan: Plan, library: Mapping[str, str] | None = None) -> dict[str, str]:
    """The key of each product that a plan makes.

    Parameters
    ----------
    plan : Plan
        A night's.
    library : mapping of str to str, optional
        Keys of masters that the night takes and does not make.

    Returns
    -------
    dict of str to str
        From names of products to SHA-256 over the kind, the versions of daskcal and of what decides
        bits, the frames in their order (path within the night, HDU, fingerprint of the content),
        what of the config counts for the kind, and the keys of the masters. So a product's key
        changes with all that it depends on, over whatever many steps. Files that the config names
        count by content.

    Raises
    ------
    ArgumentError
        A master that the plan does not make has no key in `library`.

    Examples
    --------
    >>> import tempfile
    >>> import daskcal
    >>> from daskcal.night.reuse.keys import planned_keys
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     night = daskcal.simulate_night(folder, size=(32, 40))
    ...     keys = planned_keys(daskcal.plan_night(night.folder, night.config))
    ...     fewer = planned_keys(
    ...         daskcal.plan_night(night.folder, night.config, exclude=["n0001*"])
    ...     )
    >>> [name for name in keys if keys[name] == fewer[name]]
    []
    """
    keys = dict(library or {})
    own: dict[str, str] = {}
    settings, flats = _Settings(plan), MosaicFlats(plan)
    made_with = software({})
    for job in plan.jobs:
        own[job.name] = keys[job.name] = _digest(
            made_with,
            job.kind,
            [
                (plan.relative(i), plan.frames[i].source.hdu, plan.frames[i].fingerprint)
                for i in job.frames
            ],
            (job.scale_dark, job.waives_exposure),
            {
                kind: [(name, _known(keys, name, job)) for name in names]
                for kind, names in flats.masters_of(job).items()
            },
            settings.of(job),
        )
    return own


def calibrated_key(plan: Plan, master: str) -> str:
    """The key of the calibrated frames that go into the master with the key `master`."""
    return _digest("calibrated", master, _chosen(_plain(plan.config), _OF_FRAMES))


def store_key(keys: Mapping[str, str], jobs: Sequence[Job]) -> str:
    """The key of the store that holds the science frames of `jobs`."""
    return _digest("store", [(job.name, keys[job.name]) for job in jobs])


def _known(keys: Mapping[str, str], name: str, job: Job) -> str:
    if name not in keys:
        raise ArgumentError(f"{job.name} takes {name}, which has no key")
    return keys[name]


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class _Settings:
    """What the config says for a job: worked out once for all of its kind, detector and filter."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._detectors, self._filters = (
            [str(word) for word in plan.table[name]] for name in ("detector", "filter")
        )
        self._found: dict[tuple[str, str, str], str] = {}

    def of(self, job: Job) -> str:
        """A digest of it."""
        row = job.frames[0]
        where = (job.kind, self._detectors[row], self._filters[row])
        if where not in self._found:
            self._found[where] = self._digest(self.plan.config_of(job), job.kind, where[2])
        return self._found[where]

    def _digest(self, config: NightConfig, kind: str, band: str) -> str:
        tables = _plain(config.effective())
        for name in ("illumination", "fringe"):
            frames = tables[name]["frames"]
            tables[name] = {**tables[name], "frames": {k: frames[k] for k in frames if k == band}}
        if kind != "science":
            tables["mask"].pop("from_flats")
        return _digest(_chosen(tables, (*DECIDES[kind], *_GATES_OF_KIND[kind])))


def _plain(config: NightConfig) -> dict[str, Any]:
    """The config as JSON knows it, files by what is in them."""
    tables: dict[str, Any] = config.model_dump(mode="json")
    for table, key, _ in named_files(tables):
        table[key] = _content(table[key])
    for name, keys in _NOT.items():
        for one in (tables[name], *(t for t in tables[name].values() if isinstance(t, dict))):
            for key in keys:
                one.pop(key, None)
    return tables


def _chosen(tables: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Tables, or single keys of them, by their dotted names."""
    chosen = {}
    for name in names:
        table, _, key = name.partition(".")
        chosen[name] = tables[table][key] if key else tables[table]
    return chosen


def _content(path: str | None) -> str | None:
    """The name of a file and what is in it; a file that cannot be read fails when it is used."""
    if path is None:
        return None
    try:
        return f"{os.path.basename(path)} {file_checksum(path)}"
    except OSError as error:
        return f"{path}: {error.strerror}"
